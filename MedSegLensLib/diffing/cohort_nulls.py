"""One tap of a comparison of cohorts: its latents' categories, and how often each null would be given the same ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from MedSegLensLib.diffing.cohort_categories import DRAWS, Bounds, Contrast, Verdict, contrast, verdict
from MedSegLensLib.diffing.comparison import CATEGORIES, Share, known
from MedSegLensLib.diffing.dictionaries import Stacked
from MedSegLensLib.diffing.effects import enough_cases, random_parts
from MedSegLensLib.diffing.usage import REGIONS, TapUsage
from MedSegLensLib.lenses.lens import Lens

SPLITS = 20
GROUPS = 12
FEW_DRAWS = 400
"""Of the bootstrap, where a whole comparison is done again for a null or an interval."""

SPLIT, RANDOM, SEED, PAIRS = "random splits", "random latents", "other seeds, same cohort", "random pairs of latents"
BEFORE = "random latents, beyond random splits alone"

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class NullShares:
    """Shares of latents that fire which a null is given; None where it cannot be measured. says: in a sentence."""

    null: str
    specific: float | None
    backbone: float | None
    says: str


@dataclass(frozen=True)
class TapResult:
    """x, y: usage of the pack's own latents; own: which of the stack they are. intervals: of each category's share."""

    own: slice
    x: TapUsage
    y: TapUsage
    contrast: Contrast
    bounds: Bounds
    verdict: Verdict
    seeds: int
    nulls: tuple[NullShares, ...]
    intervals: dict[str, tuple[float, float]]

    def specific_to(self) -> tuple[list[int], list[int]]:
        """The latents specific to X and to Y, those with the largest effect first."""
        found = np.flatnonzero(self.verdict.categories == "specific")
        size = np.array([abs(self.g(j)) for j in found])
        found = found[np.argsort(-size, kind="stable")]
        more = np.array([self.more_in_y(j) for j in found], bool)
        return found[~more].tolist(), found[more].tolist()

    def g(self, latent: int) -> float:
        """Hedges' g of the measure that decides."""
        return float(self.contrast.effects[self.measure(latent)].g[latent])

    def measure(self, latent: int) -> str:
        """The name of the measure that decides: the one it differs by, else the firing rate."""
        by = self.verdict.by[latent]
        return list(self.contrast.effects)[by] if by >= 0 else "rate"

    def more_in_y(self, latent: int) -> bool:
        """Whether Y uses it more. A region that rests less on a latent may do so with a more negative number."""
        name = self.measure(latent)
        if not name.startswith("reliance"):
            return self.g(latent) > 0
        region = REGIONS.index(name.removeprefix("reliance_").upper())
        sizes = [abs(np.nanmean(usage.reliance[:, region, latent])) for usage in (self.x, self.y)]
        return sizes[1] > sizes[0]

    def shares(self, tap: str) -> list[Share]:
        """Of each category at this tap, with its interval and the largest of its nulls."""
        found, fires = [], int((self.verdict.categories != "never fires").sum())
        for category in CATEGORIES:
            if category in ("shared", "partly shared"):
                continue
            n = int((self.verdict.categories == category).sum())
            null, null_is = None, ""
            if category in ("specific", "backbone"):
                # Of the specific, what a comparison without anything to find gives; of the backbone, what latents
                # without anything in common give. The others stand in the table of nulls.
                asked = (SPLIT, RANDOM) if category == "specific" else (PAIRS, RANDOM)
                known = [(getattr(row, category), row.null) for row in self.nulls if row.null in asked]
                known = [(value, name) for value, name in known if value is not None]
                if known:
                    null, name = max(known)
                    null_is = f"of {name}" if name != SPLIT else "in random splits"
            total = len(self.verdict.categories) if category == "never fires" else fires
            found.append(Share("a", tap, category, n, total, self.intervals.get(category), null, null_is))
        return found

    def null_rows(self) -> list[dict]:
        return [vars(row) for row in self.nulls]

    def bound_rows(self) -> dict[str, dict[str, float | None]]:
        """|g| that must be beaten, by measure; None where there is no end to it."""
        split, random = self.bounds.split, self.bounds.random
        return {name: {"split": known(split[name]), "random": known(random[name])} for name in split}


