"""Where the segmentation is likely wrong, over the anatomy: one volume, in a layer of its own above the others."""

import numpy as np
import slicer
import slicer.util

from MedSegLensLib.scene import layers
from MedSegLensLib.scene.colours import RISK_STEPS, risk_table
from MedSegLensLib.scene.grid import put_under
from MedSegLensLib.scene.overlays import write_voxels
from MedSegLensLib.scene.ownership import found, owned, set_beside
from MedSegLensLib.scene.views import at_once
from MedSegLensLib.worker.answers import Overlay

ROLE = "risk"
OPACITY = 0.7


class RiskMap:
    """The risk map of an owner, filled anew in place. Holds no state of its own."""

    def __init__(self, owner: slicer.vtkMRMLNode):
        self.owner = owner

    @property
    def node(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """The volume, 0 to 1, or None."""
        return found(self.owner, ROLE)

    @property
    def shown(self) -> bool:
        return self.node is not None and self.node.GetAttribute(layers.SHOWN) is not None

    def fill(self, risk: Overlay, reference: slicer.vtkMRMLVolumeNode | None) -> slicer.vtkMRMLScalarVolumeNode:
        """Write a risk map; it is shown or hidden as the one before was, and hidden at first."""
        table = risk_table()
        node = owned(self.owner, ROLE, "vtkMRMLScalarVolumeNode", "Risk: where the segmentation is likely wrong")
        display = node.GetDisplayNode()
        with at_once(node, display):
            to_local = put_under(node, reference, risk.ijk_to_ras)
            node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(to_local))
            write_voxels(node, np.ascontiguousarray(risk.array, np.float32))
            display.SetAndObserveColorNodeID(table.GetID())
            display.SetInterpolate(True)
            display.AutoWindowLevelOff()
            display.SetWindowLevelMinMax(0.0, 1.0)
            display.AutoThresholdOff()
            display.SetThreshold(RISK_STEPS[0][0], 1.0)
            display.ApplyThresholdOn()
            set_beside(node, reference)
            self.lay_out()
        return node

    def show(self, on: bool) -> None:
        if self.node is not None:
            self.node.SetAttribute(layers.SHOWN, "1" if on else None)
            with slicer.util.RenderBlocker():
                self.lay_out()

    def hide(self) -> None:
        self.show(False)

    def lay_out(self) -> None:
        """Put the map on all slice views that there are now, if it is shown, and take it off otherwise."""
        node = self.node
        if node is None:
            return
        if layers.has_additional_layers():
            layers.stack([node], {node.GetID(): OPACITY} if self.shown else {})
        elif self.shown:
            layers.occupy(layers.FOREGROUND, node, OPACITY)
        else:
            layers.leave(layers.FOREGROUND, node)
