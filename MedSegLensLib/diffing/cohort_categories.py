"""What is said of a latent that two cohorts use: the rule, and the nulls that it has to beat.

A latent is used by a case as often as it fires (rate), as strongly as it fires (magnitude), and as much as a region
rests on it (reliance). Two cohorts differ in one of these where

    the adjusted p is at most 0.05, the difference is at least the margin, and |g| (Hedges) is beyond the 95 % quantile
    of what random parts of the cohorts show and beyond the 99 % quantile of what random latents show between them.

A latent is *specific* where it differs and its partner in every other seed of the lens does: beyond random parts, and
at least half as much. Where a partner does not, it is not distinguishable from seed noise. It is *backbone* where rate
and magnitude are alike: the 90 % intervals of the differences lie within the margins (two one-sided tests), and so they
do for its partners, as point values. All else is undecided.
"""

from dataclasses import dataclass

import numpy as np

from MedSegLensLib.diffing.effects import Effects, adjusted, compare, enough_cases, split_effects
from MedSegLensLib.diffing.usage import TapUsage

SIGNIFICANT = 0.05
NULL_QUANTILE = 0.95
RANDOM_QUANTILE = 0.99
"""Of random latents, higher because there are five measures: about one random latent in twenty passes one of them."""
REPEATED = 0.5
"""A partner in another seed shows a difference where its g is at least so much of the latent's own."""
FIRES = 1e-4
"""A latent that fires on less than this share of the brain's tokens is silent: some 30 tokens of a real case."""
PRESENT = 0.5
"""A backbone latent fires in at least so many of the cases of each cohort."""
DRAWS = 2000


@dataclass(frozen=True)
class Measure:
    """margin: how large a difference must be to matter, in the measure's units; least_sd: see `effects.compare`.
    in_words: how a difference is said."""

    name: str
    margin: float
    least_sd: float
    in_words: str


RATE = Measure("rate", 1.0, 0.1, "firing rate")
MAGNITUDE = Measure("magnitude", float(np.log2(1.5)), 0.05, "magnitude")
RELIANCE = tuple(Measure(f"reliance_{r}", 0.1, 0.02, f"reliance of {r.upper()}") for r in ("wt", "tc", "et"))
MEASURES = (RATE, MAGNITUDE, *RELIANCE)
"""Rate and magnitude as log2, so that 1 is a factor of 2; reliance in log odds. The margins are set, not fitted: a
factor of 2 in rate, of 1.5 in magnitude, a tenth of a log odds."""


def values(usage: TapUsage, measure: Measure) -> np.ndarray:
    """The measure's numbers, (subjects, latents), nan where a subject has none."""
    if measure is RATE:
        return np.log2(usage.rate + FIRES)
    if measure is MAGNITUDE:
        loud = np.where(usage.rate >= FIRES, usage.magnitude, np.nan)
        return np.log2(np.maximum(loud, 1e-12))
    return usage.reliance[:, RELIANCE.index(measure)]


@dataclass(frozen=True)
class Contrast:
    """Two cohorts' use of some latents. effects, p_adjusted (m,) by measure's name, corrected over all measures and
    latents together; present: (2, m), share of each cohort's cases in which it fires; fires: bool (m,), in any."""

    effects: dict[str, Effects]
    p_adjusted: dict[str, np.ndarray]
    present: np.ndarray
    fires: np.ndarray

    def alike(self) -> np.ndarray:
        """Whether it is used alike, rate and magnitude both, within the margins, bool (m,)."""
        found = (self.present >= PRESENT).all(0)
        for measure in (RATE, MAGNITUDE):
            low, high = self.effects[measure.name].inner
            found &= (low > -measure.margin) & (high < measure.margin) & self.effects[measure.name].possible
        return found

    def near(self) -> np.ndarray:
        """The same for the point values, bool (m,)."""
        found = (self.present >= PRESENT).all(0)
        for measure in (RATE, MAGNITUDE):
            found &= np.abs(self.effects[measure.name].difference) < measure.margin
        return found

    def differs(self, bounds: dict[str, float]) -> np.ndarray:
        """By which measures it differs beyond the bounds on |g|, bool (measures, m)."""
        rows = []
        for measure in MEASURES:
            e = self.effects[measure.name]
            with np.errstate(invalid="ignore"):
                row = (self.p_adjusted[measure.name] <= SIGNIFICANT) & (np.abs(e.difference) >= measure.margin)
                rows.append(row & (np.abs(e.g) > bounds[measure.name]) & e.possible)
        return np.array(rows)


