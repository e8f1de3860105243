"""From a folder of cases to a cohort: which files are which, by their names alone."""

from pathlib import Path

from MedSegLensLib.cases.case import MODALITIES
from MedSegLensLib.cases.modality_words import modality_of_ending
from MedSegLensLib.cases.volume import bare_name, is_volume_file
from MedSegLensLib.cohorts.cohort import Cohort, CohortCase
from MedSegLensLib.cohorts.subjects import subject_of
from MedSegLensLib.errors import CaseError


def describe(path: Path, name: str | None = None, source: str = "", licence: str = "", progress=None) -> Cohort:
    """The cohort of a folder whose subfolders are cases. Raises CaseError where there is none."""
    path = Path(path).resolve()
    if not path.is_dir():
        raise CaseError(path, "it is no folder of cases.", "Give the folder that holds the case folders.")
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    cases, notes = [], []
    for i, folder in enumerate(folders):
        if progress:
            progress("describing the cases", i / len(folders))
        volumes: dict[str, Path] = {}
        for file in sorted(f for f in folder.iterdir() if is_volume_file(f) and not f.name.startswith(".")):
            if key := modality_of_ending(bare_name(file)):
                if key in volumes:
                    raise CaseError(
                        folder, f"{volumes[key].name} and {file.name} both claim to be {key}.", "Leave one."
                    )
                volumes[key] = file
        labels = volumes.pop("seg", None)
        ordered = {m: volumes[m] for m in MODALITIES if m in volumes}
        if not ordered:
            notes.append(f"{folder.name} was left out: none of its files names a modality.")
            continue
        cases.append(CohortCase(folder.name, subject_of(folder.name), folder, ordered, labels))
    if not cases:
        raise CaseError(path, "no folder in it holds a case.", "Give the folder that holds the case folders.")
    return Cohort(name or path.name, source or f"Folder {path}", licence or "not stated", tuple(cases), tuple(notes))