def read_tap(
    own: Lens, seeds: Sequence[Lens], stack: Stacked, x: TapUsage, y: TapUsage, paired: bool, say: Progress
) -> TapResult:
    """x, y: usage of the whole stack, rows of the same patient where `paired`."""
    parts = _Parts.of(own, seeds, stack)
    say("comparing latents", 0.0)
    mine = _Reading.of(parts, x, y, paired)
    own_x, own_y = x.of(stack.own), y.of(stack.own)
    nulls = [_by_seeds(parts, x, y, mine.bounds)] if parts.partners else []
    if mine.random:
        nulls.append(_null(RANDOM, _both(mine.random, mine.bounds.both), "of random latents"))
        before = _both(mine.contrast, mine.bounds.split)[0], _both(mine.random, mine.bounds.split)[0]
        nulls.append(NullShares(BEFORE, before[1], None, _before(*before)))
    nulls.append(_null(PAIRS, (None, _by_random_pairs(own_x, own_y, paired)), "of random pairs of latents"))
    nulls.append(_null(SPLIT, _by_splits(parts, x, y, paired, say), "between random parts of one cohort"))
    intervals = _intervals(parts, x, y, paired, mine, say)
    found = (mine.contrast, mine.bounds, mine.verdict)
    return TapResult(stack.own, own_x, own_y, *found, len(seeds), tuple(nulls), intervals)


@dataclass(frozen=True)
class _Parts:
    """partners: for each seed its latents of the stack, in the order of the own latents that they match."""

    own: slice
    partners: tuple[np.ndarray, ...]
    random: slice | None

    @staticmethod
    def of(own: Lens, seeds: Sequence[Lens], stack: Stacked) -> "_Parts":
        """Matched one to one by decoder cosine, see `closest_first`; what is left over by itself."""
        found = []
        for lens, run in zip(seeds, stack.seeds, strict=True):
            cosine = (own.W_dec @ lens.W_dec.T).cpu().numpy()
            matched = closest_first(cosine)
            found.append(np.where(matched < 0, cosine.argmax(1), matched) + run.start)
        return _Parts(stack.own, tuple(found), stack.random)


def closest_first(similarity: np.ndarray) -> np.ndarray:
    """The column matched to each row (m, m'), one to one, the most similar pair of all first; -1 for rows left over.

    Not the assignment of the largest sum (`stability.partners`): that parts a pair of 0.996 to give a latent that has
    no partner one of 0.72, which is well for a share over all latents and wrong for the one that is parted.
    """
    found, free = np.full(len(similarity), -1), np.ones(similarity.shape[1], bool)
    for pair in np.argsort(-similarity, axis=None, kind="stable"):
        row, column = divmod(int(pair), similarity.shape[1])
        if found[row] < 0 and free[column]:
            found[row], free[column] = column, False
    return found


@dataclass(frozen=True)
class _Reading:
    """random: None where there are no random latents, or the bounds were given."""

    contrast: Contrast
    bounds: Bounds
    verdict: Verdict
    random: Contrast | None

    @staticmethod
    def of(parts: _Parts, x: TapUsage, y: TapUsage, paired: bool, bounds: Bounds | None = None, draws: int = DRAWS):
        own_x, own_y = x.of(parts.own), y.of(parts.own)
        mine, random = contrast(own_x, own_y, paired, draws), None
        if bounds is None:
            random = contrast(x.of(parts.random), y.of(parts.random), paired, draws) if parts.random else None
            bounds = Bounds.of(own_x, own_y, paired, random)
        seeds = [contrast(x.of(p), y.of(p), paired, FEW_DRAWS) for p in parts.partners]
        return _Reading(mine, bounds, verdict(mine, bounds, seeds), random)

    def shares(self) -> dict[str, float]:
        fires = self.verdict.categories != "never fires"
        return {c: float((self.verdict.categories[fires] == c).mean()) for c in CATEGORIES if c != "never fires"}


def _both(found: Contrast, bounds: dict[str, float]) -> tuple[float, float]:
    """Shares that differ and that are alike, of those that fire, without asking other seeds."""
    differs = found.differs(bounds).any(0)[found.fires]
    alike = found.alike()[found.fires]
    return float(differs.mean()), float((alike & ~differs).mean())


