"""What is lost when a lens stands in for its tap: the segmentation with x replaced by decode(encode(x)), no edit."""

from collections.abc import Callable

import numpy as np
import torch

from MedSegLensLib.cases.case import REGIONS, region_mask
from MedSegLensLib.editing.session import Session
from MedSegLensLib.segmenters.sampling import whole
from MedSegLensLib.segmenters.taps import changed


def spliced_labels(session: Session, tap: str) -> np.ndarray:
    """Labels (Z, Y, X) of a full pass in which the lens's reconstruction replaces the tap's value."""
    lens = session.lenses[tap]
    return labels_with(session, tap, lambda tokens: lens.decode(lens.encode(tokens)))


@torch.no_grad()
def labels_with(session: Session, tap: str, change: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
    """Labels (Z, Y, X) of a full pass of the whole network with `change` applied to the brain's tokens (n, C) of a tap.

    The naive way on purpose, by a forward hook over all slices, in the batches in which the session recorded them
    (`change` sees the tokens of one batch at a time, sample after sample): replays are measured against it.
    """
    engine, sampling = session.engine, session.sampling
    volume = torch.from_numpy(session.conformed.array)

    logits = torch.empty_like(session.replay.logits)
    for first in range(0, sampling.count, engine.batch):
        samples = list(range(first, min(first + engine.batch, sampling.count)))
        brain = torch.from_numpy(session.brain_tokens[tap][samples].ravel()).to(engine.device)

        def replace(x: torch.Tensor, brain=brain) -> torch.Tensor:
            tokens = x.flatten(2).transpose(1, 2).flatten(0, 1).clone()
            if brain.any():
                tokens[brain] = change(tokens[brain].float()).to(tokens)
            return tokens.view(len(x), *x.shape[2:], -1).movedim(-1, 1)

        with changed(session.network, {tap: replace}):
            logits[samples] = session.network(engine.place(sampling.inputs(volume, samples))).float()
    return session.labels_of(logits, whole(session.labels.shape))


def dice(labels: np.ndarray, reference: np.ndarray, region: str) -> float | None:
    """Dice of a region; None where the reference does not have it (it is absent, not 0 or 1)."""
    ours, theirs = region_mask(labels, region), region_mask(reference, region)
    if not theirs.any():
        return None
    return float(2 * np.count_nonzero(ours & theirs) / (np.count_nonzero(ours) + np.count_nonzero(theirs)))


def dice_by_region(labels: np.ndarray, reference: np.ndarray) -> dict[str, float | None]:
    """Dice of WT, TC and ET."""
    return {region: dice(labels, reference, region) for region in REGIONS if region in ("WT", "TC", "ET")}
