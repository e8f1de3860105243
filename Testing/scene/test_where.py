"""From what the reader drew to where an edit acts."""

import numpy as np
import pytest
import slicer
import slicer.util
from samples import GRIDS, LABEL_META, SHAPE, tumour, volume

from MedSegLensLib.editing.recipe import Box, SliceRange
from MedSegLensLib.errors import UsageError
from MedSegLensLib.scene.segmentation import ResultSegmentation
from MedSegLensLib.scene.where import box_of, mask_of, roi_around, slices_of, volume_of_mask


def turned(degrees) -> np.ndarray:
    a = np.deg2rad(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    return matrix


def place_under(node, matrix):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())


def places_of(mask) -> np.ndarray:
    """Centres of the mask's voxels, RAS, one per row, sorted."""
    array, to_ras = volume_of_mask(mask)
    index = np.argwhere(array)[:, ::-1]
    ras = (to_ras @ np.c_[index, np.ones(len(index))].T).T[:, :3]
    return np.array(sorted(map(tuple, np.round(ras, 3) + 0.0)))


def test_a_box_is_the_rois_box_in_ras(owner):
    roi = roi_around((10, -20, 30), owner, 40)
    assert box_of(roi) == Box((-10, -40, 10), (30, 0, 50))
    assert roi_around((0, 0, 0), owner, 10) is roi
    assert box_of(roi) == Box((-5, -5, -5), (5, 5, 5))


def test_a_box_turned_by_a_quarter_is_a_box(owner):
    roi = roi_around((10, 0, 0), owner, 10)
    roi.SetSize(20, 10, 6)
    place_under(roi, turned(90))
    box = box_of(roi)
    assert np.allclose((box.lower, box.upper), ((-5, 0, -3), (5, 20, 3)))


def test_a_turned_box_becomes_a_mask_of_its_volume_and_place(owner):
    roi = roi_around((10, 5, 2), owner, 10)
    roi.SetSize(30, 12, 8)
    place_under(roi, turned(30))
    mask = box_of(roi)
    places = places_of(mask)
    assert len(places) * np.prod(mask.spacing) == pytest.approx(30 * 12 * 8)
    assert np.allclose(places.mean(axis=0), (turned(30) @ (10, 5, 2, 1))[:3], atol=0.01)
    local = (np.linalg.inv(turned(30)) @ np.c_[places, np.ones(len(places))].T).T[:, :3] - (10, 5, 2)
    assert np.all(np.abs(local) < (15, 6, 4))


def test_a_box_that_is_none_is_refused(owner, scene):
    with pytest.raises(UsageError, match="not placed"):
        box_of(scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "new"))
    roi = roi_around((0, 0, 0), owner, 10)
    roi.SetSize(10, 0, 10)
    with pytest.raises(UsageError, match="no extent"):
        box_of(roi)
    roi.SetSize(10, 10, 10)
    roi.SetInsideOut(True)
    with pytest.raises(UsageError, match="inside out"):
        box_of(roi)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_segment_becomes_its_voxels_where_they_lie(owner, grid):
    node = ResultSegmentation(owner).make(tumour(), GRIDS[grid], LABEL_META, volume("t1c", GRIDS[grid]))
    mask = mask_of(node, "ET")
    index = np.argwhere(tumour() == 3)[:, ::-1]
    expected = (GRIDS[grid] @ np.c_[index, np.ones(len(index))].T).T[:, :3]
    assert np.allclose(places_of(mask), np.array(sorted(map(tuple, np.round(expected, 3) + 0.0))), atol=2e-3)


def test_a_transformed_segment_moves_along(owner):
    node = ResultSegmentation(owner).make(tumour(), GRIDS["as scanned"], LABEL_META, None)
    before = places_of(mask_of(node, "NCR"))
    place_under(node, turned(30))
    after = places_of(mask_of(node, "NCR"))
    moved = (turned(30) @ np.c_[before, np.ones(len(before))].T).T[:, :3]
    assert np.allclose(after.mean(axis=0), moved.mean(axis=0), atol=0.01)


def test_a_segment_that_is_not_there_or_empty_is_refused(owner):
    node = ResultSegmentation(owner).make(np.zeros(SHAPE, np.uint8), GRIDS["as scanned"], LABEL_META, None)
    with pytest.raises(UsageError, match="no segment"):
        mask_of(node, "liver")
    with pytest.raises(UsageError, match="empty"):
        mask_of(node, "ET")
    node.GetSegmentation().AddEmptySegment("drawn")
    with pytest.raises(UsageError, match="empty"):
        mask_of(node, "drawn")


def test_slices_are_taken_in_either_order():
    assert slices_of(30, -10) == slices_of(-10, 30) == SliceRange(-10, 30)
