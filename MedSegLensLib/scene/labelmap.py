"""The labels of a segmentation node as one array: several segments sharing one labelmap on the reference geometry.

Slicer may take this apart: a saved scene holds the labelmap cropped to its voxels, and painting in the Segment Editor
can move a segment to a layer of its own. `read` understands any state, `shared` gives the array to write into only
while it is whole, and `put` makes it whole again.
"""

import numpy as np
import slicer
import slicer.util
import vtk
import vtk.util.numpy_support

from MedSegLensLib.errors import CaseError

BINARY = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
GEOMETRY = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()

Segments = dict[str, int]
"""Label value by segment ID."""


def set_geometry(node: slicer.vtkMRMLSegmentationNode, shape: tuple[int, int, int], ijk_to_local: np.ndarray) -> None:
    """Set the reference geometry (without a reference volume). shape: (Z, Y, X)."""
    matrix = slicer.util.vtkMatrixFromArray(ijk_to_local)
    extent = [0, shape[2] - 1, 0, shape[1] - 1, 0, shape[0] - 1]
    text = slicer.vtkSegmentationConverter.SerializeImageGeometry(matrix, extent)
    node.GetSegmentation().SetConversionParameter(GEOMETRY, text)


def geometry(node: slicer.vtkMRMLSegmentationNode) -> slicer.vtkOrientedImageData:
    """An image without voxels on the reference geometry. Raises CaseError where the segmentation has none."""
    image = slicer.vtkOrientedImageData()
    text = node.GetSegmentation().GetConversionParameter(GEOMETRY)
    if not text or not slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, image, False):
        cause = "the segmentation has lost its reference geometry."
        raise CaseError(node.GetName(), cause, "Press Apply to segment the case again.")
    return image


def ijk_to_local(node: slicer.vtkMRMLSegmentationNode) -> np.ndarray:
    """(4, 4) of the reference geometry, before parent transforms."""
    matrix = vtk.vtkMatrix4x4()
    geometry(node).GetImageToWorldMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def put(node: slicer.vtkMRMLSegmentationNode, segments: Segments, labels: np.ndarray) -> None:
    """Let the segments, which are in the segmentation already, share a new labelmap. labels: uint8 (Z, Y, X)."""
    image = geometry(node)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    _voxels(image)[:] = labels
    wrapped = node.StartModify()
    for segment_id, value in segments.items():
        segment = node.GetSegmentation().GetSegment(segment_id)
        segment.SetLabelValue(value)
        segment.AddRepresentation(BINARY, image)
    node.EndModify(wrapped)


def shared(node: slicer.vtkMRMLSegmentationNode, segments: Segments) -> slicer.vtkOrientedImageData | None:
    """The labelmap that holds all the segments with their own values on the whole geometry, or None."""
    segmentation = node.GetSegmentation()
    images = []
    for segment_id, value in segments.items():
        segment = segmentation.GetSegment(segment_id)
        if segment is None or segment.GetLabelValue() != value:
            return None
        images.append(segment.GetRepresentation(BINARY))
    image, whole = images[0], geometry(node)
    if image is None or any(other is not image for other in images):
        return None
    resample = slicer.vtkOrientedImageDataResample
    fits = resample.DoGeometriesMatch(image, whole) and image.GetExtent() == whole.GetExtent()
    return image if fits and image.GetScalarType() == vtk.VTK_UNSIGNED_CHAR else None


def write(
    node: slicer.vtkMRMLSegmentationNode,
    segment_id: str,
    image: slicer.vtkOrientedImageData,
    box: tuple[slice, slice, slice],
    labels: np.ndarray,
) -> None:
    """Write a box of the labelmap that the segment shares with others; segmentation and views hear of it once."""
    _voxels(image)[box] = labels
    image.GetPointData().GetScalars().Modified()
    image.Modified()  # the segmentation drops surfaces made from it
    node.GetSegmentation().GetSegment(segment_id).Modified()  # the views draw anew


def read(node: slicer.vtkMRMLSegmentationNode, segments: Segments) -> np.ndarray:
    """Labels uint8 (Z, Y, X) on the reference geometry, a copy. Where segments overlap the later one counts."""
    image = shared(node, segments)
    if image is not None:
        labels = _voxels(image).copy()
        # A label that no segment stands for (the user deleted its segment) is background.
        labels[~np.isin(labels, list(segments.values()))] = 0
        return labels
    whole = geometry(node)
    labels = np.zeros(tuple(reversed(whole.GetDimensions())), np.uint8)
    for segment_id, value in segments.items():
        segment = node.GetSegmentation().GetSegment(segment_id)
        source = None if segment is None else segment.GetRepresentation(BINARY)
        if source is None or source.IsEmpty():
            continue
        placed = slicer.vtkOrientedImageData()
        slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(source, whole, placed)
        labels[_voxels(placed) == segment.GetLabelValue()] = value
    return labels


def shape(node: slicer.vtkMRMLSegmentationNode) -> tuple[int, int, int]:
    """(Z, Y, X) of the reference geometry."""
    return tuple(reversed(geometry(node).GetDimensions()))


def _voxels(image: slicer.vtkOrientedImageData) -> np.ndarray:
    """(Z, Y, X), a view."""
    scalars = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    return scalars.reshape(tuple(reversed(image.GetDimensions())))
