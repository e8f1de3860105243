"""Fluid, grey and white matter of a brain outside its tumour, from intensities alone or from an atlas of the user's."""

import numpy as np
import SimpleITK as sitk

from MedSegLensLib.cases.conform import Conformed
from MedSegLensLib.errors import UsageError

NONE, CSF, GREY, WHITE, VESSEL = range(5)

SAMPLE = 40_000
ROUNDS = 30
VESSEL_ABOVE = 3.0
"""Standard deviations of healthy tissue above its mean in T1 with contrast: what takes up contrast outside a tumour."""


def tissues(
    conformed: Conformed, channels: dict[str, int], lesion: np.ndarray, atlas: sitk.Image | None = None
) -> np.ndarray | None:
    """Tissue of every voxel, uint8 (Z, Y, X): CSF, GREY, WHITE, VESSEL; NONE in the lesion and outside the brain.

    channels: where each modality that the case has stands in `conformed.array`. Without an atlas, k-means with three
    centres (Lloyd 1982) on the z-scores of t1n and t2w, told apart by t1n - t2w: fluid is dark in T1 and bright in
    T2, white matter the reverse. One of the two will do; None where the case has neither. `atlas`: a label volume in
    the case's space with CSF 1, grey matter 2, white matter 3; raises UsageError where it has none of these here.
    """
    healthy = conformed.brain & ~lesion
    found = np.zeros(healthy.shape, np.uint8)
    if atlas is not None:
        values = conformed.labels(atlas)
        found[healthy] = np.where(values[healthy] <= WHITE, values[healthy], NONE)
        if not found.any():
            raise UsageError("tissue atlas", "none of its labels 1, 2, 3 lies in this brain.", "Give one in its space.")
    else:
        signs = [(channels[m], sign) for m, sign in (("t1n", 1.0), ("t2w", -1.0)) if m in channels]
        if not signs or not healthy.any():
            return None
        values = np.stack([sign * conformed.array[c][healthy] for c, sign in signs], axis=1)
        found[healthy] = CSF + _clustered(values)
    if "t1c" in channels:
        mean, deviation = healthy_scale(conformed.array[channels["t1c"]], found)
        found[healthy & (conformed.array[channels["t1c"]] > mean + VESSEL_ABOVE * deviation)] = VESSEL
    return found


def healthy_scale(values: np.ndarray, tissue: np.ndarray | None) -> tuple[float, float]:
    """Mean and standard deviation of a modality (Z, Y, X) over grey and white matter; 0 and 1 without any."""
    inside = values[(tissue == GREY) | (tissue == WHITE)] if tissue is not None else values[:0]
    if not inside.size:
        return 0.0, 1.0
    return float(inside.mean(dtype=np.float64)), float(inside.std(dtype=np.float64)) or 1.0


def _clustered(values: np.ndarray) -> np.ndarray:
    """Cluster 0, 1, 2 of each row (n, features), in ascending order of the features' sum; the same each time."""
    some = values[:: max(1, len(values) // SAMPLE)]
    order = some[np.argsort(some.sum(1), kind="stable")]
    centres = np.stack([order[int(q * (len(order) - 1))] for q in (0.05, 0.4, 0.8)])
    for _ in range(ROUNDS):
        nearest = _nearest(some, centres)
        moved = np.stack(
            [some[nearest == k].mean(0) if (nearest == k).any() else centre for k, centre in enumerate(centres)]
        )
        if np.allclose(moved, centres, atol=1e-4):
            break
        centres = moved
    return _nearest(values, centres[np.argsort(centres.sum(1), kind="stable")])


def _nearest(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.argmin([((values - centre) ** 2).sum(1) for centre in centres], axis=0).astype(np.uint8)
