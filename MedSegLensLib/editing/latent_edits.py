"""The edits of one tap, as what is added to the tap's value.

z' is z with the recipe's edits applied in order; x' = x + (z' - z) W_dec, so that what the lens does not reconstruct
stays as it was. Only the edited latents' columns are ever computed.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch

from MedSegLensLib.cases.boxes import Box, box_of
from MedSegLensLib.editing.recipe import Edit
from MedSegLensLib.segmenters.replay import Change

if TYPE_CHECKING:
    from MedSegLensLib.editing.session import Session


class LatentEdits:
    """directions (J, C): decoder rows of the J edited latents.

    scale: z' = g z. add: z' = max(0, z + a). clamp: z' = a. All act on tokens of the brain only, within their place.
    """

    def __init__(self, session: "Session", tap: str, edits: list[Edit]):
        self.tap, self.lens, self.codes = tap, session.lenses[tap], session.codes[tap]
        self.brain = session.brain_tokens[tap]
        self.latents = list(dict.fromkeys(e.latent for e in edits))
        self.directions = self.lens.W_dec[self.latents]
        self._steps: list[tuple[int, Edit, np.ndarray]] = []  # (row, edit, tokens bool (samples, *grid))
        for edit in edits:
            place = self.brain if edit.where is None else session.tokens_in(tap, edit.where, edit.exact)
            self._steps.append((self.latents.index(edit.latent), edit, place))

    def maps(self, samples: list[int] | None = None) -> dict[int, torch.Tensor]:
        """z' - z per touched sample, (J, *grid), from the recorded codes; of `samples` only, where given."""
        wanted = range(self.codes.grid[0]) if samples is None else samples
        some = slice(None) if samples is None else samples
        rows = np.stack([self.codes.dense(j, samples) for j in self.latents])  # (J, wanted, *grid)
        change = self._after(rows, lambda place: place[some]) - rows
        touched = (change != 0).reshape(*change.shape[:2], -1).any(axis=(0, 2))
        return {s: torch.from_numpy(change[:, i]) for i, s in enumerate(wanted) if touched[i]}

    def change(self) -> Change:
        """The same edits at a tap whose value an earlier edit may have changed: codes are computed anew there."""
        boxes = {}
        for sample, change in self.maps().items():
            box = box_of((change != 0).any(0).numpy())
            if box:
                boxes[sample] = box
        return Change(self._apply, boxes)

    def _apply(self, x: torch.Tensor, samples: list[int], window: Box) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)  # (B, n, C)
        z = self.lens.encode_latents(tokens.float(), self.latents)
        rows = z.movedim(-1, 0).unflatten(2, x.shape[2:]).cpu().numpy()  # (J, B, *window)
        rows = rows * self.brain[(samples, *window)]
        after = self._after(rows, lambda place: place[(samples, *window)])
        change = torch.from_numpy(after - rows).to(x.device)
        return x + torch.einsum("jb...,jc->bc...", change, self.directions).to(x.dtype)

    def _after(self, rows: np.ndarray, part_of) -> np.ndarray:
        """z' of rows z (J, ...); `part_of` cuts a place to the tokens that `rows` holds."""
        after = rows.copy()
        for row, edit, place in self._steps:
            z = after[row]
            if edit.kind == "scale":
                new = z * np.float32(edit.value)
            elif edit.kind == "add":
                new = np.maximum(z + np.float32(edit.value), 0)
            else:
                new = np.full_like(z, edit.value)
            after[row] = np.where(part_of(place), new, z)
        return after