def contrast(x: TapUsage, y: TapUsage, paired: bool, draws: int = DRAWS, seed: int = 0) -> Contrast:
    """Cohort Y's use of the latents against cohort X's; rows of the same patient where `paired`."""
    effects = {m.name: compare(values(x, m), values(y, m), paired, m.least_sd, draws, seed) for m in MEASURES}
    corrected = adjusted(np.stack([np.where(e.possible, e.p, np.nan) for e in effects.values()]))
    present = np.stack([(usage.rate >= FIRES).mean(0) for usage in (x, y)])
    fires = (x.rate > 0).any(0) | (y.rate > 0).any(0)
    return Contrast(effects, dict(zip(effects, corrected, strict=True)), present, fires)


@dataclass(frozen=True)
class Bounds:
    """What |g| must be beyond, by measure's name. split: between random parts; random: of random latents, 0 where none
    were read."""

    split: dict[str, float]
    random: dict[str, float]

    @property
    def both(self) -> dict[str, float]:
        return {name: max(self.split[name], self.random[name]) for name in self.split}

    @staticmethod
    def of(x: TapUsage, y: TapUsage, paired: bool, random: Contrast | None, seed: int = 0) -> "Bounds":
        split, by_random = {}, {}
        for measure in MEASURES:
            found = split_effects(values(x, measure), values(y, measure), paired, measure.least_sd, seed=seed)
            split[measure.name] = _quantile(found, NULL_QUANTILE)
            g = np.abs(random.effects[measure.name].g) if random else np.zeros(1)
            by_random[measure.name] = _quantile(g, RANDOM_QUANTILE)
        return Bounds(split, by_random)


def _quantile(found: np.ndarray, at: float) -> float:
    """Infinity where nothing is known: what has no null is beyond none."""
    found = found[np.isfinite(found)]
    return float(np.quantile(found, at)) if len(found) else float("inf")


@dataclass(frozen=True)
class Verdict:
    """categories: (m,) of names. by: int (m,), the measure it differs by most (number in `MEASURES`), -1 where none.
    seed_g: (m,), the smallest g, in the direction of the lens's own, that a partner in another seed shows by that
    measure; nan without."""

    categories: np.ndarray
    by: np.ndarray
    seed_g: np.ndarray


def verdict(own: Contrast, bounds: Bounds, seeds: list[Contrast]) -> Verdict:
    """The category of each latent. `seeds`: contrasts of its partners in other seeds, in the order of the latents;
    without any nothing is claimed."""
    limits = bounds.both
    differs = own.differs(limits)
    excess = np.stack([np.abs(own.effects[m.name].g) / max(limits[m.name], 1e-9) for m in MEASURES])
    by = np.where(differs.any(0), np.argmax(np.where(differs, np.nan_to_num(excess), -1.0), axis=0), -1)
    columns = np.arange(len(by))
    g = np.stack([own.effects[m.name].g for m in MEASURES])[np.maximum(by, 0), columns]
    limit = np.array([bounds.split[m.name] for m in MEASURES])[np.maximum(by, 0)]
    seed_g = np.full(len(by), np.nan)
    for seed in seeds:
        theirs = np.stack([seed.effects[m.name].g for m in MEASURES])[np.maximum(by, 0), columns]
        seed_g = np.fmin(seed_g, np.nan_to_num(theirs * np.sign(g), nan=0.0))
    repeated = (seed_g > limit) & (seed_g >= REPEATED * np.abs(g)) if seeds else np.zeros(len(by), bool)
    alike = own.alike() & (by < 0)
    near = np.all([seed.near() for seed in seeds], axis=0) if seeds else np.zeros(len(by), bool)
    enough = enough_cases(own.effects["rate"].n_x, own.effects["rate"].n_y, own.effects["rate"].paired)

    categories = np.full(len(by), "undecided", dtype=object)
    categories[alike & near] = "backbone"
    categories[((by >= 0) & ~repeated) | (alike & ~near)] = "not distinguishable from seed noise"
    categories[(by >= 0) & repeated] = "specific"
    categories[~enough] = "too few cases"
    categories[~own.fires] = "never fires"
    return Verdict(categories, np.where(enough, by, -1), seed_g)
