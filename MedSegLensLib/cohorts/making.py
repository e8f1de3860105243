"""Cohorts that are made: of phantoms, or of another cohort under a simulated acquisition."""

from collections.abc import Sequence
from dataclasses import replace

from MedSegLensLib.cohorts.acquisitions import SIMULATED, Acquisition
from MedSegLensLib.cohorts.cohort import Cohort, CohortCase
from MedSegLensLib.cohorts.phantoms import PhantomRequest
from MedSegLensLib.errors import CaseError, UsageError


def phantom_cohort(name: str, seeds: Sequence[int], **request) -> Cohort:
    """One phantom a seed. request: further arguments of `PhantomRequest`, the same for all."""
    if not seeds or min(seeds) < 0:
        raise UsageError("phantoms", "their seeds are none, or negative.", "Ask for at least one, from seed 0 on.")
    asked = [PhantomRequest(seed, **request) for seed in seeds]
    cases = [
        CohortCase(
            f"phantom-{one.seed}",
            # A seed and shape is a brain; healthy and ill ones of a seed are one brain too, and so one subject.
            f"phantom-{one.seed}",
            facts={"tumour": one.shape if one.tumour else "none"},
            phantom=one,
            healthy=not one.tumour,
        )
        for one in asked
    ]
    kind = f"tumours of the shape '{asked[0].shape}'" if asked[0].tumour else "no tumour"
    return Cohort(
        name,
        f"Procedural phantoms with {kind}, made by MedSegLens",
        "Apache-2.0, as MedSegLens",
        tuple(cases),
        ("Phantoms: invented anatomy. What is measured on them does not hold for patients.",),
    )


def acquired_cohort(name: str, cohort: Cohort, acquisition: Acquisition) -> Cohort:
    """The same cases under another acquisition: names and subjects stay, so that cases are paired with the given ones.

    Raises CaseError where cases are simulated already (what two acquisitions do to one another is not modelled), or
    would have no volume left.
    """
    twice = [case for case in cohort.cases if case.simulated]
    if twice:
        cause = f"its cases went through a simulated acquisition already, such as {twice[0].name}."
        raise CaseError(f"cohort {cohort.name}", cause, "Start from the cohort that it was made of.")
    cases = tuple(replace(case, acquisition=acquisition) for case in cohort.cases)
    empty = [case.name for case in cases if not case.modalities]
    if empty:
        cause = f"without {acquisition.missing} no volume is left of {empty[0]}."
        raise CaseError(f"cohort {cohort.name}", cause, "Leave out another modality.")
    note = f"{SIMULATED} from the cohort {cohort.name}: {acquisition.kind}, strength {acquisition.strength:g}, "
    note += f"seed {acquisition.seed}: {acquisition.in_words}. No scanner was measured."
    return Cohort(name, f"{SIMULATED} from: {cohort.source}", cohort.licence, cases, (note, *cohort.notes))
