"""Where an edit acts, from what the reader drew: Slicer's ROI box, a segment, or a range of slices."""

import itertools

import numpy as np
import slicer
import slicer.util
import vtk
import vtk.util.numpy_support

from MedSegLensLib.editing.recipe import Box, SliceRange, VoxelMask
from MedSegLensLib.errors import UsageError
from MedSegLensLib.scene.grid import parent_to_world
from MedSegLensLib.scene.ownership import owned
from MedSegLensLib.scene.views import Point

MASK_SPACING = 1.0
"""Voxels (mm) of the mask that a turned box becomes; fewer, larger ones where the box is very large."""

LARGEST_MASK = 2**24
"""Voxels of such a mask."""


def box_of(roi: slicer.vtkMRMLMarkupsROINode) -> Box | VoxelMask:
    """The ROI in RAS: a Box when its axes are the patient's, else a mask of the turned box (voxels of about 1 mm).

    Raises UsageError for a ROI that is not yet placed, has no extent, or lies under a transform that warps it.
    """
    subject = roi.GetName()
    if roi.GetNumberOfControlPoints() < 1 or not all(side > 0 for side in roi.GetSize()):
        raise UsageError(subject, "the box is not placed yet, or has no extent.", "Draw it in a slice view first.")
    if roi.GetInsideOut():
        raise UsageError(subject, "the box is turned inside out.", "Switch off 'Inside out' in the Markups module.")
    parent = roi.GetParentTransformNode()
    if parent is not None and not parent.IsTransformToWorldLinear():
        raise UsageError(subject, "its transform is not linear.", "Take the box out of the transform.")
    # The object's own axes need not be at right angles in the world when a parent transform scales; corners are exact.
    to_world = slicer.util.arrayFromVTKMatrix(roi.GetObjectToWorldMatrix())
    axes, half = to_world[:3, :3], np.array(roi.GetSize()) / 2
    lengths = np.linalg.norm(axes, axis=0)
    along = np.abs(axes / lengths)
    if np.all(along.max(axis=0) > 1 - 1e-6):
        reach = np.array(list(itertools.product((-1, 1), repeat=3))) * half
        points = reach @ axes.T + to_world[:3, 3]
        return Box(tuple(points.min(axis=0)), tuple(points.max(axis=0)))
    direction = axes / lengths
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-3):
        raise UsageError(subject, "its transform shears the box.", "Take the box out of the transform.")
    sides = 2 * half * lengths
    spacing = max(MASK_SPACING, float(np.cbrt(np.prod(sides) / LARGEST_MASK)))
    counts = np.maximum(1, np.rint(sides / spacing).astype(int))
    spacings = sides / counts
    first = to_world[:3, 3] + direction @ (spacings / 2 - sides / 2)
    voxels = np.ones(counts[::-1], bool)
    return VoxelMask.from_array(voxels, tuple(first), tuple(spacings), tuple(direction.ravel()))


def mask_of(segmentation: slicer.vtkMRMLSegmentationNode, segment_id: str) -> VoxelMask:
    """The segment's voxels on their own grid, in RAS with the parent transform.

    Raises UsageError for a segment that is not there or is empty, or lies under a transform that warps it.
    """
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    if segment is None:
        raise UsageError(segmentation.GetName(), f"it has no segment {segment_id!r}.", "Choose one of its segments.")
    subject = f"{segmentation.GetName()}, {segment.GetName()}"
    parent = segmentation.GetParentTransformNode()
    if parent is not None and not parent.IsTransformToWorldLinear():
        raise UsageError(subject, "its transform is not linear.", "Harden the transform of the segmentation.")
    image = slicer.vtkOrientedImageData()
    voxels = None
    if segmentation.GetBinaryLabelmapRepresentation(segment_id, image) and not image.IsEmpty():
        voxels = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    if voxels is None or not voxels.any():
        raise UsageError(subject, "the segment is empty.", "Draw it in the Segment Editor first.")
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    to_world = parent_to_world(segmentation) @ slicer.util.arrayFromVTKMatrix(matrix)
    spacing = np.linalg.norm(to_world[:3, :3], axis=0)
    extent = image.GetExtent()
    origin = (to_world @ (extent[0], extent[2], extent[4], 1))[:3]
    array = voxels.reshape(tuple(reversed(image.GetDimensions())))
    direction = to_world[:3, :3] / spacing
    return VoxelMask.from_array(array, tuple(origin), tuple(spacing), tuple(direction.ravel()))


def slices_of(lower: float, upper: float) -> SliceRange:
    """Between two axial positions (S, mm) in either order."""
    return SliceRange(min(lower, upper), max(lower, upper))


def roi_around(ras: Point, owner: slicer.vtkMRMLNode, size_mm: float = 30.0) -> slicer.vtkMRMLMarkupsROINode:
    """The owner's ROI box, placed anew around a point with its sides along the patient's axes, for the reader to
    adjust."""
    roi = owned(owner, "roi", "vtkMRMLMarkupsROINode", "MedSegLens box")
    with slicer.util.NodeModify(roi):
        roi.SetAndObserveTransformNodeID(None)
        turned_back = vtk.vtkMatrix4x4()
        roi.SetAndObserveObjectToNodeMatrix(turned_back)
        roi.SetCenter(*ras)
        roi.SetSize(size_mm, size_mm, size_mm)
        roi.SetDisplayVisibility(True)
    display = roi.GetDisplayNode()
    display.SetFillOpacity(0.05)
    display.SetPropertiesLabelVisibility(False)
    return roi


def volume_of_mask(mask: VoxelMask) -> tuple[np.ndarray, np.ndarray]:
    """A mask as an array (Z, Y, X) and its (4, 4) IJK to RAS, as `Volume` takes them."""
    to_ras = np.eye(4)
    to_ras[:3, :3] = np.reshape(mask.direction, (3, 3)) * mask.spacing
    to_ras[:3, 3] = mask.origin
    return mask.array, to_ras
