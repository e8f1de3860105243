"""Histograms of all latents' codes, in bins that fit any case: they merge, and tell AUROC, overlap and quantiles."""

from dataclasses import dataclass

import numpy as np

N_BINS = 64
PER_OCTAVE = 8
ENTRIES_AT_A_TIME = 1 << 20


@dataclass(frozen=True)
class CodeBins:
    """Logarithmic bins of the codes of each latent: bin b of latent j begins at base[j] * 2^(b / 8).

    Eight octaves above the latent's threshold; what is larger counts in the last bin, so that histograms of cases add
    up whatever codes the next case brings. base: float32 (latents,), above 0.
    """

    base: np.ndarray

    @staticmethod
    def of(threshold: np.ndarray, largest: float) -> "CodeBins":
        """Bins from the lens's thresholds; where one is 0, seven octaves below the `largest` code of the lens."""
        fallback = np.float32(max(largest, 1e-6) / 2**7)
        return CodeBins(np.where(threshold > 0, threshold, fallback).astype(np.float32))

    def index(self, latents: np.ndarray, values: np.ndarray) -> np.ndarray:
        """The bin of each code, int64."""
        steps = np.log2(values / self.base[latents]) * PER_OCTAVE
        return np.clip(np.floor(steps), 0, N_BINS - 1).astype(np.int64)

    def edges(self) -> np.ndarray:
        """(latents, N_BINS + 1), lower edges, and the last bin's upper one as if it were not open."""
        return self.base[:, None].astype(np.float64) * 2.0 ** (np.arange(N_BINS + 1) / PER_OCTAVE)


def auroc(positive: np.ndarray, negative: np.ndarray, n_positive: float, n_negative: float) -> np.ndarray:
    """Area under the ROC curve of each latent's code, float64 (latents,); nan where a side is empty.

    positive, negative: (latents, N_BINS) tokens by code; the tokens on which it does not fire are what is missing to
    n_positive and n_negative. The probability that a positive token has the larger code, ties (also two of one bin)
    counted half: Mann-Whitney's U (Hanley & McNeil 1982).
    """
    if n_positive <= 0 or n_negative <= 0:
        return np.full(len(positive), np.nan)
    silent_positive = n_positive - positive.sum(1, dtype=np.float64)
    silent_negative = n_negative - negative.sum(1, dtype=np.float64)
    below = np.cumsum(negative, axis=1, dtype=np.float64) - negative + silent_negative[:, None]
    wins = (positive * (below + 0.5 * negative)).sum(1) + 0.5 * silent_positive * silent_negative
    return wins / (float(n_positive) * float(n_negative))


def best_iou(positive: np.ndarray, negative: np.ndarray, n_positive: float) -> np.ndarray:
    """Largest intersection over union of "the code is at or above t" with the positive tokens, over all bins' lower
    edges t, float64 (latents,); nan where nothing is positive."""
    if n_positive <= 0:
        return np.full(len(positive), np.nan)
    hit = np.cumsum(positive[:, ::-1], axis=1, dtype=np.float64)
    false = np.cumsum(negative[:, ::-1], axis=1, dtype=np.float64)
    return (hit / (n_positive + false)).max(1)


def quantiles(
    counts: np.ndarray, edges: np.ndarray, low: np.ndarray, high: np.ndarray, at: tuple[float, ...]
) -> np.ndarray:
    """Quantiles of each latent's code where it fires, float64 (latents, len(at)); nan where it never does.

    counts: (latents, N_BINS); low, high: (latents,) its smallest and largest code, which 0 and 1 give exactly. Within a
    bin (9 % wide) codes are taken as evenly spread.
    """
    edges = np.clip(edges, low[:, None], high[:, None])
    edges[:, -1] = high
    reached = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(counts, axis=1, dtype=np.float64)], axis=1)
    found = np.full((len(counts), len(at)), np.nan)
    for latent in np.flatnonzero(reached[:, -1]):
        found[latent] = np.interp(np.array(at) * reached[latent, -1], reached[latent], edges[latent])
    return found


def linear_histogram(counts: np.ndarray, edges: np.ndarray, high: np.ndarray, n: int) -> np.ndarray:
    """Tokens of each latent in `n` equal bins from 0 to its largest code, int64 (latents, n); none is lost."""
    edges = np.minimum(edges, high[:, None])
    edges[:, -1] = high
    reached = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(counts, axis=1, dtype=np.float64)], axis=1)
    found = np.zeros((len(counts), n), np.int64)
    for latent in np.flatnonzero(reached[:, -1]):
        at = np.linspace(0, high[latent], n + 1)
        found[latent] = np.diff(np.rint(np.interp(at, edges[latent], reached[latent], left=0.0)).astype(np.int64))
    return found
