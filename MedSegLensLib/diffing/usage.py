"""How a cohort uses each latent of a pack: firing rate, magnitude, extent, and how much a region rests on it.

>>> usage = cohort_usage(UsageWork.of(pack, taps), cohort, journal=folder)
>>> usage.taps["upcat_3"].rate          # (subjects, latents)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from MedSegLensLib.cohorts.cohort import Cohort, CohortCase
from MedSegLensLib.cohorts.mapping import Failure, key_of, map_cases
from MedSegLensLib.diffing.dictionaries import TapDictionaries, at_work, opened
from MedSegLensLib.editing.pack_at_work import PackAtWork
from MedSegLensLib.packs.pack import LensPack

if TYPE_CHECKING:
    from MedSegLensLib.cohorts.cluster import Cluster
    from MedSegLensLib.editing.session import Session

REGIONS = ("WT", "TC", "ET")
VERSION = 1
"""Of what a work gives back; results of another are not used again."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class UsageWork:
    """A `CaseWork`: one session of the case, and of each latent of each dictionary a few sums.

    Arrays by name, t being the number of the tap: "t.count" (tokens on which it fires), "t.total" (sum of its code),
    "t.reliance" (3, latents; nan where the segmentation has not the region), "tokens" and "token_ml" (one a tap),
    "dice" (3,; nan without labels, or where they have not the region).
    """

    pack: PackAtWork
    taps: tuple[TapDictionaries, ...]
    reliance: bool = True

    @staticmethod
    def of(pack: LensPack, taps: Sequence[TapDictionaries], reliance: bool = True) -> "UsageWork":
        return UsageWork(at_work(pack), tuple(taps), reliance)

    def key(self) -> str:
        return key_of(self, VERSION)

    def __call__(self, case: CohortCase) -> dict[str, np.ndarray]:
        from MedSegLensLib.editing.splice import dice_by_region

        at = opened(self.pack, self.taps)
        session = at.session(case.read(), edits=False)
        found = usage_sums(session, tuple(at.stacks), self.reliance)
        dice = {}
        if session.case.labels is not None:
            dice = dice_by_region(session.labels, session.conformed.labels(session.case.labels))
        found["dice"] = np.array([np.nan if dice.get(r) is None else dice[r] for r in REGIONS])
        return found


def usage_sums(session: "Session", taps: Sequence[str], reliance: bool = True) -> dict[str, np.ndarray]:
    """The sums of one session, by name as `UsageWork` gives them, without "dice"."""
    from MedSegLensLib.editing.influence import attribute_log_odds

    found: dict[str, np.ndarray] = {}
    tokens, token_ml = [], []
    for t, tap in enumerate(taps):
        codes, brain = session.codes[tap], session.brain_tokens[tap]
        sums = np.concatenate([[0.0], np.cumsum(codes.values, dtype=np.float64)])
        found[f"{t}.count"] = np.diff(codes.pointers)
        found[f"{t}.total"] = np.diff(sums[codes.pointers])
        tokens.append(np.count_nonzero(brain))
        token_ml.append(session.conformed.voxel_ml * session.labels.size / codes.n_tokens)
        if reliance:
            by_region = attribute_log_odds(session, tap)
            missing = np.full(codes.n_latents, np.nan)
            # What the region would lose were the latent suppressed: positive where it holds the region up.
            found[f"{t}.reliance"] = np.stack([-by_region.get(region, missing) for region in REGIONS])
    return found | {"tokens": np.array(tokens), "token_ml": np.array(token_ml)}


@dataclass
class TapUsage:
    """Of the latents at one tap, rows being subjects.

    rate: share of the brain's tokens on which a latent fires; magnitude: its mean code there, nan where it is silent;
    extent_ml: volume of the tokens on which it fires; reliance: (subjects, 3, latents), by how much the mean log odds
    of WT, TC, ET would fall over the region's voxels were it suppressed (first order; see `attribute_log_odds`), nan
    where the segmentation has not the region.
    """

    rate: np.ndarray
    magnitude: np.ndarray
    extent_ml: np.ndarray
    reliance: np.ndarray

    def of(self, latents: slice | np.ndarray) -> "TapUsage":
        """Some of the latents, in that order."""
        return TapUsage(*(array[..., latents] for array in vars(self).values()))

    def rows(self, subjects: Sequence[int] | np.ndarray) -> "TapUsage":
        """Some of the subjects, in that order."""
        return TapUsage(*(array[np.asarray(subjects, int)] for array in vars(self).values()))

    def joined(self, other: "TapUsage") -> "TapUsage":
        """The subjects of another cohort below these."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return TapUsage(*(np.concatenate(pair) for pair in pairs))


@dataclass
class CohortUsage:
    """One row a subject (the mean over its cases, where it has several), in the order of `subjects`."""

    subjects: tuple[str, ...]
    taps: dict[str, TapUsage]
    dice: np.ndarray
    failures: tuple[Failure, ...] = ()

    def rows(self, subjects: Sequence[str]) -> "CohortUsage":
        """These subjects in this order."""
        at = [self.subjects.index(subject) for subject in subjects]
        taps = {tap: usage.rows(at) for tap, usage in self.taps.items()}
        return CohortUsage(tuple(subjects), taps, self.dice[at], self.failures)


def cohort_usage(
    work: UsageWork,
    cohort: Cohort,
    journal: Path | None = None,
    cluster: "Cluster | None" = None,
    progress: Progress | None = None,
) -> CohortUsage:
    """The usage of a cohort. Cases that cannot be read are in `failures`; raises as `map_cases` does."""
    mapped = map_cases(work, cohort.cases, journal, cluster, progress)
    of_subject: dict[str, list[dict[str, np.ndarray]]] = {}
    for case, found in mapped:
        of_subject.setdefault(case.subject, []).append(found)
    return _table(work, of_subject, tuple(mapped.failures))


def _table(work: UsageWork, of_subject: dict[str, list[dict]], failures: tuple[Failure, ...]) -> CohortUsage:
    taps = {}
    for t, one in enumerate(work.taps):
        rows = [_mean([tap_row(found, t, work.reliance) for found in cases]) for cases in of_subject.values()]
        taps[one.tap] = TapUsage(*(np.stack([row[i] for row in rows]) for i in range(4)))
    dice = np.stack([_mean([(found["dice"],) for found in cases])[0] for cases in of_subject.values()])
    return CohortUsage(tuple(of_subject), taps, dice, failures)


def tap_row(found: dict[str, np.ndarray], t: int, reliance: bool) -> tuple[np.ndarray, ...]:
    """Rate, magnitude, extent in mL and reliance at tap number t of one case's sums, as `TapUsage` has them."""
    count, total = found[f"{t}.count"].astype(float), found[f"{t}.total"]
    magnitude = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    relied = found[f"{t}.reliance"] if reliance else np.full((len(REGIONS), len(count)), np.nan)
    return count / max(float(found["tokens"][t]), 1), magnitude, count * float(found["token_ml"][t]), relied


def _mean(rows: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    """Mean over a subject's cases of each array, of those that have a number."""
    if len(rows) == 1:
        return rows[0]
    means = []
    for arrays in zip(*rows, strict=True):
        stacked = np.stack(arrays).astype(float)
        known = np.isfinite(stacked)
        n = known.sum(0)
        means.append(np.where(n > 0, np.where(known, stacked, 0).sum(0) / np.maximum(n, 1), np.nan))
    return tuple(means)
