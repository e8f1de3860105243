"""The result as a segmentation beside the input, and the unedited original kept for comparison.

result = ResultSegmentation(owner)
result.make(labels, ijk_to_ras, label_meta, reference)    # at Apply
result.update(edited.box)                                 # after an edit: only what changed is written
result.show("original"); result.show("edited")            # hold to see the original

The labels NCR, ED and ET are three segments sharing one labelmap, so that an update writes each voxel once. WT is their
union and may be shown as a fourth, outlined segment (`show_whole_tumour`).
"""

import numpy as np
import slicer
import slicer.util
import vtk

from MedSegLensLib.cases.case import REGIONS
from MedSegLensLib.errors import UsageError
from MedSegLensLib.scene import labelmap
from MedSegLensLib.scene.grid import ijk_to_world, parent_to_world, put_under, shape_of
from MedSegLensLib.scene.ownership import found, owned, set_beside
from MedSegLensLib.scene.terminology import WHOLE_TUMOUR, terminology_entry
from MedSegLensLib.scene.views import at_once
from MedSegLensLib.worker.answers import LabelBox

WHICH = ("edited", "original")

LABEL = "MedSegLens.Label"
"""Tag of a segment of ours: its label value in the pack. Saved with the segmentation, where Slicer may renumber."""

SURFACE = "MedSegLens.Surface"
"""Attribute of a segmentation whose surfaces the reader wants in 3D."""

WT = "WT"
WT_COLOUR = (255, 255, 255)

FILL, OUTLINE, OUTLINE_PIXELS = 0.0, 1.0, 2


