"""Names put to the test on cases that they were not made from: do they say where a latent fires, and what it does?"""

from dataclasses import dataclass

import numpy as np
import torch

from MedSegLensLib.editing.influence import suppress
from MedSegLensLib.editing.session import Session
from MedSegLensLib.editing.token_facts import TokenFacts
from MedSegLensLib.lenses.codes import Codes
from MedSegLensLib.packs.naming import N_CLASSES, against_others, prediction

LEAST_STRONG = 10
"""Strong tokens on unseen cases below which nothing is said about a prediction."""

NEGLIGIBLE = 1e-3
"""A change of a voxel's logits below this is rounding."""


@dataclass
class Firing:
    """Where latents of one lens fire strongly on unseen cases. strong_from: (m,) the code from which they do (nan:
    never). strong: int64 (m, N_CLASSES) tokens; tokens: int64 (N_CLASSES,) all of the brain; cases: how many."""

    strong_from: np.ndarray
    strong: np.ndarray
    tokens: np.ndarray
    cases: int = 0

    @staticmethod
    def of(strong_from: np.ndarray) -> "Firing":
        m = len(strong_from)
        return Firing(strong_from, np.zeros((m, N_CLASSES), np.int64), np.zeros(N_CLASSES, np.int64))

    def add(self, codes: Codes, facts: TokenFacts) -> None:
        """Add one case with expert labels."""
        latents = np.repeat(np.arange(codes.n_latents), np.diff(codes.pointers))
        kept = (codes.values >= self.strong_from[latents]) & (facts.classes[codes.tokens] >= 0)
        cells = latents[kept] * N_CLASSES + facts.classes[codes.tokens[kept]]
        self.strong += np.bincount(cells, minlength=self.strong.size).reshape(self.strong.shape)
        known = facts.brain & (facts.classes >= 0)
        self.tokens += np.bincount(facts.classes[known], minlength=N_CLASSES)
        self.cases += 1


def predicted(firing: Firing, latents: list[int], masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each named latent, float64 (named,): balanced accuracy of its name for its strong firing on unseen cases, and
    the same of the others' names, mean (the null: names shuffled among the named). nan: it fires strongly on fewer
    than `LEAST_STRONG` tokens there.

    masks: bool (named, N_CLASSES), where the name of each of `latents` holds.
    """
    if not latents:
        return np.zeros(0), np.zeros(0)
    strong = firing.strong[latents]
    accuracy = prediction(masks, strong, firing.tokens)
    accuracy[strong.sum(1) < LEAST_STRONG] = np.nan
    own = np.diag(accuracy).copy()
    n = len(latents)
    null = (accuracy.sum(1) - own) / (n - 1) if n > 1 else np.full(n, np.nan)
    return own, null


@torch.no_grad()
def effect_by_class(session: Session, tap: str, latent: int, facts: TokenFacts) -> np.ndarray:
    """How much suppressing a latent changes the logits in each class of tokens, float64 (N_CLASSES,): the sum of the
    mean absolute change of a token's voxels, over all labels less their mean (which changes nothing)."""
    replay, sampling = session.replay, session.sampling
    grid = session.codes_at(tap).grid[1:]
    effect = np.zeros(N_CLASSES)
    per_sample = int(np.prod(grid))
    pool = torch.nn.functional.adaptive_avg_pool2d if len(grid) == 2 else torch.nn.functional.adaptive_avg_pool3d
    for sample, box, logits in session._run(suppress(session, tap, latent), None):
        difference = logits - replay.logits[(sample, slice(None), *box)]
        size = (difference - difference.mean(0)).abs().sum(0)
        size[size < NEGLIGIBLE] = 0
        whole = torch.zeros(sampling.sample_shape, device=size.device)
        whole[box] = size
        of_token = pool(whole[None, None], grid).reshape(-1).cpu().numpy()
        classes = facts.classes[sample * per_sample : (sample + 1) * per_sample]
        known = classes >= 0
        effect += np.bincount(classes[known], of_token[known].astype(np.float64), N_CLASSES)
    return effect


def intervened(effects: dict[int, np.ndarray], masks: dict[int, np.ndarray]) -> dict[int, float]:
    """Of each suppressed latent: how many of the other suppressed latents with another name change less, of all they
    change, where this latent's name holds (ties half; 0.5 by chance). Those that change nothing are left out.

    effects: by latent, see `effect_by_class`. masks: by latent, bool (N_CLASSES,).
    """
    share = {j: effect / effect.sum() for j, effect in effects.items() if effect.sum() > 0}
    found = {}
    for j, own in share.items():
        others = [share[i] @ masks[j] for i in share if not np.array_equal(masks[i], masks[j])]
        value = against_others(float(own @ masks[j]), np.array(others))
        if np.isfinite(value):
            found[j] = value
    return found
