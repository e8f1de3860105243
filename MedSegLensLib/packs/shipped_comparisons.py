"""Packs that are shipped with what comparisons found of them: reading those, and making such a copy of a pack."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.packs.comparisons import FOLDER, PackComparison, file_name, is_comparison, read_comparison
from MedSegLensLib.packs.recatalogue import changed_copy
from MedSegLensLib.packs.verify import MAX_TEXT_BYTES

if TYPE_CHECKING:
    from MedSegLensLib.packs.info import PackInfo
    from MedSegLensLib.packs.pack import LensPack


def shipped_comparisons(pack: "LensPack") -> list[PackComparison]:
    """Those that a pack was shipped with; the parts of one are put together."""
    whole: dict[tuple, PackComparison] = {}
    for name in sorted(pack.info.files):
        if is_comparison(name):
            path = pack.folder / name
            part = read_comparison(path, path.read_bytes(), pack.info.name)
            before = whole.get(part.key)
            whole[part.key] = part if before is None else replace(before, findings=before.findings + part.findings)
    return list(whole.values())


def with_comparisons(
    pack: "LensPack", comparisons: Iterable[PackComparison], folder: Path, replace_existing: bool = False
) -> "PackInfo":
    """Write a copy of `pack` to `folder` that is shipped with these comparisons, in place of those that it had; returns
    its info.

    Weights, lenses and catalogue are copied byte by byte, so lenses keep the hash that findings and notes know them by;
    the pack's own hash changes. Whole or not at all. Raises OutputError where it cannot be written, or a pack is there
    already and may not be replaced; PackError for a comparison that is not about this pack's lenses.
    """

    def change(new: Path) -> None:
        for comparison in comparisons:
            for number, text in enumerate(_parts(comparison)):
                path = new / FOLDER / f"{file_name(comparison)}-{number:03}.json"  # in the order of their names
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="\n")

    return changed_copy(pack, folder, is_comparison, change, "Compare this very pack again.", replace_existing)


def _parts(comparison: PackComparison) -> list[str]:
    """The comparison as texts that a pack may hold: halved until each is small enough."""
    text = json.dumps(comparison.to_json(), ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
    if len(text.encode()) <= MAX_TEXT_BYTES or len(comparison.findings) < 2:
        return [text]
    middle = len(comparison.findings) // 2
    halves = comparison.findings[:middle], comparison.findings[middle:]
    return [part for half in halves for part in _parts(replace(comparison, findings=half))]
