"""A shipped pack as it was before it was given a reference cohort."""

from pathlib import Path

from MedSegLensLib.packs.pack import LensPack, load_pack
from MedSegLensLib.packs.recatalogue import changed_copy
from MedSegLensLib.packs.reference_files import is_reference


def without_reference(name: str, folder: Path) -> LensPack:
    changed_copy(load_pack(name), folder, is_reference, lambda new: None, "")
    return load_pack(folder)
