"""The rows of the latents' table. Widgets are made once a row and filled anew: re-ranking costs milliseconds."""

from typing import TYPE_CHECKING

import ctk
import qt
from slicer.i18n import tr as _

from MedSegLensLib.panel import latent_list
from MedSegLensLib.panel.latent_list import COLUMNS
from MedSegLensLib.panel.overlay_choice import keyOf
from MedSegLensLib.panel.recipe_history import NEUTRAL, isEdited
from MedSegLensLib.panel.tables import cell, readOnlyTable
from MedSegLensLib.worker.answers import LatentRow

if TYPE_CHECKING:
    from MedSegLensLib.panel.latents_section import LatentsSection

VISIBLE_ROWS = 7
ROW_HEIGHT = 36
"""Of two lines, so that a long name is not cut off."""
LEAST_WIDTH = 494
STRONGEST = 5.0
STEP = 0.1
WIDTH = 136
"""Of the strength column, pixels: at less the number is cut off."""
BADGES = 2
"""Shown of a latent at most: as many lines as a row has. The tip tells all."""
SWATCH = 14
"""Side of the colour square, pixels."""


class WheelToTable(qt.QWidget):
    """Lets the wheel scroll the table where it would turn the slider under the mouse, and so make an edit unseen."""

    def eventFilter(self, _watched, event):
        if event.type() == qt.QEvent.Wheel:
            event.ignore()
            return True
        return False


