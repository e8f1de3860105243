"""How much two cohorts differ in many numbers at once: effect sizes, intervals over cases, permutation p-values.

Cases are rows and latents columns; what a case does not have (the magnitude of a latent that is silent in it) is nan
and is left out of that latent's sums. Everything is a product of a matrix of draws with a matrix of cases, so that
thousands of draws of hundreds of latents take a moment.

>>> effects = compare(x, y, paired=False, least_sd=0.1)      # x: (cases of X, latents), y: (cases of Y, latents)
>>> effects.g, effects.g_interval, effects.p
>>> adjusted(effects.p)
"""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

LEAST_PAIRS, LEAST_UNPAIRED = 7, 5
"""Below this nothing is said. The smallest two-sided permutation p of 7 pairs is 2 / 2^7 = 0.016, of 5 cases against 5
it is 2 / 252 = 0.008; corrected for the number of tests, the first is below 0.05 only where a third of all tests show
as much. With 6 pairs it would take two thirds; with 3 cases against 3 (0.1) nothing could ever be shown."""

MOST_EXACT = 10_000
"""All permutations where there are no more than this; else so many random ones."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Effects:
    """What differs, Y less X; arrays are float64 (m,), nan where too few cases have the number.

    difference: of the means; interval: (2, m), 95 % over cases; inner: (2, m), 90 %, for "alike within a margin"
    (two one-sided tests, Schuirmann 1987). g, g_interval: Hedges' g (Hedges 1981), of pairs g_av (Lakens 2013): the
    mean difference in standard deviations between cases. delta: Cliff's delta (1993), -1..1. p: two-sided, by
    permutation; `possible`: whether with so many cases p could fall below 0.05 at all. n_x, n_y: int (m,), cases used.
    """

    paired: bool
    difference: np.ndarray
    interval: np.ndarray
    inner: np.ndarray
    g: np.ndarray
    g_interval: np.ndarray
    delta: np.ndarray
    p: np.ndarray
    n_x: np.ndarray
    n_y: np.ndarray

    @property
    def possible(self) -> np.ndarray:
        return enough_cases(self.n_x, self.n_y, self.paired)


def enough_cases(n_x, n_y, paired: bool):
    """Whether so many cases can show anything (see `LEAST_PAIRS`)."""
    return np.minimum(n_x, n_y) >= (LEAST_PAIRS if paired else LEAST_UNPAIRED)


def compare(
    x: np.ndarray, y: np.ndarray, paired: bool, least_sd: float = 0.0, draws: int = 2000, seed: int = 0
) -> Effects:
    """Effects of cohort Y (n_y, m) against X (n_x, m); rows of the same patient where `paired`.

    least_sd: the spread between cases is taken to be at least this, in the units of the numbers: a latent that is
    silent in all cases of both cohorts but one has no spread, and no effect without end for that. draws: of the
    bootstrap over cases. Raises ValueError for pairs that are not as many in both.
    """
    if paired:
        if len(x) != len(y):
            raise ValueError(f"{len(x)} cases cannot be paired with {len(y)}")
        both = np.isfinite(x) & np.isfinite(y)
        x, y = np.where(both, x, np.nan), np.where(both, y, np.nan)
    rng = np.random.default_rng(seed)
    n_x, n_y = np.isfinite(x).sum(0), np.isfinite(y).sum(0)
    known = np.minimum(n_x, n_y) >= 2
    one = _Statistics.of(x, y, np.ones((1, len(x))), np.ones((1, len(y))), paired, least_sd)
    w_x = _draws(rng, draws, len(x))
    w_y = w_x if paired else _draws(rng, draws, len(y))
    drawn = _Statistics.of(x, y, w_x, w_y, paired, least_sd)
    n = np.where(known, np.minimum(n_x, n_y), 2)
    interval, inner = (_interval(drawn.difference, n, c) for c in (CONFIDENCE, 0.9))
    g_interval = _interval(drawn.g, n, CONFIDENCE)
    p = _sign_flips(x, y, rng) if paired else _relabellings(x, y, rng)
    delta = cliffs_delta(x, y)
    values = [np.where(known, v, np.nan) for v in (one.difference[0], one.g[0], delta, p)]
    for pair in (interval, inner, g_interval):
        pair[:, ~known] = np.nan
    return Effects(paired, values[0], interval, inner, values[1], g_interval, values[2], values[3], n_x, n_y)


def adjusted(p: np.ndarray) -> np.ndarray:
    """p-values corrected for their number (Benjamini and Hochberg 1995), nan kept and not counted; any shape."""
    from scipy.stats import false_discovery_control

    p, known = np.asarray(p, float), np.isfinite(p)
    found = np.full(p.shape, np.nan)
    if known.any():
        found[known] = false_discovery_control(p[known], method="bh")
    return found


def cliffs_delta(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """P(y > x) - P(y < x) over all pairs of a case of X and one of Y (Cliff 1993), (m,); nan where a side is empty."""
    sign = np.sign(y[:, None, :] - x[None, :, :])
    known = np.isfinite(sign)
    return np.where(known, sign, 0).sum((0, 1)) / np.where(known.any((0, 1)), known.sum((0, 1)), np.nan)


def hedges_correction(df: np.ndarray) -> np.ndarray:
    """J = 1 - 3 / (4 df - 1): what makes the standardised difference of few cases unbiased (Hedges 1981)."""
    return 1 - 3 / (4 * np.maximum(df, 1) - 1)


def mean_interval(values: np.ndarray, draws: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """Mean of some cases' values and its 95 % interval by the bootstrap over cases; nan without two finite values."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return (float(values[0]) if len(values) else math.nan), math.nan, math.nan
    drawn = _draws(np.random.default_rng(seed), draws, len(values)) @ values / len(values)
    low, high = _interval(drawn[:, None], np.array([len(values)]), CONFIDENCE)[:, 0]
    return float(values.mean()), float(low), float(high)


