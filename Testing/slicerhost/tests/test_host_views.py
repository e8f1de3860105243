"""The views show the scene, and the mouse and layouts work in them."""

import numpy as np
import pytest


@pytest.fixture
def head(host):
    """A ball of 60 mm radius around RAS (0, 0, 0) on a 2 mm grid, shown in the slice views."""
    import slicer

    z, y, x = np.mgrid[:60, :80, :80]
    ball = ((z - 30) ** 2 + (y - 40) ** 2 + (x - 40) ** 2 < 30**2).astype(np.float32) * 100
    to_ras = np.diag([-2.0, -2.0, 2.0, 1.0])
    to_ras[:3, 3] = 80, 80, -60
    node = slicer.util.addVolumeFromArray(ball, to_ras, "head")
    host.show()
    slicer.util.setSliceViewerLayers(background=node, fit=True)
    for name in ("Red", "Yellow", "Green"):
        slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode().JumpSliceByOffsetting(0, 0, 0)
    host.process()
    return node


def coloured(image) -> np.ndarray:
    """Where a picture is not grey."""
    return image.max(2).astype(int) - image.min(2) > 30


def overlay(head, centre_ras, radius_mm):
    import slicer

    z, y, x = np.mgrid[:60, :80, :80]
    r, a, s = 80 - 2 * x, 80 - 2 * y, 2 * z - 60
    ball = (r - centre_ras[0]) ** 2 + (a - centre_ras[1]) ** 2 + (s - centre_ras[2]) ** 2 < radius_mm**2
    to_ras = slicer.vtkMRMLScalarVolumeNode.GetIJKToRASMatrix
    matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
    to_ras(head, matrix)
    node = slicer.util.addVolumeFromArray(ball.astype(np.float32), matrix, "overlay")
    node.GetDisplayNode().SetAndObserveColorNodeID("vtkMRMLColorTableNodeRed")
    slicer.util.setSliceViewerLayers(foreground=node, foregroundOpacity=0.6)
    return node


def test_an_overlay_is_seen_where_it_lies(host, head):
    assert not coloured(host.view("Red").image()).any()
    overlay(head, (30, -20, 0), 16)
    host.process()
    for name in ("Red", "Yellow", "Green"):
        view = host.view(name)
        rows, columns = np.nonzero(coloured(view.image()))
        if name == "Red":
            x, y = view.pixel((30, -20, 0))
            assert abs(columns.mean() - x) < 3 and abs(rows.mean() - y) < 3
            mm_per_pixel = view.view.mrmlSliceNode().GetFieldOfView()[0] / view.view.width
            assert len(rows) * mm_per_pixel**2 == pytest.approx(np.pi * 16**2, rel=0.15)
        assert name == "Red" or not len(rows)  # at 30, -20 it lies off the two other slices


def test_a_changed_voxel_redraws_the_views_by_itself(host, head):
    import slicer

    node = overlay(head, (0, 0, 0), 20)
    host.process()
    before, draws = coloured(host.view("Red").image()).sum(), host.view("Red").draws
    slicer.util.arrayFromVolume(node)[:] = 0
    slicer.util.arrayFromVolumeModified(node)
    host.process()
    assert before > 100 and coloured(host.view("Red").image()).sum() == 0
    assert host.view("Red").draws == draws + 1


def test_rendering_is_held_back_while_blocked(host, head):
    import slicer

    draws = host.view("Red").draws
    with slicer.util.RenderBlocker():
        for offset in (2, 4, 6):
            slicer.app.layoutManager().sliceWidget("Red").sliceLogic().SetSliceOffset(offset)
            host.process()
        assert host.view("Red").draws == draws
    host.process()
    assert host.view("Red").draws == draws + 1


def test_a_segmentation_is_seen_in_slices_and_in_3d(host, head):
    import slicer

    labels = slicer.modules.volumes.logic().CreateAndAddLabelVolume(slicer.mrmlScene, head, "labels")
    slicer.util.arrayFromVolume(labels)[20:40, 30:50, 30:50] = 1
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "seg")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(head)
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, segmentation)
    before = host.view("1").image()
    segmentation.GetSegmentation().GetNthSegment(0).SetColor(1, 0, 0)
    segmentation.CreateClosedSurfaceRepresentation()
    slicer.app.layoutManager().resetThreeDViews()
    host.process()
    assert coloured(host.view("Red").image()).sum() > 1000
    assert (np.abs(host.view("1").image().astype(int) - before).max(2) > 60).sum() > 200


def test_a_scene_comes_back_from_a_bundle_as_it_looked(host, head, tmp_path):
    import slicer

    overlay(head, (30, -20, 0), 16)
    host.process()
    before = coloured(host.view("Red").image())
    host.save_scene(tmp_path / "scene.mrb")
    host.close_scene()
    assert not coloured(host.view("Red").image()).any()
    host.load_scene(tmp_path / "scene.mrb")
    assert slicer.util.getNode("overlay")
    assert (coloured(host.view("Red").image()) ^ before).sum() <= 0.02 * before.sum()


def test_the_wheel_moves_by_slices_and_shift_moves_the_crosshair(host, head):
    import slicer

    logic = slicer.app.layoutManager().sliceWidget("Red").sliceLogic()
    start = logic.GetSliceOffset()
    host.view("Red").wheel(2)
    assert logic.GetSliceOffset() == pytest.approx(start + 4)
    host.view("Red").move(ras=(20, -10, 4), modifiers="Shift")
    crosshair = slicer.mrmlScene.GetSingletonNode("default", "vtkMRMLCrosshairNode")
    assert crosshair.GetCrosshairRAS() == pytest.approx((20, -10, 4), abs=1.5)
    offset = slicer.app.layoutManager().sliceWidget("Yellow").sliceLogic().GetSliceOffset()
    assert abs(offset) == pytest.approx(20, abs=1.5)


def test_layouts_make_and_arrange_views(host, head):
    import slicer

    manager, node = slicer.app.layoutManager(), slicer.vtkMRMLLayoutNode
    manager.setLayout(node.SlicerLayoutSideBySideView)
    host.process()
    assert manager.layout == node.SlicerLayoutSideBySideView
    seen = [n for n in manager.sliceViewNames() if manager.sliceWidget(n).isVisible()]
    assert sorted(seen) == ["Red", "Yellow"]
    manager.setLayout(node.SlicerLayoutThreeOverThreeView)
    host.process()
    assert manager.sliceWidget("Red+").isVisible()
    assert manager.sliceWidget("nonsense") is None
    manager.setLayout(node.SlicerLayoutFourUpTableView)
    with pytest.raises(AssertionError, match="no view for a vtkMRMLTableViewNode"):
        host.process()
    manager.setLayout(node.SlicerLayoutFourUpView)


def test_points_are_placed_by_clicks(host, head):
    import slicer

    place = slicer.qSlicerMarkupsPlaceWidget()
    place.setMRMLScene(slicer.mrmlScene)
    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "points")
    points.CreateDefaultDisplayNodes()
    place.setCurrentNode(points)
    place.setPlaceModeEnabled(True)
    host.view("Red").click(ras=(10, 20, 0))
    assert points.GetNumberOfControlPoints() == 1
    at = [0.0] * 3
    points.GetNthControlPointPositionWorld(0, at)
    assert at == pytest.approx((10, 20, 0), abs=1.5)
    assert not place.placeModeEnabled


def test_the_window_is_written_as_a_picture(host, head, sample, tmp_path):
    from PySide6 import QtGui

    path = host.screenshot(tmp_path / "window.png", (1200, 800))
    image = QtGui.QImage(str(path))
    assert (image.width(), image.height()) == (1200, 800)
