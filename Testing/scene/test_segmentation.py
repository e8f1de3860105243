"""The result as a segmentation: in place, in the right voxels, with codes, however it was touched meanwhile."""

import time

import numpy as np
import pytest
import slicer
import slicer.util
import vtk
from samples import COLOUR, GRIDS, LABEL_META, SHAPE, centre, coloured, random_box, ras_of, tumour, volume

from MedSegLensLib.errors import UsageError
from MedSegLensLib.scene import labelmap, views
from MedSegLensLib.scene.segmentation import ResultSegmentation
from MedSegLensLib.worker.answers import LabelBox


@pytest.fixture
def result(owner):
    result = ResultSegmentation(owner)
    result.make(tumour(), GRIDS["as scanned"], LABEL_META, volume())
    return result


def events_of(node, *events) -> list:
    heard = []
    for event in events:
        node.AddObserver(event, lambda *_, event=event: heard.append(event))
    return heard


@pytest.mark.parametrize("grid", GRIDS)
def test_labels_come_back_as_they_were_given(owner, grid):
    result = ResultSegmentation(owner)
    result.make(tumour(), GRIDS[grid], LABEL_META, volume("t1c", GRIDS[grid]))
    assert np.array_equal(result.labels(), tumour())
    assert np.array_equal(result.labels("original"), tumour())
    assert np.allclose(result.ijk_to_ras, GRIDS[grid], atol=1e-6)


@pytest.mark.parametrize("grid", GRIDS)
def test_slicer_finds_each_segment_in_the_voxels_of_the_reference_volume(owner, grid):
    reference = volume("t1c", GRIDS[grid])
    node = ResultSegmentation(owner).make(tumour(), GRIDS[grid], LABEL_META, reference)
    for meta in LABEL_META:
        found = slicer.util.arrayFromSegmentBinaryLabelmap(node, meta["name"], reference)
        assert np.array_equal(found > 0, tumour() == meta["value"])


def test_a_region_that_is_absent_has_its_segment_all_the_same(owner):
    labels = np.where(tumour() == 3, 0, tumour())
    result = ResultSegmentation(owner)
    node = result.make(labels, GRIDS["as scanned"], LABEL_META, volume())
    assert list(node.GetSegmentation().GetSegmentIDs()) == ["NCR", "ED", "ET"]
    result.update(LabelBox((0, 0, 0), (1, 1, 1), np.full((1, 1, 1), 3, np.uint8)))
    assert result.labels()[0, 0, 0] == 3


def test_it_stands_beside_the_input_and_has_its_geometry(owner):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "patient")
    study = hierarchy.CreateStudyItem(patient, "study")
    reference = volume()
    hierarchy.CreateItem(study, reference)
    result = ResultSegmentation(owner)
    node = result.make(tumour(), GRIDS["as scanned"], LABEL_META, reference)
    for one in (node, result.original):
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(one)) == study
        role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
        assert one.GetNodeReference(role) is reference
    assert result.reference is reference
    assert node.GetName() == "t1c segmentation"
    assert result.original.GetName() == "t1c segmentation (original)"


def test_each_segment_carries_codes_that_slicer_reads(result):
    logic, entry = slicer.vtkSlicerTerminologiesModuleLogic, slicer.vtkSlicerTerminologyEntry()
    result.show_whole_tumour(True)
    expected = {meta["name"]: (meta["code"]["value"], meta["code"]["meaning"]) for meta in LABEL_META}
    expected["WT"] = ("108369006", "Neoplasm")
    for name, (value, meaning) in expected.items():
        text, tag = vtk.reference(""), slicer.vtkSegment.GetTerminologyEntryTagName()
        assert result.node.GetSegmentation().GetSegment(name).GetTag(tag, text)
        assert logic.DeserializeTerminologyEntry(str(text), entry)
        assert logic.SerializeTerminologyEntry(entry) == str(text)
        kind = entry.GetTypeObject()
        assert (kind.GetCodingSchemeDesignator(), kind.GetCodeValue(), kind.GetCodeMeaning()) == ("SCT", value, meaning)
        assert entry.GetCategoryObject().GetCodeValue() == "49755003"
        assert entry.GetRegionObject().GetCodeMeaning() == "Brain"
        assert entry.GetTerminologyContextName() == "Segmentation category and type - DICOM master list"


def test_names_and_colours_are_the_packs(result):
    assert result.colours == {meta["value"]: (meta["region"], tuple(meta["colour"])) for meta in LABEL_META}


