"""A session as it is under a recipe, for what reads sessions: a check after edits is the check before, on other labels.

Labels and logits are those of the edit. The codes stay what the network made of the case: they say what was seen, and
the edit what was made of it.
"""

import numpy as np
import torch

from MedSegLensLib.editing.recipe import Recipe
from MedSegLensLib.editing.session import Session
from MedSegLensLib.segmenters.sampling import whole


class EditedSession:
    """labels: uint8 (Z, Y, X) under the recipe. replay.logits: likewise. All else is the session's own.

    Raises RecipeError or UsageError for a recipe that does not fit the pack.
    """

    def __init__(self, session: Session, recipe: Recipe):
        self._session = session
        logits = session.logits(recipe)
        self.labels: np.ndarray = session.labels_of(logits, whole(session.labels.shape))
        self.replay = _EditedReplay(session.replay, logits)

    def __getattr__(self, name: str):
        return getattr(self._session, name)


class _EditedReplay:
    def __init__(self, replay, logits: torch.Tensor):
        self._replay, self.logits = replay, logits

    def __getattr__(self, name: str):
        return getattr(self._replay, name)
