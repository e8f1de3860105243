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


def find_partners(name: str, beside: Path | str) -> list[Path]:
    """The folders and zips of another pack by its name: in the folder that the pack `beside` lies in, and the installed
    one. Raises PackError where there is none."""
    folder = Path(beside).parent
    near = [folder / name, *(folder / f"{name}{suffix}" for suffix in ZIP_SUFFIXES)] if Path(name).name == name else []
    found = [path for path in near if (path / PACK_FILE).is_file() or (path.suffix in ZIP_SUFFIXES and path.is_file())]
    installed = list_packs().get(name)
    if installed is not None and installed not in found:
        found.append(installed)
    if not found:
        cause, own = "this pack is not installed where the worker runs.", pack_folders()[-1]
        raise PackError(name, cause, f"Put it into {own}, or beside {beside}, and try again.")
    return found


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
