"""What an edit changed, and the slice that follows the slider."""

import numpy as np
import pytest
import slicer
import slicer.util
from samples import COLOUR, GRIDS, LABEL_META, random_box, ras_of, tumour, volume

from MedSegLensLib.scene.change import CHANGES, Difference, Preview, changes
from MedSegLensLib.scene.segmentation import ResultSegmentation
from MedSegLensLib.scene.views import jump_to
from MedSegLensLib.worker.answers import LabelBox

GRID = GRIDS["as scanned"]
MIDDLE = (15, 20, 26)


@pytest.fixture
def result(owner, views):
    reference = volume()
    for view in views.values():
        view.show(reference)
    jump_to(tuple(ras_of(MIDDLE, GRID)))
    result = ResultSegmentation(owner)
    result.make(tumour(), GRID, LABEL_META, reference)
    return result


@pytest.fixture
def difference(owner, result):
    return Difference(owner)


@pytest.fixture
def preview(owner, result):
    return Preview(owner)


def at(view, index):
    return view.pixels()[view.pixel_of(ras_of(index, GRID))].astype(int)


def test_each_voxel_is_added_removed_or_of_another_label():
    original, edited = np.array([0, 0, 1, 2, 3], np.uint8), np.array([0, 3, 0, 2, 1], np.uint8)
    assert changes(original, edited).tolist() == [0, 1, 2, 0, 3]


def test_added_and_removed_voxels_are_drawn_in_their_own_colours(difference, result, views):
    edited = tumour()
    edited[MIDDLE[0], 5, 5], edited[MIDDLE[0], 20, 36] = 2, 0
    result.show(None)
    difference.show(tumour(), edited, GRID, result.reference)
    added, removed = at(views["Red"], (MIDDLE[0], 5, 5)), at(views["Red"], (MIDDLE[0], 20, 36))
    assert added[1] > 1.5 * added[0] and removed[0] > 1.3 * removed[1]
    assert np.ptp(at(views["Red"], (MIDDLE[0], 35, 5))) < 10


def test_boxes_update_it_to_what_the_whole_would_be(difference, result):
    rng, edited = np.random.default_rng(4), tumour()
    difference.show(tumour(), edited, GRID, result.reference)
    for _ in range(8):
        box = random_box(rng, edited)
        edited[box.slices] = box.labels
        difference.update(tumour(), box)
    assert np.array_equal(slicer.util.arrayFromVolume(difference.node), changes(tumour(), edited))


def test_a_deleted_difference_is_made_again_by_the_next_update(difference, result):
    difference.show(tumour(), tumour(), GRID, result.reference)
    slicer.mrmlScene.RemoveNode(difference.node)
    box = LabelBox((0, 0, 0), (4, 4, 4), np.ones((4, 4, 4), np.uint8))
    result.update(box)
    difference.update(tumour(), box)
    assert difference.shown
    assert np.count_nonzero(slicer.util.arrayFromVolume(difference.node) == 1) == 64


def test_the_readers_own_label_layer_comes_back(difference, result, views):
    theirs = slicer.util.addVolumeFromArray(tumour(), GRID, "theirs", "vtkMRMLLabelMapVolumeNode")
    views["Red"].composite.SetLabelVolumeID(theirs.GetID())
    difference.show(tumour(), tumour(), GRID, result.reference)
    difference.hide()
    assert views["Red"].composite.GetLabelVolumeID() == theirs.GetID()
    assert views["Red"].composite.GetLabelOpacity() == 1
    assert not difference.shown


def test_colours_of_changes_are_no_regions_colours_and_far_apart_for_all_eyes():
    # Viénot 1999: what is left of a colour without the red or the green cones, in linear light.
    eyes = (
        np.eye(3),
        np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
        np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
    )
    colours = [np.array(rgb) for _, rgb in CHANGES.values()] + list(COLOUR.values())
    greys = [np.full(3, level) for level in (60, 150, 200, 255)]
    for eye in eyes:
        seen = [255 * np.clip(eye @ (rgb / 255) ** 2.2, 0, 1) ** (1 / 2.2) for rgb in colours + greys]
        seen, grey = seen[: len(colours)], seen[len(colours) :]
        for number, one in enumerate(seen):
            assert all(np.linalg.norm(one - other) > 80 for other in seen[:number])
            assert number >= len(CHANGES) or all(np.linalg.norm(one - other) > 50 for other in grey)


def test_the_previewed_slice_is_filled_while_the_segmentation_is_an_outline(preview, result, views):
    display = result.node.GetDisplayNode()
    display.SetOpacity2DFill(0.5)
    inside = (MIDDLE[0], 20, 17)  # edema, and outside all that was tumour: nothing
    before = [view.pixels() for view in views.values()]
    slab = np.zeros((1, 40, 50), np.uint8)
    slab[0, 30:38, 30:45] = 3
    preview.show(LabelBox((MIDDLE[0], 0, 0), (MIDDLE[0] + 1, 40, 50), slab))
    filled = at(views["Red"], (MIDDLE[0], 34, 37))
    assert filled[0] > 1.5 * filled[2]
    assert np.ptp(at(views["Red"], inside)) < 10
    preview.end()
    assert all(np.array_equal(view.pixels(), old) for view, old in zip(views.values(), before, strict=True))
    assert np.array_equal(result.labels(), tumour())


def test_a_preview_replaces_the_one_before(owner, preview, result):
    one = LabelBox((3, 0, 0), (4, 40, 50), np.full((1, 40, 50), 2, np.uint8))
    two = LabelBox((9, 0, 0), (10, 40, 50), np.full((1, 40, 50), 1, np.uint8))
    preview.show(one)
    preview.show(two)
    voxels = slicer.util.arrayFromVolume(owner.GetNodeReference("MedSegLens.Role.preview"))
    assert (voxels[9] == 1).all() and np.count_nonzero(voxels) == 2000
    preview.show(None)
    preview.end()
    preview.end()
    assert not voxels.any()


def test_a_preview_lies_over_a_difference_and_gives_way_to_it(preview, difference, result, views):
    difference.show(tumour(), tumour(), GRID, result.reference)
    preview.show(LabelBox((3, 0, 0), (4, 40, 50), np.full((1, 40, 50), 2, np.uint8)))
    assert views["Red"].composite.GetLabelVolumeID() != difference.node.GetID()
    preview.end()
    assert views["Red"].composite.GetLabelVolumeID() == difference.node.GetID()


def test_preview_survives_deleted_nodes(owner, preview, result):
    box = LabelBox((3, 0, 0), (4, 40, 50), np.full((1, 40, 50), 2, np.uint8))
    preview.show(box)
    slicer.mrmlScene.RemoveNode(owner.GetNodeReference("MedSegLens.Role.preview"))
    preview.show(box)
    preview.end()
    preview.show(box)
    slicer.mrmlScene.RemoveNode(result.node)
    preview.end()


def test_a_preview_is_no_part_of_the_saved_scene(owner, preview):
    preview.show(LabelBox((3, 0, 0), (4, 40, 50), np.full((1, 40, 50), 2, np.uint8)))
    assert not owner.GetNodeReference("MedSegLens.Role.preview").GetSaveWithScene()
