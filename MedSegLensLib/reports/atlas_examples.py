"""The best examples of every latent: the slices of some cases in which it fires most strongly.

Cases come one after another and are forgotten: of a slice that is an example so far, only the latent's code is kept.
"""

from dataclasses import dataclass

import numpy as np

from MedSegLensLib.editing.places import ras_point
from MedSegLensLib.editing.session import Session
from MedSegLensLib.lenses.codes import Codes

APART_MM = 10.0
"""Two examples from one case lie at least this far apart: neighbouring slices show the same thing."""

BINS = 20


@dataclass(frozen=True)
class Example:
    """One latent on one axial slice of a case.

    case: its place in the list of cases. slice: of the network's grid. value: its largest code in the slice.
    peak_ras: where that is, mm. tokens, values: its code in the slice, on the map of shape `grid`, row-major; the map
    covers the whole slice of the network's grid.
    """

    case: int
    slice: int
    value: float
    peak_ras: tuple[float, float, float]
    tokens: np.ndarray
    values: np.ndarray
    grid: tuple[int, int]

    def map(self) -> np.ndarray:
        """The code, float32 (rows, columns)."""
        full = np.zeros(self.grid, np.float32)
        full.ravel()[self.tokens] = self.values
        return full


class BestExamples:
    """Of every latent of one lens the `count` strongest slices over the cases that were added."""

    def __init__(self, latents: int, count: int, cases: int, top: np.ndarray):
        """cases: how many will be added, so that no case takes more places than it must (two, or more where there are
        few cases). top: (latents,), the upper end of each latent's histogram, 0 where it is not known."""
        self.count, self.per_case = count, max(min(2, count), -(-count // max(cases, 1)))
        self.best: list[list[Example]] = [[] for _ in range(latents)]
        self.fires = np.zeros(latents, np.int64)
        self.brain = 0
        self.maximum = np.zeros(latents, np.float32)
        self.histogram = np.zeros((latents, BINS), np.int64)
        self._top = top

    def add(self, case: int, session: Session, tap: str) -> set[int]:
        """Look through a case; the slices (of the network's grid) that are examples now."""
        codes = session.codes_at(tap)
        self._count(codes, int(np.count_nonzero(session.brain_tokens[tap])))
        slices = _slices(session, tap, codes)
        strongest, taken = codes.summary().maximum, set()
        for latent in range(codes.n_latents):
            if strongest[latent] <= self._least(latent):
                continue
            chosen = self._chosen(latent, slices.of(latent), session.conformed.grid.spacing[2])
            if not chosen:
                continue
            found = [slices.example(case, latent, z, value) for z, value in chosen]
            merged = sorted(self.best[latent] + found, key=lambda e: -e.value)[: self.count]
            self.best[latent] = merged
            taken |= {e.slice for e in merged if e.case == case}
        return taken

    def _least(self, latent: int) -> float:
        """What a slice must exceed to become an example."""
        kept = self.best[latent]
        return kept[-1].value if len(kept) == self.count else 0.0

    def _chosen(self, latent: int, found: tuple[np.ndarray, np.ndarray], spacing: float) -> list[tuple[int, float]]:
        """Slices of this case that can be examples, strongest first."""
        numbers, values = found
        least = self._least(latent)
        chosen: list[tuple[int, float]] = []
        for i in np.argsort(-values, kind="stable"):
            if values[i] <= least or len(chosen) == self.per_case:
                break
            if all(abs(int(numbers[i]) - z) * spacing >= APART_MM for z, _ in chosen):
                chosen.append((int(numbers[i]), float(values[i])))
        return chosen

    def _count(self, codes: Codes, brain: int) -> None:
        counts = np.diff(codes.pointers)
        self.fires += counts
        self.brain += brain
        np.maximum(self.maximum, codes.summary().maximum, out=self.maximum)
        latent_of = np.repeat(np.arange(codes.n_latents), counts)
        top = self._top[latent_of]
        known = top > 0
        bins = np.minimum((codes.values[known] / top[known] * BINS).astype(np.int64), BINS - 1)
        flat = np.bincount(latent_of[known] * BINS + bins, minlength=codes.n_latents * BINS)
        self.histogram += flat.reshape(-1, BINS)


def _slices(session: Session, tap: str, codes: Codes):
    return (_MergedWindows if session.sampling.overlapping else _WholeSlices)(session, tap, codes)


class _WholeSlices:
    """Codes of a segmenter that reads axial slices: a sample is a slice."""

    def __init__(self, session: Session, tap: str, codes: Codes):
        self.session, self.codes = session, codes
        self.grid = codes.grid[1:]
        self.size = int(np.prod(self.grid))

    def of(self, latent: int) -> tuple[np.ndarray, np.ndarray]:
        """Slices in which a latent fires, and its largest code in each."""
        tokens, values = self.codes.latent(latent)
        if not len(tokens):
            return tokens, values
        sample = tokens // self.size
        starts = np.flatnonzero(np.diff(sample, prepend=-1))
        return sample[starts], np.maximum.reduceat(values, starts)

    def example(self, case: int, latent: int, z: int, value: float) -> Example:
        tokens, values = self.codes.latent(latent)
        first, last = np.searchsorted(tokens, (z * self.size, (z + 1) * self.size))
        inside, values = tokens[first:last] - z * self.size, values[first:last].copy()
        peak = _peak(self.session, z, self.grid, int(inside[int(values.argmax())]))
        return Example(case, z, value, peak, inside, values, self.grid)


class _MergedWindows:
    """Codes of a segmenter that reads overlapping windows: its activation volume is what a slice is cut from."""

    def __init__(self, session: Session, tap: str, codes: Codes):
        self.session, self.tap, self.codes = session, tap, codes
        self.grid = session.labels.shape[1:]
        self._volume: tuple[int, np.ndarray] | None = None

    def _of(self, latent: int) -> np.ndarray:
        if self._volume is None or self._volume[0] != latent:
            self._volume = latent, self.session.activation_volume(self.tap, latent)
        return self._volume[1]

    def of(self, latent: int) -> tuple[np.ndarray, np.ndarray]:
        if self.codes.pointers[latent] == self.codes.pointers[latent + 1]:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        strongest = self._of(latent).max(axis=(1, 2))
        slices = np.flatnonzero(strongest)
        return slices, strongest[slices]

    def example(self, case: int, latent: int, z: int, value: float) -> Example:
        flat = self._of(latent)[z].ravel()
        tokens = np.flatnonzero(flat).astype(np.int32)
        values = flat[tokens]
        peak = _peak(self.session, z, self.grid, int(tokens[int(values.argmax())]))
        return Example(case, z, value, peak, tokens, values, self.grid)


def _peak(session: Session, z: int, grid: tuple[int, int], token: int) -> tuple[float, float, float]:
    steps = [n / g for n, g in zip(session.labels.shape[1:], grid, strict=True)]
    y, x = ((i + 0.5) * step - 0.5 for i, step in zip(np.unravel_index(token, grid), steps, strict=True))
    return tuple(float(p) for p in ras_point(session.conformed, (z, float(y), float(x))))
