"""From a folder or table of cases to a cohort: told by names and headers, no voxel is read.

The one exception is BraTS-PEDs, whose label values changed between two years under the same names
(`layout_folders.ASKED`).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from MedSegLensLib.cohorts import layout_bids, layout_folders, layout_ixi, table
from MedSegLensLib.cohorts.cohort import Cohort, CohortCase
from MedSegLensLib.cohorts.found import UNSTATED, Found, Progress, several
from MedSegLensLib.errors import CaseError, UsageError

LAYOUTS = {
    "folders": layout_folders.find,
    "bids": layout_bids.find,
    "ixi": layout_ixi.find,
    "table": table.find,
}


def describe(
    path: Path,
    name: str | None = None,
    *,
    source: str = "",
    licence: str = "",
    layout: str | None = None,
    facts: Path | None = None,
    label_values: Mapping[int, int] | None = None,
    healthy: bool = False,
    progress: Progress | None = None,
) -> Cohort:
    """The cohort of a folder (`folders`, `bids`, `ixi`; told by what lies in it) or of a CSV (`table`).

    name: by default the folder's or table's. source, licence: over those that the layout knows.
    facts: a table with facts by case or subject (`table.facts_by_name`), over those that the layout found.
    label_values: what the values of all label files mean (`CohortCase.label_values`).
    healthy: nobody in it has a tumour, so that cases without a label file have labels of background alone.

    Raises CaseError where no case is found, UsageError for a layout that is not known.
    """
    path = Path(path).resolve()
    if not path.exists():
        raise CaseError(path, "there is no such folder or table.", "Check the path.")
    if layout is not None and layout not in LAYOUTS:
        raise UsageError(layout, "is no layout.", f"Layouts are {', '.join(LAYOUTS)}.")
    try:
        layout = layout or _layout_of(path)
        found = _found(path, layout, progress)
    except OSError as problem:
        subject = problem.filename or path
        raise CaseError(subject, f"it cannot be looked at ({problem.strerror}).", "Check its permissions.") from problem
    if not found.cases:
        why = f" {' '.join(found.notes[:3])}" if found.notes else ""
        raise CaseError(path, f"no case was found in it.{why}", "Give the folder that holds the case folders.")
    if facts:
        _add_facts(found, facts)
    if label_values:
        found.cases = [replace(case, label_values=dict(label_values) if case.labels else None) for case in found.cases]
    if healthy:
        found.cases = [replace(case, healthy=case.labels is None) for case in found.cases]
    if len(found.cases) == 1:
        found.notes.append("There is one case only: what is measured on it may not be true of another.")
    told = source or found.source or f"{'Table' if layout == 'table' else 'Folder'} {path}"
    own = path.stem if path.is_file() else path.name
    return Cohort(name or own, told, licence or found.licence or UNSTATED, tuple(found.cases), tuple(found.notes))


def _found(path: Path, layout: str, progress: Progress | None) -> Found:
    if (layout == "table") != path.is_file():
        cause = "it is a folder, not a table." if path.is_dir() else "it is a file, not a folder."
        raise CaseError(path, cause, "Give the folder that holds the case folders, or a CSV as a table.")
    return LAYOUTS[layout](path, progress)


def _layout_of(path: Path) -> str:
    if path.is_file():
        return "table"
    if layout_bids.looks_like_bids(path):
        return "bids"
    return "ixi" if layout_ixi.looks_like_ixi(path) else "folders"


def _add_facts(found: Found, file: Path) -> None:
    facts = table.facts_by_name(file)

    def told(case: CohortCase) -> dict:
        return facts.get(case.subject, {}) | facts.get(case.name, {})

    unknown = [case.name for case in found.cases if not told(case)]
    if len(unknown) == len(found.cases):
        cause = f"no row of it names a case or subject of the cohort, such as {unknown[0]}."
        raise CaseError(file, cause, "Name cases in its first column as the cohort does.")
    found.cases = [replace(case, facts={**case.facts, **told(case)}) for case in found.cases]
    if unknown:
        found.notes.append(f"{Path(file).name} tells nothing of {several(unknown)}.")
