"""A scene that was saved and opened again looks as it did, before anything is computed."""

import numpy as np
import pytest
import slicer
import slicer.util
import vtk
from samples import GRIDS, LABEL_META, point_overlay, ras_of, tumour, volume

from MedSegLensLib.scene.change import Difference, Preview
from MedSegLensLib.scene.overlays import Overlays
from MedSegLensLib.scene.ownership import found
from MedSegLensLib.scene.probability import put_probability
from MedSegLensLib.scene.restore import owners, restore
from MedSegLensLib.scene.segmentation import ResultSegmentation
from MedSegLensLib.scene.terminology import terminology_entry
from MedSegLensLib.scene.views import jump_to
from MedSegLensLib.worker.answers import LabelBox, Overlay

GRID = GRIDS["oblique, 5 mm slices"]
AT = (15, 20, 26)
BOX = LabelBox((15, 18, 16), (17, 36, 25), np.full((2, 18, 9), 3, np.uint8))


def show_everything(owner, views) -> np.ndarray:
    """Segment, edit, compare, overlay; gives the edited labels."""
    reference = volume("case7_t1c", GRID)
    for view in views.values():
        view.show(reference)
    jump_to(tuple(ras_of(AT, GRID)))
    result = ResultSegmentation(owner)
    result.make(tumour(), GRID, LABEL_META, reference)
    result.update(BOX)
    Difference(owner).show(tumour(), result.labels(), GRID, reference)
    overlays = Overlays(owner)
    overlays.show(0, point_overlay((15, 8, 10), GRID), "latent 5", reference, opacity=0.5, key="tap/5")
    overlays.show(1, point_overlay((15, 8, 40), GRID), "latent 9", reference, opacity=0.35, key="tap/9")
    overlays.show(3, point_overlay((15, 35, 40), GRID), "latent 3", reference, opacity=0.8, colour="viridis")
    overlays.show(2, point_overlay((15, 35, 10), GRID), "latent 4", reference)
    overlays.hide(2)
    Preview(owner).show(BOX)
    put_probability(owner, "WT", Overlay(np.full((30, 40, 50), 0.5, np.float32), GRID, 0.5), reference)
    return result.labels()


def test_the_reopened_scene_looks_the_same_and_holds_the_same(application, owner, views, tmp_path):
    preview = Preview(owner)
    labels = show_everything(owner, views)
    preview.show(BOX)
    preview.end()
    Difference(owner).lay_out()
    before = {name: view.pixels() for name, view in views.items()}
    application.save(tmp_path / "case.mrb")
    application.load(tmp_path / "case.mrb")

    (again,) = owners()
    assert restore(again) == []
    for name, view in views.items():
        apart = np.abs(view.pixels().astype(int) - before[name]).max(axis=2) > 8
        assert apart.mean() < 0.002, name
    result, overlays = ResultSegmentation(again), Overlays(again)
    assert np.array_equal(result.labels(), labels)
    assert np.array_equal(result.labels("original"), tumour())
    assert result.reference.GetName() == "case7_t1c"
    assert np.allclose(result.ijk_to_ras, GRID, atol=1e-4)
    assert [overlays.shown(slot) for slot in range(4)] == [True, True, False, True]
    assert [overlays.key_of(slot) for slot in range(2)] == ["tap/5", "tap/9"]
    assert (overlays.colour(3), overlays.opacity(1)) == ("viridis", 0.35)
    assert Difference(again).shown
    assert found(again, "probability.WT").GetName() == "WT probability"
    for meta in LABEL_META:
        text = vtk.reference("")
        segment = result.node.GetSegmentation().GetSegment(meta["name"])
        assert segment.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), text)
        assert str(text) == terminology_entry(meta["code"])
        assert segment.GetName() == meta["region"]


def test_work_goes_on_in_the_reopened_scene(application, owner, views, tmp_path):
    labels = show_everything(owner, views)
    application.save(tmp_path / "case.mrb")
    application.load(tmp_path / "case.mrb")
    (again,) = owners()
    restore(again)
    result, overlays, nodes = ResultSegmentation(again), Overlays(again), slicer.mrmlScene.GetNumberOfNodes()
    box = LabelBox((0, 0, 0), (3, 4, 5), np.full((3, 4, 5), 2, np.uint8))
    result.update(box)
    labels[box.slices] = 2
    assert np.array_equal(result.labels(), labels)
    Difference(again).update(tumour(), box)
    overlays.show(0, point_overlay((15, 30, 30), GRID), "latent 6", result.reference)
    assert overlays.show_again(2)
    result.make(tumour(), GRID, LABEL_META, result.reference)
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes


