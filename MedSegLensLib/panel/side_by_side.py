"""Original left, edited right: two axial views that move together."""

from typing import TYPE_CHECKING

import slicer

if TYPE_CHECKING:
    from MedSegLensLib.panel.review import Review

LEFT, RIGHT = "Red", "Yellow"


class SideBySide:
    """Switches Slicer's layout to two views of one orientation, and back to the layout before."""

    def __init__(self, review: "Review"):
        self._review = review
        self._before: tuple[int, str] | None = None

    def show(self, on: bool) -> None:
        """Compare side by side, or end it. Where the layout is not Slicer's own any more it is left as it is."""
        manager = slicer.app.layoutManager()
        if on == (self._before is not None) or (on and self._review.result.node is None):
            return
        if on:
            right = manager.sliceWidget(RIGHT).mrmlSliceNode()
            self._before = (manager.layout, right.GetOrientation())
            manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
            self._link(True)
            left = manager.sliceWidget(LEFT).mrmlSliceNode()
            offset = left.GetSliceOffset()
            right.SetOrientation(left.GetOrientation())
            slicer.app.processEvents()  # the views have their new sizes only then
            for name in (LEFT, RIGHT):
                manager.sliceWidget(name).sliceLogic().FitSliceToBackground()
                manager.sliceWidget(name).mrmlSliceNode().SetSliceOffset(offset)
            self._review.result.show_side_by_side(edited_views=[right.GetID()], original_views=[left.GetID()])
        else:
            layout, orientation = self._before
            self._before = None
            self._link(False)
            manager.sliceWidget(RIGHT).mrmlSliceNode().SetOrientation(orientation)
            manager.setLayout(layout)
            if self._review.result.node is not None:
                self._review.result.show("edited")

    def _link(self, on: bool) -> None:
        for name in (LEFT, RIGHT):
            slicer.app.layoutManager().sliceWidget(name).mrmlSliceCompositeNode().SetLinkedControl(on)
