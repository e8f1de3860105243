"""The active edits, where new ones act, the way back, original against edited, and the recipe's file."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from MedSegLensLib.editing.recipe import Box, Edit, RegionOf, SliceRange, VoxelMask, Where
from MedSegLensLib.errors import MedSegLensError, UsageError
from MedSegLensLib.panel.recipe_history import withoutEdit
from MedSegLensLib.panel.side_by_side import SideBySide
from MedSegLensLib.panel.tables import cell, fitRows, readOnlyTable
from MedSegLensLib.scene import views, where
from MedSegLensLib.scene.change import CHANGES

if TYPE_CHECKING:
    from MedSegLensLib.panel.review import Review

EVERYWHERE, BOX, SEGMENT, SLICES = range(4)


class EditsSection:
    """What the reader has changed. `selectedLatent` tells which latent Reset latent means."""

    def __init__(self, review: "Review", loadUi: Callable, selectedLatent: Callable):
        self.review = review
        self.widget = loadUi("Edits")
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self._selectedLatent = selectedLatent
        self._mask: tuple[tuple, VoxelMask] | None = None
        self._sideBySide = SideBySide(review)
        self.ui.whereComboBox.addItems(
            [_("everywhere"), _("inside a box"), _("inside a segment"), _("between two axial slices")]
        )
        self.ui.roiSelector.setMRMLScene(slicer.mrmlScene)
        self.ui.whereSegmentSelector.setMRMLScene(slicer.mrmlScene)
        readOnlyTable(self.ui.editsTable, [_("Latent"), _("Strength"), _("Where"), ""], stretch=2)
        self._connect()
        self._onWhere(0)
        self.update()

    def _connect(self) -> None:
        ui, review = self.ui, self.review
        ui.whereComboBox.connect("currentIndexChanged(int)", self._onWhere)
        for widget, signal in (
            (ui.roiSelector, "currentNodeChanged(vtkMRMLNode*)"),
            (ui.whereSegmentSelector, "currentSegmentChanged(QString)"),
            (ui.sliceRange, "valuesChanged(double,double)"),
        ):
            widget.connect(signal, self._onPlace)
        ui.undoButton.connect("clicked(bool)", lambda _checked=False: review.undo())
        ui.redoButton.connect("clicked(bool)", lambda _checked=False: review.redo())
        ui.resetButton.connect("clicked(bool)", lambda _checked=False: self.resetSelected())
        ui.resetAllButton.connect("clicked(bool)", lambda _checked=False: review.resetAll())
        ui.editsTable.connect("cellClicked(int,int)", self._onCell)
        ui.originalButton.connect("toggled(bool)", review.showOriginal)
        ui.holdButton.connect("pressed()", lambda: review.showOriginal(True))
        ui.holdButton.connect("released()", lambda: review.showOriginal(self.ui.originalButton.checked))
        ui.differenceButton.connect("toggled(bool)", self._onDifference)
        ui.sideBySideButton.connect("toggled(bool)", self._sideBySide.show)
        ui.saveRecipeButton.connect("clicked(bool)", self._onSave)
        ui.loadRecipeButton.connect("clicked(bool)", self._onLoad)
        legend = (f'<span style="color: rgb{colour}">■</span> {name}' for name, colour in CHANGES.values())
        ui.differenceLegend.text = "&nbsp;&nbsp; ".join(legend)
        review.recipeChanged.connect(self.update)
        review.stateChanged.connect(self.update)
        review.opened.connect(self._onOpened)

    # -- where new edits act ----------------------------------------------------------------------------------------

    def place(self) -> Where | None:
        """Where the next edit acts; None is everywhere. Raises UsageError for a box or segment not chosen yet.

        The sliders of the latents show the strengths at this place.
        """
        kind = self.ui.whereComboBox.currentIndex
        if kind == BOX:
            roi = self.ui.roiSelector.currentNode()
            if roi is None:
                raise UsageError(_("box"), _("none is chosen."), _("Choose or make a box under Edits."))
            return where.box_of(roi)
        if kind == SEGMENT:
            return self._segmentMask()
        if kind == SLICES:
            return where.slices_of(self.ui.sliceRange.minimumValue, self.ui.sliceRange.maximumValue)
        return None

    def _segmentMask(self) -> VoxelMask:
        selector = self.ui.whereSegmentSelector
        node, segment = selector.currentNode(), selector.currentSegmentID()
        if node is None or not segment:
            raise UsageError(_("segment"), _("none is chosen."), _("Choose a segment under Edits."))
        state = (node.GetID(), segment, node.GetSegmentation().GetMTime())
        if self._mask is None or self._mask[0] != state:  # asked for at every step of a drag
            self._mask = (state, where.mask_of(node, segment))
        return self._mask[1]

    def _onWhere(self, kind: int) -> None:
        self.ui.roiSelector.visible = kind == BOX
        self.ui.whereSegmentSelector.visible = kind == SEGMENT
        self.ui.sliceRange.visible = kind == SLICES
        if kind == BOX and self.ui.roiSelector.currentNode() is None and self.review.result.node is not None:
            roi = where.roi_around(views.crosshair_ras(), owner=self.review.parameters.parameterNode)
            self.ui.roiSelector.setCurrentNode(roi)
        if kind == SEGMENT and self.review.result.node is not None:
            self.ui.whereSegmentSelector.setCurrentNode(self.review.result.node)
        self._onPlace()

    def _onPlace(self, *_values) -> None:
        if self.review.parameters is not None:
            self.review.recipeChanged.emit()  # the sliders show the strengths at this place

    def _onDifference(self, on: bool) -> None:
        self.ui.differenceLegend.visible = on
        self.review.showDifference(on)

    def _onOpened(self) -> None:
        for button in (self.ui.originalButton, self.ui.differenceButton, self.ui.sideBySideButton):
            button.checked = False
        if self.review.session is not None:
            opened = self.review.session.opened
            lower, upper = _superiorRange(opened.labels.shape, opened.ijk_to_ras)
            self.ui.sliceRange.setRange(lower, upper)
            middle = views.crosshair_ras()[2]
            self.ui.sliceRange.setValues(max(lower, middle - 10), min(upper, middle + 10))
        self.ui.differenceButton.checked = self.review.saved.showDifference
        self.update()

    # -- the edits --------------------------------------------------------------------------------------------------

    def update(self) -> None:
        review, ui = self.review, self.ui
        recipe = review.history.recipe
        edits = recipe.edits if recipe else ()
        ui.editsTable.setRowCount(len(edits))
        for row, edit in enumerate(edits):
            texts = (str(edit.latent), strengthText(edit), placeText(edit.where), "✕")
            tips = (edit.tap, "", placeText(edit.where), _("Take this edit away"))
            for column, (text, tip) in enumerate(zip(texts, tips, strict=True)):
                ui.editsTable.setItem(row, column, cell(text, right=column < 2, tip=tip))
        fitRows(ui.editsTable, min(max(len(edits), 1), 6))
        ui.undoButton.enabled, ui.redoButton.enabled = review.history.canUndo, review.history.canRedo
        ui.resetAllButton.enabled = ui.resetButton.enabled = bool(edits)
        hasResult = bool(review.saved.before)
        for button in (ui.originalButton, ui.holdButton, ui.differenceButton, ui.sideBySideButton):
            button.enabled = hasResult
        ui.saveRecipeButton.enabled = recipe is not None
        ui.loadRecipeButton.enabled = review.isOpen
        if edits and review.isRestored:
            note = _("These edits are as saved; Continue replays them.")
        elif review.editing is not None:
            note = _("segmenting again …")
        else:
            note = "" if edits else _("No edits: the segmentation is the network's own.")
        ui.editsNote.text = note

    def resetSelected(self) -> None:
        current = self._selectedLatent()
        if current is not None:
            self.review.resetLatent(*current)

    def _onCell(self, row: int, column: int) -> None:
        recipe = self.review.history.recipe
        if column == 3 and recipe is not None and row < len(recipe.edits):
            self.review.change(withoutEdit(recipe, row))

    # -- the recipe's file ------------------------------------------------------------------------------------------

    def _onSave(self, _checked=False) -> None:
        path = qt.QFileDialog.getSaveFileName(self.widget, _("Save recipe"), "recipe.json", _("Recipes (*.json)"))
        if path:
            self.saveRecipe(path)

    def saveRecipe(self, path: str) -> None:
        try:
            self.review.saveRecipe(path)
        except MedSegLensError as problem:
            self.review.said.emit(str(problem), True)
            return
        self.review.said.emit(_("The recipe was saved: {path}").format(path=path), False)

    def _onLoad(self, _checked=False) -> None:
        path = qt.QFileDialog.getOpenFileName(self.widget, _("Load recipe"), "", _("Recipes (*.json)"))
        if path:
            self.loadRecipe(path)

    def loadRecipe(self, path: str) -> None:
        try:
            self.review.loadRecipe(path)
        except MedSegLensError as problem:
            self.review.said.emit(str(problem), True)


def strengthText(edit: Edit) -> str:
    if edit.kind == "scale":
        return _("suppressed") if edit.value == 0 else f"× {edit.value:.3g}"
    return f"{'+' if edit.kind == 'add' else '= '}{edit.value:g}"


def placeText(place: Where | None) -> str:
    """A place in words, RAS mm."""
    match place:
        case None:
            return _("everywhere")
        case Box():
            sizes = " × ".join(f"{b - a:.0f}" for a, b in zip(place.lower, place.upper, strict=True))
            return _("box of {sizes} mm").format(sizes=sizes)
        case SliceRange():
            return _("slices S {lower:.0f} to {upper:.0f} mm").format(lower=place.lower, upper=place.upper)
        case RegionOf():
            return _("{region} grown by {mm:g} mm").format(region=place.region, mm=place.dilation)
        case VoxelMask():
            voxel = float(np.prod(place.spacing)) / 1000
            return _("region of {ml:.1f} mL").format(ml=np.count_nonzero(place.array) * voxel)


def _superiorRange(shape: tuple[int, int, int], ijkToRas: np.ndarray) -> tuple[float, float]:
    """Lowest and highest S (mm) of a volume's corners; shape is (Z, Y, X)."""
    corners = np.array([(x, y, z, 1) for x in (0, shape[2] - 1) for y in (0, shape[1] - 1) for z in (0, shape[0] - 1)])
    s = (corners @ np.asarray(ijkToRas).T)[:, 2]
    return float(s.min()), float(s.max())
