"""How much each latent holds a region up: by gradient for all at once, by suppressing it for a few.

Both are changes of the region's volume in mL, were the latent suppressed: positive means that the region would grow.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from MedSegLensLib.cases.boxes import box_of
from MedSegLensLib.cases.case import REGIONS
from MedSegLensLib.editing.recipe import Edit, PackReference, Recipe
from MedSegLensLib.editing.session import Session
from MedSegLensLib.errors import UsageError
from MedSegLensLib.lenses.codes import Codes

TOKENS_AT_A_TIME = 8192
NEAR = 0.01
"""Where the region's probability is below this, it contributes next to nothing: only the box of the rest is run."""


MOST_SAMPLES = 24
"""The mean log odds over a region is taken on this many of its slices: neighbouring slices say the same."""

DENSE = 0.25
"""A latent that fires on more than this share of the brain stands for no one thing: to suppress it shifts everything,
like a bias. The largest tumours of the shared cases fill 15 % of the brain."""


@dataclass(frozen=True)
class Influence:
    """Of all latents of a lens on a region.

    attribution_ml: (d_sae,); dense: bool (d_sae,), see `DENSE`; suppressed_ml: by latent, where measured.
    """

    tap: str
    region: str
    attribution_ml: np.ndarray
    dense: np.ndarray
    suppressed_ml: dict[int, float]

    def ranked(self) -> np.ndarray:
        """Latents by the size of their attribution, largest first; dense ones and those without any are left out."""
        order = np.argsort(-np.abs(self.attribution_ml), kind="stable")
        return order[(self.attribution_ml[order] != 0) & ~self.dense[order]]

    def most_influential(self) -> int | None:
        """The latent whose suppression changed the region most, else the one with the largest attribution."""
        if self.suppressed_ml:
            return max(self.suppressed_ml, key=lambda j: abs(self.suppressed_ml[j]))
        ranked = self.ranked()
        return int(ranked[0]) if len(ranked) else None

    def rank_correlation(self) -> float | None:
        """Spearman's rho of attribution and measured suppression; None for fewer than three latents or constants."""
        from scipy.stats import spearmanr

        latents = list(self.suppressed_ml)
        measured, predicted = np.array(list(self.suppressed_ml.values())), self.attribution_ml[latents]
        if len(latents) < 3 or np.ptp(measured) == 0 or np.ptp(predicted) == 0:
            return None
        return float(spearmanr(predicted, measured).statistic)


def attribute(
    session: Session, tap: str, region: str, progress: Callable[[str, float], None] | None = None
) -> np.ndarray:
    """Gradient x activation: the first-order change of the region's volume when each latent is suppressed, mL (d_sae,).

    The volume is soft, R = sum over voxels of the region's softmax probability, so that it has a gradient;
    dR(suppress j) = -sum over tokens of z_j (dR/dx . d_j) (gradient x activation; Shrikumar et al. 2016,
    arXiv 1605.01713, on the latents of the lens). One tail forward and backward on the slices where the region is
    in question. Raises UsageError for an unknown region or tap.
    """
    if region not in REGIONS:
        raise UsageError(region, "is not a region.", f"Regions are {', '.join(REGIONS)}.")
    codes, replay, sampling = session.codes_at(tap), session.replay, session.sampling
    values = list(REGIONS[region])
    gradients = Gradients(session, tap)
    for sample in range(sampling.count):
        if progress:
            progress(f"influence on {region}", sample / sampling.count)
        box = box_of((replay.logits[sample].softmax(0)[values].sum(0) > NEAR).cpu().numpy())
        if box is None:
            continue
        change = torch.zeros(replay.tap_shapes[tap], device=session.engine.device, requires_grad=True)
        say = sampling.say(sample).to(change).expand(sampling.sample_shape)[box]
        with torch.enable_grad():
            logits = replay.logits_near(tap, sample, change, box)
            soft = (logits.softmax(0)[values].sum(0) * say).sum()
        (gradient,) = torch.autograd.grad(soft, change)
        gradients.add(sample, gradient)
    return gradients.times(codes, session.lenses[tap].W_dec) * session.conformed.voxel_ml


