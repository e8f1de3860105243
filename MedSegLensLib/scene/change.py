"""Label layers above the segmentation: what an edit added and removed, and the slice that follows a slider's drag."""

import numpy as np
import slicer

from MedSegLensLib.worker.client import LabelBox


class Difference:
    """The voxels that edits added to the tumour, removed from it, or gave another label, on the slice views' label
    layer."""

    def __init__(self, owner: slicer.vtkMRMLNode):
        self.owner = owner

    def show(self, original: np.ndarray, edited: np.ndarray, ijk_to_ras, reference=None) -> None:
        """Show the difference of two label volumes, uint8 (Z, Y, X)."""
        raise NotImplementedError

    def update(self, original: np.ndarray, box: LabelBox) -> None:
        """Bring the shown difference up to date where an edit changed the labels; `original` is the whole volume."""
        raise NotImplementedError

    def hide(self) -> None:
        raise NotImplementedError


class Preview:
    """The labels of one slice while a slider is dragged, over the segmentation, which stays as an outline meanwhile."""

    def __init__(self, owner: slicer.vtkMRMLNode):
        self.owner = owner

    def show(self, box: LabelBox) -> None:
        """Show the box's labels in the segmentation's colours; replaces what was previewed before."""
        raise NotImplementedError

    def end(self) -> None:
        """Take the preview away: the segmentation and a difference are shown as before."""
        raise NotImplementedError
