"""Ceilings: what five latents could do with the reference in hand. Oracles, nothing that a reader has."""

import numpy as np
import torch
from repair_controls import AtTap
from repair_taps import Click

from MedSegLensLib.cases.case import REGIONS, region_mask
from MedSegLensLib.editing.session import Session
from MedSegLensLib.failures.gain_fit import GainFit, LatentUnits, Look, log_odds_of, looks_at
from MedSegLensLib.failures.points import Point
from MedSegLensLib.failures.repair import Settings, fitted_gains

SAMPLES = 16


def in_the_mistake(session: Session, truth: np.ndarray, region: str) -> np.ndarray:
    """Five latents in all that was missed, and five in all that is false: the mask is the reference's, too."""
    settings, latents = Settings(samples=SAMPLES), LatentUnits(session, session.pack.default_tap)
    edited = AtTap(session, lambda point: latents, settings)
    theirs = region_mask(truth, region)
    for inside in (True, False):
        ours = region_mask(edited.labels, region)
        wrong = ((theirs & ~ours) if inside else (ours & ~theirs)) & session.conformed.brain
        if wrong.any():
            voxel = tuple(int(v) for v in np.argwhere(wrong)[np.count_nonzero(wrong) // 2])
            edited.answer(Click(Point((0, 0, 0), inside, region), voxel, wrong, wrong.astype(np.float32)))
    return edited.labels


def everywhere(session: Session, truth: np.ndarray, region: str) -> np.ndarray:
    """The best five latents changed in the whole brain, fitted on the reference of up to 16 slices of the region."""
    settings, latents = Settings(samples=SAMPLES), LatentUnits(session, session.pack.default_tap)
    edited = AtTap(session, lambda point: latents, settings)
    theirs = region_mask(truth, region)
    asked = (theirs | region_mask(session.labels, region)) & session.conformed.brain
    voxel = tuple(int(v) for v in np.argwhere(asked)[np.count_nonzero(asked) // 2])
    looks = looks_at(session, edited.tap, asked, theirs.astype(np.float32), voxel, SAMPLES, {})
    if not looks:
        return session.labels
    fit = _ToTheReference(session, edited.tap, latents, looks, REGIONS[region], True, settings.sparse)
    gains = fitted_gains(fit, settings)
    if gains:
        edited.write(latents, gains, session.conformed.brain & _slices_of(asked))
    return edited.labels


class _ToTheReference(GainFit):
    """Cross-entropy of the region against the reference, which `Look.weight` holds, all voxels of the box alike."""

    def _loss(self, look: Look, logits: torch.Tensor) -> torch.Tensor:
        in_region, outside = log_odds_of(logits, self.target)
        return -(in_region * look.weight + outside * (1 - look.weight)).sum() / self.weight


def _slices_of(mask: np.ndarray) -> np.ndarray:
    return np.broadcast_to(mask.any((1, 2))[:, None, None], mask.shape)


ORACLES = {
    "oracle: 5 latents, everywhere": everywhere,
    "oracle: 5 latents, in the mistakes": in_the_mistake,
}
