"""Which slices of a case a reader should see."""

import numpy as np

from MedSegLensLib.cases.case import REGIONS

SCROLLED = 20
"""Slices at most in the part of the page that scrolls."""


def key_slice(brain: np.ndarray, before: np.ndarray, after: np.ndarray, region: str) -> tuple[int, str]:
    """The axial slice to look at first, and why it was chosen; all arrays (Z, Y, X).

    Where the edit changed most of the region, else most of any label, else where most of the region is, of the whole
    tumour, or of the brain.
    """
    values = REGIONS[region]
    choices = (
        (np.isin(before, values) != np.isin(after, values), f"the edit changes most of {region}"),
        (before != after, "the edit changes most"),
        (np.isin(before, values), f"most of {region} is; the edit changes nothing"),
        (before > 0, "most of the tumour is; the edit changes nothing"),
        (brain, "most of the brain is; no tumour was found"),
    )
    for where, why in choices:
        counts = where.sum(axis=(1, 2))
        if counts.any():
            return int(counts.argmax()), why
    return len(brain) // 2, "the middle is"


def scroll_slices(brain: np.ndarray, volumes: list[np.ndarray], key: int) -> list[int]:
    """Axial slices to scroll through, ascending: through every tumour of `volumes` and one slice beyond it, evenly
    where there are more than `SCROLLED`; through the brain where there is no tumour. The key slice is among them."""
    lesion = np.flatnonzero(sum((v > 0).any(axis=(1, 2)) for v in volumes))
    inside = lesion if len(lesion) else np.flatnonzero(brain.any(axis=(1, 2)))
    if not len(inside):
        return [key]
    low, high = max(inside[0] - 1, 0), min(inside[-1] + 1, len(brain) - 1)
    even = np.unique(np.linspace(low, high, min(SCROLLED, high - low + 1)).round().astype(int))
    even[np.abs(even - key).argmin()] = key
    return [int(i) for i in np.unique(even)]


def best_slice(activation: np.ndarray, plane_axis: int) -> int:
    """The slice across an axis of (Z, Y, X) where most of an activation is."""
    return int(activation.sum(axis=tuple(a for a in range(3) if a != plane_axis), dtype=np.float64).argmax())
