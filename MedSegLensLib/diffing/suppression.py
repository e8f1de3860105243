"""Whether performance rests on the latents that cohorts differ in: suppress or restore them, and measure the Dice.

Beside each set of latents stand random sets of as many other latents of the same lens that fire about as often: what
any edit of that size does is no property of the specific latents.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from MedSegLensLib.cohorts.cohort import Cohort, CohortCase
from MedSegLensLib.cohorts.mapping import key_of, map_cases
from MedSegLensLib.diffing.comparison import known
from MedSegLensLib.diffing.dictionaries import TapDictionaries, opened
from MedSegLensLib.diffing.effects import mean_interval
from MedSegLensLib.diffing.usage import REGIONS, TapUsage
from MedSegLensLib.editing.pack_at_work import PackAtWork
from MedSegLensLib.errors import CaseError

if TYPE_CHECKING:
    from MedSegLensLib.cohorts.cluster import Cluster

RANDOM_SETS = 5
MOST = 16
"""Latents that are edited at once: those that differ most. Some hundred would be another network."""
NEAREST = 8
"""A random latent is one of so many whose firing rate is nearest."""
MOST_GAIN = 4.0
VERSION = 1

Gains = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class SuppressionWork:
    """A `CaseWork`: "dice", (1 + len(edits), 3), of WT, TC, ET without an edit and with each; nan for a region that the
    reference has not. edits: of each the latents with the factor that their codes are multiplied with."""

    pack: PackAtWork
    tap: str
    edits: tuple[Gains, ...]

    def key(self) -> str:
        return key_of(self, VERSION)

    def __call__(self, case: CohortCase) -> dict[str, np.ndarray]:
        from MedSegLensLib.editing.recipe import Edit, PackReference, Recipe
        from MedSegLensLib.editing.splice import dice_by_region

        at = opened(self.pack, (TapDictionaries(self.tap),))
        read = case.read()
        if read.labels is None:
            cause = "it has no labels, and without them nothing is known of its Dice."
            raise CaseError(read.name, cause, "Give labelled cases, or leave the measurement out.")
        session = at.session(read)
        reference, labels = session.conformed.labels(read.labels), [session.labels]
        for number, gains in enumerate(self.edits):
            edits = tuple(Edit(self.tap, latent, "scale", gain) for latent, gain in gains)
            labels.append(session.edit(Recipe(f"edit {number}", PackReference.of(at.pack), edits)).labels)
        dice = [dice_by_region(found, reference) for found in labels]
        return {"dice": np.array([[np.nan if by[r] is None else by[r] for r in REGIONS] for by in dice])}


@dataclass(frozen=True)
class Question:
    """what: "suppressed" or "restored"; gains: of the latents it is asked of; cohort: in whose cases."""

    what: str
    cohort: Cohort
    gains: Gains


def questions(
    x: Cohort, y: Cohort, of_x: Sequence[int], of_y: Sequence[int], usage_x: TapUsage, usage_y: TapUsage
) -> list[Question]:
    """What is asked where `of_x`, `of_y` are the latents specific to each cohort, those that differ most first: each
    cohort's own suppressed in it, and in Y all of them set back to the strength that they usually have in X (the ratio
    of the mean codes over the brain, at most `MOST_GAIN`; what is silent in Y cannot be woken by a factor)."""
    asked = [Question("suppressed", y, tuple((int(j), 0.0) for j in of_y[:MOST]))]
    asked.append(Question("suppressed", x, tuple((int(j), 0.0) for j in of_x[:MOST])))
    usual_x, usual_y = (np.nan_to_num(u.rate * u.magnitude).mean(0) for u in (usage_x, usage_y))
    mixed = [j for pair in _alternating(of_y, of_x) for j in pair][:MOST]
    gains = [(int(j), float(np.clip(usual_x[j] / usual_y[j], 0.0, MOST_GAIN))) for j in mixed if usual_y[j] > 0]
    asked.append(Question("restored", y, tuple(gains)))
    return [question for question in asked if question.gains]


def random_sets(
    gains: Gains, taken: Sequence[int], rate: np.ndarray, sets: int = RANDOM_SETS, seed: int = 0
) -> list[Gains]:
    """For each latent of `gains` another one, not in `taken`, that fires about as often (rate, (latents,)), with the
    same factor. Fewer sets, or none, where the lens has too few latents left."""
    rng = np.random.default_rng(seed)
    log_rate = np.log2(rate + 1e-6)
    free = np.setdiff1d(np.flatnonzero(rate > 0), np.union1d(taken, [latent for latent, _ in gains]))
    found = []
    for _ in range(sets if len(free) >= len(gains) else 0):
        left, chosen = free.copy(), []
        for latent, gain in gains:
            near = np.argsort(np.abs(log_rate[left] - log_rate[latent]), kind="stable")[:NEAREST]
            at = rng.choice(near)
            chosen.append((int(left[at]), gain))
            left = np.delete(left, at)
        found.append(tuple(chosen))
    return found


def measure(
    pack: PackAtWork,
    tap: str,
    asked: Sequence[Question],
    taken: Sequence[int],
    rate: np.ndarray,
    sets: int = RANDOM_SETS,
    journal: Path | None = None,
    cluster: "Cluster | None" = None,
    progress: Callable[[str, float], None] | None = None,
) -> list[dict]:
    """The answers to questions about one cohort, by region: change of the Dice by the edit, by the random sets (their
    mean in each case), and the difference of the two, each with its 95 % interval over the cases that have the region.

    taken: latents that no random set may hold; rate: (latents,), how often each fires in the cohort. Raises as
    `map_cases` does.
    """
    cases = tuple(case for case in asked[0].cohort.cases if case.labelled) if asked else ()
    if not cases:
        return []
    random = [random_sets(question.gains, taken, rate, sets) for question in asked]
    runs = [(question.gains, *others) for question, others in zip(asked, random, strict=True)]
    work = SuppressionWork(pack, tap, tuple(gains for run in runs for gains in run))
    dice = np.stack([found["dice"] for _, found in map_cases(work, cases, journal, cluster, progress)])
    rows, first = [], 1
    for question, run in zip(asked, runs, strict=True):
        edited = dice[:, [0, *range(first, first + len(run))]]
        first += len(run)
        rows += [_row(tap, question, region, edited[..., r]) for r, region in enumerate(REGIONS)]
    return [row for row in rows if row is not None]


def _row(tap: str, question: Question, region: str, dice: np.ndarray) -> dict | None:
    """dice: (cases, edits): of a region unedited, under the question's edit and under each random set."""
    here = dice[np.isfinite(dice[:, 0])]
    if not len(here):
        return None
    change = here[:, 1] - here[:, 0]
    sets = here.shape[1] - 2
    by_random = (here[:, 2:] - here[:, :1]).mean(1) if sets else np.full(len(here), np.nan)
    row = {
        "tap": tap,
        "cohort": question.cohort.name,
        "what": question.what,
        "region": region,
        "latents": len(question.gains),
        "dice": float(here[:, 0].mean()),
        "n": len(here),
        "random_sets": sets,
    }
    parts = (("change", "interval", change), ("random_change", "random_interval", by_random))
    for name, interval, numbers in (*parts, ("beyond_random", "beyond_interval", change - by_random)):
        mean, low, high = mean_interval(numbers)
        row[name], row[interval] = known(mean), [low, high] if math.isfinite(low) else None
    return row | {"says": _says(row)}


def _says(row: dict) -> str:
    what = {"suppressed": "Suppressing", "restored": "Restoring"}[row["what"]]
    text = f"{what} {row['latents']} specific latents in {row['cohort']} changes the Dice of {row['region']} by "
    text += f"{row['change']:+.3f} (from {row['dice']:.3f}; {row['n']} cases)"
    if row["random_change"] is None:
        return text + "; there are too few other latents for a random set."
    text += f", random latents of like firing by {row['random_change']:+.3f}"
    if row["beyond_interval"] is None:
        return text + "."
    low, high = row["beyond_interval"]
    beyond = "beyond random" if low > 0 or high < 0 else "not beyond random"
    return text + f": {row['beyond_random']:+.3f} apart (95 % {low:+.3f} to {high:+.3f}), {beyond}."


def _alternating(a: Sequence[int], b: Sequence[int]):
    for i in range(max(len(a), len(b))):
        yield (*a[i : i + 1], *b[i : i + 1])
