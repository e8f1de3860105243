"""The layers of the slice views. What lay in one before comes back when we leave it.

Additional layers (5.10 and later) are a contiguous list; their opacities are neither saved with the scene nor moved
along when one before them goes, so all are written again whenever one changes.
"""

import slicer

from MedSegLensLib.scene.ownership import is_ours
from MedSegLensLib.scene.views import at_once, composites

FOREGROUND, LABEL = "Foreground", "Label"
FIRST_ADDITIONAL = 3
SHOWN = "MedSegLens.Shown"
"""Attribute of a volume of ours that is on a layer; its absence brings nothing of ours back."""


def has_additional_layers() -> bool:
    """Whether this Slicer's slice views have more layers than background, foreground and label."""
    return hasattr(slicer.vtkMRMLSliceCompositeNode, "SetNthLayerVolumeID")


def occupy(layer: str, node: slicer.vtkMRMLVolumeNode, opacity: float) -> None:
    """Show `node` in the foreground or the label layer of all slice views."""
    for view in composites():
        with at_once(view):
            before = getattr(view, f"Get{layer}VolumeID")()
            if before != node.GetID():
                view.SetNodeReferenceID(_before(layer, node), before)
                view.SetAttribute(_before(layer, node), str(getattr(view, f"Get{layer}Opacity")()))
                getattr(view, f"Set{layer}VolumeID")(node.GetID())
            getattr(view, f"Set{layer}Opacity")(opacity)


def leave(layer: str, node: slicer.vtkMRMLVolumeNode) -> None:
    """Take `node` off the foreground or label layer, and bring back what lay there before, where it still exists."""
    for view in composites():
        with at_once(view):
            if getattr(view, f"Get{layer}VolumeID")() == node.GetID():
                before = view.GetNodeReference(_before(layer, node))
                if before is not None and is_ours(before) and before.GetAttribute(SHOWN) is None:
                    before = None  # of another session, and hidden meanwhile
                getattr(view, f"Set{layer}VolumeID")(None if before is None else before.GetID())
                getattr(view, f"Set{layer}Opacity")(float(view.GetAttribute(_before(layer, node)) or 1))
            view.RemoveNodeReferenceIDs(_before(layer, node))
            view.RemoveAttribute(_before(layer, node))


def stack(ours: list[slicer.vtkMRMLVolumeNode], shown: dict[str, float]) -> None:
    """Show some of our volumes in additional layers, above those of others.

    ours: all that may be there; shown: opacity by node ID of those that are to be shown, from the lowest up.
    """
    ids = {node.GetID() for node in ours}
    for view in composites():
        with at_once(view):
            count = view.GetNumberOfAdditionalLayers()
            there = [
                (view.GetNthLayerVolumeID(n), view.GetNthLayerOpacity(n))
                for n in range(FIRST_ADDITIONAL, FIRST_ADDITIONAL + count)
            ]
            wanted = [(one, opacity) for one, opacity in there if one and one not in ids] + list(shown.items())
            for n in range(FIRST_ADDITIONAL + count - 1, FIRST_ADDITIONAL + len(wanted) - 1, -1):
                view.SetNthLayerVolumeID(n, None)
            for n, (one, opacity) in enumerate(wanted, FIRST_ADDITIONAL):
                if view.GetNthLayerVolumeID(n) != one:
                    view.SetNthLayerVolumeID(n, one)
                view.SetNthLayerOpacity(n, opacity)


def _before(layer: str, node: slicer.vtkMRMLVolumeNode) -> str:
    return f"MedSegLens.Before.{layer}.{node.GetID()}"