class ResultSegmentation:
    """The two segmentations of an owner: "edited" (what the reader works on) and "original" (as first segmented).

    Holds no state of its own: everything is read from the nodes, so that one made after a scene was loaded goes on
    where the last one ended.
    """

    def __init__(self, owner: slicer.vtkMRMLNode):
        self.owner = owner

    @property
    def node(self) -> slicer.vtkMRMLSegmentationNode | None:
        """The edited segmentation, or None."""
        return found(self.owner, "edited")

    @property
    def original(self) -> slicer.vtkMRMLSegmentationNode | None:
        """The unedited segmentation, or None."""
        return found(self.owner, "original")

    @property
    def reference(self) -> slicer.vtkMRMLVolumeNode | None:
        """The input volume whose grid the segmentation has, or None when the user deleted it."""
        role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
        return None if self.node is None else self.node.GetNodeReference(role)

    def make(
        self,
        labels: np.ndarray,
        ijk_to_ras: np.ndarray,
        label_meta: list[dict],
        reference: slicer.vtkMRMLVolumeNode | None,
        name: str | None = None,
        original: np.ndarray | None = None,
    ) -> slicer.vtkMRMLSegmentationNode:
        """Both segmentations from labels uint8 (Z, Y, X), replacing the owner's former ones in place.

        ijk_to_ras: (4, 4) of `labels`, world. label_meta: the pack's labels, as `Opened.label_meta`.
        reference: the input (of `Opened.grid_of`) beside which they stand in the subject hierarchy; None when the user
            deleted it meanwhile.
        original: unedited labels where `labels` are edited already (a recipe was loaded); None: `labels` are unedited.
        """
        name = name or f"{'Tumour' if reference is None else reference.GetName()} segmentation"
        with slicer.util.RenderBlocker():
            for which, array in (("edited", labels), ("original", labels if original is None else original)):
                node = found(self.owner, which)
                fresh = node is None
                shown_name = name if which == "edited" else f"{name} (original)"
                node = owned(self.owner, which, "vtkMRMLSegmentationNode", shown_name)
                with slicer.util.NodeModify(node):
                    node.SetName(shown_name)
                    self._fill(node, array, ijk_to_ras, label_meta, reference)
                    set_beside(node, reference)
                if fresh:
                    self._dress(node)
            self.show("edited")
        return self.node

    def update(self, box: LabelBox | None) -> None:
        """Write the changed box (own grid) of the edited segmentation; one modified event; None changes nothing.

        Raises UsageError when there is no segmentation (the user deleted it) or the box lies outside its grid.
        """
        if box is None:
            return
        node = self._existing("edited")
        shape = labelmap.shape(node)
        if any(a < 0 or b > n for a, b, n in zip(box.lower, box.upper, shape, strict=True)):
            cause = f"the box {box.lower} to {box.upper} lies outside its grid {shape}."
            raise UsageError(node.GetName(), cause, "Press Apply to segment the case again.")
        segments = self._segments(node)
        image = labelmap.shared(node, segments)
        if image is None:  # loaded from a file, or edited by hand: one labelmap again, and from now on in place
            labels = labelmap.read(node, segments)
            labels[box.slices] = box.labels
            labelmap.put(node, segments, labels)
        else:
            labelmap.write(node, next(iter(segments)), image, box.slices, box.labels)
        if node.GetSegmentation().GetSegment(WT) is not None:
            self._update_whole_tumour(node, box)

    def reset(self) -> None:
        """The edited labels become the original's."""
        labels = self.labels("original")
        self.update(LabelBox((0, 0, 0), labels.shape, labels))

    def labels(self, which: str = "edited") -> np.ndarray:
        """Labels uint8 (Z, Y, X) on the case's own grid, a copy; `which` is "edited" or "original".

        True also after the user painted in the Segment Editor or a scene was loaded.
        Raises UsageError when the user deleted the segmentation."""
        node = self._existing(which)
        return labelmap.read(node, self._segments(node))

    @property
    def ijk_to_ras(self) -> np.ndarray:
        """(4, 4) of `labels`, world."""
        node = self._existing("edited")
        return parent_to_world(node) @ labelmap.ijk_to_local(node)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, Y, X) of `labels`."""
        return labelmap.shape(self._existing("edited"))

    @property
    def segments(self) -> dict[str, int]:
        """Label value by segment ID. Raises UsageError when the user deleted the segmentation."""
        return self._segments(self._existing("edited"))

    @property
    def colours(self) -> dict[int, tuple[str, tuple[int, int, int]]]:
        """Name and RGB 0-255 of each label, as the reader has them now."""
        node = self._existing("edited")
        segments = {value: node.GetSegmentation().GetSegment(one) for one, value in self._segments(node).items()}
        return {
            value: (segment.GetName(), tuple(round(255 * part) for part in segment.GetColor()))
            for value, segment in segments.items()
        }

    def volumes_ml(self, which: str = "edited") -> dict[str, float]:
        """Millilitres of WT, TC, ET, NCR, ED."""
        labels = self.labels(which)
        voxel_ml = float(abs(np.linalg.det(self.ijk_to_ras[:3, :3]))) / 1000
        counts = {value: int(np.count_nonzero(labels == value)) for value in REGIONS["WT"]}
        return {region: voxel_ml * sum(counts[value] for value in values) for region, values in REGIONS.items()}

    def show(self, which: str | None) -> None:
        """Show "edited", "original", or with None neither, in all views."""
        displays = {one: found(self.owner, one).GetDisplayNode() for one in WHICH if found(self.owner, one)}
        if which == "original" and len(displays) == 2:
            _dress_like(displays["original"], displays["edited"])
        with at_once(*displays.values()):
            for one, display in displays.items():
                display.RemoveAllViewNodeIDs()
                display.SetVisibility(one == which)

    @property
    def shown(self) -> str | None:
        """Which is shown in the views: "edited", "original", "both" (side by side) or None."""
        nodes = [(one, found(self.owner, one)) for one in WHICH]
        visible = [one for one, node in nodes if node is not None and node.GetDisplayNode().GetVisibility()]
        return "both" if len(visible) == 2 else (visible or [None])[0]

    def show_side_by_side(self, edited_views: list[str], original_views: list[str]) -> None:
        """Show each in its own views (view node IDs) only; `show` ends it."""
        views = {"edited": edited_views, "original": original_views}
        displays = {one: self._existing(one).GetDisplayNode() for one in WHICH}
        _dress_like(displays["original"], displays["edited"])
        with at_once(*displays.values()):
            for one, display in displays.items():
                display.RemoveAllViewNodeIDs()
                for view in views[one]:
                    display.AddViewNodeID(view)
                display.SetVisibility(True)

    def show_surface(self, on: bool) -> None:
        """Closed surfaces in 3D: costly (seconds), so made only here; an update drops them until called again."""
        node = self._existing("edited")
        with slicer.util.RenderBlocker():
            node.SetAttribute(SURFACE, "1" if on else None)
            node.GetDisplayNode().SetVisibility3D(on)
            if on:
                node.CreateClosedSurfaceRepresentation()
            else:
                node.RemoveClosedSurfaceRepresentation()

    @property
    def surface_stale(self) -> bool:
        """Whether surfaces are wanted in 3D and out of date: call `show_surface(True)` when idle."""
        node = self.node
        if node is None or node.GetAttribute(SURFACE) is None:
            return False
        name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
        return not node.GetSegmentation().ContainsRepresentation(name)

    def show_whole_tumour(self, on: bool) -> None:
        """WT as a fourth segment, outlined only, kept up to date by `update`."""
        node = self._existing("edited")
        segmentation = node.GetSegmentation()
        with at_once(node):
            there = segmentation.GetSegment(WT) is not None
            if not on:
                if there:
                    segmentation.RemoveSegment(WT)
                return
            if not there:
                segment = _new_segment("Whole tumour", WT_COLOUR, WHOLE_TUMOUR)
                segmentation.AddSegment(segment, WT)
                display = node.GetDisplayNode()
                display.SetSegmentVisibility2DFill(WT, False)
                display.SetSegmentVisibility3D(WT, False)
            labelmap.put(node, {WT: 1}, self.labels() > 0)

    def _existing(self, which: str) -> slicer.vtkMRMLSegmentationNode:
        node = found(self.owner, which)
        if node is None or not self._segments(node):
            cause = f"the {which} segmentation, or its segments, were deleted from the scene."
            raise UsageError("segmentation", cause, "Press Apply to make it again; the edits are kept.")
        return node

    def _segments(self, node: slicer.vtkMRMLSegmentationNode) -> labelmap.Segments:
        """Label value by segment ID, of those that came from the pack."""
        segments, value = {}, vtk.reference("")
        segmentation = node.GetSegmentation()
        for number in range(segmentation.GetNumberOfSegments()):
            if segmentation.GetNthSegment(number).GetTag(LABEL, value):
                segments[segmentation.GetNthSegmentID(number)] = int(str(value))
        return segments

    def _fill(self, node, labels, ijk_to_ras, label_meta, reference) -> None:
        """Geometry, segments and voxels of one of the two."""
        segmentation = node.GetSegmentation()
        to_local = put_under(node, reference, ijk_to_ras)
        wanted = {meta["name"]: meta["value"] for meta in label_meta}
        role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
        if reference is not None and shape_of(reference) == labels.shape and np.allclose(
            ijk_to_world(reference), ijk_to_ras, atol=1e-3
        ):
            node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
        else:  # the voxels lie on a grid of their own; the volume still tells DICOM export which study this is of
            labelmap.set_geometry(node, labels.shape, to_local)
            node.SetNodeReferenceID(role, None if reference is None else reference.GetID())
        if self._segments(node) != wanted:
            segmentation.RemoveAllSegments()
            for meta in label_meta:
                segment = _new_segment(meta["region"], meta["colour"], meta["code"])
                segment.SetTag(LABEL, str(meta["value"]))
                segmentation.AddSegment(segment, meta["name"])
        labelmap.put(node, wanted, labels)
        if segmentation.GetSegment(WT) is not None:
            labelmap.put(node, {WT: 1}, labels > 0)

    def _dress(self, node: slicer.vtkMRMLSegmentationNode) -> None:
        display = node.GetDisplayNode()
        with slicer.util.NodeModify(display):
            display.SetOpacity2DFill(FILL)
            display.SetOpacity2DOutline(OUTLINE)
            display.SetSliceIntersectionThickness(OUTLINE_PIXELS)
            display.SetVisibility3D(False)  # surfaces only when asked for: they cost seconds

    def _update_whole_tumour(self, node: slicer.vtkMRMLSegmentationNode, box: LabelBox) -> None:
        image = labelmap.shared(node, {WT: 1})
        if image is None:
            labelmap.put(node, {WT: 1}, self.labels() > 0)
        else:
            labelmap.write(node, WT, image, box.slices, box.labels > 0)


def _new_segment(name: str, colour: tuple[int, int, int], code: dict | None) -> slicer.vtkSegment:
    segment = slicer.vtkSegment()
    segment.SetName(name)
    segment.SetColor(*(part / 255 for part in colour))
    # The pack's name and colour, not those that Slicer would take from the terminology.
    segment.SetNameAutoGenerated(False)
    segment.SetColorAutoGenerated(False)
    if code is not None:
        segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), terminology_entry(code))
    return segment


def _dress_like(display, model) -> None:
    """Give a segmentation display what the reader set on another one."""
    with slicer.util.NodeModify(display):
        display.SetOpacity2DFill(model.GetOpacity2DFill())
        display.SetOpacity2DOutline(model.GetOpacity2DOutline())
        display.SetVisibility2DFill(model.GetVisibility2DFill())
        display.SetVisibility2DOutline(model.GetVisibility2DOutline())
        display.SetSliceIntersectionThickness(model.GetSliceIntersectionThickness())
