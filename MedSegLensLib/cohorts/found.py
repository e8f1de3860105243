"""What a layout found in a folder, and what a volume's header tells without a look at its voxels."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from MedSegLensLib.cases.case import PHANTOM
from MedSegLensLib.cohorts.acquisitions import SIMULATED
from MedSegLensLib.cohorts.cohort import CohortCase, Fact
from MedSegLensLib.errors import CaseError

Progress = Callable[[str, float], None]

UNSTATED = "not stated here: see the terms under which you obtained the data"


@dataclass
class Found:
    """cases: as they lie there. source, licence: where the layout knows them. notes: what was left out, and why."""

    cases: list[CohortCase] = field(default_factory=list)
    source: str = ""
    licence: str = ""
    notes: list[str] = field(default_factory=list)


def header_of(volume: Path) -> tuple[dict[str, Fact], tuple[str, ...]]:
    """Facts `grid` ('240 x 240 x 155 at 1 x 1 x 1 mm') and `slice_mm` (the voxel's longest side), and a note where the
    file was written as a phantom's or a simulated one's. Takes about a millisecond.

    Raises CaseError for a file whose header cannot be read.
    """
    import SimpleITK as sitk

    from MedSegLensLib.cases.volume import FILE_NOTES

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(volume))
    try:
        reader.ReadImageInformation()
    except RuntimeError as problem:
        if "orthonormal" in str(problem):  # read all the same, with its axes set right (cases.volume)
            return {}, ()
        raise CaseError(volume, "its header cannot be read.", "Copy or export it again.") from None
    size, spacing = reader.GetSize()[:3], reader.GetSpacing()[:3]
    grid = f"{' x '.join(map(str, size))} at {' x '.join(f'{s:.3g}' for s in spacing)} mm"
    told = reader.GetMetaData(FILE_NOTES) if reader.HasMetaDataKey(FILE_NOTES) else ""
    return {"grid": grid, "slice_mm": round(max(spacing), 3)}, (told,) if told.startswith((PHANTOM, SIMULATED)) else ()


def subfolders(path: Path) -> list[Path]:
    """Those of a folder that are meant to be seen and may be read, in order."""
    found = []
    for entry in sorted(path.iterdir()):
        try:
            if not entry.name.startswith(".") and entry.is_dir() and os.access(entry, os.R_OK | os.X_OK):
                found.append(entry)
        except OSError:  # what it points to may not be looked at
            continue
    return found


def several(names: list[str], most: int = 5) -> str:
    """'a, b, c, ... (12 in all)'."""
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")