# -- nulls ----------------------------------------------------------------------------------------------------------


def split_effects(
    x: np.ndarray, y: np.ndarray, paired: bool, least_sd: float = 0.0, splits: int = 100, seed: int = 0
) -> np.ndarray:
    """|g| between random parts of one cohort, as large as the comparison of X and Y would show were there nothing:
    float64 (splits, m).

    Unpaired: each cohort in two random halves, half of the splits each. A half has fewer cases than the cohort, so the
    effect is scaled by the ratio of the standard errors, sqrt((1/n_x + 1/n_y) / (1/h + 1/h')). Paired: the two
    acquisitions of each patient change places at random, which splits the patient's two cases by chance.
    """
    rng = np.random.default_rng(seed)
    if paired:
        both = np.isfinite(x) & np.isfinite(y)
        x, y = np.where(both, x, np.nan), np.where(both, y, np.nan)
        found = []
        for _ in range(splits):
            change = rng.random(len(x)) < 0.5
            a, b = np.where(change[:, None], y, x), np.where(change[:, None], x, y)
            found.append(_g_of(a, b, paired, least_sd))
        return np.abs(np.array(found))
    found = []
    sizes = 1 / max(len(x), 1) + 1 / max(len(y), 1)
    for i in range(splits):
        cohort = (x, y)[i % 2]
        order, half = rng.permutation(len(cohort)), len(cohort) // 2
        if half < 2:
            continue
        scale = math.sqrt(sizes / (1 / half + 1 / (len(cohort) - half)))
        found.append(scale * _g_of(cohort[order[:half]], cohort[order[half:]], False, least_sd))
    return np.abs(np.array(found)).reshape(-1, x.shape[1])


