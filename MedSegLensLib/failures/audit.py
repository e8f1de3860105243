"""A whole cohort checked: which cases to look at first, and what kinds of failure there are.

Each case is checked as a reader would check it (`failures.check`); cases are ranked by risk, and places that are likely
wrong are put together by what speaks for them (`failures.failure_groups`). Labels, where cases have them, are used for
nothing but the true Dice that stands beside.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from MedSegLensLib.cohorts.cohort import Cohort, CohortCase
from MedSegLensLib.cohorts.mapping import Failure, key_of, map_cases
from MedSegLensLib.cohorts.origin import origin_notes
from MedSegLensLib.diffing.dictionaries import at_work
from MedSegLensLib.editing.pack_at_work import PackAtWork
from MedSegLensLib.errors import UsageError
from MedSegLensLib.failures.failure_groups import FailureGroup, failure_groups
from MedSegLensLib.failures.findings import Check
from MedSegLensLib.failures.reference import reference_of
from MedSegLensLib.failures.suspect_slices import SuspectSlice, suspect_slices

if TYPE_CHECKING:
    from MedSegLensLib.cohorts.cluster import Cluster
    from MedSegLensLib.packs.pack import LensPack

Progress = Callable[[str, float], None]

VERSION = 1
REGIONS = ("WT", "TC", "ET")


@dataclass(frozen=True)
class AuditedCase:
    """A case and what its check says.

    risk: 0..1, see `risk_of`. why: what the risk is made of, in words. region_ml: of the segmentation. dice: the true
    one by region, None where the labels have not the region; empty without labels. acquisition: "as acquired", the
    simulated one, or "phantom".
    """

    case: CohortCase
    check: Check
    risk: float
    why: str
    region_ml: dict[str, float]
    dice: dict[str, float | None]
    acquisition: str
    slices: tuple[SuspectSlice, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        return self.case.name


@dataclass(frozen=True)
class Audit:
    """cases: the riskiest first. failures: those that could not be checked. agreement: Spearman's correlation of risk
    to 1 - true Dice of WT over the cases with labels; None for fewer than five, or where all are alike."""

    pack: str
    version: str
    cohort: str
    source: str
    cases: tuple[AuditedCase, ...]
    groups: tuple[FailureGroup, ...]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]
    reference: tuple[str, ...]
    agreement: float | None

    def to_json(self) -> dict:
        """All but the pictures, in JSON types."""
        return {
            "medseglens_audit": VERSION,
            "pack": self.pack,
            "pack_version": self.version,
            "cohort": self.cohort,
            "source": self.source,
            "reference": list(self.reference),
            "notes": list(self.notes),
            "agreement_with_true_dice": self.agreement,
            "cases": [
                {
                    "case": one.name,
                    "risk": one.risk,
                    "why": one.why,
                    "acquisition": one.acquisition,
                    "volumes_ml": one.region_ml,
                    "true_dice": one.dice,
                    "check": one.check.to_json(),
                }
                for one in self.cases
            ],
            "groups": [group.to_json() for group in self.groups],
            "failures": [vars(failure) for failure in self.failures],
        }


@dataclass(frozen=True)
class AuditWork:
    """A `CaseWork`: one session and its check.

    Arrays: "check" (its JSON), "region_ml" and "dice" (3,; nan without labels or region), and those of `SuspectSlice`.
    """

    pack: PackAtWork
    slices: int = 2
    device: str | None = None

    def key(self) -> str:
        return key_of(self, VERSION)

    def __call__(self, case: CohortCase) -> dict[str, np.ndarray]:
        from MedSegLensLib.editing.splice import dice_by_region
        from MedSegLensLib.failures.check import check

        session = self.pack.session(case.read(), self.device)
        found, risk = check(session)
        truth = None if session.case.labels is None else session.conformed.labels(session.case.labels)
        dice = {} if truth is None else dice_by_region(session.labels, truth)
        arrays = {
            "check": np.array(json.dumps(found.to_json())),
            "region_ml": np.array([session.region_ml(session.labels, region) for region in REGIONS]),
            "dice": np.array([np.nan if dice.get(r) is None else dice[r] for r in REGIONS]),
            "labelled": np.array(truth is not None),
        }
        for i, one in enumerate(suspect_slices(session, found, risk, truth, self.slices)):
            arrays |= {f"slice.{i}.{name}": array for name, array in one.to_arrays().items()}
        return arrays


def audit(
    pack: "LensPack",
    cohort: Cohort,
    progress: Progress | None = None,
    journal: Path | None = None,
    cluster: "Cluster | None" = None,
    device: str | None = None,
) -> Audit:
    """Check every case of a cohort. Raises UsageError for a pack without lens or reference, else as `map_cases`."""
    if not pack.taps:
        raise UsageError(pack.info.name, "this pack has no lens.", "Train one with `medseglens train lens`.")
    reference = reference_of(pack)
    if reference is None:
        cause = "this pack has no reference cohort, so that nothing can be told from usual."
        raise UsageError(pack.info.name, cause, "Add one with `medseglens pack add-reference`.")
    mapped = map_cases(AuditWork(at_work(pack), device=device), cohort.cases, journal, cluster, progress)
    cases = sorted((_audited(case, arrays) for case, arrays in mapped), key=lambda one: (-one.risk, one.name))
    groups = failure_groups([(one.name, one.acquisition, one.check) for one in cases])
    return Audit(
        pack.info.name,
        pack.info.version,
        cohort.name,
        cohort.source,
        tuple(cases),
        tuple(groups),
        tuple(mapped.failures),
        _notes(pack, cohort, cases, reference.cases),
        reference.cases,
        agreement(cases),
    )


def risk_of(check: Check, region_ml: dict[str, float]) -> tuple[float, str]:
    """The risk of a case and what it is made of.

    One minus the likely Dice of the whole tumour, where the pack can tell, else the lowest of its other regions; a
    segmentation of nothing has risk 1. By the lowest of all, a small ET decided: on the nine real cases its Spearman
    correlation with 1 - true Dice of WT was -0.22 (SegFormer) and -0.03 (U-Net), and by WT it is 0.83 and 0.90.
    Without likely Dice: by the shift, 0 for an ordinary case, towards 1 the farther it is.
    """
    if region_ml.get("WT", 0.0) == 0:
        return 1.0, "no tumour was segmented"
    if check.quality:
        worst = min(check.quality, key=lambda one: (one.region != "WT", one.dice))
        return 1 - worst.dice, f"likely Dice of {worst.region} {worst.dice:.2f} ({worst.low:.2f} to {worst.high:.2f})"
    if check.shift is not None:
        return 1 - 1 / max(check.shift.score, 1.0), f"{check.shift.score:.1f} times as far as an ordinary case"
    return 0.0, "nothing is known of its risk"


def agreement(cases: Sequence[AuditedCase]) -> float | None:
    """See `Audit`."""
    from scipy.stats import spearmanr

    known = [(one.risk, 1 - one.dice["WT"]) for one in cases if one.dice.get("WT") is not None]
    if len(known) < 5 or min(np.ptp(np.array(known), 0)) == 0:
        return None
    return float(spearmanr(*zip(*known, strict=True)).statistic)


def _audited(case: CohortCase, arrays: dict[str, np.ndarray]) -> AuditedCase:
    check = Check.from_json(json.loads(str(arrays["check"])))
    region_ml = dict(zip(REGIONS, arrays["region_ml"].tolist(), strict=True))
    dice = {}
    if arrays["labelled"]:
        dice = {r: None if np.isnan(v) else float(v) for r, v in zip(REGIONS, arrays["dice"], strict=True)}
    risk, why = risk_of(check, region_ml)
    slices, i = [], 0
    while f"slice.{i}.layers" in arrays:
        part = {name.removeprefix(f"slice.{i}."): a for name, a in arrays.items() if name.startswith(f"slice.{i}.")}
        slices.append(SuspectSlice.from_arrays(part))
        i += 1
    return AuditedCase(case, check, risk, why, region_ml, dice, acquisition_of(case), tuple(slices))


def acquisition_of(case: CohortCase) -> str:
    """How a case was acquired, in a word or two."""
    if case.invented:
        return "phantom"
    if case.acquisition is not None:
        return f"{case.acquisition.kind} (simulated)"
    return "simulated" if case.simulated else "as acquired"


def _notes(pack: "LensPack", cohort: Cohort, cases: Sequence[AuditedCase], reference: Sequence[str]) -> tuple[str, ...]:
    notes = origin_notes(cohort)
    seen = sum(one.case.seen_in({*pack.info.trained_on.cases, *reference}) for one in cases)
    if seen:
        notes.append(
            f"{seen} of {len(cases)} cases are of patients that the pack was trained on: it does better there."
        )
    if not any(one.check.quality for one in cases):
        notes.append("The pack has learned nothing of failures: cases are ranked by how unusual they are.")
    return tuple(notes)