def test_changed_boxes_give_what_a_full_import_gives(owner, scene):
    rng, result, expected = np.random.default_rng(7), ResultSegmentation(owner), tumour()
    reference = volume("t1c", GRIDS["oblique"])
    node = result.make(expected, GRIDS["oblique"], LABEL_META, reference)
    for _ in range(10):
        box = random_box(rng, expected)
        result.update(box)
        expected[box.slices] = box.labels
    imported = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    imported.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    source = slicer.util.addVolumeFromArray(expected, GRIDS["oblique"], "full", "vtkMRMLLabelMapVolumeNode")
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(source, imported)
    for meta, number in zip(LABEL_META, range(3), strict=True):
        ours = slicer.util.arrayFromSegmentBinaryLabelmap(node, meta["name"], reference)
        id_of_theirs = imported.GetSegmentation().GetNthSegmentID(number)
        theirs = slicer.util.arrayFromSegmentBinaryLabelmap(imported, id_of_theirs, reference)
        assert np.array_equal(ours > 0, theirs > 0)
    assert np.array_equal(result.labels("original"), tumour())


def test_an_update_is_told_once_and_asks_the_views_to_draw(result, views):
    [view.pixels() for view in views.values()]
    before = [view.requests for view in views.values()]
    segmentation = slicer.vtkSegmentation
    heard = events_of(result.node, segmentation.SourceRepresentationModified, segmentation.SegmentModified)
    result.update(LabelBox((8, 10, 14), (9, 12, 16), np.full((1, 2, 2), 3, np.uint8)))
    assert sorted(heard) == sorted([segmentation.SourceRepresentationModified, segmentation.SegmentModified])
    assert all(view.requests > count for view, count in zip(views.values(), before, strict=True))


def test_nothing_changed_is_told_to_nobody(result):
    heard = events_of(result.node, "AnyEvent")
    result.update(None)
    assert heard == []


def test_making_it_again_uses_the_same_nodes(owner, result):
    nodes = result.node, result.original
    result.update(LabelBox((0, 0, 0), SHAPE, np.zeros(SHAPE, np.uint8)))
    result.make(tumour(), GRIDS["as scanned"], LABEL_META, result.reference)
    assert (result.node, result.original) == nodes
    assert np.array_equal(result.labels(), tumour())


def test_another_case_of_another_size_replaces_it(result):
    labels = np.ones((7, 9, 11), np.uint8)
    other = volume("other", GRIDS["5 mm slices"], np.random.default_rng(0).uniform(0, 9, labels.shape))
    result.make(labels, GRIDS["5 mm slices"], LABEL_META, other)
    assert np.array_equal(result.labels(), labels)
    assert result.volumes_ml()["NCR"] == pytest.approx(7 * 9 * 11 * 5 / 1000)


def test_reset_brings_the_original_back(result):
    result.update(LabelBox((0, 0, 0), SHAPE, np.ones(SHAPE, np.uint8)))
    result.reset()
    assert np.array_equal(result.labels(), tumour())


def test_volumes_are_nested_regions_in_millilitres(result):
    counts = np.bincount(tumour().ravel())
    assert result.volumes_ml() == pytest.approx({
        "WT": counts[1:].sum() / 1000, "TC": (counts[1] + counts[3]) / 1000,
        "ET": counts[3] / 1000, "NCR": counts[1] / 1000, "ED": counts[2] / 1000,
    })  # fmt: skip


def test_a_segment_that_was_painted_or_moved_to_its_own_layer_is_understood(result):
    segmentation = result.node.GetSegmentation()
    segmentation.SeparateSegmentLabelmap("NCR")
    assert segmentation.GetNumberOfLayers() == 2
    assert np.array_equal(result.labels(), tumour())
    box = LabelBox((0, 0, 0), (2, 2, 2), np.full((2, 2, 2), 3, np.uint8))
    result.update(box)
    expected = tumour()
    expected[box.slices] = 3
    assert np.array_equal(result.labels(), expected)
    assert segmentation.GetNumberOfLayers() == 1


def test_a_cropped_labelmap_as_a_file_holds_it_is_understood(result):
    segmentation = result.node.GetSegmentation()
    whole, cropped = segmentation.GetSegmentRepresentation("ET", labelmap.BINARY), slicer.vtkOrientedImageData()
    slicer.vtkOrientedImageDataResample.CopyImage(whole, cropped, [10, 45, 5, 35, 6, 25])
    for name in ("NCR", "ED", "ET"):
        segmentation.GetSegment(name).AddRepresentation(labelmap.BINARY, cropped)
    assert np.array_equal(result.labels(), tumour())
    result.update(LabelBox((0, 0, 0), (1, 1, 1), np.full((1, 1, 1), 1, np.uint8)))
    assert result.labels()[0, 0, 0] == 1


def test_a_deleted_segmentation_is_told_and_made_anew(owner, result):
    slicer.mrmlScene.RemoveNode(result.node)
    box = LabelBox((0, 0, 0), (1, 1, 1), np.ones((1, 1, 1), np.uint8))
    with pytest.raises(UsageError, match="deleted"):
        result.update(box)
    result.make(tumour(), GRIDS["as scanned"], LABEL_META, volume())
    result.update(box)
    assert result.labels()[0, 0, 0] == 1


def test_a_box_outside_the_grid_is_refused(result):
    with pytest.raises(UsageError, match="outside"):
        result.update(LabelBox((29, 0, 0), (31, 1, 1), np.zeros((2, 1, 1), np.uint8)))