def _null(name: str, shares: tuple[float | None, float | None], of: str) -> NullShares:
    specific, backbone = (None if s is None or not np.isfinite(s) else float(s) for s in shares)
    parts = []
    if specific is not None:
        parts.append(f"{specific:.0%} differ as specific latents must")
    if backbone is not None:
        parts.append(f"{backbone:.0%} are alike as backbone latents must be")
    text = f"Null: {' and '.join(parts)} {of}." if parts else f"Null {of}: too few cases to measure it."
    return NullShares(name, specific, backbone, text)


def _before(own: float, random: float) -> str:
    text = f"Beyond random splits alone {own:.0%} of the lens's latents differ, and {random:.0%} of random latents: "
    return text + ("the lens sets the cohorts apart more than chance directions do." if own > random else "no fewer.")


def _by_seeds(parts: _Parts, x: TapUsage, y: TapUsage, bounds: Bounds) -> NullShares:
    """The lens against its other seeds on one cohort: what differs there is the training's, not the cohort's."""
    found = []
    for usage in (x, y):
        for p in parts.partners:
            found.append(_both(contrast(usage.of(parts.own), usage.of(p), True, FEW_DRAWS), bounds.split))
    return _null(SEED, tuple(np.mean(found, axis=0)), "between two seeds of the lens on one cohort")


def _by_random_pairs(x: TapUsage, y: TapUsage, paired: bool, repeats: int = 5) -> float:
    rng, found = np.random.default_rng(0), []
    for i in range(repeats):
        pairs = contrast(x, y.of(rng.permutation(x.rate.shape[1])), paired, FEW_DRAWS, seed=i)
        found.append(pairs.alike()[pairs.fires].mean())
    return float(np.mean(found))


def _by_splits(
    parts: _Parts, x: TapUsage, y: TapUsage, paired: bool, say: Progress
) -> tuple[float | None, float | None]:
    """The whole rule, other seeds included, between parts of one cohort."""
    together, rng, found = x.joined(y), np.random.default_rng(1), []
    for i in range(SPLITS):
        say("random splits", i / SPLITS)
        a, b = random_parts(len(x.rate), len(y.rate), paired, rng)
        if not enough_cases(len(a), len(b), paired):
            return None, None
        shares = _Reading.of(parts, together.rows(a), together.rows(b), paired, draws=FEW_DRAWS).shares()
        found.append((shares["specific"], shares["backbone"]))
    return tuple(np.mean(found, axis=0))


def _intervals(
    parts: _Parts, x: TapUsage, y: TapUsage, paired: bool, mine: _Reading, say: Progress
) -> dict[str, tuple[float, float]]:
    """95 % of each category's share, by leaving out cases in turn (the jackknife over at most `GROUPS` groups; Tukey
    1958): to draw cases again would put the same case on both sides of a permutation. None with too few cases."""
    from scipy.stats import t

    groups = _groups(len(x.rate), len(y.rate), paired)
    if not all(enough_cases(len(a), len(b), paired) for a, b in groups):
        return {}
    found = []
    for i, (a, b) in enumerate(groups):
        say("intervals of the shares", i / len(groups))
        found.append(_Reading.of(parts, x.rows(a), y.rows(b), paired, mine.bounds, FEW_DRAWS).shares())
    n, intervals = len(found), {}
    for category, share in mine.shares().items():
        values = np.array([shares[category] for shares in found])
        error = np.sqrt((n - 1) / n * np.square(values - values.mean()).sum())
        half = t.ppf(0.975, n - 1) * error
        intervals[category] = (float(max(0.0, share - half)), float(min(1.0, share + half)))
    return intervals


def _groups(n_x: int, n_y: int, paired: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """The cases that are left, of X and of Y, with each group left out."""
    rng = np.random.default_rng(2)
    if paired:
        parts = np.array_split(rng.permutation(n_x), min(GROUPS, n_x))
        return [(np.setdiff1d(np.arange(n_x), p), np.setdiff1d(np.arange(n_x), p)) for p in parts]
    together = rng.permutation(n_x + n_y)
    kept = [np.setdiff1d(np.arange(n_x + n_y), p) for p in np.array_split(together, min(GROUPS, n_x + n_y))]
    return [(k[k < n_x], k[k >= n_x] - n_x) for k in kept]
