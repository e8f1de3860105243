"""What a comparison needs of its cohorts, checked from their descriptions before any case is read."""

from collections.abc import Sequence

from MedSegLensLib.cases.case import MODALITIES
from MedSegLensLib.cohorts.cohort import Cohort
from MedSegLensLib.cohorts.found import several
from MedSegLensLib.errors import CaseError


def shared_modalities(*cohorts: Cohort, needed: Sequence[str] = ()) -> tuple[str, ...]:
    """Modalities that every case of every cohort has, in the order of `MODALITIES`.

    needed: those that a segmenter cannot do without. Raises CaseError where there is none, or a needed one is missing.
    """
    shared = tuple(m for m in MODALITIES if all(m in cohort.modalities for cohort in cohorts))
    names = " and ".join(cohort.name for cohort in cohorts)
    if not shared:
        has = "; ".join(f"{c.name} has {', '.join(c.modalities) or 'none that every case has'}" for c in cohorts)
        remedy = "Compare cohorts that share one, or leave cases out with `medseglens cohort create --require`."
        raise CaseError(f"cohorts {names}", f"no modality is in every case of them ({has}).", remedy)
    if lacking := [m for m in needed if m not in shared]:
        without = [case.name for cohort in cohorts for case in cohort.cases if lacking[0] not in case.modalities]
        cause = f"{lacking[0]} is needed and missing in {several(without)}."
        raise CaseError(f"cohorts {names}" if len(cohorts) > 1 else f"cohort {names}", cause, "Leave these cases out.")
    return shared


def require_labels(cohort: Cohort, why: str) -> None:
    """Raises CaseError, with the cases' names, where one has no labels. why: 'to measure a Dice', say."""
    without = [case.name for case in cohort.cases if not case.labelled]
    if without:
        raise CaseError(
            f"cohort {cohort.name}",
            f"{len(without)} of {len(cohort.cases)} cases have no labels, which are needed {why}: {several(without)}.",
            "Add a segmentation (a name that ends in seg) to their folders, or leave them out with --labelled.",
        )


def labelled_part(cohort: Cohort, why: str) -> tuple[Cohort, tuple[str, ...]]:
    """The cases with labels, and a note on those left out. Raises CaseError where no case has any."""
    kept = [case.name for case in cohort.cases if case.labelled]
    if not kept:
        require_labels(cohort, why)
    if len(kept) == len(cohort.cases):
        return cohort, ()
    without = [case.name for case in cohort.cases if not case.labelled]
    return cohort.of(kept), (f"Left out of {cohort.name}, since they have no labels: {several(without)}.",)


def require_cases(cohort: Cohort, least: int, why: str) -> None:
    """Raises CaseError where there are fewer patients than `least`. Time points of one patient count once."""
    there = len(cohort.subjects)
    if there < least:
        raise CaseError(
            f"cohort {cohort.name}",
            f"it has {there} patient{'s' * (there != 1)}, and {least} are the least {why}.",
            "Add cases to it.",
        )


def shared_subjects(x: Cohort, y: Cohort) -> tuple[str, ...]:
    """Patients who are in both: where there are any, the cohorts are no independent samples."""
    others = set(y.subjects)
    return tuple(subject for subject in x.subjects if subject in others)
