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

from MedSegLensLib.worker.client import LabelBox


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
        raise NotImplementedError

    @property
    def original(self) -> slicer.vtkMRMLSegmentationNode | None:
        """The unedited segmentation, or None."""
        raise NotImplementedError

    @property
    def reference(self) -> slicer.vtkMRMLVolumeNode | None:
        """The input volume whose grid the segmentation has, or None when the user deleted it."""
        raise NotImplementedError

    def make(
        self,
        labels: np.ndarray,
        ijk_to_ras: np.ndarray,
        label_meta: list[dict],
        reference: slicer.vtkMRMLVolumeNode,
        name: str | None = None,
        original: np.ndarray | None = None,
    ) -> slicer.vtkMRMLSegmentationNode:
        """Both segmentations from labels uint8 (Z, Y, X), replacing the owner's former ones in place.

        ijk_to_ras: (4, 4) of `labels`, world. label_meta: the pack's labels, as `Opened.label_meta`.
        reference: the input beside which they stand in the subject hierarchy.
        original: unedited labels where `labels` are edited already (a recipe was loaded); None: `labels` are unedited.
        """
        raise NotImplementedError

    def update(self, box: LabelBox | None) -> None:
        """Write the changed box (own grid) of the edited segmentation; one modified event; None changes nothing.

        Raises UsageError when there is no segmentation (the user deleted it) or the box lies outside its grid.
        """
        raise NotImplementedError

    def reset(self) -> None:
        """The edited labels become the original's."""
        raise NotImplementedError

    def labels(self, which: str = "edited") -> np.ndarray:
        """Labels uint8 (Z, Y, X) on the case's own grid, a copy; `which` is "edited" or "original".

        True also after the user painted in the Segment Editor or a scene was loaded."""
        raise NotImplementedError

    def volumes_ml(self, which: str = "edited") -> dict[str, float]:
        """Millilitres of WT, TC, ET, NCR, ED."""
        raise NotImplementedError

    def show(self, which: str | None) -> None:
        """Show "edited", "original", or with None neither, in all views."""
        raise NotImplementedError

    def show_side_by_side(self, edited_views: list[str], original_views: list[str]) -> None:
        """Show each in its own views (view node IDs) only; `show` ends it."""
        raise NotImplementedError

    def show_surface(self, on: bool) -> None:
        """Closed surfaces in 3D: costly (seconds), so made only here; an update drops them until called again."""
        raise NotImplementedError

    @property
    def surface_stale(self) -> bool:
        """Whether surfaces are wanted in 3D and out of date: call `show_surface(True)` when idle."""
        raise NotImplementedError

    def show_whole_tumour(self, on: bool) -> None:
        """WT as a fourth segment, outlined only, kept up to date by `update`."""
        raise NotImplementedError
