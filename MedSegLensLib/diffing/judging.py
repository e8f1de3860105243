"""From pooled correlations of two packs' latents to what can be said of each, with its nulls and intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from MedSegLensLib.diffing.comparison import SIDES
from MedSegLensLib.diffing.effects import adjusted
from MedSegLensLib.diffing.matching import (
    FOUND_AGAIN,
    LEVEL,
    PARTLY,
    SHARED,
    Margins,
    Matches,
    categories,
    found_again,
    match,
    random_null,
    telling,
)
from MedSegLensLib.diffing.pooling import Pool, Pooled
from MedSegLensLib.lenses.stability import matched

INTERVAL = (2.5, 97.5)
LEAST_FOR_HALVES = 4


@dataclass(frozen=True)
class Layout:
    """How a side's latents are numbered. taps: in order; sizes: of their lenses; seeds: by tap, the sizes of its other
    seeds' lenses; randoms: random directions a tap."""

    taps: tuple[str, ...]
    sizes: tuple[int, ...]
    seeds: tuple[tuple[int, ...], ...]
    randoms: int

    @property
    def n(self) -> int:
        return sum(self.sizes)

    @property
    def tap_of(self) -> np.ndarray:
        """Number of the tap of each own latent, int (n,)."""
        return np.repeat(np.arange(len(self.taps)), self.sizes)

    @property
    def latent_of(self) -> np.ndarray:
        """Number of each own latent in its lens, int (n,)."""
        return np.concatenate([np.arange(size) for size in self.sizes])

    def seed_blocks(self) -> list[tuple[int, int, int, int]]:
        """Of each other seed: the own rows of its tap (from, to), and its columns (from, to)."""
        blocks, row, column = [], 0, 0
        for size, seeds in zip(self.sizes, self.seeds, strict=True):
            for width in seeds:
                blocks.append((row, row + size, column, column + width))
                column += width
            row += size
        return blocks


@dataclass(frozen=True)
class Judged:
    """What is said of one side's n latents; arrays are (n,). density: share of the brain's tokens where it fires.
    p_adjusted, p_low: of a match beyond, and below, what random directions reach, corrected for the number of latents.
    alive: whether it is matched at all. halves: share of random halves of the cases in which its category is that of
    the other half, nan where there are too few cases. See `matching` for the rest."""

    layout: Layout
    matches: Matches
    margins: Margins
    category: np.ndarray
    bound: np.ndarray
    low: np.ndarray
    p_adjusted: np.ndarray
    p_low: np.ndarray
    found: np.ndarray
    limit: np.ndarray
    cases: np.ndarray
    density: np.ndarray
    alive: np.ndarray
    halves: np.ndarray


@dataclass(frozen=True)
class Judgement:
    """Of both sides, by "a" and "b". drawn: categories when cases are drawn again, by side (draws, n). random_best: by
    side, the best match of each random direction. pooled: the correlations."""

    sides: dict[str, Judged]
    drawn: dict[str, np.ndarray]
    random_best: dict[str, np.ndarray]
    pooled: Pooled


