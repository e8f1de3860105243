"""What was already computed, a file a case: a run that is stopped, or dies, goes on where it was.

A journal is a folder; each work has a folder of its own in it, named by the work's key, and there each case a file
named by the case and its key. Either key is a hash of everything that decides the result, so what is found holds.
"""

import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from MedSegLensLib.cases.writing import atomic_path
from MedSegLensLib.errors import OutputError

if TYPE_CHECKING:
    from MedSegLensLib.cohorts.cohort import CohortCase

DAMAGED = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


class Journal:
    """Results of one work in the folder `path`. Raises OutputError where the folder cannot be made."""

    def __init__(self, path: Path, work_key: str):
        self.folder = Path(path) / work_key[:24]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            cause = f"the journal cannot be written there ({problem.strerror})."
            raise OutputError(path, cause, "Choose another folder with --journal.") from None

    def file(self, case: "CohortCase") -> Path:
        """Where the case's result is or will be."""
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", case.name)[
            :60
        ]  # for the reader of the folder; the key tells them apart
        return self.folder / f"{plain}-{case.key()[:24]}.npz"

    def read(self, file: Path) -> dict[str, np.ndarray] | None:
        """The arrays of a file, by name; None where it is not there, or damaged: then it is computed again."""
        if not file.is_file():
            return None
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except DAMAGED:
            return None

    def write(self, file: Path, arrays: Mapping[str, np.ndarray]) -> None:
        """The file, whole or not at all. Raises OutputError where it cannot be written, ValueError for an array of
        Python objects."""
        with atomic_path(file) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            # numpy.savez would take some names for arguments of its own.
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
