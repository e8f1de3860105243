"""A reference segmentation that the reader chose, as labels to measure Dice against."""

import re

import numpy as np
import slicer
import slicer.util
import vtk

from MedSegLensLib.cases.case import LABELS
from MedSegLensLib.errors import CaseError
from MedSegLensLib.scene import labelmap
from MedSegLensLib.scene.grid import parent_to_world
from MedSegLensLib.scene.segmentation import LABEL
from MedSegLensLib.scene.study import volume_of
from MedSegLensLib.worker.answers import Volume

WORDS = {
    1: re.compile(r"\bncr\b|necro|non.?enhanc|\bnet\b"),
    2: re.compile(r"\bed\b|o?edema|snfh"),
    3: re.compile(r"\bet\b|(?<!non.)(?<!non)enhanc"),
}
"""How segments of BraTS references are named, by label."""


def reference_volume(node: slicer.vtkMRMLNode) -> Volume:
    """Labels (0 to 3, uint8) of a label volume or a segmentation whose segments are named as BraTS names them.

    A 4 in a volume (BraTS 2021's enhancing tumour) becomes 3.
    Raises CaseError for a node without voxels or reference geometry, or whose labels or segments are none of BraTS's.
    """
    if node.IsA("vtkMRMLSegmentationNode"):
        return _from_segmentation(node)
    volume = volume_of(node)
    values = np.unique(volume.array)
    if not np.isin(values, (0, 1, 2, 3, 4)).all() or {3, 4} <= set(values.tolist()):
        cause = f"its values ({', '.join(f'{v:g}' for v in values[:6])}) are not BraTS labels."
        raise CaseError(node.GetName(), cause, "Choose a segmentation with the labels 1 NCR, 2 ED, 3 (or 4) ET.")
    labels = volume.array.astype(np.uint8)
    labels[labels == 4] = 3
    return Volume(labels, volume.ijk_to_ras, volume.name)


def _from_segmentation(node: slicer.vtkMRMLSegmentationNode) -> Volume:
    segmentation, segments = node.GetSegmentation(), {}
    tag = vtk.reference("")
    for number in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(number)
        told = [value for value, words in WORDS.items() if words.search(segment.GetName().lower())]
        if segment.GetTag(LABEL, tag):
            segments[segmentation.GetNthSegmentID(number)] = int(str(tag))
        elif len(told) == 1:
            segments[segmentation.GetNthSegmentID(number)] = told[0]
    if not segments:
        cause = "none of its segments is named as BraTS names them."
        raise CaseError(node.GetName(), cause, f"Name its segments {', '.join(LABELS.values())}.")
    to_ras = parent_to_world(node) @ labelmap.ijk_to_local(node)
    return Volume(labelmap.read(node, segments), to_ras, node.GetName())
