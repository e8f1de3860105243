"""The user's own notes on a pack's latents: names, comments and favourites, kept apart from what was computed.

They lie in a folder of the user's, one file a pack by its name, never in the pack, whose hash they must not change. A
note belongs to a lens by the hash of its files: in a newer version of a pack an unchanged lens keeps its notes, and a
retrained one starts without, though the old notes stay in the file. Imports no torch: the panel reads and writes them.
"""

import csv
import hashlib
import io
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.cases.user_data import user_folder, write_user_file
from MedSegLensLib.errors import PackError, UsageError
from MedSegLensLib.packs.checked_json import canonical_json, parse_json, schema_problems

if TYPE_CHECKING:
    from MedSegLensLib.packs.info import PackInfo
    from MedSegLensLib.packs.pack import LensPack

VERSION = 1
SCHEMA = Path(__file__).parent / "schema" / "notes.schema.json"
MAX_BYTES = 16 * 2**20
MAX_NAME, MAX_COMMENT = 200, 10_000
COLUMNS = ("pack", "lens", "tap", "latent", "name", "comment", "favourite")
FOLDER_VARIABLE = "MEDSEGLENS_NOTES"


@dataclass(frozen=True)
class Note:
    """What a user said of one latent. An empty name is none."""

    name: str = ""
    comment: str = ""
    favourite: bool = False


class Notes:
    """The notes on one pack's latents.

    >>> notes = notes_of(load_pack("glioma-unet"))
    >>> notes.set("upcat_3", 17, name="rim", favourite=True)
    >>> notes.save()
    """

    def __init__(self, path: Path, pack: str, lens_hashes: dict[str, str]):
        """pack: its name. lens_hashes: by tap, see `lens_hash`. Use `load` to read what is there."""
        self.path, self.pack, self.lens_hashes = Path(path), pack, dict(lens_hashes)
        self._notes: dict[tuple[str, str, int], Note] = {}  # by (lens hash, tap, latent)

    @staticmethod
    def load(path: Path, pack: str, lens_hashes: dict[str, str]) -> "Notes":
        """The notes in `path`; none where there is no such file.

        Raises PackError for a file that is not one of notes, or is that of another pack.
        """
        notes = Notes(path, pack, lens_hashes)
        notes._notes = _read(notes.path, pack)
        return notes

    def get(self, tap: str, latent: int) -> Note:
        """The note on a latent; an empty one where there is none."""
        return self._notes.get((self.lens_hashes.get(tap, ""), tap, int(latent)), Note())

    def name(self, tap: str, latent: int) -> str | None:
        """The user's own name of a latent, or None."""
        return self.get(tap, latent).name or None

    def set(
        self,
        tap: str,
        latent: int,
        name: str | None = None,
        comment: str | None = None,
        favourite: bool | None = None,
    ) -> Note:
        """Change what is given of a latent's note ('' takes a name or comment away); returns the note.

        Nothing is written before `save`. Raises UsageError for a tap without a lens, a latent below 0 or a text that is
        too long.
        """
        if tap not in self.lens_hashes:
            known = ", ".join(self.lens_hashes) or "none"
            raise UsageError(tap, f"the pack {self.pack} has no lens at this tap.", f"Its taps are: {known}.")
        if latent < 0:
            raise UsageError(f"latent {latent}", "there is no such latent.", "Latents are numbered from 0.")
        note = self.get(tap, latent)
        if name is not None:
            note = replace(note, name=" ".join(_checked("name", name, MAX_NAME).split()))
        if comment is not None:
            note = replace(note, comment=_checked("comment", comment, MAX_COMMENT).strip())
        if favourite is not None:
            note = replace(note, favourite=bool(favourite))
        key = (self.lens_hashes[tap], tap, int(latent))
        self._notes.pop(key, None)
        if note != Note():
            self._notes[key] = note
        return note

    def all(self) -> dict[tuple[str, int], Note]:
        """Every note on the lenses that the pack has now, by tap and latent, in their order."""
        now = {(tap, j): n for (lens, tap, j), n in self._notes.items() if self.lens_hashes.get(tap) == lens}
        order = list(self.lens_hashes)
        return dict(sorted(now.items(), key=lambda item: (order.index(item[0][0]), item[0][1])))

    def save(self) -> None:
        """Write the file, whole or not at all; its folder is made. Raises OutputError where it cannot be written."""
        write_user_file(self.path, self._json())

    def export(self, kind: str) -> str:
        """The notes on the lenses that the pack has now, as 'csv' or 'json' text. Raises UsageError otherwise."""
        rows = [
            {"lens": self.lens_hashes[tap], "tap": tap, "latent": latent, **vars(note)}
            for (tap, latent), note in self.all().items()
        ]
        if kind == "json":
            return json.dumps(_document(self.pack, rows), indent=2, ensure_ascii=False) + "\n"
        if kind != "csv":
            raise UsageError(kind, "notes are not exported in this format.", "Use csv or json.")
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({"pack": self.pack, **row, "favourite": "yes" if row["favourite"] else ""} for row in rows)
        return text.getvalue()

    def export_to(self, path: Path) -> None:
        """Write `export` to a file; its ending, .csv or .json, says the kind."""
        kind = Path(path).suffix.lower().lstrip(".")
        write_user_file(Path(path), self.export(kind))

    def import_from(self, path: Path) -> int:
        """Take over the notes of a file that was exported as JSON, over those that are there; returns how many.

        Notes on lenses that the pack does not have now are taken over too, and show when such a lens is there. Nothing
        is written before `save`. Raises PackError as `load` does.
        """
        if not Path(path).is_file():
            raise PackError(path, "there is no such file.", "Give a file that was exported as JSON.")
        found = _read(Path(path), self.pack)
        self._notes |= found
        return len(found)

    def _json(self) -> str:
        rows = [
            {"lens": lens, "tap": tap, "latent": latent, **vars(note)}
            for (lens, tap, latent), note in sorted(self._notes.items())
        ]
        return json.dumps(_document(self.pack, rows), indent=2, ensure_ascii=False) + "\n"


