"""Cohorts by name: one description each, in a folder of the user's data."""

import re
from pathlib import Path

from MedSegLensLib.cases.user_data import user_folder
from MedSegLensLib.errors import OutputError, UsageError

FOLDER_VARIABLE = "MEDSEGLENS_COHORTS"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,79}")


def default_folder() -> Path:
    """$MEDSEGLENS_COHORTS, else in the user's folder of data."""
    return user_folder(FOLDER_VARIABLE, "cohorts")


def registered() -> dict[str, Path]:
    """The descriptions by name; none are opened."""
    try:
        files = [path for path in default_folder().glob("*.json") if not path.name.startswith(".")]
        return {path.stem: path for path in sorted(files, key=lambda path: path.stem)}
    except OSError:  # a folder that may not be read has no cohorts for this user
        return {}


def check_name(name: str) -> None:
    """Raises UsageError for a name that could be taken for a path or an option, or cannot be a file's."""
    if not NAME.fullmatch(name) or name.endswith((".json", ".csv")):
        cause = "it cannot be a cohort's name."
        raise UsageError(name, cause, "Use letters, digits, '.', '_', '+' and '-', beginning with a letter or digit.")


def register(cohort) -> Path:
    """Keep the description under the cohort's name, over one of the same name; returns its file."""
    check_name(cohort.name)
    path = default_folder() / f"{cohort.name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        cause = f"the folder of cohorts cannot be made ({problem.strerror})."
        raise OutputError(path.parent, cause, f"Set {FOLDER_VARIABLE} to another.") from None
    cohort.save(path)
    return path
