"""The probability of a region as a volume beside the input, to be measured, thresholded or exported."""

import numpy as np
import slicer
import slicer.util

from MedSegLensLib.scene.colours import colour_table
from MedSegLensLib.scene.grid import put_under
from MedSegLensLib.scene.overlays import write_voxels
from MedSegLensLib.scene.ownership import owned, set_beside
from MedSegLensLib.scene.views import at_once
from MedSegLensLib.worker.answers import Overlay


def put_probability(
    owner: slicer.vtkMRMLNode, region: str, overlay: Overlay, reference: slicer.vtkMRMLVolumeNode | None
) -> slicer.vtkMRMLScalarVolumeNode:
    """The owner's probability volume (0 to 1) of a region, updated in place.

    To see it over the anatomy, `Overlays.show` the same overlay with the colour "viridis".
    """
    node = owned(owner, f"probability.{region}", "vtkMRMLScalarVolumeNode", f"{region} probability")
    with at_once(node, node.GetDisplayNode()):
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(put_under(node, reference, overlay.ijk_to_ras)))
        write_voxels(node, np.ascontiguousarray(overlay.array, np.float32))
        display = node.GetDisplayNode()
        display.SetAndObserveColorNodeID(colour_table("viridis").GetID())
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(0.0, 1.0)
        set_beside(node, reference)
    return node