def test_a_deleted_input_does_not_take_the_result_along(result):
    slicer.mrmlScene.RemoveNode(result.reference)
    result.update(LabelBox((0, 0, 0), (1, 1, 1), np.full((1, 1, 1), 2, np.uint8)))
    assert result.labels()[0, 0, 0] == 2
    assert result.reference is None


def test_under_a_transform_it_follows_the_input(owner):
    reference = volume()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    moved = np.array([[0, 1, 0, 4], [-1, 0, 0, 5], [0, 0, 1, 6], [0, 0, 0, 1.0]])
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(moved))
    reference.SetAndObserveTransformNodeID(transform.GetID())
    result = ResultSegmentation(owner)
    node = result.make(tumour(), moved @ GRIDS["as scanned"], LABEL_META, reference)
    assert np.allclose(result.ijk_to_ras, moved @ GRIDS["as scanned"])
    found = slicer.util.arrayFromSegmentBinaryLabelmap(node, "ET", reference)
    assert np.array_equal(found > 0, tumour() == 3)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_marker_is_drawn_where_it_lies(owner, views, grid):
    labels, at = np.zeros(SHAPE, np.uint8), (11, 22, 33)
    labels[10:13, 20:25, 31:36] = 3
    reference = volume("t1c", GRIDS[grid])
    for view in views.values():
        view.show(reference)
    ResultSegmentation(owner).make(labels, GRIDS[grid], LABEL_META, reference)
    point = ras_of(at, GRIDS[grid])
    jump(point)
    for view in views.values():
        pixels = view.pixels()
        outline = np.abs(pixels.astype(int) - COLOUR[3]).max(axis=2) < 40
        assert outline.any()
        assert np.abs(centre(outline) - view.pixel_of(point)).max() < 6


def jump(point):
    views.jump_to(tuple(point))


def test_holding_shows_the_original_and_letting_go_the_edited(result, views):
    result.update(LabelBox((0, 0, 0), SHAPE, np.zeros(SHAPE, np.uint8)))
    for view in views.values():
        view.show(result.reference)
    jump(ras_of((15, 20, 26), GRIDS["as scanned"]))
    assert not coloured(views["Red"].pixels()).any()
    result.show("original")
    assert result.shown == "original"
    assert coloured(views["Red"].pixels()).any()
    result.show("edited")
    assert not coloured(views["Red"].pixels()).any()
    result.show(None)
    assert result.shown is None


def test_side_by_side_each_has_its_own_views(result, views):
    result.update(LabelBox((0, 0, 0), SHAPE, np.zeros(SHAPE, np.uint8)))
    for view in views.values():
        view.show(result.reference)
    jump(ras_of((15, 20, 26), GRIDS["as scanned"]))
    result.show_side_by_side([views["Red"].node.GetID()], [views["Green"].node.GetID()])
    assert result.shown == "both"
    shown = {name: coloured(view.pixels()).any() for name, view in views.items()}
    assert shown == {"Red": False, "Yellow": False, "Green": True}
    result.show("original")
    assert all(coloured(view.pixels()).any() for view in views.values())


def test_surfaces_are_made_when_asked_for_and_known_to_be_stale(result):
    assert not result.surface_stale
    result.show_surface(True)
    assert result.node.GetClosedSurfaceInternalRepresentation("ED").GetNumberOfPoints() > 100
    result.update(LabelBox((8, 10, 14), (9, 12, 16), np.full((1, 2, 2), 3, np.uint8)))
    assert result.surface_stale
    result.show_surface(True)
    assert not result.surface_stale
    result.show_surface(False)
    result.update(LabelBox((8, 10, 14), (9, 12, 16), np.full((1, 2, 2), 2, np.uint8)))
    assert not result.surface_stale


def test_the_whole_tumour_follows_updates(result):
    result.show_whole_tumour(True)
    box = LabelBox((10, 10, 10), (20, 20, 20), np.zeros((10, 10, 10), np.uint8))
    result.update(box)
    found = slicer.util.arrayFromSegmentBinaryLabelmap(result.node, "WT", result.reference)
    assert np.array_equal(found > 0, result.labels() > 0)
    result.show_whole_tumour(False)
    assert result.node.GetSegmentation().GetNumberOfSegments() == 3


def test_a_whole_head_is_updated_within_50_ms(owner, scene):
    labels = np.zeros((155, 240, 240), np.uint8)
    labels[60:90, 100:150, 100:150] = 2
    result = ResultSegmentation(owner)
    result.make(labels, GRIDS["as scanned"], LABEL_META, volume("t1c", GRIDS["as scanned"], labels.astype(np.int16)))
    result.show_whole_tumour(True)
    taken = []
    for value in (1, 2, 3, 1, 2):
        started = time.perf_counter()
        result.update(LabelBox((60, 100, 100), (90, 150, 150), np.full((30, 50, 50), value, np.uint8)))
        taken.append(time.perf_counter() - started)
    assert min(taken) < 0.05
