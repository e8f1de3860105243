"""Tables: a cohort from a CSV, and facts about cases from a CSV or TSV.

A cohort's table has one row a case. Its columns: `case` (the name); files by modality (`t1n`, `t1c`, `t2w`, `t2f` and
`seg`, or any other name that `modality_words.ALIASES` knows) or `folder`; `subject`, where several cases are of one
patient. Paths are relative to the table. Every other column is a fact.
"""

import csv
from collections import Counter
from pathlib import Path

from MedSegLensLib.cases.case import MODALITIES
from MedSegLensLib.cases.modality_words import ALIASES
from MedSegLensLib.cohorts.cohort import CohortCase, Fact
from MedSegLensLib.cohorts.found import Found, Progress, header_of, several
from MedSegLensLib.cohorts.subjects import subject_of
from MedSegLensLib.errors import CaseError

UNKNOWN = ("", "n/a", "na", "nan", "none", "null", "unknown")
NAMED_BY = ("case", "case_id", "participant_id", "subject", "subject_id", "patient", "patient_id", "id", "name")
"""Columns by which a table of facts may say which case or subject a row is about."""


def find(path: Path, progress: Progress | None = None) -> Found:
    """The cases of a table. Raises CaseError for two rows of one case, and where a named file is not there."""
    head, rows = read_rows(path)
    columns = {column: _modality(column) for column in head}
    if "case" not in head:
        raise CaseError(path, "it has no column `case`.", "Name the column with the cases' names so.")
    doubled = sorted({key for key in columns.values() if key and list(columns.values()).count(key) > 1})
    if doubled:
        raise CaseError(path, f"two of its columns are {doubled[0]}.", "Leave one of them.")
    if "folder" not in head and not set(columns.values()) & set(MODALITIES):
        cause = "it names no files: none of its columns is a modality or `folder`."
        raise CaseError(path, cause, f"Add columns such as {', '.join(MODALITIES)} and seg, or `folder`.")
    names = [row["case"].strip() for row in rows]
    twice = sorted(name for name, count in Counter(names).items() if count > 1 and name)
    if twice:
        cause = f"{len(twice)} cases stand in it more than once: {several(twice)}."
        raise CaseError(path, cause, "Leave one row for each case; give time points names of their own.")
    found, absent = Found(), []
    for i, (name, row) in enumerate(zip(names, rows, strict=True)):
        if progress:
            progress("describing the cases", i / len(rows))
        if not name:
            raise CaseError(path, f"its row {i + 2} names no case.", "Fill the column `case`.")
        if case := _case(path.parent.resolve(), name, row, columns, absent):
            found.cases.append(case)
    if absent:
        cause = f"files that it names are not there: {several(absent)}."
        raise CaseError(path, cause, f"Bring them back or correct the paths, which are relative to {path.parent}.")
    return found


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """A table's columns and rows as text; a .tsv is parted by tabs, a .csv by commas or semicolons.

    Raises CaseError for a file that is absent, empty, or no table.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            by = "\t" if path.suffix == ".tsv" else max(",;", key=first.count)
            lines = list(csv.reader(file, delimiter=by))
    except (OSError, UnicodeError, csv.Error) as problem:
        raise CaseError(path, f"it cannot be read as a table ({problem}).", "Save it as CSV in UTF-8.") from None
    lines = [line for line in lines if any(cell.strip() for cell in line)]
    if len(lines) < 2:
        raise CaseError(path, "it has no rows.", "Give a table with a line of column names and a row for each case.")
    head = [cell.strip() for cell in lines[0]]
    if len(set(head)) < len(head) or not all(head):
        raise CaseError(path, "two of its columns have one name, or one has none.", "Name each column once.")
    for i, line in enumerate(lines[1:], 2):
        if len(line) != len(head):
            cause = f"its row {i} has {len(line)} cells and its first line {len(head)}."
            raise CaseError(path, cause, "Quote cells that hold the separator.")
    return head, [dict(zip(head, line, strict=True)) for line in lines[1:]]


def facts_by_name(path: Path) -> dict[str, dict[str, Fact]]:
    """Facts by case or subject, from a table whose first column of `NAMED_BY` says which. Raises CaseError otherwise.

    Two rows of one name that contradict each other are refused.
    """
    head, rows = read_rows(path)
    lower = {column.lower(): column for column in head}
    by = next((lower[name] for name in NAMED_BY if name in lower), None)
    if by is None:
        raise CaseError(path, "no column says which case a row is about.", f"Name one {', '.join(NAMED_BY[:4])} or so.")
    facts: dict[str, dict[str, Fact]] = {}
    for row in rows:
        name = row[by].strip()
        said = {column: fact(value) for column, value in row.items() if column != by}
        if facts.setdefault(name, said) != said:
            raise CaseError(path, f"two of its rows about {name} contradict each other.", "Leave one of them.")
    return facts


def fact(text: str) -> Fact:
    """A cell as a number where it is one, None where it is unknown, else its text."""
    text = text.strip()
    if text.lower() in UNKNOWN:
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    return number if number == number and abs(number) != float("inf") else None


def _case(top: Path, name: str, row: dict[str, str], columns: dict, absent: list[str]) -> CohortCase | None:
    """The case of a row; None where a file is absent, whose path is added to `absent`."""
    files = {key: top / row[column].strip() for column, key in columns.items() if key and row[column].strip()}
    folder = (row.get("folder") or "").strip()
    gone = [path for path in [*files.values(), *([top / folder] if folder else [])] if not path.exists()]
    absent += [f"{path} ({name})" for path in gone]
    if gone:
        return None
    values = {k: v for k, v in row.items() if k not in ("case", "folder", "subject") and not columns[k]}
    facts: dict[str, Fact] = {column: fact(value) for column, value in values.items()}
    subject = (row.get("subject") or "").strip() or subject_of(name)
    if folder and not files:
        from MedSegLensLib.cohorts.layout_folders import case_in

        return case_in(top / folder, name, subject, facts)
    labels = files.pop("seg", None)
    volumes = {m: files[m] for m in MODALITIES if m in files}
    if not volumes:
        raise CaseError(f"case {name}", "its row names no volume.", "Fill the column of at least one modality.")
    header, notes = header_of(next(iter(volumes.values())))
    return CohortCase(name, subject, top / folder if folder else None, volumes, labels, header | facts, notes=notes)


def _modality(column: str) -> str | None:
    return next((key for key, names in ALIASES.items() if column.lower() in names), None)