def attribute_log_odds(
    session: Session,
    tap: str,
    regions: tuple[str, ...] = ("WT", "TC", "ET"),
    progress: Callable[[str, float], None] | None = None,
    most: int = MOST_SAMPLES,
) -> dict[str, np.ndarray]:
    """The same for the log odds of each region that the segmentation has: their mean over the region's voxels, and its
    first-order change when each latent is suppressed, (d_sae,) by region.

    The log odds, logsumexp of the region's logits less logsumexp of the others', is the margin by which a voxel lies in
    the region; unlike the volume it does not saturate where the segmenter is sure. One tail forward and one backward a
    region on at most `most` of the slices or windows with a region, evenly spread.
    """
    replay, sampling = session.replay, session.sampling
    inside = {region: replay.logits.softmax(1)[:, list(REGIONS[region])].sum(1) > 0.5 for region in regions}
    inside = {region: mask for region, mask in inside.items() if mask.any()}
    if not inside:
        return {}
    anywhere = torch.stack(list(inside.values())).any(0)
    samples = anywhere.flatten(1).any(1).nonzero()[:, 0].tolist()
    samples = samples[:: -(-len(samples) // most)]
    gradients = {region: Gradients(session, tap) for region in inside}
    voxels = dict.fromkeys(inside, 0.0)
    for i, sample in enumerate(samples):
        if progress:
            progress("influence on the regions", i / len(samples))
        box = box_of(anywhere[sample].cpu().numpy())
        change = torch.zeros(replay.tap_shapes[tap], device=session.engine.device, requires_grad=True)
        say = sampling.say(sample).to(change).expand(sampling.sample_shape)[box]
        with torch.enable_grad():
            logits = replay.logits_near(tap, sample, change, box)
        here = {region: mask[sample][box] * say for region, mask in inside.items() if mask[sample].any()}
        for left, (region, weight) in zip(range(len(here) - 1, -1, -1), here.items(), strict=True):
            values = list(REGIONS[region])
            others = [k for k in range(len(logits)) if k not in values]
            with torch.enable_grad():
                odds = ((logits[values].logsumexp(0) - logits[others].logsumexp(0)) * weight).sum()
            (gradient,) = torch.autograd.grad(odds, change, retain_graph=left > 0)
            gradients[region].add(sample, gradient)
            voxels[region] += float(weight.sum())
    codes, decoder = session.codes_at(tap), session.lenses[tap].W_dec
    return {r: gradients[r].times(codes, decoder) / voxels[r] for r in inside if voxels[r] > 0}


class Gradients:
    """Gradients of one number with respect to a tap's tokens, kept where they are not nearly 0."""

    def __init__(self, session: Session, tap: str):
        self.per_sample = int(np.prod(session.replay.tap_shapes[tap][1:]))
        self.rows: list[np.ndarray] = []  # token numbers
        self.gradients: list[torch.Tensor] = []

    def add(self, sample: int, gradient: torch.Tensor) -> None:
        """Add one sample's gradient (C, *the tap's grid)."""
        gradient = gradient.flatten(1).T
        size = gradient.abs().amax(1)
        tokens = (size > 1e-6 * size.max()).nonzero()[:, 0]
        self.rows.append(tokens.cpu().numpy() + sample * self.per_sample)
        self.gradients.append(gradient[tokens])

    def times(self, codes: Codes, decoder: torch.Tensor) -> np.ndarray:
        """-sum over tokens of z_j (gradient . d_j) of every latent, float64 (d_sae,)."""
        attribution = np.zeros(codes.n_latents)
        if not self.rows:
            return attribution
        rows, gradients = np.concatenate(self.rows), torch.cat(self.gradients)
        latent_of = np.repeat(np.arange(codes.n_latents, dtype=np.int32), np.diff(codes.pointers))
        row_of = np.full(codes.n_tokens, -1, np.int32)
        for first in range(0, len(rows), TOKENS_AT_A_TIME):
            part = rows[first : first + TOKENS_AT_A_TIME]
            row_of[part] = np.arange(len(part))
            entries = np.flatnonzero(row_of[codes.tokens] >= 0)
            along = (gradients[first : first + TOKENS_AT_A_TIME] @ decoder.T).cpu().numpy()
            slope = along[row_of[codes.tokens[entries]], latent_of[entries]]
            attribution += np.bincount(latent_of[entries], -slope * codes.values[entries], codes.n_latents)
            row_of[part] = -1
        return attribution


def dense_latents(session: Session, tap: str) -> np.ndarray:
    """Which latents fire on more than `DENSE` of the case's brain, bool (d_sae,)."""
    return session.codes_at(tap).summary().count > DENSE * np.count_nonzero(session.brain_tokens[tap])


def suppress(session: Session, tap: str, latent: int) -> Recipe:
    """The recipe that suppresses one latent everywhere."""
    return Recipe(f"suppress {latent} at {tap}", PackReference.of(session.pack), (Edit(tap, latent, "scale", 0.0),))


def influence(
    session: Session,
    tap: str,
    region: str,
    measured: int = 20,
    progress: Callable[[str, float], None] | None = None,
) -> Influence:
    """Attribution of all latents, and measured suppression of the first `measured` of `Influence.ranked`."""
    attribution = attribute(session, tap, region, progress)
    found = Influence(tap, region, attribution, dense_latents(session, tap), {})
    before = session.region_ml(session.labels, region)
    for i, latent in enumerate(found.ranked()[:measured]):
        if progress:
            progress("suppressing the top latents one by one", i / measured)
        edited = session.edit(suppress(session, tap, int(latent)))
        found.suppressed_ml[int(latent)] = session.region_ml(edited.labels, region) - before
    return found
