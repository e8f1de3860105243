"""Which latent of the other side is like a latent, whether that is more than chance, and whether the training's own
seeds differ as much: the categories of a comparison of packs, by stated thresholds."""

from dataclasses import dataclass

import numpy as np

from MedSegLensLib.lenses.stability import STABLE, partners

SHARED = 0.7
"""A latent is shared from this correlation with its one-to-one partner on: half of the variance in common."""

PARTLY = 0.4
"""Below this, with the whole interval, nothing of the other side is like it: a sixth of the variance in common."""

FOUND_AGAIN = STABLE
"""From this correlation with its best match in every other seed of its own lens on, a latent is found again."""

COMPARABLE = 0.5
"""Where less than this share of a tap's latents, of those that other seeds find again, are alike to anything of the
other side, the two dictionaries have other bases: that one latent has no match there says nothing of it. Between the
shipped U-Net and SegFormer 65 % of random directions have no match either."""

LEVEL = 0.05
"""Share of random directions that may do as well, and of false discoveries among latents called like another."""

MIN_CASES = 2
NEAR = 60
"""A latent is held against this many random directions of its tap, those that fire as often as it does."""


def thresholds() -> dict[str, float]:
    """By name, for the record."""
    return {
        "shared": SHARED,
        "partly shared": PARTLY,
        "found again by other seeds": FOUND_AGAIN,
        "comparable taps": COMPARABLE,
        "level": LEVEL,
        "least cases": MIN_CASES,
    }


@dataclass(frozen=True)
class Matches:
    """Of one side's n latents. best: correlation with the most alike latent of the other side, best_partner its number;
    one: with the one-to-one partner (Hungarian), one_partner its number, -1 where it is left over, with one = 0.
    mutual: whether the best match of the best match is the latent itself."""

    best: np.ndarray
    best_partner: np.ndarray
    one: np.ndarray
    one_partner: np.ndarray
    mutual: np.ndarray


def match(r: np.ndarray, alive: np.ndarray, other_alive: np.ndarray) -> tuple[Matches, Matches]:
    """Both sides' matches by correlations (n_a, n_b); latents that do not fire are nobody's partner."""
    r = np.where(np.outer(alive, other_alive), r, -1.0)
    assigned = partners(r)
    assigned = np.where((assigned >= 0) & (r[np.arange(len(r)), assigned] > -1), assigned, -1)
    back = np.full(r.shape[1], -1)
    back[assigned[assigned >= 0]] = np.flatnonzero(assigned >= 0)
    return _matches(r, assigned), _matches(r.T, back)


def _matches(r: np.ndarray, assigned: np.ndarray) -> Matches:
    rows = np.arange(len(r))
    best = r.argmax(1)
    mutual = r.argmax(0)[best] == rows
    one = np.where(assigned >= 0, r[rows, assigned], 0.0)
    return Matches(np.maximum(r[rows, best], 0.0), best, one, assigned, mutual)


def found_again(r: np.ndarray, starts: list[tuple[int, int, int, int]]) -> np.ndarray:
    """The worst, over the other seeds, of each latent's best correlation there: (n,); nan without another seed.

    r: own times seeds (n, s). starts: for each seed's lens the rows (from, to) of its tap and its columns (from, to).
    """
    found = np.full(len(r), np.nan)
    for row, row_end, column, column_end in starts:
        best = r[row:row_end, column:column_end].max(1)
        found[row:row_end] = np.fmin(found[row:row_end], best)
    return found


@dataclass(frozen=True)
class RandomNull:
    """What random directions that fire as often as a latent reach with their best match. bound, low (n,): its 95 % and
    5 % quantile; p, p_low (n,): how often they reach what the latent does, and how often they stay below it."""

    bound: np.ndarray
    p: np.ndarray
    low: np.ndarray
    p_low: np.ndarray


