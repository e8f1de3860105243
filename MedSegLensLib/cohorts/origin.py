"""What has to be said of where a cohort's cases come from, beside anything that is found on them."""

from MedSegLensLib.cohorts.cohort import Cohort

INVENTED = "Among the cases are phantoms: what is measured on invented anatomy does not hold for patients."


def origin_notes(cohort: Cohort) -> list[str]:
    """What has to stand beside any result on these cases."""
    notes = []
    if cohort.simulated:
        notes.append("Acquisitions were simulated from these cases: no scanner measured them.")
    if cohort.invented:
        notes.append(INVENTED)
    return notes
