"""IXI: some 600 healthy people from three London hospitals (https://brain-development.org/ixi-dataset/).

Files are named IXI<subject>-<site>-<scan>-<kind>.nii.gz and lie in one folder a kind (IXI-T1, IXI-T2, IXI-PD, IXI-MRA,
IXI-DTI) or all together. T1 is taken as t1n and T2 as t2w. Proton density, angiography and diffusion are no modality
of ours and are left out. There is no T1 with contrast and no FLAIR. The skull is still on.
"""

import csv
import re
from pathlib import Path

from MedSegLensLib.cohorts.cohort import CohortCase, Fact
from MedSegLensLib.cohorts.found import Found, Progress, header_of, several, subfolders
from MedSegLensLib.errors import CaseError

NAME = re.compile(r"(IXI(\d{3}))-(Guys|HH|IOP)-(\d{4})-(T1|T2|PD|MRA|DTI(?:-\d+)?)\.nii(?:\.gz)?$")
TAKEN = {"T1": "t1n", "T2": "t2w"}
SITES = {
    "Guys": {"site": "Guy's Hospital", "manufacturer": "Philips", "field_strength_T": 1.5},
    "HH": {"site": "Hammersmith Hospital", "manufacturer": "Philips", "field_strength_T": 3.0},
    "IOP": {"site": "Institute of Psychiatry", "manufacturer": "GE", "field_strength_T": 1.5},
}
SOURCE = "IXI (https://brain-development.org/ixi-dataset/)"
LICENCE = "CC BY-SA 3.0"


def looks_like_ixi(path: Path) -> bool:
    """Whether files of these names lie in the folder or one below it."""
    return any(NAME.match(file.name) for folder in _folders(path) for file in _files(folder))


def find(path: Path, progress: Progress | None = None) -> Found:
    """The subjects of an IXI folder that have both T1 and T2, or the one kind that there is.

    Raises CaseError where one scan lies there twice.
    """
    scans: dict[str, dict[str, Path]] = {}
    left: dict[str, int] = {}
    for folder in _folders(path):
        for file in _files(folder):
            named = NAME.match(file.name)
            if not named:
                continue
            subject, _, site, scan, kind = named.groups()
            if kind not in TAKEN:
                left[kind.split("-")[0]] = left.get(kind.split("-")[0], 0) + 1
                continue
            volumes = scans.setdefault(f"{subject}-{site}-{scan}", {})
            if TAKEN[kind] in volumes:
                other = volumes[TAKEN[kind]]
                cause = f"the same scan lies here twice: {other.relative_to(path)} and {file.relative_to(path)}."
                raise CaseError(path, cause, "Give a folder that holds each scan once.")
            volumes[TAKEN[kind]] = file
    found = Found(source=SOURCE, licence=LICENCE)
    wanted = {modality for volumes in scans.values() for modality in volumes}
    people, said = _people(path)
    lacking = []
    for i, (name, volumes) in enumerate(sorted(scans.items())):
        if progress:
            progress("describing the cases", i / len(scans))
        if set(volumes) < wanted:
            lacking.append(name)
            continue
        ordered = {m: volumes[m] for m in ("t1n", "t2w") if m in volumes}
        try:
            facts, _ = header_of(next(iter(ordered.values())))
        except CaseError as problem:
            found.notes.append(f"{name} was left out: {problem.cause}")
            continue
        subject, site = name.split("-")[:2]
        facts |= SITES[site] | people.get(subject, {})
        found.cases.append(CohortCase(name, subject, path, ordered, facts=facts, healthy=True))
    if left:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(left.items()))
        found.notes.append(f"Left out, since no modality here: {kinds} files.")
    if lacking:
        found.notes.append(f"Left out, since T1 or T2 is missing: {several(lacking)}.")
    found.notes.append("IXI has no T1 with contrast and no FLAIR, and its volumes are not skull-stripped.")
    found.notes.append(said)
    return found


def _folders(path: Path) -> list[Path]:
    return [path, *subfolders(path)]


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # a folder that may not be looked at holds nothing for this user
        return []


def _people(path: Path) -> tuple[dict[str, dict[str, Fact]], str]:
    """Facts by subject from IXI.csv or IXI.xls, and what there is to say about them.

    Only age, sex, height and weight are taken: a date of birth has no place in a description. A subject whose rows in
    the spreadsheet contradict each other has no such facts, and 0 means unknown there.
    """
    rows: list[dict] = []
    for file in (path / "IXI.csv", path / "IXI.xls"):
        if not file.is_file():
            continue
        if file.suffix == ".csv":
            with file.open(encoding="utf-8-sig", newline="") as lines:
                rows = list(csv.DictReader(lines))
        else:
            try:
                import xlrd
            except ImportError:
                return {}, "Age and sex were not read: save IXI.xls as IXI.csv beside it (or install xlrd)."
            sheet = xlrd.open_workbook(file).sheet_by_index(0)
            head = [str(cell) for cell in sheet.row_values(0)]
            rows = [dict(zip(head, sheet.row_values(i), strict=True)) for i in range(1, sheet.nrows)]
        break
    if not rows:
        return {}, "Age and sex are unknown: IXI.csv or IXI.xls does not lie in the folder."
    people: dict[str, dict[str, Fact]] = {}
    for row in rows:
        number = _number(row.get("IXI_ID"))
        if number is None:
            continue
        sex = {1.0: "male", 2.0: "female"}.get(_number(next((v for k, v in row.items() if k.startswith("SEX")), None)))
        facts = {
            "age": _number(row.get("AGE")),
            "sex": sex,
            "height_cm": _number(row.get("HEIGHT")),
            "weight_kg": _number(row.get("WEIGHT")),
        }
        subject = f"IXI{int(number):03d}"
        people[subject] = facts if people.get(subject, facts) == facts else dict.fromkeys(facts)
    return people, "Age, sex, height and weight are from IXI's spreadsheet."


def _number(text) -> float | None:
    try:
        return float(text) or None
    except (TypeError, ValueError):
        return None