def notes_of(pack: "LensPack", folder: Path | None = None) -> Notes:
    """The user's notes on an open pack. Raises PackError for a file of notes that cannot be read."""
    hashes = {lens.tap: lens_hash(pack.info, lens.tap) for lens in pack.info.lenses}
    return Notes.load(notes_path(pack.info.name, folder), pack.info.name, hashes)


def notes_path(pack: str, folder: Path | None = None) -> Path:
    """Where the notes on a pack of this name lie: in `folder`, else in the user's folder of data."""
    return (folder or user_folder(FOLDER_VARIABLE, "notes")) / f"{plain_name(pack)}.notes.json"


def plain_name(pack: str) -> str:
    """A pack's name as that of a file or folder."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", pack).strip(".")[:100] or "pack"


def lens_hash(info: "PackInfo", tap: str) -> str:
    """The SHA-256 by which notes know a lens: of its files' hashes as pack.json lists them."""
    folder = next(lens.folder for lens in info.lenses if lens.tap == tap)
    listed = {name: file.sha256 for name, file in info.files.items() if name.startswith(folder + "/")}
    return hashlib.sha256(canonical_json(listed)).hexdigest()


def _document(pack: str, notes: list[dict]) -> dict:
    return {"medseglens_notes": VERSION, "pack": pack, "notes": notes}


def _checked(what: str, text: str, longest: int) -> str:
    if len(text) > longest or any(ord(c) < 32 and c not in "\n\t" for c in text):
        raise UsageError(what, "it is too long or has control characters.", f"Use plain text of up to {longest}.")
    return text


def _read(path: Path, pack: str) -> dict[tuple[str, str, int], Note]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _refused(path, "it is too large for notes.")
        document = parse_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as problem:
        raise _refused(path, f"it cannot be read ({problem.strerror}).") from problem
    except ValueError as problem:
        raise _refused(path, f"{problem}.") from problem
    problems = schema_problems(document, SCHEMA)
    if problems:
        raise _refused(path, f"it is not a file of notes ({problems[0]}).")
    if document["pack"] != pack:
        raise _refused(path, f"it has notes on the pack {document['pack']}, not on {pack}.")
    return {
        (row["lens"], row["tap"], row["latent"]): Note(row["name"], row["comment"], row["favourite"])
        for row in document["notes"]
    }


def _refused(path: Path, cause: str) -> PackError:
    return PackError(path, cause, "Move the file away or correct it; nothing of it was changed.")
