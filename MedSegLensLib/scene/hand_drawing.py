"""Where no latent does it the reader draws: Slicer's Segment Editor, with the region at a place prepared."""

import numpy as np
import slicer
import slicer.util

from MedSegLensLib.cases.case import REGIONS
from MedSegLensLib.scene import labelmap
from MedSegLensLib.scene.segmentation import ResultSegmentation
from MedSegLensLib.scene.views import at_once
from MedSegLensLib.worker.answers import LabelBox

TISSUE = "MedSegLens.Tissue"
"""ID of the segment that holds the tissue; one for all places, drawn anew for each."""
_COLOUR = (1.0, 0.85, 0.1)
_EDITOR = "SegmentEditor"
"""The singleton tag under which Slicer's Segment Editor finds its settings."""


def prepare_drawing(
    result: ResultSegmentation, tissue: LabelBox, region: str, inside: bool
) -> slicer.vtkMRMLSegmentEditorNode:
    """Set the Segment Editor up for the result: it paints (inside) or erases the region's segment, within the tissue.

    tissue: 1 where it may. What the editor is to paint where a region has several labels is the first that the
    result has; the reader may choose another. Raises UsageError where the segmentation was deleted.
    """
    segments, node = result.segments, result.node
    mask = np.zeros(result.shape, np.uint8)
    mask[tissue.slices] = tissue.labels
    with at_once(node):
        if node.GetSegmentation().GetSegment(TISSUE) is None:
            segment = slicer.vtkSegment()
            segment.SetName("Region at the point")
            segment.SetColor(*_COLOUR)
            node.GetSegmentation().AddSegment(segment, TISSUE)
            node.GetDisplayNode().SetSegmentVisibility3D(TISSUE, False)
        labelmap.put(node, {TISSUE: 1}, mask)
    values = list(REGIONS[region])
    there = result.labels()[tissue.slices][tissue.labels > 0]
    if not inside:  # what is there most, of those that are to go
        values = sorted(values, key=lambda value: -np.count_nonzero(there == value))
    drawn = next(one for value in values for one, its in segments.items() if its == value)
    editor = slicer.mrmlScene.GetSingletonNode(_EDITOR, "vtkMRMLSegmentEditorNode")
    if editor is None:
        editor = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
        editor.UnRegister(None)
        editor.SetSingletonTag(_EDITOR)
        editor = slicer.mrmlScene.AddNode(editor)
    with slicer.util.NodeModify(editor):
        editor.SetAndObserveSegmentationNode(node)
        if result.reference is not None:
            editor.SetAndObserveSourceVolumeNode(result.reference)
        editor.SetSelectedSegmentID(drawn)
        editor.SetMaskSegmentID(TISSUE)
        editor.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
        editor.SetOverwriteMode(editor.OverwriteVisibleSegments if inside else editor.OverwriteNone)
        editor.SetActiveEffectName("Paint" if inside else "Erase")
    return editor
