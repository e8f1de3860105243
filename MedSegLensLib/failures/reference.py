"""What a pack's network does on cases that it is trusted with: the reference that a new case is held against.

Of each case: how often and how strongly each latent fires, the small circuit between the first and the last tap, and
what the volumes look like to the network. A pack carries it (`packs.reference_files`); it holds sums, no voxels.

>>> reference = reference_of(pack)                       # None for a pack without one
>>> reference = build_reference(pack, cohort.cases)      # its training cases, say
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from MedSegLensLib.cohorts.acquisitions import Acquisition
from MedSegLensLib.cohorts.cohort import CohortCase
from MedSegLensLib.cohorts.mapping import Failure, key_of, map_cases
from MedSegLensLib.diffing.dictionaries import TapDictionaries, at_work, opened
from MedSegLensLib.diffing.usage import tap_row, usage_sums
from MedSegLensLib.editing.pack_at_work import PackAtWork
from MedSegLensLib.errors import UsageError
from MedSegLensLib.failures.circuit import Weights, graph, weights_of
from MedSegLensLib.packs.reference_files import ShippedReference
from MedSegLensLib.packs.shipped_reference import document_of, shipped_reference

if TYPE_CHECKING:
    from MedSegLensLib.editing.session import Session
    from MedSegLensLib.packs.pack import LensPack

Progress = Callable[[str, float], None]

VERSION = 3
"""Of what is read of a case; results of another are not used again."""

DETECTOR_ACQUISITIONS = (
    Acquisition("low-field", 1.0),
    Acquisition("motion", 2.0),
    Acquisition("bias-field", 2.0),
    Acquisition("other-contrast", 2.0),
    Acquisition("noise", 2.0),
    Acquisition("missing-t1c"),
    Acquisition("missing-t2f"),
)
"""Under which a detector also sees the reference cases: as they were acquired, few of them fail."""


@dataclass(frozen=True, eq=False)
class Workings:
    """How one case drives a network.

    rate: by tap, share (0..1) of the brain's tokens on which each latent fires; magnitude: its mean code there, 0 where
    it is silent; graph: (edges,), see `failures.circuit.graph`; inputs: (modalities, numbers), see
    `failures.input_statistics`; present: bool (modalities,).
    """

    rate: dict[str, np.ndarray]
    magnitude: dict[str, np.ndarray]
    graph: np.ndarray
    inputs: np.ndarray
    present: np.ndarray

    def to_arrays(self) -> dict[str, np.ndarray]:
        """By name, as `ShippedReference` has them; `from_arrays` gives an equal one back."""
        found = {"graph": self.graph, "inputs": self.inputs, "present": self.present.astype(np.uint8)}
        for t, tap in enumerate(self.rate):
            found |= {f"rate.{t}": self.rate[tap], f"magnitude.{t}": self.magnitude[tap]}
        return found

    @staticmethod
    def from_arrays(arrays: dict[str, np.ndarray], taps: Sequence[str]) -> "Workings":
        rate, magnitude = ({tap: arrays[f"{what}.{t}"] for t, tap in enumerate(taps)} for what in ("rate", "magnitude"))
        return Workings(rate, magnitude, arrays["graph"], arrays["inputs"], arrays["present"].astype(bool))


@dataclass(frozen=True, eq=False)
class Reference:
    """The workings of a pack's reference cases; every array of `Workings` has the cases as its first axis here.

    cohort: its name. modalities: of the pack, in order. weights: by tap, how much each latent counts, see
    `failures.circuit.weights_of`; None: all alike. notes: what has to be known of the cases. detector: what
    `failures.detector` learned of failures on them, JSON types; None where they have no labels.
    """

    cases: tuple[str, ...]
    workings: Workings = field(repr=False)
    modalities: tuple[str, ...]
    cohort: str = "reference"
    notes: tuple[str, ...] = ()
    detector: dict | None = field(default=None, repr=False)
    weights: Weights | None = field(default=None, repr=False)

    @property
    def taps(self) -> tuple[str, ...]:
        return tuple(self.workings.rate)

    def weight(self, tap: str) -> np.ndarray:
        """How much each latent of a tap counts, (latents,), with a sum of 1."""
        latents = self.workings.rate[tap].shape[-1]
        return np.full(latents, 1 / latents) if self.weights is None else self.weights[tap]

    def case(self, i: int) -> Workings:
        """One of them."""
        return self._rows(i)

    def without(self, *names: str) -> "Reference":
        """All but these. Raises UsageError where none would be left."""
        kept = [i for i, name in enumerate(self.cases) if name not in names]
        if not kept:
            raise UsageError("reference", "no case would be left in it.", "Leave fewer out.")
        return replace(self, cases=tuple(self.cases[i] for i in kept), workings=self._rows(kept))

    def _rows(self, rows) -> Workings:
        arrays = {name: array[rows] for name, array in self.workings.to_arrays().items()}
        return Workings.from_arrays(arrays, self.taps)

    def shipped(self, info) -> ShippedReference:
        """As a pack keeps it; numbers are rounded to float16, but inputs and weights."""
        arrays = self.workings.to_arrays()
        for name in arrays:
            if name not in ("inputs", "present"):
                arrays[name] = arrays[name].astype(np.float16)
        for t, tap in enumerate(self.taps):
            arrays[f"weight.{t}"] = self.weight(tap).astype(np.float32)
        lists = list(self.cases), list(self.taps), list(self.modalities), list(self.notes)
        return ShippedReference(document_of(info, self.cohort, *lists, self.detector), arrays)

    @staticmethod
    def of_shipped(shipped: ShippedReference) -> "Reference":
        document = shipped.document
        arrays = {name: array.astype(np.float32) for name, array in shipped.arrays.items()}
        taps = [lens["tap"] for lens in document["lenses"]]
        return Reference(
            tuple(document["cases"]),
            Workings.from_arrays(arrays, taps),
            tuple(document["modalities"]),
            document["cohort"],
            tuple(document["notes"]),
            document["detector"],
            {tap: arrays[f"weight.{t}"] for t, tap in enumerate(taps)},
        )


def reference_of(pack: "LensPack") -> Reference | None:
    """What the pack is shipped with, read once; None for a pack without a reference."""
    if "reference" not in pack.__dict__:
        shipped = shipped_reference(pack)
        pack.__dict__["reference"] = None if shipped is None else Reference.of_shipped(shipped)
    return pack.__dict__["reference"]


def workings_of(session: "Session", weights: Weights | None = None) -> Workings:
    """How a session's case drives its network, at every tap that has a lens. Two seconds of a CPU for a brain.

    weights: of the reference that it is to be held against; None: those of the session's pack.
    """
    from MedSegLensLib.failures.input_statistics import input_statistics

    taps = session.pack.taps
    sums = usage_sums(session, taps, reliance=False)
    rows = {tap: tap_row(sums, t, reliance=False)[:2] for t, tap in enumerate(taps)}
    inputs = input_statistics(session.conformed)
    return Workings(
        {tap: rate.astype(np.float32) for tap, (rate, _) in rows.items()},
        {tap: np.nan_to_num(magnitude).astype(np.float32) for tap, (_, magnitude) in rows.items()},
        graph(session, weights or weights_of(session.pack)),
        np.nan_to_num(inputs),
        np.array(session.conformed.present),
    )


@dataclass(frozen=True)
class WorkingsWork:
    """A `CaseWork`: `workings_of` each case, as arrays, and "labelled", whether it has a reference segmentation: what a
    folder holds is known when it has been read."""

    pack: PackAtWork
    taps: tuple[str, ...]

    def key(self) -> str:
        return key_of(self, VERSION)

    def __call__(self, case: CohortCase) -> dict[str, np.ndarray]:
        session = opened(self.pack, tuple(TapDictionaries(tap) for tap in self.taps)).session(case.read(), edits=False)
        return workings_of(session).to_arrays() | {"labelled": np.array(session.case.labels is not None)}


def build_reference(
    pack: "LensPack",
    cases: Sequence[CohortCase],
    progress: Progress | None = None,
    journal: Path | None = None,
    cohort: str = "reference",
    notes: Sequence[str] = (),
    detector: bool = True,
) -> tuple[Reference, tuple[Failure, ...]]:
    """The reference of these cases, and those that could not be used.

    detector: whether one is learned, on those with labels and on `DETECTOR_ACQUISITIONS` of them.

    Raises UsageError for a pack without lenses, or a case that the pack says was held out; else as `map_cases` does.
    """
    if not pack.taps:
        raise UsageError(pack.info.name, "this pack has no lens.", "Train one with `medseglens train lens`.")
    held_out = next((case for case in cases if case.seen_in(pack.info.trained_on.held_out)), None)
    if held_out is not None:
        cause = f"the pack {pack.info.name} says that it was held out."
        raise UsageError(held_out.name, cause, "Leave it out: what is judged on it must not have been learned from it.")
    mapped = map_cases(WorkingsWork(at_work(pack), pack.taps), cases, journal, None, progress)
    used, rows = [], []
    for case, arrays in mapped:
        used.append(case)
        rows.append(arrays)
    arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    workings = Workings.from_arrays(arrays, pack.taps)
    modalities = tuple(pack.info.input["modalities"])
    learned = None
    if detector:
        present = [{m for m, there in zip(modalities, row, strict=True) if there} for row in workings.present]
        labelled = [(used[i], present[i]) for i in np.flatnonzero(arrays["labelled"])]
        learned = _learned(pack, labelled, progress, journal)
    names = tuple(case.name for case in used)
    reference = Reference(names, workings, modalities, cohort, tuple(notes), learned, weights_of(pack))
    return reference, tuple(mapped.failures)


def _learned(pack: "LensPack", labelled: Sequence[tuple[CohortCase, set[str]]], progress, journal) -> dict | None:
    """A detector of failures, or None where too few patients have labels. labelled: cases and their modalities."""
    from MedSegLensLib.failures.detector import PATIENTS, fit_detector

    if len({case.subject for case, _ in labelled}) < PATIENTS:
        return None
    spoilt = [
        replace(case, acquisition=acquisition)
        for acquisition in DETECTOR_ACQUISITIONS
        for case, present in labelled
        if case.acquisition is None and present - {acquisition.missing}
    ]
    return fit_detector(pack, [*(case for case, _ in labelled), *spoilt], progress, journal)
