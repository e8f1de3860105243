"""Where an edit acts, from what the reader drew: Slicer's ROI box, a segment, or a range of slices."""

import numpy as np
import slicer

from MedSegLensLib.editing.recipe import Box, SliceRange, VoxelMask


def box_of(roi: slicer.vtkMRMLMarkupsROINode) -> Box | VoxelMask:
    """The ROI in RAS: a Box when its axes are the patient's, else a mask of the turned box (voxels of about 1 mm).

    Raises UsageError for a ROI without extent or not yet placed.
    """
    raise NotImplementedError


def mask_of(segmentation: slicer.vtkMRMLSegmentationNode, segment_id: str) -> VoxelMask:
    """The segment's voxels on their own grid, in RAS with the parent transform.

    Raises UsageError for a segment that is not there or is empty.
    """
    raise NotImplementedError


def slices_of(lower: float, upper: float) -> SliceRange:
    """Between two axial positions (S, mm) in either order."""
    raise NotImplementedError


def roi_around(ras, size_mm: float = 30.0, owner: slicer.vtkMRMLNode | None = None) -> slicer.vtkMRMLMarkupsROINode:
    """A new axis-aligned ROI box around a point, for the reader to adjust; kept as the owner's `roi` when given."""
    raise NotImplementedError


def volume_of_mask(mask: VoxelMask) -> tuple[np.ndarray, np.ndarray]:
    """A mask as an array (Z, Y, X) and its (4, 4) IJK to RAS, for showing what a recipe acts on."""
    raise NotImplementedError
