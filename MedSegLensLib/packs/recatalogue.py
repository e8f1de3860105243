"""A copy of a pack with another catalogue, or another part: every other byte as it was, a hash of its own."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.errors import PackError
from MedSegLensLib.packs.build import _hashes, _new_folder
from MedSegLensLib.packs.catalogue import write_catalogue
from MedSegLensLib.packs.container import PACK_FILE
from MedSegLensLib.packs.info import CATALOGUE_FILE, PackInfo
from MedSegLensLib.packs.verify import verify

if TYPE_CHECKING:
    import pyarrow as pa

    from MedSegLensLib.packs.pack import LensPack


def with_catalogue(pack: "LensPack", table: "pa.Table", folder: Path, replace_existing: bool = False) -> PackInfo:
    """Write a copy of `pack` to `folder` with `table` as its catalogue; returns its info.

    Weights, lenses and model card are copied byte by byte, so lenses keep the hash that notes know them by; the pack's
    own hash changes, as recipes name it, since pack.json lists the new catalogue. `folder` may be the pack's own with
    `replace_existing`. Whole or not at all. Raises OutputError where it cannot be written, or a pack is there already
    and may not be replaced; PackError for a catalogue that makes no sound pack.
    """

    def change(new: Path) -> None:
        write_catalogue(table, new / CATALOGUE_FILE)

    return changed_copy(pack, folder, CATALOGUE_FILE.__eq__, change, "Correct the catalogue.", replace_existing)


def changed_copy(
    pack: "LensPack",
    folder: Path,
    leave_out: Callable[[str], bool],
    change: Callable[[Path], None],
    remedy: str,
    replace_existing: bool = False,
) -> PackInfo:
    """Write a copy of `pack` to `folder` without the files that `leave_out` names by their path in the pack, with what
    `change` writes into it; returns its info. Whole or not at all. Raises OutputError, and PackError with `remedy` for
    what makes no sound pack."""
    with _new_folder(Path(folder), replace_existing) as temporary:
        for name in pack.info.files:
            if not leave_out(name):
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(pack.folder / name, temporary / name)
        change(temporary)
        info = replace(pack.info, files=_hashes(temporary))
        text = json.dumps(info.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (temporary / PACK_FILE).write_text(text, encoding="utf-8", newline="\n")
        for finding in verify(temporary):
            if finding.severity == "error":
                raise PackError(f"{folder}: {finding.file}", finding.cause, remedy)
    return info
