"""Volumes of the regions before and after the edits, and how they compare with an expert's segmentation."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import qt
import slicer
from slicer.i18n import tr as _

from MedSegLensLib.errors import MedSegLensError
from MedSegLensLib.panel.tables import cell, fitRows, readOnlyTable

if TYPE_CHECKING:
    from MedSegLensLib.panel.review import Review

SURFACE_MS = 1500
"""After the last edit, until surfaces in 3D are made anew."""

NAMES = {
    "WT": "Whole tumour",
    "TC": "Tumour core",
    "ET": "Enhancing tumour",
    "NCR": "Necrotic core",
    "ED": "Edema",
}


def regionText(region: str) -> str:
    """'Whole tumour (WT)'."""
    return f"{NAMES[region]} ({region})"


class RegionsSection:
    """The table of volumes, the probability map of a region, and the tumour's surface in 3D."""

    def __init__(self, review: "Review", loadUi: Callable):
        self.review = review
        self.widget = loadUi("Regions")
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self.ui.referenceSelector.setMRMLScene(slicer.mrmlScene)
        readOnlyTable(self.ui.regionsTable, self._headers())
        self.ui.probabilityRegionComboBox.addItems([regionText(region) for region in NAMES])
        self.ui.probabilityCheckBox.connect("toggled(bool)", self._onProbability)
        self.ui.probabilityRegionComboBox.connect("currentIndexChanged(int)", self._onProbability)
        self.ui.surfaceCheckBox.connect("toggled(bool)", self._onSurface)
        self._later = qt.QTimer()  # surfaces take seconds: once the reader pauses
        self._later.setSingleShot(True)
        self._later.setInterval(SURFACE_MS)
        self._later.connect("timeout()", self._refreshSurface)
        review.edited.connect(self._onEdited)
        review.regionsChanged.connect(self.update)
        review.opened.connect(self._onOpened)
        self.update()

    def _headers(self) -> list[str]:
        return [
            _("Region"), _("Before\nmL"), _("After\nmL"), _("Change\nmL"), _("Change\n%"), _("Dice\nbefore"),
            _("Dice\nafter"),
        ]  # fmt: skip

    def update(self) -> None:
        table, saved = self.ui.regionsTable, self.review.saved
        regions = [r for r in NAMES if r in saved.before]
        table.setRowCount(len(regions))
        for row, region in enumerate(regions):
            before, after = saved.before[region], saved.after.get(region, saved.before[region])
            table.setItem(row, 0, cell(regionText(region)))
            texts = (_ml(before), _ml(after), _signedMl(after - before), _percent(before, after))
            for column, text in enumerate(texts, 1):
                table.setItem(row, column, cell(text, right=True))
            for column, dice in ((5, saved.diceBefore), (6, saved.diceAfter)):
                table.setItem(row, column, cell(_dice(dice, region), right=True))
        for column in (5, 6):
            table.setColumnHidden(column, saved.diceBefore is None)
        fitRows(table, max(len(regions), 1))
        for name in ("probabilityCheckBox", "probabilityRegionComboBox"):
            getattr(self.ui, name).enabled = self.review.isOpen
        self.ui.surfaceCheckBox.enabled = bool(regions)

    def _onOpened(self) -> None:
        for box in (self.ui.probabilityCheckBox, self.ui.surfaceCheckBox):
            box.blockSignals(True)
            box.checked = False
            box.blockSignals(False)
        self.update()

    def _onProbability(self, _value=None) -> None:
        region = list(NAMES)[self.ui.probabilityRegionComboBox.currentIndex]
        self.review.overlays.showProbability(region if self.ui.probabilityCheckBox.checked else None)

    def _onEdited(self, _edited) -> None:
        if self.ui.surfaceCheckBox.checked:
            self._later.start()

    def _refreshSurface(self) -> None:
        if self.ui.surfaceCheckBox.checked and self.review.result.node is not None and self.review.result.surface_stale:
            self._showSurface(True)

    def _onSurface(self, on: bool) -> None:
        self._showSurface(on)
        if on:  # a study's origin may lie at a corner of the head: the view would look past the tumour
            slicer.util.resetThreeDViews()

    def _showSurface(self, on: bool) -> None:
        try:
            with slicer.util.WaitCursor():
                self.review.result.show_surface(on)
        except MedSegLensError as problem:
            self.review.said.emit(str(problem), True)


def _ml(volume: float) -> str:
    return f"{volume:.1f}" if volume else _("absent")


def _signedMl(change: float) -> str:
    return f"{change:+.1f}" if abs(change) >= 0.05 else "0.0"


def _percent(before: float, after: float) -> str:
    if not before:
        return "0.0" if not after else _("new")
    change = 100 * (after - before) / before
    return f"{change:+.1f}" if abs(change) >= 0.05 else "0.0"


def _dice(dice: dict | None, region: str) -> str:
    if dice is None:
        return ""
    if region not in dice:
        return "–"  # measured for WT, TC and ET
    return _("absent") if dice[region] is None else f"{dice[region]:.3f}"