def judge(
    pool: Pool,
    layouts: dict[str, Layout],
    draws: int = 300,
    halves: int = 50,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> Judgement:
    """Match and judge the latents of both sides.

    Cases are drawn again `draws` times (bootstrap), matched anew each time: a share's interval is of its categories
    then; a pair's interval is of its correlation, the partner held. `halves`: how often the cases are split at random.
    """
    say = progress or (lambda stage, share: None)
    pooled = pool.pooled()
    cases = {"a": pool.fired_a, "b": pool.fired_b}
    alive = {side: cases[side] > 0 for side in SIDES}
    matches = dict(zip(SIDES, match(pooled.between(), alive["a"], alive["b"]), strict=True))
    blocks = {side: layouts[side].seed_blocks() for side in SIDES}
    found = {side: found_again(pooled.with_seeds(side), blocks[side]) for side in SIDES}
    limit = {side: pooled.grid_limit(side) for side in SIDES}

    random_best, null, p, p_low, density = {}, {}, {}, {}, {}
    for side, other in (("a", "b"), ("b", "a")):
        layout, total = layouts[side], pool.total
        density[side] = total[f"{side}_tokens"] / np.maximum(total[f"{side}_brain_tokens"], 1)
        r = np.where(alive[other], pooled.across(side, "random"), 0.0)
        random_best[side] = np.maximum(r.max(1), 0) if r.size else np.zeros(0)
        brain = total[f"{side}_brain_tokens"][np.cumsum([0, *layout.sizes[:-1]])]
        of_tap = np.repeat(np.arange(len(layout.taps)), layout.randoms)
        fires = total[f"{side}_random_tokens"] / np.maximum(brain[of_tap], 1) if layout.randoms else np.zeros(0)
        best = matches[side].best
        null[side] = random_null(best, density[side], layout.tap_of, random_best[side], fires, of_tap)
        p[side] = adjusted(np.where(alive[side], null[side].p, np.nan))
        p_low[side] = adjusted(np.where(alive[side], null[side].p_low, np.nan))

    rng = np.random.default_rng(seed)
    n = len(pool.groups)
    redrawn = []
    for i in range(draws):
        say("drawing the cases again", i / (draws + halves))
        redrawn.append(_Redrawn.of(pool.drawn(rng.multinomial(n, np.full(n, 1 / n))), matches, alive, blocks))
    margins = {side: _margins(matches[side], [one.pairs[side] for one in redrawn]) for side in SIDES}

    def decide(side: str, matched: Matches, again: np.ndarray) -> np.ndarray:
        alike = p[side] <= LEVEL
        unlike = telling(alike, matches[side].best, found[side], p_low[side], layouts[side].tap_of)
        return categories(matched, margins[side], null[side].bound, alike, unlike, again, limit[side], cases[side])

    drawn = {side: np.array([decide(side, one.matches[side], one.found[side]) for one in redrawn]) for side in SIDES}
    same = {side: np.zeros(layouts[side].n) for side in SIDES}
    for i in range(halves if n >= LEAST_FOR_HALVES else 0):
        say("splitting the cases at random", (draws + i) / (draws + halves))
        chosen = np.isin(np.arange(n), rng.permutation(n)[: n // 2])
        pair = [_Redrawn.of(pool.drawn(half), matches, alive, blocks) for half in (1 * chosen, 1 * ~chosen)]
        for side in SIDES:
            one, two = (decide(side, half.matches[side], half.found[side]) for half in pair)
            same[side] += (one == two) / halves
    if n < LEAST_FOR_HALVES:
        same = {side: np.full(layouts[side].n, np.nan) for side in SIDES}
    sides = {
        side: Judged(
            layouts[side],
            matches[side],
            margins[side],
            decide(side, matches[side], found[side]),
            null[side].bound,
            null[side].low,
            p[side],
            p_low[side],
            found[side],
            limit[side],
            cases[side],
            density[side],
            alive[side],
            same[side],
        )
        for side in SIDES
    }
    return Judgement(sides, drawn, random_best, pooled)


@dataclass(frozen=True)
class _Redrawn:
    """Of other weights of the cases: matches by side, found again by side, and by side the correlations with the
    partners that all cases together gave, (3, n): of one, of best, of the best match there is now."""

    matches: dict[str, Matches]
    found: dict[str, np.ndarray]
    pairs: dict[str, np.ndarray]

    @staticmethod
    def of(pooled: Pooled, held: dict[str, Matches], alive: dict[str, np.ndarray], blocks: dict) -> "_Redrawn":
        r = pooled.between()
        matches = dict(zip(SIDES, match(r, alive["a"], alive["b"]), strict=True))
        pairs = {}
        for side, of_side in (("a", r), ("b", r.T)):
            rows, m = np.arange(len(of_side)), held[side]
            one = np.where(m.one_partner >= 0, of_side[rows, m.one_partner], 0.0)
            pairs[side] = np.stack([one, of_side[rows, m.best_partner], matches[side].best])
        found = {side: found_again(pooled.with_seeds(side), blocks[side]) for side in SIDES}
        return _Redrawn(matches, found, pairs)


def _margins(matches: Matches, pairs: Sequence[np.ndarray]) -> Margins:
    if not len(pairs):
        return Margins.none(len(matches.best))
    one, best, most = np.stack(pairs, 1)  # (draws, n) each
    return Margins(
        np.maximum(matches.one - np.percentile(one, INTERVAL[0], axis=0), 0),
        np.maximum(matches.best - np.percentile(best, INTERVAL[0], axis=0), 0),
        np.maximum(np.percentile(most, INTERVAL[1], axis=0) - matches.best, 0),
    )


def specific_between_seeds(side: Judged, r: np.ndarray) -> np.ndarray | None:
    """The null of "specific": how often, of n latents, the same rule says it of the pack and another seed of itself.

    Another seed stands for the other pack, and those that remain for the pack's own seeds: float (n,), the share of its
    other seeds that lack the latent while the remaining ones find it again; nan where a tap has fewer than two other
    seeds; None where none has two. r: own times seeds, see `Pooled.with_seeds`.
    """
    found = np.full(side.layout.n, np.nan)
    blocks = side.layout.seed_blocks()
    for start, stop in {(block[0], block[1]) for block in blocks}:
        best = np.stack([r[start:stop, b[2] : b[3]].max(1) for b in blocks if b[0] == start])
        if len(best) < 2:
            continue
        rest = np.stack([np.delete(best, k, 0).min(0) for k in range(len(best))])
        found[start:stop] = ((best < PARTLY) & (rest >= FOUND_AGAIN)).mean(0)
    return found if np.isfinite(found).any() else None


def shared_between_seeds(side: Judged, r: np.ndarray) -> float | None:
    """What share of a pack's latents that fire is shared with another seed of itself, by `SHARED` with the one-to-one
    partner: the mean over its other seeds; None without."""
    shared = []
    for start, stop, column, end in side.layout.seed_blocks():
        one = matched(r[start:stop, column:end])
        shared.append((one[side.alive[start:stop]] >= SHARED, start))
    if not shared:
        return None
    by_tap = {}
    for hits, start in shared:
        by_tap.setdefault(start, []).append(hits)
    return float(np.concatenate([np.mean(hits, 0) for hits in by_tap.values()]).mean())


def shared_with_seed_instead(side: Judged, across: np.ndarray, other_alive: np.ndarray) -> list[float]:
    """The share shared with the other pack (by `SHARED`, one to one), were another seed in the place of the pack's own
    lenses: one number a seed that every tap has. across: see `Pooled.across`."""
    blocks = side.layout.seed_blocks()
    starts = sorted({block[0] for block in blocks})
    by_tap = [[b for b in blocks if b[0] == start] for start in starts]
    if not blocks or len(by_tap) < len(side.layout.taps):
        return []
    shares = []
    for number in range(min(len(seeds) for seeds in by_tap)):
        rows = np.concatenate([across[seeds[number][2] : seeds[number][3]] for seeds in by_tap])
        rows = np.where(other_alive, rows, -1.0)
        fires = np.abs(rows).max(1) > 0
        shares.append(float(np.mean(matched(rows)[fires] >= SHARED)) if fires.any() else 0.0)
    return shares
