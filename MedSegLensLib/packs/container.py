"""The files of a pack, read from its folder or from its zip, without following anything out of it.

Nothing is unzipped and nothing is trusted here: members are listed with their sizes, those that must not be touched
are marked with the reason, and the others can be opened for reading.
"""

import os
import re
import shutil
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from MedSegLensLib.errors import PackError

PACK_FILE = "pack.json"
ZIP_SUFFIXES = (".mslp", ".zip")

MAX_MEMBERS = 2_000
MAX_FILE_BYTES = 2 * 2**30
MAX_PACK_BYTES = 4 * 2**30
MAX_DIRECTORY_BYTES = 2**20
"""Of a zip's table of contents, which is read whole into memory."""
MAX_UNZIP_RATIO = 100
"""Weights hardly compress; a member above this ratio and above `SMALL_BYTES` is a zip bomb."""
SMALL_BYTES = 16 * 2**20

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Member:
    """A file in a pack: its size in bytes and, if it must not be opened, why (a sentence's end, e.g. 'is a link')."""

    size: int
    unsafe: str | None = None


def escapes(path: str) -> bool:
    """Whether `path` may lead out of the folder it is relative to, on any system."""
    absolute = path.startswith(("/", "\\", "~")) or re.match(r"[A-Za-z]:", path) is not None
    return absolute or "\0" in path or ".." in re.split(r"[/\\]", path)


def is_portable(path: str) -> bool:
    """Whether `path` names the same file on every system: plain ASCII segments joined by '/', no Windows device."""
    segments = path.split("/")
    return len(path) <= 200 and all(
        _SEGMENT.fullmatch(s) and not s.endswith(".") and not _WINDOWS_DEVICE.fullmatch(s) for s in segments
    )


class FolderFiles:
    """The files below a folder. Links are listed, marked unsafe, and never followed."""

    def __init__(self, folder: Path):
        self.path = folder
        self.members: dict[str, Member] = {}
        try:
            for entry in _walk(folder):
                if len(self.members) >= MAX_MEMBERS:
                    raise PackError(folder, f"it holds more than {MAX_MEMBERS} files.", "Give the pack's own folder.")
                name = Path(entry.path).relative_to(folder).as_posix()
                status = entry.stat(follow_symlinks=False)
                unsafe = None
                if entry.is_symlink():
                    unsafe = "is a link, which may lead out of the pack"
                elif not stat.S_ISREG(status.st_mode):
                    unsafe = "is not a regular file"
                self.members[name] = Member(status.st_size, unsafe)
        except OSError as problem:
            raise PackError(folder, f"it cannot be read ({problem}).", "Check the folder's permissions.") from problem

    def open(self, name: str) -> BinaryIO:
        return open(self.path / name, "rb")

    def close(self) -> None:
        """Nothing is held open."""


class ZipFiles:
    """The files in a zip. A single folder that holds the pack within the zip is looked through."""

    def __init__(self, path: Path):
        self.path = path
        remedy = "Copy or download the pack again."
        try:
            if _directory_bytes(path) > MAX_DIRECTORY_BYTES:
                raise PackError(path, "its table of contents is too large for a pack.", "Do not use it.")
            self._zip = zipfile.ZipFile(path)
        except OSError as problem:
            raise PackError(path, f"it cannot be read ({problem}).", "Check its name and permissions.") from problem
        except Exception as problem:  # zipfile lets struct, value and unicode errors out on damaged files
            raise PackError(path, f"it is not a readable zip ({problem}).", remedy) from problem
        entries = [e for e in self._zip.infolist() if not e.is_dir() or escapes(e.orig_filename)]
        if len(entries) > MAX_MEMBERS:
            self._zip.close()
            raise PackError(path, f"it holds more than {MAX_MEMBERS} files.", "Do not use it.")
        inner = _inner_folder([e.filename for e in entries])
        self.members: dict[str, Member] = {}
        self._entries: dict[str, zipfile.ZipInfo] = {}
        for entry in entries:
            name = entry.filename.removeprefix(inner)
            unsafe = _unsafe_entry(entry)
            if name in self.members:
                unsafe = "is in the zip twice"
            self.members[name] = Member(entry.file_size, unsafe)
            self._entries[name] = entry

    def open(self, name: str) -> BinaryIO:
        return self._zip.open(self._entries[name])

    def close(self) -> None:
        self._zip.close()

    def unpack(self, names: list[str], folder: Path) -> None:
        """Write members, found safe before, below `folder`."""
        for name in names:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with self.open(name) as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file, 2**20)


def open_container(path: Path) -> FolderFiles | ZipFiles:
    """The files of the pack at `path`. Raises PackError if there is no folder or zip that can be read."""
    if path.is_dir():
        return FolderFiles(path)
    if not path.exists():
        raise PackError(path, "it does not exist.", "Check the path, or give the name of a pack that is installed.")
    if not path.is_file():
        raise PackError(path, "it is neither a folder nor a file.", "Give a pack's folder or its .mslp or .zip.")
    if path.name == PACK_FILE:
        return FolderFiles(path.parent)
    return ZipFiles(path)


def _walk(folder: Path):
    """Every file, link and special file below `folder`."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path))
            else:
                yield entry


def _directory_bytes(path: Path) -> int:
    """Size of the zip's table of contents as its end record says; infinite for zip64, which packs never need."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(max(0, size - 22 - 2**16 - 20))
        end = file.read()
    at = end.rfind(b"PK\5\6")
    if at < 0 or len(end) < at + 22:
        raise ValueError("no table of contents")
    if end[max(0, at - 20) : at].startswith(b"PK\6\7"):
        return 2**63
    return int.from_bytes(end[at + 12 : at + 16], "little")


def _inner_folder(names: list[str]) -> str:
    """'folder/' if the pack lies in one folder of the zip, as file managers make it; else ''."""
    if PACK_FILE in names:
        return ""
    found = [name for name in names if name.count("/") == 1 and name.endswith("/" + PACK_FILE) and not escapes(name)]
    return found[0].removesuffix(PACK_FILE) if len(found) == 1 else ""


def _unsafe_entry(entry: zipfile.ZipInfo) -> str | None:
    if escapes(entry.orig_filename) or escapes(entry.filename):
        return "leads out of the pack's folder"
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "is a link or another special file"
    if entry.flag_bits & 1:
        return "is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed in a way that packs do not use"
    if entry.file_size > max(SMALL_BYTES, MAX_UNZIP_RATIO * entry.compress_size):
        return f"unpacks to {entry.file_size:,} bytes from {entry.compress_size:,}: a zip bomb"
    return None
