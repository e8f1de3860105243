"""Statistics of all latents of a volume at once, from its sparse codes."""

import math
from dataclasses import dataclass

import numpy as np

# Entries worked on at a time, so that temporary arrays stay small. At 17.9 M entries and 1024 latents on one thread:
# 93-97 ms at 2^17 and 2^18, 112-125 below, 106 at 2^20; 39-41 ms when only the overlap with new labels is asked for.
BLOCK = 1 << 17


@dataclass(frozen=True)
class Summary:
    """One row a latent; a latent that never fires has zeros, a centre of nan and a box of -1.

    Attributes:
        count: int64 (m,), tokens on which the latent fires.
        maximum, total, mean: float (m,), of its values; the mean is over the tokens where it fires.
        samples: int64 (m,), samples (slices or patches) touched.
        centre: float64 (m, axes), centre of mass in indices of the tap's grid (samples, [d,] h, w).
        box_min, box_max: int64 (m, axes), first and last index (inclusive) on each axis.
        overlap: int64 (m, n_labels), tokens of each label on which it fires; None without labels.
    """

    count: np.ndarray
    maximum: np.ndarray
    total: np.ndarray
    mean: np.ndarray
    samples: np.ndarray
    centre: np.ndarray
    box_min: np.ndarray
    box_max: np.ndarray
    overlap: np.ndarray | None


def summarise(
    pointers: np.ndarray,
    tokens: np.ndarray,
    values: np.ndarray,
    grid: tuple[int, ...],
    labels: np.ndarray | None = None,
    n_labels: int = 4,
    known: Summary | None = None,
) -> Summary:
    """Statistics of every latent of codes in compressed columns (see `Codes`).

    Args:
        labels: int8 (n_tokens,) or of shape `grid`, 0 <= label < n_labels, for the overlap counts.
        known: a summary of the same codes: all but the overlap is taken from it.
    """
    m, axes = len(pointers) - 1, len(grid)
    count = np.diff(pointers)
    fires = np.flatnonzero(count)
    overlap = None if labels is None else _overlap(pointers, tokens, np.asarray(labels).reshape(-1), n_labels)
    if known is not None:
        return Summary(**{**vars(known), "overlap": overlap})

    maximum, total, samples = np.zeros(m, np.float32), np.zeros(m), np.zeros(m, np.int64)
    centre, box_min, box_max = np.full((m, axes), np.nan), np.full((m, axes), -1), np.full((m, axes), -1)
    for latents, starts, span in _blocks(pointers, fires):
        value = values[span]
        # values are positive, so floats are ordered as their bits are; integer maxima run in SIMD
        maximum[latents] = np.maximum.reduceat(value.view(np.int32), starts).view(np.float32)
        total[latents] = np.add.reduceat(value, starts)  # pairwise, so float32 does
        rest = tokens[span]
        for axis in range(axes):
            # by division: 0.8 ns an entry; a look-up of the coordinate takes 1.5 and np.unravel_index far more
            stride = math.prod(grid[axis + 1 :])
            position = rest // stride
            rest = rest - position * stride
            box_min[latents, axis] = np.minimum.reduceat(position, starts)
            box_max[latents, axis] = np.maximum.reduceat(position, starts)
            centre[latents, axis] = np.add.reduceat(position.astype(np.float32) * value, starts)
            if axis == 0:  # tokens ascend, so each change of sample within a latent is a new one
                new = np.ones(len(position), np.uint8)
                new[1:] = position[1:] != position[:-1]
                new[starts] = 1
                samples[latents] = np.add.reduceat(new, starts, dtype=np.uint32)
    centre[fires] /= total[fires, None]
    mean = total / np.maximum(count, 1)
    return Summary(count, maximum, total, mean, samples, centre, box_min, box_max, overlap)


def _overlap(pointers: np.ndarray, tokens: np.ndarray, labels: np.ndarray, n_labels: int) -> np.ndarray:
    """Tokens of each label in each latent's run, int64 (m, n_labels)."""
    overlap = np.zeros((len(pointers) - 1, n_labels), np.int64)
    labels = labels.astype(np.uint8)  # one byte a token: the table of a volume stays in the cache
    for latents, starts, span in _blocks(pointers, np.flatnonzero(np.diff(pointers))):
        label = np.take(labels, tokens[span], mode="clip")  # tokens are valid; "clip" spares numpy's check of each
        for k in range(n_labels):
            overlap[latents, k] = np.add.reduceat((label == k).view(np.uint8), starts, dtype=np.uint32)
    return overlap


def _blocks(pointers: np.ndarray, fires: np.ndarray):
    """Cut the latents that fire into groups of about BLOCK entries: (latents, their starts in the span, span)."""
    group = pointers[fires] // BLOCK
    edges = np.flatnonzero(np.diff(group, prepend=-1, append=-1))
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        latents = fires[a:b]
        start, stop = pointers[latents[0]], pointers[latents[-1] + 1]
        yield latents, pointers[latents] - start, slice(start, stop)
