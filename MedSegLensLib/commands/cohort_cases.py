"""The cases that a command works on: folders on the disk, or a cohort by its name; and those of them that fail."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from MedSegLensLib.cases.case import Case
from MedSegLensLib.cases.modality_words import modality_of_ending
from MedSegLensLib.cases.volume import bare_name, is_volume_file
from MedSegLensLib.cohorts.cohort import Cohort, CohortCase, find_cohort
from MedSegLensLib.cohorts.layout_folders import is_one_study
from MedSegLensLib.cohorts.mapping import Failure, failure_of
from MedSegLensLib.cohorts.subjects import subject_of
from MedSegLensLib.errors import CaseError


def add_cases(command: argparse.ArgumentParser, what: str, required: bool = True) -> None:
    """--cases and --cohort, of which one is given. what: the cases are for, as in 'labelled cases'."""
    source = command.add_mutually_exclusive_group(required=required)
    source.add_argument(
        "--cases", type=Path, metavar="FOLDER", help=f"{what}: a folder with a folder a case, or one case's folder"
    )
    source.add_argument(
        "--cohort", metavar="NAME", help=f"{what}: a cohort's name, description or table (see `medseglens cohort`)"
    )


def cohort_given(options: argparse.Namespace) -> Cohort:
    """What --cases or --cohort names. No volume is read yet. Raises CaseError where there is no case."""
    return find_cohort(options.cohort) if options.cohort else cohort_in(options.cases)


def cohort_in(folder: Path) -> Cohort:
    """The `cases_in` a folder as a cohort that has its name. Raises CaseError where there is none."""
    cases = tuple(cases_in(folder))
    return Cohort(Path(folder).resolve().name or "cases", f"Folder {folder}", "not stated", cases)


def cases_in(folder: Path) -> list[CohortCase]:
    """The cases in a folder: its subfolders, or the folder itself where the volumes or DICOM series of one case lie in
    it. Which files are a case's is told when it is read. Raises CaseError where there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        cause = "it is a file, not a folder." if folder.exists() else "there is no such folder."
        raise CaseError(folder, cause, "Give the folder that holds the cases with --cases.")
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    folders = [path for path in inside if path.is_dir()]
    volumes = [path for path in inside if path.is_file() and is_volume_file(path)]
    own = any(modality_of_ending(bare_name(path)) for path in volumes) or (volumes and not folders)
    if own or is_one_study(folder):
        return [_case(folder)]
    if not folders:
        raise CaseError(folder, "there is no case in it.", "Give a folder with one folder a case.")
    return [_case(path) for path in folders]


def read_each(cases: Iterable[CohortCase], failures: list[Failure]) -> Iterator[tuple[CohortCase, Case]]:
    """The cases one by one; one that cannot be read is told of in `failures`, and left out."""
    for case in cases:
        try:
            read = case.read()
        except CaseError as problem:
            failures.append(failure_of(case.name, problem))
            continue
        yield case, read


def failure_notes(failures: Sequence[Failure]) -> list[str]:
    """One sentence a case that was left out."""
    return [f"Left out: {failure}" for failure in failures]


class ReadCases(Sequence):
    """Cases of a cohort as a sequence of cases, each read when it is asked for and not kept."""

    def __init__(self, cases: Sequence[CohortCase]):
        self.cases = tuple(cases)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, which):
        return ReadCases(self.cases[which]) if isinstance(which, slice) else self.cases[which].read()


def _case(folder: Path) -> CohortCase:
    name = folder.resolve().name
    return CohortCase(name, subject_of(name), folder)
