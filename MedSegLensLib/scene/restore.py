"""A loaded scene looks as it was saved, before anything is computed."""

import slicer
import slicer.util

from MedSegLensLib.scene import layers
from MedSegLensLib.scene.change import Difference
from MedSegLensLib.scene.overlays import Overlays
from MedSegLensLib.scene.ownership import found, roles
from MedSegLensLib.scene.risk import RiskMap
from MedSegLensLib.scene.segmentation import ResultSegmentation


def restore(owner: slicer.vtkMRMLNode) -> list[str]:
    """Show again what the owner's nodes say was shown: overlays with layers and opacities, and the difference.

    Gives one sentence for each node of ours that cannot be shown, with what to do. Also to be called when the layout
    has changed: new slice views get the overlays.
    """
    said = []
    for role in roles(owner):
        node = found(owner, role)
        if node is not None and node.IsA("vtkMRMLVolumeNode") and node.GetImageData() is None:
            node.SetAttribute(layers.SHOWN, None)
            said.append(f"{node.GetName()}: its file is missing beside the scene. Show the latent again to compute it.")
    result = ResultSegmentation(owner)
    if result.node is not None and result.node.GetSegmentation().GetNumberOfSegments() == 0:
        said.append(f"{result.node.GetName()}: its file is missing beside the scene. Press Apply to segment again.")
    elif result.node is not None and result.reference is None:
        said.append(f"{result.node.GetName()}: its input volume is gone. Load it again to go on editing.")
    with slicer.util.RenderBlocker():
        Overlays(owner).lay_out()
        Difference(owner).lay_out()
        RiskMap(owner).lay_out()
    return said


def owners() -> list[slicer.vtkMRMLNode]:
    """All parameter nodes in the scene that own nodes of ours."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
    return [node for node in nodes if any(found(node, role) for role in roles(node))]
