"""Packs that are shipped with a reference cohort: reading that, and making such a copy of a pack."""

import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from MedSegLensLib.packs.notes import lens_hash
from MedSegLensLib.packs.recatalogue import changed_copy
from MedSegLensLib.packs.reference_files import (
    DOCUMENT,
    FOLDER,
    REMEDY,
    USAGE,
    VERSION,
    ShippedReference,
    is_reference,
    read_reference,
)

if TYPE_CHECKING:
    from MedSegLensLib.packs.info import PackInfo
    from MedSegLensLib.packs.pack import LensPack


def shipped_reference(pack: "LensPack") -> ShippedReference | None:
    """The reference of a pack that was opened, hence verified; None for a pack without one."""
    if DOCUMENT not in pack.info.files:
        return None
    document, usage = ((pack.folder / name).read_bytes() for name in (DOCUMENT, USAGE))
    return read_reference(document, usage)


def with_reference(
    pack: "LensPack", reference: ShippedReference, folder: Path, replace_existing: bool = False
) -> "PackInfo":
    """Write a copy of `pack` to `folder` that is shipped with this reference, in place of the one that it had; returns
    its info. Everything else is copied byte by byte; the pack's own hash changes.

    Whole or not at all. Raises OutputError where it cannot be written, PackError for a reference that does not fit.
    """
    from safetensors.numpy import save

    def change(new: Path) -> None:
        text = json.dumps(reference.document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        (new / FOLDER).mkdir()
        (new / DOCUMENT).write_text(text, encoding="utf-8", newline="\n")
        arrays = {name: np.ascontiguousarray(array) for name, array in reference.arrays.items()}
        (new / USAGE).write_bytes(save(arrays))  # save_file would let nobody but its owner read it

    return changed_copy(pack, folder, is_reference, change, REMEDY, replace_existing)


def document_of(
    info: "PackInfo", cohort: str, cases: list[str], taps: list[str], modalities: list[str], notes: list[str], detector
) -> dict:
    """The document of a reference made today of a pack's lenses at `taps`."""
    return {
        "medseglens_reference": VERSION,
        "cohort": cohort,
        "created": date.today().isoformat(),
        "cases": cases,
        "lenses": [{"tap": tap, "hash": lens_hash(info, tap)} for tap in taps],
        "modalities": modalities,
        "notes": notes,
        "detector": detector,
    }