class LatentRows:
    """Fills and reads the table of latents; what is done in a row is told to the section."""

    def __init__(self, table, section: "LatentsSection"):
        self.table, self.section, self.review = table, section, section.review
        self._keys: list[tuple[str, int]] = []
        self._sliders: list = []
        self._icons: dict = {}
        self._swatches: dict = {}
        self._filling = False
        self._filter = WheelToTable(table)
        self._filter.visible = False
        readOnlyTable(table, self._headers(""), stretch=COLUMNS.index("name"))
        header = table.horizontalHeader()
        header.setSectionResizeMode(COLUMNS.index("strength"), qt.QHeaderView.Fixed)
        table.setColumnWidth(COLUMNS.index("strength"), WIDTH)
        table.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        table.setMinimumSize(LEAST_WIDTH, (VISIBLE_ROWS + 1) * ROW_HEIGHT)
        table.connect("itemSelectionChanged()", self._onSelected)
        table.connect("itemChanged(QTableWidgetItem*)", self._onItem)
        table.connect("cellDoubleClicked(int,int)", self._onDoubleClick)

    def _headers(self, influence: str) -> list[str]:
        return [
            _("Show"),
            "#",
            _("Name"),
            _("Compared"),
            _("Fires in\nmL"),
            influence,
            _("Here"),
            _("Strength"),
            _("Pin"),
        ]

    def fill(self, rows: list[LatentRow], influence: str, rank: str) -> None:
        """Show these rows, in place; the selection stays with its latent."""
        selected = self.current()
        self._filling = True
        table = self.table
        table.setHorizontalHeaderLabels(self._headers(influence))
        table.setColumnHidden(COLUMNS.index("influence"), all(latent_list.influence(r) is None for r in rows))
        table.setColumnHidden(COLUMNS.index("here"), rank not in ("point", "mask"))
        # A column that only doubts would take the width of the names, where "not stable" stands for the same.
        claims = [b for tap in {r.tap for r in rows} for b in self.review.findings.kinds(tap) if not b.isDoubt]
        table.setColumnHidden(COLUMNS.index("badge"), not claims)
        self._tips(rank)
        for row in range(len(self._sliders), len(rows)):
            self._make(row)
        for row in range(table.rowCount):  # hidden and not removed: what is typed in the search box is soon deleted
            table.setRowHidden(row, row >= len(rows))
        self._keys = [(r.tap, r.latent) for r in rows]
        for row, latent in enumerate(rows):
            self._write(row, latent)
        self.mark()
        self._filling = True
        table.clearSelection()
        if selected in self._keys:
            table.selectRow(self._keys.index(selected))
        self._filling = False

    def _tips(self, rank: str) -> None:
        tips = {
            "badge": _("What comparisons of packs or cohorts say of it; point at a badge for the evidence"),
            "active": _("Volume in which it fires in this case"),
            "influence": _("Change of the region's volume were the latent suppressed; * is predicted, not tried"),
            "here": _("Its value at the crosshair") if rank == "point" else _("Its mean inside the segment"),
            "shown": _("Lay its activation over the anatomy, beside those shown; the square is the overlay's colour"),
            "strength": _("0 suppresses it, 1 leaves it as it is, 5 is five times as strong"),
            "pinned": _("Keep it at hand: see the filter"),
        }
        for name, tip in tips.items():
            self.table.horizontalHeaderItem(COLUMNS.index(name)).setToolTip(tip)

    def _make(self, row: int) -> None:
        table = self.table
        if table.rowCount <= row:
            table.setRowCount(row + 1)
        for column, name in enumerate(COLUMNS):
            item = cell("", right=name in ("number", "active", "influence", "here"))
            if name in ("shown", "pinned"):
                item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable | qt.Qt.ItemIsUserCheckable)
                item.setCheckState(qt.Qt.Unchecked)
            table.setItem(row, column, item)
        slider = ctk.ctkSliderWidget()
        slider.minimum, slider.maximum, slider.singleStep, slider.decimals = 0.0, STRONGEST, STEP, 1
        slider.tracking = False  # valueIsChanging while dragged, valueChanged on release
        slider.tickInterval = NEUTRAL
        slider.tickPosition = qt.QSlider.TicksBelow
        slider.value = NEUTRAL
        slider.connect("valueIsChanging(double)", lambda value, row=row: self._onDragged(row, value))
        slider.connect("valueChanged(double)", lambda value, row=row: self._onReleased(row, value))
        for part in slider.findChildren(qt.QWidget):
            part.installEventFilter(self._filter)
        table.setCellWidget(row, COLUMNS.index("strength"), slider)
        self._sliders.append(slider)

    def _write(self, row: int, latent: LatentRow) -> None:
        review, table = self.review, self.table
        tap, number = latent.tap, latent.latent
        edited = isEdited(review.history.recipe, tap, number)
        influence = latent_list.influence(latent)
        mark = "*" if latent.suppressed_ml is None else ""
        texts = {
            "number": str(number),
            "name": self._name(latent),
            "badge": "\n".join(str(badge) for badge in review.findings.badges(tap, number)[:BADGES]),
            "active": f"{latent.active_ml:.1f}",
            "influence": "" if influence is None else f"{influence:+.1f}{mark}",
            "here": "" if latent.here is None else f"{latent.here:.2f}",
        }
        for name, text in texts.items():
            item = table.item(row, COLUMNS.index(name))
            item.setText(text)
            font = item.font()
            font.setBold(edited)
            item.setFont(font)
        table.item(row, COLUMNS.index("name")).setToolTip(self._nameTip(latent))
        table.item(row, COLUMNS.index("badge")).setToolTip(review.findings.tip(tap, number))
        self._check(row, "pinned", self.section.isPinned(tap, number))
        slider = self._sliders[row]
        slider.blockSignals(True)
        slider.value = min(self.section.strength(tap, number), STRONGEST)
        slider.blockSignals(False)
        slider.enabled = review.isOpen

    def _name(self, latent: LatentRow) -> str:
        """Its name; for one without, where it fires, and why it has none where that is known."""
        text = latent.name or "–"
        if not latent.named and latent_list.isStable(latent) is False:
            text = _("not stable · {where}").format(where=text)
        elif not latent.named and latent.unclear:
            text = _("unclear · {where}").format(where=text)
        return f"★ {text}" if self.review.notes.isFavourite(latent.tap, latent.latent) else text

    def _nameTip(self, latent: LatentRow) -> str:
        lines = [latent.name or _("The catalogue does not know it.")]
        if latent.named:
            lines.append(latent.where)
        stable = latent_list.isStable(latent)
        if latent.unclear and stable is None:
            lines.append(_("It has no name, since it is not known whether other seeds have it too."))
        elif latent.unclear and stable:
            lines.append(_("What is known of it is too little for a name."))
        if stable is not None:
            text = _("stable over seeds ({cosine:.2f})") if stable else _("not stable over seeds ({cosine:.2f})")
            lines.append(text.format(cosine=latent.stability))
        note = self.review.notes.of(latent.tap, latent.latent)
        if note and note.comment:
            lines.append(note.comment)
        return "\n".join(line for line in lines if line)

    def mark(self) -> None:
        """Show anew which latents have an overlay, and in which colour; nothing else is written."""
        self._filling = True
        swatches = self.review.overlays.swatches()
        for row, key in enumerate(self._keys):
            self._mark(row, swatches.get(keyOf(*key)))
        self._filling = False

    def _mark(self, row: int, swatch: tuple[int, int, int] | None) -> None:
        self._check(row, "shown", swatch is not None)
        if self._swatches.get(row, "none yet") != swatch:  # setting an icon takes a millisecond
            self._swatches[row] = swatch
            self.table.item(row, COLUMNS.index("shown")).setIcon(self._icon(swatch))

    def _icon(self, colour: tuple[int, int, int] | None):
        """A square of a colour, which stays visible in a selected row; without one, nothing."""
        if colour not in self._icons:
            pixmap = qt.QPixmap(SWATCH, SWATCH)
            pixmap.fill(qt.QColor(*colour) if colour else qt.QColor(0, 0, 0, 0))
            icon = qt.QIcon(pixmap)
            icon.addPixmap(pixmap, qt.QIcon.Selected)  # the selection's colour would dim it
            self._icons[colour] = icon
        return self._icons[colour]

    def _check(self, row: int, name: str, on: bool) -> None:
        self.table.item(row, COLUMNS.index(name)).setCheckState(qt.Qt.Checked if on else qt.Qt.Unchecked)

    # -- what the reader does ---------------------------------------------------------------------------------------

    def current(self) -> tuple[str, int] | None:
        rows = self.table.selectionModel().selectedRows()
        row = rows[0].row() if rows else -1
        return self._keys[row] if 0 <= row < len(self._keys) else None

    def select(self, row: int) -> None:
        """Select a row and bring it into view."""
        self.table.selectRow(row)
        self.table.scrollToItem(self.table.item(row, COLUMNS.index("number")))

    def step(self, by: int) -> None:
        """Select the row below (1) or above (-1) the selected one."""
        if not self._keys:
            return
        current = self.current()
        row = self._keys.index(current) + by if current in self._keys else 0
        self.table.selectRow(min(max(row, 0), len(self._keys) - 1))

    def _onSelected(self) -> None:
        current = self.current()
        if not self._filling and current is not None:
            self.section.choose(*current)

    def _onDoubleClick(self, row: int, _column: int) -> None:
        self.section.jumpTo(*self._keys[row])

    def _onItem(self, item) -> None:
        row = item.row()
        if self._filling or row >= len(self._keys):
            return
        name = COLUMNS[item.column()]
        if name == "shown":
            self.review.overlays.toggle(*self._keys[row])
        elif name == "pinned":
            self.section.togglePin(*self._keys[row])

    def _onDragged(self, row: int, value: float) -> None:
        self.section.drag(*self._keys[row], round(value, 3))

    def _onReleased(self, row: int, value: float) -> None:
        self.section.release(*self._keys[row], round(value, 3))