def random_null(
    best: np.ndarray,
    density: np.ndarray,
    taps: np.ndarray,
    random_best: np.ndarray,
    random_density: np.ndarray,
    random_taps: np.ndarray,
) -> RandomNull:
    """Each latent against the `NEAR` random directions of its tap that are nearest in how often they fire.

    The best of many matches follows an extreme-value law, so that p is from a Gumbel law fitted by moments to Fisher's
    z of their best matches: with some hundred directions a count alone says nothing below 0.01. Without random
    directions the bounds are nan and p 1: nothing can be called alike, or specific.
    """
    bound, low = np.full((2, len(best)), np.nan)
    p, p_low = np.ones((2, len(best)))
    for tap in np.unique(taps):
        theirs = np.flatnonzero((random_taps == tap) & (random_density > 0))
        mine = np.flatnonzero(taps == tap)
        if not len(theirs):
            continue
        away = np.abs(np.log(np.maximum(density[mine], 1e-9))[:, None] - np.log(random_density[theirs])[None])
        near = theirs[np.argsort(away, axis=1, kind="stable")[:, :NEAR]]
        reached = random_best[near]
        low[mine], bound[mine] = np.quantile(reached, [LEVEL, 1 - LEVEL], axis=1)
        z, z_own = np.arctanh(np.clip(reached, 0, 0.9999)), np.arctanh(np.clip(best[mine], 0, 0.9999))
        scale = np.maximum(z.std(1), 1e-3) * np.sqrt(6) / np.pi
        place = z.mean(1) - 0.5772 * scale
        passed = np.exp(np.clip(-(z_own - place) / scale, -50, 50))
        p[mine], p_low[mine] = -np.expm1(-passed), np.exp(-passed)
    return RandomNull(bound, p, low, p_low)


@dataclass(frozen=True)
class Margins:
    """How far a resampled measure may lie off: one and best (n,), from the value down to the lower end of the interval;
    above (n,), from the best match up to its upper end."""

    one: np.ndarray
    best: np.ndarray
    above: np.ndarray

    @staticmethod
    def none(n: int) -> "Margins":
        return Margins(*np.zeros((3, n)))


def categories(
    matches: Matches,
    margins: Margins,
    bound: np.ndarray,
    alike: np.ndarray,
    unlike: np.ndarray,
    found: np.ndarray,
    limit: np.ndarray,
    cases: np.ndarray,
) -> np.ndarray:
    """The category of each latent, object array of text (n,).

    bound: what random directions reach, nan without them. alike: bool, whether the best match is beyond them by a p
    corrected for the number of latents. unlike: bool, see `telling`. found: see `found_again`. limit: the most that
    the other side's grids allow (`Pooled.grid_limit`). cases: in how many each fires. In this order:

    never fires, too few cases (below `MIN_CASES`); shared: the one-to-one partner at `SHARED` or more, and the interval
    above what random directions reach; partly shared: the best match at `PARTLY` or more, and beyond them likewise;
    not distinguishable from seed noise: not every other seed finds it again; specific: the whole interval of the best
    match below `PARTLY`, where the other side's grids would have shown `SHARED` and to have no match tells something;
    undecided: the rest.
    """
    alike = alike & np.isfinite(bound)
    again = found >= FOUND_AGAIN  # nan, without other seeds, is not
    rules = [
        (cases == 0, "never fires"),
        (cases < MIN_CASES, "too few cases"),
        (alike & (matches.one >= SHARED) & (matches.one - margins.one > bound), "shared"),
        (alike & (matches.best >= PARTLY) & (matches.best - margins.best > bound), "partly shared"),
        (~again, "not distinguishable from seed noise"),
        (unlike & (matches.best + margins.above < PARTLY) & (limit >= SHARED), "specific"),
    ]
    return np.select([rule for rule, _ in rules], [np.array(name, object) for _, name in rules], "undecided")


def telling(alike: np.ndarray, best: np.ndarray, found: np.ndarray, p_low: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Of which latents it tells something that they have no match, bool (n,): of those of a tap most of whose latents
    have one (`COMPARABLE`), and of those that match less than random directions do (p_low, corrected for number)."""
    told = p_low <= LEVEL
    for tap in np.unique(taps):
        again = (taps == tap) & (found >= FOUND_AGAIN)
        if again.any() and np.mean((alike & (best >= PARTLY))[again]) >= COMPARABLE:
            told = told | (taps == tap)
    return told
