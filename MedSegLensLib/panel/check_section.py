"""Check, as the reader sees it: how good the case likely is, how unusual it is, and the places to look at."""

import html
from collections.abc import Callable
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from MedSegLensLib.failures.findings import MISSED, Reason, Suspect
from MedSegLensLib.panel.regions_section import NAMES, regionText
from MedSegLensLib.panel.tables import cell, fitRows, readOnlyTable
from MedSegLensLib.scene.colours import RISK_STEPS

if TYPE_CHECKING:
    from MedSegLensLib.panel.review import Review

MOST_ROWS = 7
"""Of suspects seen at once; the table scrolls."""


class CheckSection:
    """Shows and drives `review.checking`. It keeps which place is selected, and nothing else.

    opensPoints is called when a place is to be repaired: the section with the points comes into view.
    """

    def __init__(self, review: "Review", loadUi: Callable):
        self.review = review
        self.opensPoints: Callable[[], None] = lambda: None
        self.widget = loadUi("Check")
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self._shown = None
        readOnlyTable(self.ui.qualityTable, [_("Region"), _("Likely\nDice"), _("in 4 of 5 cases\nbetween")])
        readOnlyTable(self.ui.suspectsTable, [_("Risk\n%"), _("Likely"), _("mL"), _("A place of")], stretch=1)
        steps = [least for least, _rgb in RISK_STEPS] + [1.0]
        legend = (
            f'<span style="color: rgb{rgb}">■</span> {100 * least:.0f}–{100 * upper:.0f}'
            for (least, rgb), upper in zip(RISK_STEPS, steps[1:], strict=True)
        )
        self.ui.riskLegend.text = "&nbsp; ".join(legend) + " %"
        self._connect()
        self.update()

    def _connect(self) -> None:
        ui, review = self.ui, self.review
        ui.checkButton.connect("clicked(bool)", self._onCheck)
        ui.suspectsTable.connect("itemSelectionChanged()", self._onSelected)
        ui.suspectsTable.connect("cellClicked(int,int)", lambda row, _column: self._go(row))
        ui.repairHereButton.connect("clicked(bool)", self._onRepair)
        ui.riskCheckBox.connect("toggled(bool)", review.checking.showMap)
        review.checkingChanged.connect(self.update)
        review.pointingChanged.connect(self._enable)
        self.widget.connect("contentsCollapsed(bool)", self._onCollapsed)

    def _onCollapsed(self, collapsed: bool) -> None:
        if not collapsed:
            self.update()  # unfolding shows what was hidden while it was folded

    def _onCheck(self, _checked=False) -> None:
        if self.review.checking.task is not None:
            self.review.checking.cancel()
        else:
            self.review.checking.run()

    # -- what is shown ----------------------------------------------------------------------------------------------

    def update(self) -> None:
        checking, ui = self.review.checking, self.ui
        task, found = checking.task, checking.found
        ui.checkButton.text = _("Cancel") if task is not None else _("Check this case")
        ui.checkProgress.visible = ui.checkStage.visible = task is not None
        if task is not None:
            ui.checkProgress.value = int(round(100 * task.share))
            ui.checkStage.text = _("{stage}, {seconds:.0f} s").format(stage=task.stage, seconds=task.elapsed)
        if found is not self._shown:
            self._shown = found
            self._fill()
        notes = list(found.notes) if found is not None else []
        if found is not None and found.quality and not found.suspects:
            notes.append(_("No place has a risk of {least:.0f} % or more.").format(least=100 * RISK_STEPS[0][0]))
        if checking.isStale:
            notes.insert(0, _("⚠ The edits have changed since: check again."))
        ui.checkNotes.text = "\n".join(notes)
        ui.riskCheckBox.blockSignals(True)
        ui.riskCheckBox.checked = checking.map is not None and checking.map.shown
        ui.riskCheckBox.blockSignals(False)
        self._arrange()
        self._enable()

    def _fill(self) -> None:
        found, ui = self._shown, self.ui
        quality = found.quality if found is not None else ()
        ui.qualityTable.setRowCount(len(quality))
        for row, one in enumerate(quality):
            texts = (regionText(one.region), f"{one.dice:.2f}", f"{one.low:.2f} – {one.high:.2f}")
            for column, text in enumerate(texts):
                ui.qualityTable.setItem(row, column, cell(text, right=column > 0))
        fitRows(ui.qualityTable, max(len(quality), 1))
        ui.shiftLabel.text = found.shift.words if found is not None and found.shift is not None else ""
        suspects = found.suspects if found is not None else ()
        ui.suspectsTable.setRowCount(len(suspects))
        for row, suspect in enumerate(suspects):
            texts = (f"{100 * suspect.risk:.0f}", kindText(suspect), f"{suspect.ml:.1f}", suspect.region)
            for column, text in enumerate(texts):
                item = cell(text, right=column in (0, 2), tip=suspect.words)
                ui.suspectsTable.setItem(row, column, item)
        fitRows(ui.suspectsTable, min(max(len(suspects), 1), MOST_ROWS))
        ui.suspectsTable.clearSelection()
        self._describe()

    def _arrange(self) -> None:
        """Show what has something to say."""
        ui = self.ui
        for table in (ui.qualityTable, ui.suspectsTable):
            table.visible = table.rowCount > 0
        for label in (ui.shiftLabel, ui.checkNotes, ui.suspectLabel):
            label.visible = bool(label.text)

    def _enable(self) -> None:
        ui, found = self.ui, self.review.checking.found
        ui.checkButton.enabled = self.review.isOpen
        suspects = bool(found is not None and found.suspects)
        for widget in (ui.riskCheckBox, ui.riskLegend):
            widget.visible = suspects
        ui.riskCheckBox.enabled = self.review.checking.map is not None and self.review.checking.map.node is not None
        ui.repairHereButton.visible = suspects
        ui.repairHereButton.enabled = self.selected is not None and self.review.pointing.canPlace

    # -- one place --------------------------------------------------------------------------------------------------

    @property
    def selected(self) -> Suspect | None:
        """The place that is selected in the table."""
        found = self.review.checking.found
        rows = self.ui.suspectsTable.selectionModel().selectedRows()
        row = rows[0].row() if rows else -1
        return found.suspects[row] if found is not None and 0 <= row < len(found.suspects) else None

    def _onSelected(self) -> None:
        self._describe()
        self._arrange()
        self._enable()

    def _go(self, row: int) -> None:
        found = self.review.checking.found
        if found is not None and row < len(found.suspects):
            self.review.checking.goTo(found.suspects[row])

    def _describe(self) -> None:
        suspect = self.selected
        lines = [html.escape(suspect.words), *(reasonText(one) for one in suspect.reasons)] if suspect else []
        self.ui.suspectLabel.text = "<br>".join(lines)

    def _onRepair(self, _checked=False) -> None:
        suspect = self.selected
        if suspect is not None:
            self.review.checking.pointAt(suspect)
            self.opensPoints()


def kindText(suspect: Suspect) -> str:
    """'missed enhancing tumour', 'not tumour, at the border'."""
    what = _("tumour") if suspect.region == "WT" else NAMES[suspect.region].lower()
    said = _("missed {what}") if suspect.kind == MISSED else _("not {what}")
    said = said.format(what=what)
    return said if suspect.form == "component" else _("{said}, at the border").format(said=said)


def reasonText(reason: Reason) -> str:
    """A latent that speaks for it, its value here and what is usual."""
    name = f" ({html.escape(reason.name)})" if reason.name else ""
    said = _("• latent {number}{name}: {value:.2f} here, {usual:.2f} where such places are right")
    return said.format(number=reason.latent, name=name, value=reason.value, usual=reason.usual)
