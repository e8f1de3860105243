"""The same pack and recipe on further studies in the scene, one after another, with the check before and after."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import qt
import slicer
from slicer.i18n import tr as _

from MedSegLensLib.editing.recipe import Recipe, RegionOf
from MedSegLensLib.errors import Cancelled, MedSegLensError
from MedSegLensLib.failures.findings import Check
from MedSegLensLib.panel.recipe_history import forOthers, hasDrawnPlaces
from MedSegLensLib.panel.regions_section import NAMES
from MedSegLensLib.panel.tables import cell, fitRows, readOnlyTable
from MedSegLensLib.scene import study
from MedSegLensLib.scene.segmentation import ResultSegmentation
from MedSegLensLib.scene.studies import find_studies, result_owner

if TYPE_CHECKING:
    from MedSegLensLib.panel.review import Review


DICE, WRONG, STATE = 4, 5, 6
"""Columns of the table."""

AROUND, EVERYWHERE, SAME_PLACE = range(3)
"""Where edits that were made at points act in other studies."""
AROUND_MM = 10.0


class BatchSection:
    """A table of the scene's studies; those ticked are segmented with the recipe in force, and checked before and after
    it where that is wished."""

    def __init__(self, review: "Review", loadUi: Callable):
        self.review = review
        self.widget = loadUi("Batch")
        self.ui = slicer.util.childWidgetVariables(self.widget)
        checked = [_("Likely Dice\nWT"), _("Likely wrong\nmL")]
        readOnlyTable(self.ui.batchTable, [_("Study"), *(f"{r}\nmL" for r in ("WT", "TC", "ET")), *checked, _("State")])
        self.ui.batchWhereComboBox.addItems(
            [
                _("in and around each study's tumour ({mm:g} mm)").format(mm=AROUND_MM),
                _("everywhere"),
                _("at the same place, in mm"),
            ]
        )
        self.studies: list = []
        self._queue: list[int] = []
        self._task = self._session = None
        self._made = 0  # results of the run
        self.ui.findStudiesButton.connect("clicked(bool)", lambda _checked=False: self.find())
        self.ui.batchApplyButton.connect("clicked(bool)", self._onApply)
        self.widget.connect("contentsCollapsed(bool)", self._onCollapsed)
        review.stateChanged.connect(self._enable)
        review.recipeChanged.connect(self._enable)
        fitRows(self.ui.batchTable, 1)

    def _onCollapsed(self, collapsed: bool) -> None:
        if not collapsed:
            self._enable()  # unfolding shows what was hidden while it was folded
            if not self.studies:
                self.find()

    def find(self) -> None:
        """List the studies in the scene: volumes of one folder of the subject hierarchy, or of like names."""
        self.studies = find_studies()
        table = self.ui.batchTable
        table.setRowCount(len(self.studies))
        for row, found in enumerate(self.studies):
            item = cell(_("{name} ({count} volumes)").format(name=found.name, count=len(found.volumes)))
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
            item.setCheckState(qt.Qt.Unchecked)
            table.setItem(row, 0, item)
            for column in range(1, STATE + 1):
                table.setItem(row, column, cell("", right=column < STATE))
        fitRows(table, min(max(len(self.studies), 1), 8))
        self._enable()

    def _enable(self) -> None:
        self.ui.batchApplyButton.enabled = bool(self.studies) and (self._task is not None or not self.review.isBusy)
        for widget in (self.ui.batchWhereLabel, self.ui.batchWhereComboBox):
            widget.visible = hasDrawnPlaces(self.review.history.recipe)
        self.ui.batchApplyButton.text = _("Cancel") if self._task is not None else _("Apply to ticked studies")

    def _onApply(self, _checked=False) -> None:
        if self._task is not None:
            self._queue = []
            self._task.cancel()
            return
        if self.review.client is None or self.review.history.recipe is None:
            self.ui.batchStatus.text = _("Apply to one study first: its pack and recipe are used for the others.")
            return
        table = self.ui.batchTable
        self._queue = [r for r in range(len(self.studies)) if table.item(r, 0).checkState() == qt.Qt.Checked]
        if not self._queue:
            self.ui.batchStatus.text = _("Tick the studies first.")
            return
        self._recipe, self._pack, self._made = self.recipe(), self.review.parameters.pack, 0
        self._next()

    def recipe(self) -> Recipe:
        """The edits in force, as they are to act on other studies."""
        recipe = self.review.history.recipe
        if not hasDrawnPlaces(recipe) or self.ui.batchWhereComboBox.currentIndex == SAME_PLACE:
            return recipe
        everywhere = self.ui.batchWhereComboBox.currentIndex == EVERYWHERE
        return forOthers(recipe, None if everywhere else RegionOf("WT", AROUND_MM))

    def _next(self) -> None:
        self._closeSession()
        self._task = None
        if not self._queue:
            hidden = _("Results are hidden; the eye beside each in Data shows it.")
            self.ui.batchStatus.text = _("Done.") + (f" {hidden}" if self._made else "")
            self._enable()
            return
        row = self._queue.pop(0)
        found = self.studies[row]
        self.ui.batchStatus.text = _("{name} …").format(name=found.name)
        try:
            volumes = {m: study.volume_of(node) for m, node in found.volumes.items()}
        except MedSegLensError as problem:
            self._failed(row, problem)
            return
        self._task = self.review.client.open_case(volumes, found.name, self._pack)
        self.review.watch.add(
            self._task,
            lambda session: self._opened(row, session),
            lambda problem: self._failed(row, problem),
            lambda task: self._state(row, f"{task.stage} {100 * task.share:.0f} %"),
        )
        self._enable()

    def _opened(self, row: int, session) -> None:
        self._session = session
        if self.ui.batchCheckBox.checked:
            self._watch(row, session.check(), lambda answer: self._edit(row, answer.check), _("checking before"))
        else:
            self._edit(row, None)

    def _edit(self, row: int, before: Check | None) -> None:
        edited = lambda edited: self._edited(row, self._session.opened, edited, before)  # noqa: E731
        self._watch(row, self._session.edit(self._recipe), edited, _("editing"))

    def _watch(self, row: int, task, done: Callable, what: str) -> None:
        self._task = task
        self._state(row, f"{what} …")
        self.review.watch.add(task, done, lambda problem: self._failed(row, problem))

    def _edited(self, row: int, opened, edited, before: Check | None) -> None:
        found = self.studies[row]
        node = found.volumes.get(opened.grid_of)
        if node is None or slicer.mrmlScene.GetNodeByID(node.GetID()) is None:
            self._state(row, _("its volume was deleted"))
            self._next()
            return
        labels = opened.labels.copy()
        if edited.box is not None:
            labels[edited.box.slices] = edited.box.labels
        result = ResultSegmentation(result_owner(found.name))
        result.make(labels, opened.ijk_to_ras, opened.label_meta, node, original=opened.labels)
        self._made += 1
        result.show(None)  # the views are of the study under review, where another's tumour would be taken for its own
        for column, region in enumerate(("WT", "TC", "ET")):
            item = self.ui.batchTable.item(row, column + 1)
            item.setText(f"{edited.regions_ml[region]:.1f}")
            item.setToolTip(_("{name}: {before:.1f} mL before the edits").format(
                name=NAMES[region], before=opened.regions_ml[region]))  # fmt: skip
        if before is None:
            self._state(row, _("done"))
            self._next()
        else:
            after = self._session.check(self._recipe)
            self._watch(row, after, lambda answer: self._checked(row, before, answer.check), _("checking after"))

    def _checked(self, row: int, before: Check, after: Check) -> None:
        for column, number, decimals in ((DICE, _likelyDice, 2), (WRONG, _likelyWrong, 1)):
            was, now = number(before), number(after)
            item = self.ui.batchTable.item(row, column)
            item.setText("–" if was is None or now is None else f"{was:.{decimals}f} → {now:.{decimals}f}")
            item.setToolTip("\n".join(after.notes))
        self._state(row, _("done"))
        self._next()

    def _failed(self, row: int, problem: MedSegLensError) -> None:
        self._state(row, _("cancelled") if isinstance(problem, Cancelled) else _("failed"))
        if not isinstance(problem, Cancelled):
            self.review.said.emit(str(problem), True)
        self._next()

    def _state(self, row: int, text: str) -> None:
        self.ui.batchTable.item(row, STATE).setText(text)

    def _closeSession(self) -> None:
        if self._session is not None:
            self._session.close()
        self._session = None


def _likelyDice(found: Check) -> float | None:
    """Of the whole tumour; None where the pack cannot tell."""
    return next((one.dice for one in found.quality if one.region == "WT"), None)


def _likelyWrong(found: Check) -> float | None:
    """mL that are likely wrong: of each place its volume times its risk, a place that two regions share counted in
    each. None where the pack cannot tell."""
    return sum(one.risk * one.ml for one in found.suspects) if found.quality else None
