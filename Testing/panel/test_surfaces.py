"""Surfaces in 3D, judged by the pixels of the 3D view; and what a study's reference does not do to the views."""

import numpy as np
import slicer
from phantoms import SMALL

COLOURS = {"NCR": (1, 0, 0), "ED": (0, 1, 0), "ET": (1, 1, 0)}
"""A reader's own: the tiny pack's are nearly black. Nothing else in the 3D view has such a hue."""


def coloured(pixels: np.ndarray) -> int:
    """How many pixels (rows, columns, 3) have the hue of a segment, lit or in shade."""
    pixels = pixels.astype(float)
    length = np.linalg.norm(pixels, axis=-1)
    alike = [pixels @ colour / (np.linalg.norm(colour) * np.maximum(length, 1)) > 0.96 for colour in COLOURS.values()]
    return int(np.count_nonzero(np.any(alike, axis=0) & (length > 60)))


def test_the_3d_view_turns_to_the_surfaces_in_their_colours(host, widget, panel, phantom_in_scene, idle):
    slicer.mrmlScene.RemoveNode(phantom_in_scene.reference)  # it would stay where it is
    for modality in ("t1n", "t1c", "t2w", "t2f"):  # as in BraTS: the origin is a corner of the head
        node = getattr(phantom_in_scene, modality)
        node.SetOrigin(*(o + d for o, d in zip(node.GetOrigin(), (-150.0, 150.0, 90.0), strict=True)))
    host.click(panel.apply.ui.applyButton)
    idle()
    assert widget.review.isOpen, panel.apply.ui.messageLabel.text
    assert widget.review.result.labels().any(), "the tiny pack labels something"
    for name, colour in COLOURS.items():
        widget.review.result.node.GetSegmentation().GetSegment(name).SetColor(colour)
    view = slicer.app.layoutManager().threeDWidget(0).threeDView()

    def seen() -> int:
        host.process(0.2)
        return coloured(view._host_pixels())

    assert seen() < 50
    panel.regions.ui.surfaceCheckBox.checked = True
    assert seen() > 5000, "15,910 of 176,000; a view that was not turned sees 2,352 at its edge"
    panel.regions.ui.surfaceCheckBox.checked = False
    assert seen() < 50


def test_a_reference_beside_the_volumes_is_compared_with_and_not_drawn_over_them(host, widget, panel, tmp_path):
    from MedSegLensLib.cases.phantom import phantom
    from MedSegLensLib.cases.writing import write_case

    write_case(phantom(1, **SMALL), tmp_path / "study")
    panel.study.loadFolder(str(tmp_path / "study"))
    host.process(0.1)
    assert widget.parameters.reference is not None
    logic = slicer.app.layoutManager().sliceWidget("Red").sliceLogic()
    assert logic.GetSliceCompositeNode().GetLabelVolumeID() is None
    assert logic.GetSliceCompositeNode().GetBackgroundVolumeID() is not None