def random_parts(n_x: int, n_y: int, paired: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the stacked cohorts (X above Y) for a comparison in which there is nothing to find: (rows, rows).

    Paired: each patient's two acquisitions in random order. Unpaired: the larger cohort in two halves.
    """
    if paired:
        change = rng.random(n_x) < 0.5
        own = np.arange(n_x)
        return np.where(change, own + n_x, own), np.where(change, own, own + n_x)
    first, n = (0, n_x) if n_x >= n_y else (n_x, n_y)
    order = first + rng.permutation(n)
    return order[: n // 2], order[n // 2 :]


# -- how ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Statistics:
    """difference and g (draws, m) of weighted cases."""

    difference: np.ndarray
    g: np.ndarray

    @staticmethod
    def of(x, y, w_x, w_y, paired: bool, least_sd: float) -> "_Statistics":
        """w_x (draws, n_x), w_y (draws, n_y): how often each case was drawn."""
        mean_x, var_x, n_x = _moments(x, w_x)
        mean_y, var_y, n_y = _moments(y, w_y)
        if paired:
            variance, df = (var_x + var_y) / 2, n_x - 1
        else:
            df = n_x + n_y - 2
            variance = ((n_x - 1) * var_x + (n_y - 1) * var_y) / np.maximum(df, 1)
        sd = np.maximum(np.sqrt(variance), max(least_sd, 1e-12))
        difference = mean_y - mean_x
        return _Statistics(difference, hedges_correction(df) * difference / sd)


def _g_of(x: np.ndarray, y: np.ndarray, paired: bool, least_sd: float) -> np.ndarray:
    return _Statistics.of(x, y, np.ones((1, len(x))), np.ones((1, len(y))), paired, least_sd).g[0]


def _moments(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance (n - 1) and number of the weighted rows, each (draws, m); nan rows do not count."""
    known = np.isfinite(values)
    shift = np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)  # else the variance is a small difference
    centred = np.where(known, values - shift, 0.0)
    n = weights @ known.astype(float)
    at_least_one = np.maximum(n, 1)
    mean = weights @ centred / at_least_one
    variance = np.maximum(weights @ centred**2 / at_least_one - mean**2, 0) * at_least_one / np.maximum(n - 1, 1)
    return mean + shift, variance, n


def _draws(rng: np.random.Generator, draws: int, n: int) -> np.ndarray:
    return rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(float) if n else np.zeros((draws, 0))


def _interval(drawn: np.ndarray, n: np.ndarray, confidence: float) -> np.ndarray:
    """(2, m) from draws (draws, m): the expanded percentile interval of Hesterberg 2015 (The American Statistician
    69:371), whose tails are widened for few cases as Student's t widens the normal's."""
    from scipy.stats import norm, t

    n = np.maximum(n, 2)
    tail = norm.cdf(t.ppf((1 - confidence) / 2, n - 1) * np.sqrt(n / (n - 1)))
    found = np.empty((2, drawn.shape[1]))
    for value in np.unique(tail):
        columns = tail == value
        found[:, columns] = np.quantile(drawn[:, columns], (value, 1 - value), axis=0)
    return found


def _sign_flips(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """p of the mean of the pairs' differences, whose signs are as likely either way where nothing differs."""
    d = np.where(np.isfinite(y - x), y - x, 0.0)
    n = len(d)
    if n and 2**n <= MOST_EXACT:
        signs = 1 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)  # the first is the data's own
        drawn = np.abs(signs @ d)
        return _share_as_large(drawn, drawn[0])
    signs = rng.choice((-1.0, 1.0), (MOST_EXACT - 1, n))
    return _with_itself(np.abs(signs @ d), np.abs(d.sum(0)))


def _relabellings(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """p of the difference of the means, where cases belong to either cohort alike if nothing differs."""
    both, n_x, n = np.concatenate([x, y]), len(x), len(x) + len(y)
    exact = math.comb(n, n_x) <= MOST_EXACT
    if exact:
        chosen = np.array(list(combinations(range(n), n_x))).reshape(-1, n_x)  # the first is the data's own
    else:
        chosen = rng.permuted(np.tile(np.arange(n), (MOST_EXACT - 1, 1)), axis=1)[:, :n_x]
    inside = np.zeros((len(chosen), n))
    np.put_along_axis(inside, chosen, 1.0, axis=1)

    def distances(of_x: np.ndarray) -> np.ndarray:
        known = np.isfinite(both)
        values = np.where(known, both, 0.0)
        n_in, n_out = of_x @ known, (1 - of_x) @ known
        distance = np.abs(of_x @ values / np.maximum(n_in, 1) - (1 - of_x) @ values / np.maximum(n_out, 1))
        # Where a relabelling leaves a side without cases it says nothing, and counts as large.
        return np.where((n_in > 0) & (n_out > 0), distance, np.inf)

    own = distances((np.arange(n) < n_x)[None].astype(float))[0]
    drawn = distances(inside)
    return _share_as_large(drawn, own) if exact else _with_itself(drawn, own)


def _share_as_large(drawn: np.ndarray, own: np.ndarray) -> np.ndarray:
    return (drawn >= own * (1 - 1e-9)).mean(0)


def _with_itself(drawn: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(b + 1) / (B + 1) (Phipson and Smyth 2010): the data's own labelling is one of those that could be."""
    return ((drawn >= own * (1 - 1e-9)).sum(0) + 1) / (len(drawn) + 1)
