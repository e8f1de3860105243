"""The error that an adaptation is fitted on, and the Dice that it is judged by; both of excerpts."""

import torch
import torch.nn.functional as F

from MedSegLensLib.cases.case import REGIONS
from MedSegLensLib.diffing.excerpts import JUDGED, Excerpt, every_other

SMOOTH = 50.0
"""Voxels added above and below in the soft Dice, so that a region that is absent asks for an empty prediction."""


def error(logits: torch.Tensor, excerpt: Excerpt, stay: float) -> torch.Tensor:
    """1 - soft Dice + cross-entropy + `stay` x KL(unedited || edited), of logits (S, K, *box).

    The soft Dice is the mean over WT, TC and ET, each over all voxels of the excerpt (Milletari et al. 2016,
    arXiv 1606.04797); cross-entropy and divergence are means over its brain's voxels (both terms together as in
    nnU-Net, Isensee et al. 2021). The divergence is what keeps the rest of the segmentation where it was. Of every
    other voxel along each axis (`Excerpt.sparse`).
    """
    sparse = excerpt.sparse
    logp = every_other(logits, 2).log_softmax(1)
    p, weight = logp.exp(), sparse.weight
    total = weight.sum().clamp_min(1.0)
    missed = 0.0
    for region, theirs in zip(JUDGED, sparse.targets, strict=True):
        ours = p[:, list(REGIONS[region])].sum(1)
        both = (ours * theirs).sum()
        missed = missed + (1 - (2 * both + SMOOTH) / ((ours * weight).sum() + theirs.sum() + SMOOTH)) / len(JUDGED)
    wrong = (F.nll_loss(logp, sparse.labels, reduction="none") * weight).sum() / total
    if not stay:
        return missed + wrong
    moved = ((sparse.before.exp() * (sparse.before - logp)).sum(1) * weight).sum() / total
    return missed + wrong + stay * moved


@torch.no_grad()
def dice_of(logits: torch.Tensor, excerpt: Excerpt) -> float | None:
    """Mean Dice of those of WT, TC and ET that the excerpt has; None where it has none."""
    predicted, scores = logits.argmax(1), []
    for region in JUDGED:
        values = torch.tensor(REGIONS[region], device=logits.device)
        ours, theirs = (torch.isin(labels, values) * excerpt.weight for labels in (predicted, excerpt.labels))
        if theirs.any():
            both = (torch.minimum(ours, theirs)).sum()
            scores.append(float(2 * both / (ours.sum() + theirs.sum())))
    return sum(scores) / len(scores) if scores else None
