"""Where what a user keeps lies: cohorts, notes on latents, findings of comparisons. Imports nothing heavy."""

import os
from pathlib import Path

from MedSegLensLib.errors import OutputError


def user_folder(variable: str, kind: str) -> Path:
    """$`variable`, else the user's folder of data ($XDG_DATA_HOME or ~/.local/share) / medseglens / `kind`."""
    if os.environ.get(variable):
        return Path(os.environ[variable]).expanduser()
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "medseglens" / kind


def write_user_file(path: Path, text: str) -> None:
    """Write it, whole or not at all, into a folder that is made. Raises OutputError where it cannot be written."""
    from MedSegLensLib.cases.writing import atomic_path

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise OutputError(path, f"its folder cannot be made ({problem.strerror}).", "Choose another.") from problem
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
