"""A cohort adapted to: fitted on its labelled cases, checked on the whole of them, applied to all, and told."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial

import numpy as np
import torch

from MedSegLensLib.cohorts.cohort import Cohort, CohortCase
from MedSegLensLib.cohorts.mapping import Failure, failure_of
from MedSegLensLib.diffing.adaptation import Adapted, Latents, Method, adapt, no_worse
from MedSegLensLib.diffing.applying import Applying, Outcome, mean_dice, mean_gain
from MedSegLensLib.diffing.excerpts import ExcerptReader
from MedSegLensLib.editing.places import ras_point
from MedSegLensLib.editing.recipe import PackReference, Recipe
from MedSegLensLib.editing.session import Session
from MedSegLensLib.errors import Cancelled, CaseError, MedSegLensError
from MedSegLensLib.packs.pack import LensPack

Progress = Callable[[str, float], None]
Show = Callable[[CohortCase, Session, dict[str, np.ndarray]], None]

NAME = Latents.name
PICTURES = 3
"""Cases at most that the page shows before and after."""

MANY = 5
"""More cases than this that were not fitted on are needed before a mean of them says much."""


@dataclass(frozen=True)
class Picture:
    """The axial slice of a case that the recipe changed most.

    image, brain, before, after, reference: (1, Y, X), reference None where there is none; spacing: x, y, z in mm;
    height_mm: where its middle is from foot to head (S). changed: voxels that the recipe changes in the whole case.
    """

    case: str
    modality: str
    slice: int
    slices: int
    image: np.ndarray
    brain: np.ndarray
    before: np.ndarray
    after: np.ndarray
    reference: np.ndarray | None
    spacing: tuple[float, float, float]
    height_mm: float
    changed: int


@dataclass
class CohortAdapted:
    """What was found, by method; what it did to each case; a few pictures of the largest changes."""

    pack: LensPack
    cohort: Cohort
    tap: str
    fitted_on: tuple[str, ...]
    methods: dict[str, Adapted]
    outcomes: list[Outcome]
    failures: list[Failure]
    pictures: list[Picture] = field(default_factory=list)

    def recipe(self) -> Recipe:
        """The recipe; one without edits where no latent does this."""
        found = self.methods[NAME]
        name = f"{self.pack.info.name} to {self.cohort.name}"[:200]
        fitted = f"Fitted on labelled cases of {self.cohort.name}: {', '.join(self.fitted_on)}."
        if found.adjustment is None:
            return Recipe(name, PackReference.of(self.pack), (), f"No latent does this. {found.why} {fitted}")
        return found.adjustment.recipe(self.pack, name, fitted)

    def rest(self) -> list[Outcome]:
        """The cases of patients that were not fitted on, where there is something to judge by."""
        subjects = {o.subject for o in self.outcomes if o.case in self.fitted_on}
        return [o for o in self.outcomes if o.subject not in subjects and mean_dice(o.before) is not None]

    def to_json(self) -> dict:
        """Everything as JSON values, with a headline and what has to be said beside it."""
        rest, unseen = self.rest(), [o for o in self.rest() if not o.trained]
        gains = {m: mean_gain([o.gain(m) for o in rest]) for m in self.methods} if rest else {}
        return {
            "headline": self._headline(gains),
            "pack": {"name": self.pack.info.name, "version": self.pack.info.version, "hash": self.pack.hash},
            "tap": self.tap,
            "cohort": {
                "name": self.cohort.name,
                "source": self.cohort.source,
                "cases": len(self.cohort.cases),
                "simulated": self.cohort.simulated,
                "invented": any(o.invented for o in self.outcomes),
            },
            "fitted_on": list(self.fitted_on),
            "latents": self._latents(),
            "methods": {name: adapted.to_json() for name, adapted in self.methods.items()},
            "judged": f"{len(rest)} cases"
            + (f", {len(unseen)} of them never trained on" if len(unseen) < len(rest) else ""),
            "rest": gains,
            "unseen": {m: mean_gain([o.gain(m) for o in unseen]) for m in self.methods} if unseen else {},
            "cases": [{**asdict(o), "fitted_on": o.case in self.fitted_on} for o in self.outcomes],
            "failures": [asdict(f) for f in self.failures],
            "notes": self._notes(rest, unseen),
        }

    def _headline(self, gains: dict) -> str:
        of = f"{self.pack.info.name} adapted to {self.cohort.name} on {len(self.fitted_on)} labelled cases"
        found = self.methods[NAME]
        if found.adjustment is None:
            return f"{of}: no latent does this, and nothing was changed. {found.why}"
        said = f"{of}: {len(found.adjustment.gains)} latents are scaled."
        mean = gains[NAME]["mean"] if gains else None
        if mean is None:
            return f"{said} What that does to the others is not known: none of them has labels and a tumour."
        said += f" Dice on the {gains[NAME]['cases']} other cases with labels changed by {mean:+.3f} on average."
        interval = gains[NAME]["interval"]
        if interval is None or interval[0] <= 0:
            said += " That is not established as a gain."
        return said

    def _latents(self) -> list[dict]:
        adjustment = self.methods[NAME].adjustment
        if adjustment is None:
            return []
        table, known = self.pack.catalogue(), {}
        if table is not None:
            known = {r["latent"]: r for r in table.to_pylist() if r["tap"] == self.tap}
        return [
            {
                "latent": latent,
                "gain": round(float(gain), 3),
                "name": known.get(latent, {}).get("name"),
                "fires_share": known.get(latent, {}).get("fires_share"),
            }
            for latent, gain in sorted(adjustment.gains.items(), key=lambda item: -abs(item[1] - 1))
        ]

    def _notes(self, rest: list[Outcome], unseen: list[Outcome]) -> list[str]:
        notes = [f"{f.case} was left out: {f.cause}" for f in self.failures]
        if any(o.invented for o in self.outcomes):
            notes.append(
                "Among the cases are phantoms: what is measured on invented anatomy does not hold for patients."
            )
        if self.cohort.simulated:
            notes.append("The acquisitions are simulated: no scanner made these volumes.")
        trained = [o.case for o in self.outcomes if o.trained]
        if trained:
            notes.append(
                f"The segmenter was trained on {len(trained)} of these patients ({', '.join(trained[:8])}): "
                "figures with them flatter; those of the others stand apart."
            )
        if rest and len(rest) < MANY:
            notes.append(f"{len(rest)} cases were judged on: too few to tell a gain from chance.")
        held_out = set(self.pack.info.trained_on.held_out) & set(self.fitted_on)
        if held_out:
            notes.append(f"The pack's own held-out case was fitted on ({', '.join(sorted(held_out))}).")
        return notes


def adapt_cohort(
    pack: LensPack,
    cohort: Cohort,
    labelled: Sequence[CohortCase],
    tap: str,
    device: str | None = None,
    others: Callable[[torch.nn.Module], list[Method]] | None = None,
    show: Show | None = None,
    progress: Progress | None = None,
) -> CohortAdapted:
    """Fit on the labelled cases, and apply to every case of the cohort, one session at a time.

    others(network): methods to compare with. show(case, session, labels by method) sees each case while its session is
    open; a labelled case is shown again where what was fitted turns out to make it worse and is given up. Raises
    CaseError for a labelled case that cannot be used, or where no case can; what `progress` raises passes.
    """
    say = progress or (lambda stage, share: None)
    reader = ExcerptReader(pack, tap, device)
    excerpts = []
    for i, case in enumerate(labelled):
        say(f"reading the labelled cases, {case.name}", i / len(labelled))
        excerpts.append(reader.read(case.read(), case.subject))
    methods = [Latents(tap), *(others(reader.network) if others else [])]
    adapted = {}
    for i, method in enumerate(methods):
        stage, share = f"fitting, {method.name}", i / len(methods)
        adapted[method.name] = adapt(method, excerpts, partial(say, stage, share))
    del excerpts

    result = CohortAdapted(pack, cohort, tap, tuple(c.name for c in labelled), adapted, [], [])
    applying = Applying(pack, tap, {}, device, _Shown(show, result.pictures, result.fitted_on))

    def apply(cases: Sequence[CohortCase], done: int) -> None:
        applying.adjustments = {name: found.adjustment for name, found in adapted.items()}
        for i, case in enumerate(cases):
            say(f"applying, {case.name}", (done + i) / len(cohort.cases))
            try:
                result.outcomes.append(applying(case))
            except Cancelled:
                raise
            except MedSegLensError as problem:
                if not isinstance(problem, CaseError):
                    raise
                result.failures.append(failure_of(case.name, problem))

    apply(labelled, 0)
    given_up = [name for name, found in adapted.items() if found.adjustment and not _holds(name, result.outcomes)]
    if given_up:
        why = "On the whole of the labelled cases, and not only the slices it was fitted on, it made them worse."
        for name in given_up:
            adapted[name] = replace(adapted[name], adjustment=None, share=0.0, why=why)
        result.outcomes.clear()
        apply(labelled, 0)
    names = set(result.fitted_on)
    apply([case for case in cohort.cases if case.name not in names], len(labelled))
    if not result.outcomes:
        first = result.failures[0]
        raise CaseError(f"cohort {cohort.name}", f"no case could be used; the first: {first.cause}", first.remedy)
    order = {case.name: i for i, case in enumerate(cohort.cases)}
    result.outcomes.sort(key=lambda o: order[o.case])
    return result


def _holds(method: str, outcomes: list[Outcome]) -> bool:
    before = {o.case: mean_dice(o.before) for o in outcomes}
    return no_worse(before, {o.case: mean_dice(o.after[method]) for o in outcomes})


@dataclass
class _Shown:
    """Hands every case on, and keeps the pictures of the largest changes among those that were not fitted on."""

    show: Show | None
    pictures: list[Picture]
    fitted_on: tuple[str, ...]

    def __call__(self, case: CohortCase, session: Session, labels: dict[str, np.ndarray]) -> None:
        if self.show:
            self.show(case, session, labels)
        if case.name in self.fitted_on:
            return
        before, after = labels[""], labels[NAME]
        changed = np.count_nonzero(before != after, axis=(1, 2))
        total = int(changed.sum())
        if not total or (len(self.pictures) == PICTURES and total <= self.pictures[-1].changed):
            return
        z = int(changed.argmax())
        channels = list(session.pack.input_spec().modalities)
        there = [m for m, present in zip(channels, session.conformed.present, strict=True) if present]
        modality = "t2f" if "t2f" in there else there[0]
        reference = session.case.labels
        self.pictures.append(
            Picture(
                case.name,
                modality,
                z,
                len(before),
                session.conformed.array[channels.index(modality)][z : z + 1].copy(),
                session.conformed.brain[z : z + 1].copy(),
                before[z : z + 1].copy(),
                after[z : z + 1].copy(),
                None if reference is None else session.conformed.labels(reference)[z : z + 1].copy(),
                tuple(float(s) for s in session.conformed.grid.spacing),
                _height(session, z),
                total,
            )
        )
        self.pictures.sort(key=lambda p: -p.changed)
        del self.pictures[PICTURES:]


def _height(session: Session, z: int) -> float:
    """S coordinate (mm) of the middle of a slice of the network's grid."""
    _, ny, nx = session.conformed.brain.shape
    return float(ras_point(session.conformed, (z, ny / 2, nx / 2))[2])
