"""How much each latent holds a region up: by gradient for all at once, by suppressing it for a few.

Both are changes of the region's volume in mL, were the latent suppressed: positive means that the region would grow.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from MedSegLensLib.cases.case import REGIONS
from MedSegLensLib.editing.recipe import Edit, PackReference, Recipe
from MedSegLensLib.editing.session import Session
from MedSegLensLib.errors import UsageError
from MedSegLensLib.segmenters.sampling import box_of

TOKENS_AT_A_TIME = 8192
NEAR = 0.01
"""Where the region's probability is below this, it contributes next to nothing: only the box of the rest is run."""


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
    codes, lens, replay, sampling = session.codes_at(tap), session.lenses[tap], session.replay, session.sampling
    values = list(REGIONS[region])
    grid = replay.tap_shapes[tap][1:]
    per_sample = int(np.prod(grid))
    rows, gradients = [], []  # token numbers, dR/dx there
    for sample in range(sampling.count):
        if progress:
            progress(f"influence on {region}", sample / sampling.count)
        box = box_of(replay.logits[sample].softmax(0)[values].sum(0) > NEAR)
        if box is None:
            continue
        change = torch.zeros(replay.tap_shapes[tap], device=session.engine.device, requires_grad=True)
        say = sampling.say(sample).to(change).expand(sampling.sample_shape)[box]
        with torch.enable_grad():
            logits = replay.logits_near(tap, sample, change, box)
            soft = (logits.softmax(0)[values].sum(0) * say).sum()
        (gradient,) = torch.autograd.grad(soft, change)
        gradient = gradient.flatten(1).T
        size = gradient.abs().amax(1)
        tokens = (size > 1e-6 * size.max()).nonzero()[:, 0]
        rows.append(tokens.cpu().numpy() + sample * per_sample)
        gradients.append(gradient[tokens])
    attribution = np.zeros(codes.n_latents)
    if not rows:
        return attribution
    rows, gradients = np.concatenate(rows), torch.cat(gradients)
    latent_of = np.repeat(np.arange(codes.n_latents, dtype=np.int32), np.diff(codes.pointers))
    row_of = np.full(codes.n_tokens, -1, np.int32)
    for first in range(0, len(rows), TOKENS_AT_A_TIME):
        part = rows[first : first + TOKENS_AT_A_TIME]
        row_of[part] = np.arange(len(part))
        entries = np.flatnonzero(row_of[codes.tokens] >= 0)
        along = (gradients[first : first + TOKENS_AT_A_TIME] @ lens.W_dec.T).cpu().numpy()
        slope = along[row_of[codes.tokens[entries]], latent_of[entries]]
        attribution += np.bincount(latent_of[entries], -slope * codes.values[entries], codes.n_latents)
        row_of[part] = -1
    return attribution * session.conformed.voxel_ml


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
