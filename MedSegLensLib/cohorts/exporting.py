"""A cohort's cases as files, to be looked at in Slicer or elsewhere. What is invented or simulated says so in them."""

from dataclasses import replace
from pathlib import Path

from MedSegLensLib.cohorts.cohort import CohortCase


def write_cohort_case(case: CohortCase, folder: Path) -> list[Path]:
    """Write the case as `<folder>/<name>/`, as `cases.writing.write_case` does; returns the files.

    A simulated case has its acquisition in its folder's and files' names, and in the header (`descrip`) of each.
    """
    from MedSegLensLib.cases.volume import FILE_NOTES
    from MedSegLensLib.cases.writing import write_case

    read = case.read()
    acquisition = case.acquisition
    if acquisition:
        read = replace(read, name=f"{case.name}_simulated-{acquisition.kind}")
        if not case.invented:
            for image in read.images.values():
                # 79 characters fit into a header.
                image.SetMetaData(FILE_NOTES, acquisition.note[:79])
    return write_case(read, folder / read.name)
