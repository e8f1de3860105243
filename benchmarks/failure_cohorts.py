"""The cohorts that failures are sought in, each kind apart: real unseen cases, real cases under simulated acquisitions,
phantoms. One place, so that detection, shift and repair are judged on the same cases.

The seven real cases that the packs were trained on fail only under another acquisition; what is learned from them says
little of unseen patients, so the two held-out patients stand apart in every result.
"""

from common import REAL, VALIDATION

from MedSegLensLib.cases.phantom import SHAPES
from MedSegLensLib.cohorts.acquisitions import Acquisition
from MedSegLensLib.cohorts.cohort import Cohort, CohortCase, find_cohort
from MedSegLensLib.cohorts.making import acquired_cohort
from MedSegLensLib.cohorts.phantoms import PhantomRequest

ACQUISITIONS = (
    Acquisition("low-field", 1.0),
    Acquisition("thick-slices", 1.5),
    Acquisition("motion", 2.0),
    Acquisition("bias-field", 2.0),
    Acquisition("other-contrast", 2.0),
    Acquisition("noise", 2.0),
    Acquisition("missing-t1c"),
    Acquisition("missing-t2f"),
)
PHANTOM_GRID = {"size": (80, 100, 24), "spacing": (2.0, 2.0, 6.0)}
"""Coarse through the plane, so that a phantom takes a second: the packs work on slices."""


def real_cases() -> list[CohortCase]:
    """Empty where the shared data are absent."""
    return list(find_cohort(REAL).cases) if REAL.is_dir() else []


def unseen() -> list[CohortCase]:
    """The real cases that no pack was trained on, as they were acquired."""
    return [case for case in real_cases() if case.name in VALIDATION]


def simulated(acquisitions: tuple[Acquisition, ...] = ACQUISITIONS) -> list[Cohort]:
    """All real cases under each of the acquisitions: a cohort an acquisition."""
    if not REAL.is_dir():
        return []
    real = find_cohort(REAL)
    return [acquired_cohort(one.kind, real, one) for one in acquisitions]


def phantoms(count: int = 10, first_seed: int = 700) -> list[CohortCase]:
    """Invented anatomy, the shapes in turn."""
    seeds = range(first_seed, first_seed + count)
    shapes = [list(SHAPES)[i % len(SHAPES)] for i in range(count)]
    return [
        CohortCase(f"phantom-{seed}", f"phantom-{seed}", phantom=PhantomRequest(seed, shape=shape, **PHANTOM_GRID))
        for seed, shape in zip(seeds, shapes, strict=True)
    ]
