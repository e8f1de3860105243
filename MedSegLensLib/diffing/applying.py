"""An adaptation applied to the cases of a cohort, one session at a time: labels, and Dice before and after."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from MedSegLensLib.cohorts.cohort import CohortCase
from MedSegLensLib.diffing.adjustments import Adjustment
from MedSegLensLib.editing.session import Session
from MedSegLensLib.editing.splice import dice_by_region
from MedSegLensLib.packs.pack import LensPack
from MedSegLensLib.segmenters.engine import Engine

Dices = dict[str, float | None]
"""Dice by region; None where the reference does not have the region."""


@dataclass(frozen=True)
class Outcome:
    """Of one case. before: Dice by region of the unedited segmentation; None without a reference. after: the same by
    method; `ml`: volumes of WT, TC and ET by method, "" being the unedited one. trained: the segmenter was trained on
    this patient."""

    case: str
    subject: str
    trained: bool
    simulated: bool
    invented: bool
    before: Dices | None
    after: dict[str, Dices | None]
    ml: dict[str, dict[str, float]]
    notes: tuple[str, ...] = ()

    def gain(self, method: str) -> float | None:
        """Mean Dice after less before; None without a reference or a tumour in it."""
        before, after = mean_dice(self.before), mean_dice(self.after[method])
        return None if before is None else after - before


def mean_dice(dices: Dices | None) -> float | None:
    """Mean over the regions that are there."""
    there = [d for d in (dices or {}).values() if d is not None]
    return float(np.mean(there)) if there else None


@dataclass
class Applying:
    """Opens one case after the other and applies every adjustment to it. adjustments: by method; None changes nothing.

    show(case, session, labels by method) is called with each case while its session is open, to write or draw.
    """

    pack: LensPack
    tap: str
    adjustments: Mapping[str, Adjustment | None]
    device: str | None = None
    show: Callable[[CohortCase, Session, dict[str, np.ndarray]], None] | None = None
    _engine: Engine | None = field(default=None, repr=False)

    def __post_init__(self):
        self.pack = with_one_tap(self.pack, self.tap)

    def __call__(self, case: CohortCase) -> Outcome:
        """Raises CaseError for a case that cannot be read or taken."""
        read = case.read()
        session = Session(read, self.pack, self.device, self._engine)
        self._engine = session.engine
        labels = {"": session.labels}
        for method, adjustment in self.adjustments.items():
            labels[method] = adjustment.labels(session) if adjustment else session.labels
        reference = None if read.labels is None else session.conformed.labels(read.labels)
        if self.show:
            self.show(case, session, labels)
        dices = {m: None if reference is None else dice_by_region(found, reference) for m, found in labels.items()}
        ml = {m: {r: session.region_ml(found, r) for r in ("WT", "TC", "ET")} for m, found in labels.items()}
        return Outcome(
            case.name,
            case.subject,
            case.seen_in(self.pack.info.trained_on.cases),
            case.simulated,
            case.invented or read.invented,
            dices.pop(""),
            dices,
            ml,
            tuple(session.notes),
        )


def with_one_tap(pack: LensPack, tap: str) -> LensPack:
    """The pack with the lens of this tap alone: nothing is encoded for the others."""
    lens = replace(pack.lens_info(tap), default=True)
    return replace(pack, info=replace(pack.info, lenses=(lens,)))


def mean_gain(gains: list[float], seed: int = 0) -> dict[str, float | int | list[float] | None]:
    """Mean of the gains of cases, with a 95 % interval from drawing the cases again (percentile bootstrap).

    None as the interval of fewer than three cases: two drawn again say nothing.
    """
    from scipy.stats import bootstrap

    if not gains:
        return {"cases": 0, "mean": None, "interval": None}
    interval = None
    if len(gains) >= 3:
        if np.ptp(gains) == 0:
            interval = [float(gains[0])] * 2
        else:
            found = bootstrap((np.array(gains),), np.mean, n_resamples=5000, method="percentile", rng=seed)
            interval = [float(found.confidence_interval.low), float(found.confidence_interval.high)]
    return {"cases": len(gains), "mean": float(np.mean(gains)), "interval": interval}
