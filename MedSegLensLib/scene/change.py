"""Label layers above the segmentation: what an edit added and removed, and the slice that follows a slider's drag."""

import numpy as np
import slicer
import slicer.util

from MedSegLensLib.scene import layers
from MedSegLensLib.scene.colours import label_table
from MedSegLensLib.scene.grid import put_under
from MedSegLensLib.scene.overlays import write_voxels
from MedSegLensLib.scene.ownership import found, owned, set_beside
from MedSegLensLib.scene.segmentation import ResultSegmentation
from MedSegLensLib.scene.views import at_once
from MedSegLensLib.worker.answers import LabelBox

ADDED, REMOVED, RELABELLED = 1, 2, 3
CHANGES = {
    ADDED: ("added", (0, 160, 90)),
    REMOVED: ("removed", (220, 140, 255)),
    RELABELLED: ("other label", (102, 0, 255)),
}
"""Seen with any colour vision they differ from each other, from the regions' colours and from grey anatomy."""

EDITS, PROPOSAL = "difference", "proposal"
_NODES = {EDITS: ("Edited minus original", True), PROPOSAL: ("What would change", False)}
"""What a difference can be of: the edits in force against the original, or a proposal against the edits in force."""

CHANGE_OPACITY, PREVIEW_OPACITY = 0.8, 0.55


class Difference:
    """The voxels that edits added to the tumour, removed from it, or gave another label, on the slice views' label
    layer.

    role: of its node; one that is not the edits' own is not saved with the scene.
    """

    def __init__(self, owner: slicer.vtkMRMLNode, role: str = EDITS):
        self.owner, self._role = owner, role

    @property
    def node(self) -> slicer.vtkMRMLLabelMapVolumeNode | None:
        """The label volume (1 added, 2 removed, 3 other label), or None."""
        return found(self.owner, self._role)

    @property
    def shown(self) -> bool:
        return self.node is not None and self.node.GetAttribute(layers.SHOWN) is not None

    def show(
        self,
        original: np.ndarray,
        edited: np.ndarray,
        ijk_to_ras: np.ndarray,
        reference: slicer.vtkMRMLVolumeNode | None = None,
    ) -> None:
        """Show the difference of two label volumes, uint8 (Z, Y, X), that lie at `ijk_to_ras` (4, 4)."""
        name, saved = _NODES[self._role]
        node = owned(self.owner, self._role, "vtkMRMLLabelMapVolumeNode", name, saved)
        with at_once(node, node.GetDisplayNode()):
            node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(put_under(node, reference, ijk_to_ras)))
            write_voxels(node, changes(original, edited))
            node.GetDisplayNode().SetAndObserveColorNodeID(label_table("changes", CHANGES).GetID())
            set_beside(node, reference)
            node.SetAttribute(layers.SHOWN, "1")
            self.lay_out()

    def update(self, original: np.ndarray, box: LabelBox) -> None:
        """Bring the difference up to date where an edit changed the labels; `original` is the whole volume, uint8.

        One that the user deleted meanwhile is made again.
        """
        node = self.node
        if node is None or slicer.util.arrayFromVolume(node).shape != original.shape:
            result = ResultSegmentation(self.owner)
            edited = result.labels()
            edited[box.slices] = box.labels
            self.show(original, edited, result.ijk_to_ras, result.reference)
            return
        slicer.util.arrayFromVolume(node)[box.slices] = changes(original[box.slices], box.labels)
        slicer.util.arrayFromVolumeModified(node)

    def hide(self) -> None:
        """Take the difference off the views; what lay in the label layer before comes back."""
        if self.node is not None:
            self.node.SetAttribute(layers.SHOWN, None)
            self.lay_out()

    def lay_out(self) -> None:
        """Put the difference on the label layer of all slice views that there are now, if it is shown."""
        if self.shown:
            layers.occupy(layers.LABEL, self.node, CHANGE_OPACITY)
        elif self.node is not None:
            layers.leave(layers.LABEL, self.node)


class Preview:
    """The labels of one slice while a slider is dragged, over the segmentation, which stays as an outline meanwhile.

    Its volume is not saved with the scene.
    """

    def __init__(self, owner: slicer.vtkMRMLNode):
        self.owner = owner
        self._previewed: tuple[slice, slice, slice] | None = None
        self._fill_before = True

    def show(self, box: LabelBox | None) -> None:
        """Show the box's labels in the segmentation's colours; replaces what was previewed before.

        None previews nothing new. Raises UsageError when there is no segmentation.
        """
        if box is None:
            return
        result = ResultSegmentation(self.owner)
        shape = result.shape
        node = owned(self.owner, "preview", "vtkMRMLLabelMapVolumeNode", "Preview", saved=False)
        if node.GetImageData() is None or slicer.util.arrayFromVolume(node).shape != shape:
            write_voxels(node, np.zeros(shape, np.uint8))
            self._previewed = None
        voxels = slicer.util.arrayFromVolume(node)
        if self._previewed is not None:
            voxels[self._previewed] = 0
        voxels[box.slices] = box.labels
        if self._previewed is None:
            with at_once(node, result.node.GetDisplayNode()):
                to_local = put_under(node, result.reference, result.ijk_to_ras)
                node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(to_local))
                node.GetDisplayNode().SetAndObserveColorNodeID(label_table("labels", result.colours).GetID())
                self._fill_before = result.node.GetDisplayNode().GetVisibility2DFill()
                result.node.GetDisplayNode().SetVisibility2DFill(False)
                layers.occupy(layers.LABEL, node, PREVIEW_OPACITY)
        self._previewed = box.slices
        slicer.util.arrayFromVolumeModified(node)

    def end(self) -> None:
        """Take the preview away: the segmentation and a difference are shown as before."""
        if self._previewed is None:
            return
        node, edited = found(self.owner, "preview"), found(self.owner, "edited")
        with slicer.util.RenderBlocker():
            if edited is not None:
                edited.GetDisplayNode().SetVisibility2DFill(self._fill_before)
            if node is not None:
                slicer.util.arrayFromVolume(node)[self._previewed] = 0
                layers.leave(layers.LABEL, node)
        self._previewed = None


def changes(original: np.ndarray, edited: np.ndarray) -> np.ndarray:
    """What became of each voxel, uint8: 0 unchanged, else a key of `CHANGES`. Both: uint8 labels of one shape."""
    changed = np.zeros(original.shape, np.uint8)
    differ = original != edited
    changed[differ] = RELABELLED
    changed[differ & (original == 0)] = ADDED
    changed[differ & (edited == 0)] = REMOVED
    return changed
