"""The packs that are installed, by name. Opens none, and imports no torch: Slicer's selector is filled from here."""

from pathlib import Path

from MedSegLensLib.errors import PackError
from MedSegLensLib.packs.container import PACK_FILE, ZIP_SUFFIXES

_LIBRARY = Path(__file__).resolve().parents[1]


def list_packs() -> dict[str, Path]:
    """Packs found by name: shipped with the extension or the package, and the user's own in ~/.medseglens/packs.

    The name is that of the folder or zip; where two places have one name, the shipped one is meant. Nothing is
    verified yet.
    """
    found: dict[str, Path] = {}
    for folder in pack_folders():
        try:
            entries = sorted(folder.iterdir()) if folder.is_dir() else []
        except OSError:
            continue  # a folder that may not be read has no packs for this user
        for entry in entries:
            if (entry / PACK_FILE).is_file():
                found.setdefault(entry.name, entry)
            elif entry.suffix in ZIP_SUFFIXES and entry.is_file():
                found.setdefault(entry.stem, entry)
    return found


def pack_folders() -> tuple[Path, ...]:
    """Where packs are looked up by name, in this order."""
    return (
        _LIBRARY.parent / "Resources" / "Packs",  # a checkout, or the extension's module folder
        _LIBRARY / "packs" / "shipped",  # installed by pip
        Path.home() / ".medseglens" / "packs",
    )


def find_pack(path_or_name: Path | str) -> Path:
    """The folder or zip of a pack by its name, or the path itself. Raises PackError for a name that is not known."""
    path = Path(path_or_name)
    plain_name = isinstance(path_or_name, str) and path.name == path_or_name and path.suffix not in ZIP_SUFFIXES
    if not plain_name or (path / PACK_FILE).is_file():
        return path
    packs = list_packs()
    if path_or_name in packs:
        return packs[path_or_name]
    if path.exists():
        return path
    known = ", ".join(packs) or "none"
    raise PackError(
        path_or_name, "there is no pack of this name.", f"Installed are: {known}; or give a pack's folder or zip."
    )
