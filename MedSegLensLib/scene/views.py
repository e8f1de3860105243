"""Slice views: moving them to a point, where the reader looks, and doing several changes as one."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import slicer
import slicer.util

Point = tuple[float, float, float]


def composites() -> list[slicer.vtkMRMLSliceCompositeNode]:
    """What each slice view shows."""
    return slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")


def jump_to(ras: Point) -> None:
    """Move all slice views so that they cut through the point (RAS, mm), without panning, and set the crosshair."""
    with at_once(*slicer.util.getNodesByClass("vtkMRMLSliceNode")):
        for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            view.JumpSliceByOffsetting(*ras)
        crosshair = _crosshair()
        if crosshair is not None:
            crosshair.SetCrosshairRAS(ras)


def crosshair_ras() -> Point:
    """The crosshair's point (RAS, mm): with the Shift key held it follows the mouse. The centre of the views without
    one."""
    crosshair = _crosshair()
    if crosshair is not None:
        return tuple(crosshair.GetCrosshairRAS())
    points = visible_points()
    return points[0] if points else (0.0, 0.0, 0.0)


def visible_points() -> list[Point]:
    """A point (RAS, mm) on each visible slice, its centre; slices nearest to axial first.

    For `CaseSession.edit(near_ras=...)`, and the first one for `CaseSession.preview`.
    """
    views = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    visible = [view.GetSliceToRAS() for view in views if view.IsMappedInLayout()]
    visible.sort(key=lambda to_ras: -abs(to_ras.GetElement(2, 2)))
    return [tuple(to_ras.GetElement(row, 3) for row in range(3)) for to_ras in visible]


@contextmanager
def at_once(*nodes: slicer.vtkMRMLNode) -> Iterator[None]:
    """Within it the views are not drawn, and each node tells its changes once, at the end."""
    with slicer.util.RenderBlocker(), ExitStack() as stack:
        for node in nodes:
            stack.enter_context(slicer.util.NodeModify(node))
        yield


def _crosshair() -> slicer.vtkMRMLCrosshairNode | None:
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