def test_further_layers_get_their_opacities_back(application, owner, views, tmp_path):
    show_everything(owner, views)
    application.save(tmp_path / "case.mrb")
    application.load(tmp_path / "case.mrb")
    restore(owners()[0])
    composite = views["Red"].composite
    assert composite.GetForegroundOpacity() == 0.5
    assert [composite.GetNthLayerVolume(n).GetName() for n in (3, 4)] == ["latent 9", "latent 3"]
    assert [composite.GetNthLayerOpacity(n) for n in (3, 4)] == [0.35, 0.8]


def test_a_hidden_overlay_and_no_difference_stay_hidden(application, owner, views, tmp_path):
    show_everything(owner, views)
    Difference(owner).hide()
    for slot in range(4):
        Overlays(owner).hide(slot)
    application.save(tmp_path / "case.mrb")
    application.load(tmp_path / "case.mrb")
    restore(owners()[0])
    assert views["Red"].composite.GetForegroundVolumeID() is None
    assert views["Red"].composite.GetLabelVolumeID() is None
    assert views["Red"].composite.GetNumberOfAdditionalLayers() == 0


def test_two_owners_find_their_own_nodes_after_loading(application, owner, views, scene, tmp_path):
    show_everything(owner, views)
    second = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "second")
    ResultSegmentation(second).make(tumour() // 2, GRID, LABEL_META, volume("case8_t1c", GRID), "case 8")
    application.save(tmp_path / "case.mrb")
    application.load(tmp_path / "case.mrb")
    by_name = {one.GetName(): ResultSegmentation(one) for one in owners()}
    assert set(by_name) == {"MedSegLens", "second"}
    assert np.array_equal(by_name["second"].labels(), tumour() // 2)
    assert by_name["second"].node.GetName() == "case 8"
    assert by_name["MedSegLens"].node.GetName() == "case7_t1c segmentation"


def test_a_scene_added_to_another_keeps_both_results_apart(application, owner, views, scene, tmp_path):
    labels = show_everything(owner, views)
    application.save(tmp_path / "case.mrb")
    application.clear()
    first = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "here")
    ResultSegmentation(first).make(tumour() * 0 + 1, GRID, LABEL_META, volume("here_t1c", GRID))
    application.add(tmp_path / "case.mrb")
    by_name = {one.GetName(): ResultSegmentation(one) for one in owners()}
    assert np.array_equal(by_name["here"].labels(), tumour() * 0 + 1)
    assert np.array_equal(by_name["MedSegLens"].labels(), labels)


def test_a_view_that_was_added_gets_the_overlays(owner, views, scene):
    show_everything(owner, views)
    added = scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode", "added")
    restore(owner)
    assert added.GetForegroundVolumeID() == Overlays(owner).node(0).GetID()
    assert added.GetLabelVolumeID() == Difference(owner).node.GetID()
    assert added.GetNumberOfAdditionalLayers() == 2


def test_what_cannot_be_shown_is_told(owner, views):
    show_everything(owner, views)
    result = ResultSegmentation(owner)
    Overlays(owner).node(1).SetAndObserveImageData(None)  # what Slicer leaves of a volume whose file is gone
    slicer.mrmlScene.RemoveNode(result.reference)
    said = restore(owner)
    assert any("latent 9" in line and "missing" in line for line in said)
    assert any("input volume is gone" in line for line in said)
    assert not Overlays(owner).shown(1)
    result.node.GetSegmentation().RemoveAllSegments()
    assert any("Press Apply" in line for line in restore(owner))


def test_closing_the_scene_leaves_nothing_and_work_can_start_anew(application, owner, views):
    show_everything(owner, views)
    application.clear()
    assert owners() == []
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    fresh = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "MedSegLens")
    assert restore(fresh) == []
    show_everything(fresh, views)
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 2


@pytest.mark.parametrize("role", ["edited", "original", "overlay0", "overlay1", "difference"])
def test_any_node_may_be_deleted_and_everything_still_answers(owner, views, role):
    show_everything(owner, views)
    slicer.mrmlScene.RemoveNode(found(owner, role))
    restore(owner)
    overlays, difference = Overlays(owner), Difference(owner)
    for slot in range(4):
        overlays.hide(slot)
        overlays.show(slot, point_overlay(AT, GRID), "again")
    difference.hide()
    ResultSegmentation(owner).make(tumour(), GRID, LABEL_META, None)
    difference.show(tumour(), tumour(), GRID)
    for view in views.values():
        view.pixels()
