"""The error that an adaptation is fitted on, and the Dice that it is judged by; both of excerpts."""

import torch
import torch.nn.functional as F

from MedSegLensLib.cases.case import REGIONS
from MedSegLensLib.diffing.excerpts import Excerpt

JUDGED = ("WT", "TC", "ET")
SMOOTH = 50.0
"""Voxels added above and below in the soft Dice, so that a region that is absent asks for an empty prediction."""


def error(logits: torch.Tensor, excerpt: Excerpt, stay: float) -> torch.Tensor:
    """1 - soft Dice + cross-entropy + `stay` x KL(unedited || edited), of logits (S, K, *box).

    The soft Dice is the mean over WT, TC and ET, each over all voxels of the excerpt (Milletari et al. 2016,
    arXiv 1606.04797); cross-entropy and divergence are means over its brain's voxels (both terms together as in
    nnU-Net, Isensee et al. 2021). The divergence is what keeps the rest of the segmentation where it was.
    """
    logp = logits.log_softmax(1)
    p, weight = logp.exp(), excerpt.weight
    total = weight.sum().clamp_min(1.0)
    missed = 0.0
    for region in JUDGED:
        values = list(REGIONS[region])
        theirs = torch.isin(excerpt.labels, torch.tensor(values, device=weight.device)) * weight
        ours = p[:, values].sum(1)
        both = (ours * theirs).sum()
        missed = missed + (1 - (2 * both + SMOOTH) / ((ours * weight).sum() + theirs.sum() + SMOOTH)) / len(JUDGED)
    wrong = (F.nll_loss(logp, excerpt.labels, reduction="none") * weight).sum() / total
    moved = 0.0
    if stay:
        before = excerpt.logits.log_softmax(1)
        moved = stay * ((before.exp() * (before - logp)).sum(1) * weight).sum() / total
    return missed + wrong + moved


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
