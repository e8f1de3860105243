"""All about the selected latent: how strongly it fires, how far it reaches, in which tissue, what the pack knows, and
what the reader makes of it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from MedSegLensLib.errors import MedSegLensError
from MedSegLensLib.panel.detail_text import EXAMPLE, LATENT, detailHtml, isSameCase
from MedSegLensLib.scene import views

if TYPE_CHECKING:
    from MedSegLensLib.panel.review import Review

WIDTH, HEIGHT = 400, 120
TYPED_MS = 800
"""A comment is kept when no key has been pressed for so long."""


class DetailsSection:
    """Filled when a latent is selected and the section is open.

    nameOf tells a latent's name by (tap, latent), '' where it has none; select selects one in the table.
    """

    def __init__(self, review: "Review", loadUi: Callable):
        self.review = review
        self.nameOf: Callable[[str, int], str] = lambda tap, latent: ""
        self.select: Callable[[str, int], None] = lambda tap, latent: None
        self.widget = loadUi("Details")
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self._latent: tuple[str, int] | None = None
        self._detail: dict | None = None
        self._task = None
        self._filling = False
        self._typed = qt.QTimer()
        self._typed.setSingleShot(True)
        self._typed.setInterval(TYPED_MS)
        self._typed.connect("timeout()", self._keepComment)
        self._connect()
        self._clear()

    def _connect(self) -> None:
        ui, review = self.ui, self.review
        ui.jumpButton.connect("clicked(bool)", self._onJump)
        ui.detailsText.connect("linkActivated(QString)", self._onLink)
        ui.noteNameEdit.connect("editingFinished()", self._keepName)
        ui.noteCommentEdit.connect("textChanged()", self._onTyped)
        ui.favouriteCheckBox.connect("toggled(bool)", self._onFavourite)
        ui.exportNotesButton.connect("clicked(bool)", self._onExport)
        self.widget.connect("contentsCollapsed(bool)", self._onCollapsed)
        review.opened.connect(self._clear)
        review.notesChanged.connect(self._fillNote)

    def _clear(self) -> None:
        self._typed.stop()
        self._latent = self._detail = None
        self.ui.detailsTitle.text = _("Choose a latent in the table above.")
        self.ui.histogramLabel.visible = self.ui.detailsText.visible = False
        self.ui.jumpButton.enabled = False
        self._fillNote()

    def choose(self, latent: tuple[str, int] | None) -> None:
        """Show the details of (tap, latent)."""
        self._keepComment()
        self._latent, self._detail = latent, None
        self._fillNote()
        self._request()

    # -- what is known of it ----------------------------------------------------------------------------------------

    def _onCollapsed(self, collapsed: bool) -> None:
        if not collapsed:
            self._request()

    def _request(self) -> None:
        session = self.review.session
        if self._latent is None or session is None or self.widget.collapsed:
            return
        self.review.watch.forget(self._task)
        latent = self._latent
        self._task = self.review.watch.add(
            session.detail(*latent), lambda detail: self._show(latent, detail), self._failed
        )

    def _failed(self, problem: MedSegLensError) -> None:
        self.review.said.emit(str(problem), True)

    def _show(self, latent: tuple[str, int], detail: dict) -> None:
        self._detail = detail
        self._title()
        self.ui.histogramLabel.setPixmap(histogramPixmap(detail["histogram"]))
        case = self.review.session.opened.name if self.review.session is not None else ""
        compared = self.review.findings.tip(*latent)
        self.ui.detailsText.text = detailHtml(detail, case, lambda other: self.nameOf(latent[0], other), compared)
        self.ui.histogramLabel.visible = bool(detail["histogram"]["counts"])
        self.ui.detailsText.visible = True
        self.ui.jumpButton.enabled = detail["peak_ras"] is not None

    def _title(self) -> None:
        tap, number = self._latent
        name = self.nameOf(tap, number)
        text = _("Latent {number} of {tap}").format(number=number, tap=tap)
        self.ui.detailsTitle.text = f"{text}: {name}" if name else text

    def _onJump(self, _checked=False) -> None:
        if self._detail is not None and self._detail["peak_ras"] is not None:
            views.jump_to(tuple(self._detail["peak_ras"]))

    def _onLink(self, address: str) -> None:
        """A link in the text: another latent, or an example in the case that is open."""
        kind, _colon, number = address.partition(":")
        if self._latent is None or self._detail is None or self.review.session is None:
            return
        if kind == LATENT:
            self.select(self._latent[0], int(number))
        elif kind == EXAMPLE:
            example = self._detail["catalogue"]["examples"][int(number)]
            opened = self.review.session.opened
            if isSameCase(opened.name, example["case"]):
                voxel = [example["column"], example["row"], example["slice"], 1.0]
                views.jump_to(tuple(float(c) for c in (opened.ijk_to_ras @ voxel)[:3]))

    # -- what the reader makes of it --------------------------------------------------------------------------------

    def _fillNote(self) -> None:
        notes, ui = self.review.notes, self.ui
        can = self._latent is not None and notes.canBeKept
        note = notes.of(*self._latent) if can else None
        self._filling = True
        name, comment = (note.name, note.comment) if note else ("", "")
        if ui.noteNameEdit.text != name:
            ui.noteNameEdit.text = name
        if ui.noteCommentEdit.plainText.strip() != comment:  # else the cursor would leave its place
            ui.noteCommentEdit.plainText = comment
        ui.favouriteCheckBox.checked = bool(note and note.favourite)
        self._filling = False
        for widget in (ui.noteNameEdit, ui.noteCommentEdit, ui.favouriteCheckBox):
            widget.enabled = can
        ui.exportNotesButton.enabled = notes.canBeKept
        ui.noteNameEdit.placeholderText = self.nameOf(*self._latent) if self._latent is not None else ""
        if self._detail is not None:
            self._title()

    def _keepName(self) -> None:
        if not self._filling and self._latent is not None:
            self.review.notes.set(*self._latent, name=self.ui.noteNameEdit.text)

    def _onTyped(self) -> None:
        if not self._filling and self._latent is not None:
            self._typed.start()

    def _keepComment(self) -> None:
        """Keep what was typed into the comment."""
        self._typed.stop()
        if self._latent is not None:
            self.review.notes.set(*self._latent, comment=self.ui.noteCommentEdit.plainText)

    def _onFavourite(self, on: bool) -> None:
        if not self._filling and self._latent is not None:
            self.review.notes.set(*self._latent, favourite=on)

    def _onExport(self, _checked=False) -> None:
        path = qt.QFileDialog.getSaveFileName(
            self.widget, _("Export notes"), "notes.csv", _("Table (*.csv);;Notes (*.json)")
        )
        if path:
            self.exportNotes(path)

    def exportNotes(self, path: str) -> None:
        self._keepComment()
        try:
            self.review.notes.export(path)
        except MedSegLensError as problem:
            self.review.said.emit(str(problem), True)
            return
        self.review.said.emit(_("The notes were written: {path}").format(path=path), False)


def histogramPixmap(histogram: dict):
    """Bars of how many tokens have which activation (square-root scale), with the axis in the code's units."""
    counts, edges = np.sqrt(np.asarray(histogram["counts"], float)), histogram["edges"]
    pixmap = qt.QPixmap(WIDTH, HEIGHT)
    pixmap.fill(qt.QColor(255, 255, 255))
    painter = qt.QPainter(pixmap)
    bottom, top = HEIGHT - 34, 8
    width = (WIDTH - 20) / max(len(counts), 1)
    highest = max(float(counts.max()) if len(counts) else 0.0, 1.0)
    for n, count in enumerate(counts):
        height = int((bottom - top) * count / highest)
        painter.fillRect(10 + int(n * width), bottom - height, max(int(width) - 1, 1), height, qt.QColor(0, 114, 178))
    painter.setPen(qt.QColor(60, 60, 60))
    painter.drawLine(10, bottom, WIDTH - 10, bottom)
    painter.drawText(10, bottom + 13, f"{float(edges[0]):.2g}" if len(edges) else "0")
    last = f"{float(edges[-1]):.2g}" if len(edges) else ""
    painter.drawText(WIDTH - 12 - 7 * len(last), bottom + 13, last)
    painter.drawText(10, HEIGHT - 5, _("activation; bars: number of places, square-root scale"))
    painter.end()
    return pixmap
