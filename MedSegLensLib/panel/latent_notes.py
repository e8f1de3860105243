"""The reader's own names, comments and favourites of the open pack's latents: read when a case opens, kept at once."""

from typing import TYPE_CHECKING

from MedSegLensLib.errors import MedSegLensError

if TYPE_CHECKING:
    from MedSegLensLib.packs.notes import Note, Notes
    from MedSegLensLib.panel.review import Review


class LatentNotes:
    """The notes (`packs.notes`) on the pack under review; `review.notesChanged` tells of each change.

    They belong to the reader and the lens, not to the scene: they are there again with the next case.
    """

    def __init__(self, review: "Review"):
        self._review = review
        self._notes: Notes | None = None
        review.opened.connect(self._onOpened)

    @property
    def canBeKept(self) -> bool:
        """Whether there is a pack whose latents can be noted on."""
        return self._notes is not None

    def of(self, tap: str, latent: int) -> "Note | None":
        """The note on a latent, or None where there can be none."""
        return self._notes.get(tap, latent) if self._notes is not None else None

    def name(self, tap: str, latent: int) -> str:
        note = self.of(tap, latent)
        return note.name if note else ""

    def isFavourite(self, tap: str, latent: int) -> bool:
        note = self.of(tap, latent)
        return bool(note and note.favourite)

    def set(self, tap: str, latent: int, **what) -> None:
        """Change name, comment or favourite, and write the file. What goes wrong is said."""
        if self._notes is None:
            return
        before = self._notes.get(tap, latent)
        try:
            if self._notes.set(tap, latent, **what) == before:
                return
            self._notes.save()
        except MedSegLensError as problem:
            self._review.said.emit(str(problem), True)
        self._review.notesChanged.emit()

    def export(self, path: str) -> None:
        """Write the notes to a .csv or .json file. Raises what went wrong."""
        self._notes.export_to(path)

    def _onOpened(self) -> None:
        review = self._review
        pack = review.session.opened.pack if review.session is not None else review.saved.pack
        hashes = pack.get("lens_hashes")
        self._notes = None
        if not hashes:
            return
        try:
            from MedSegLensLib.packs.notes import Notes, notes_path  # needs a package that the first Apply installs

            self._notes = Notes.load(notes_path(pack["name"]), pack["name"], hashes)
        except ImportError:
            return
        except MedSegLensError as problem:
            review.said.emit(str(problem), True)
