"""From an empty scene to a segmentation: study, pack, Apply, Cancel, regions."""

import sys

import pytest
import slicer

from MedSegLensLib.cases.case import MODALITIES


def test_the_module_opens_with_all_sections_and_without_torch(widget, panel):
    titles = [section.widget.text for section in panel.sections if hasattr(section.widget, "collapsed")]
    assert titles == [
        "Study", "Lens pack", "Regions", "Check", "Point and repair", "Latents", "Edits", "Details of a latent",
        "Batch: these edits on other studies",
    ]  # fmt: skip
    assert "torch" not in sys.modules
    assert "not a medical device" in panel.apply.ui.disclaimerLabel.text


def test_an_empty_scene_says_what_to_do(panel):
    assert "load a folder, or take sample data" in panel.study.ui.studyNotes.text
    assert panel.study.ui.studyNotes.visible


def test_volumes_are_recognised_by_name_and_can_be_corrected(host, widget, panel, phantom_in_scene):
    for modality in MODALITIES:
        assert getattr(widget.parameters, modality).GetName() == f"phantom-1 {modality}"
        assert panel.study.selectors[modality].currentNode() is getattr(widget.parameters, modality)
    panel.study.selectors["t1n"].setCurrentNode(None)
    host.process()
    assert widget.parameters.t1n is None
    assert "T1 not chosen" in panel.study.ui.studyNotes.text
    host.click(panel.study.ui.guessButton)
    assert widget.parameters.t1n.GetName() == "phantom-1 t1n"


def test_a_folder_is_loaded_with_its_expert_segmentation(host, widget, panel, tmp_path):
    import SimpleITK as sitk

    from MedSegLensLib.cases.phantom import phantom

    case = phantom(1, size=(24, 30, 10), spacing=(7, 7, 14), modalities=("t1c", "t2f"))
    for name, image in {**case.images, "seg": case.labels}.items():
        sitk.WriteImage(image, str(tmp_path / f"patient_7_{name}.nii.gz"))
    host.answers.files.append(str(tmp_path))
    host.click(panel.study.ui.loadFolderButton)
    assert widget.parameters.t1c.GetName() == "patient_7_t1c"
    assert widget.parameters.t2f is not None and widget.parameters.t2w is None
    assert widget.parameters.reference.IsA("vtkMRMLLabelMapVolumeNode")


def test_a_folder_without_volumes_says_so(host, widget, panel, tmp_path, monkeypatch):
    import types

    class NoSeries:
        def __enter__(self):
            return types.SimpleNamespace(patients=lambda: [])

        def __exit__(self, *_):
            return False

    dicom = types.SimpleNamespace(TemporaryDICOMDatabase=NoSeries, importDicom=lambda folder, database: None)
    monkeypatch.setitem(sys.modules, "DICOMLib", types.SimpleNamespace(DICOMUtils=dicom))
    panel.study.loadFolder(str(tmp_path))
    assert "no volume file" in panel.apply.ui.messageLabel.text
    assert panel.apply.ui.messageLabel.visible


def test_the_device_line_and_the_packs_come_from_the_worker(host, widget, panel, idle):
    idle()
    assert panel.pack.ui.deviceLabel.text.startswith(("CPU", "NVIDIA"))
    names = [panel.pack.ui.packComboBox.itemText(i) for i in range(panel.pack.ui.packComboBox.count)]
    assert {"glioma-segformer", "glioma-unet"} <= set(names)


def test_apply_gives_a_segmentation_beside_the_input(opened, panel):
    node = opened.result.node
    names = [node.GetSegmentation().GetNthSegment(i).GetName() for i in range(3)]
    assert len(set(names)) == 3
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    volume = opened.parameters.t1n
    parents = {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(n)) for n in (node, volume)}
    assert len(parents) == 1
    table = panel.regions.ui.regionsTable
    assert table.rowCount == 5
    assert table.item(0, 0).text() == "Whole tumour (WT)"
    assert table.item(0, 1).text() == f"{opened.session.opened.regions_ml['WT']:.1f}"
    assert table.item(0, 3).text() == "0.0"


def test_the_reference_gives_dice(opened, panel):
    table = panel.regions.ui.regionsTable
    assert not table.isColumnHidden(5)
    dice = opened.session.opened.dice
    assert table.item(0, 5).text() == ("absent" if dice["WT"] is None else f"{dice['WT']:.3f}")


def test_apply_turns_into_cancel_and_cancelling_leaves_all_as_it_was(host, widget, panel, phantom_in_scene, idle):
    host.click(panel.apply.ui.applyButton)
    assert panel.apply.ui.applyButton.text == "Cancel"
    assert panel.apply.ui.progressBar.visible
    host.click(panel.apply.ui.applyButton)
    idle()
    assert panel.apply.ui.applyButton.text == "Apply"
    assert widget.review.result.node is None
    assert "cancelled" in panel.apply.ui.messageLabel.text
    assert not panel.apply.ui.progressBar.visible


def test_progress_tells_stage_and_elapsed_time(host, widget, panel, phantom_in_scene, idle):
    said = []
    host.click(panel.apply.ui.applyButton)
    widget.review.progressed.connect(lambda task: said.append(panel.apply.ui.stageLabel.text))
    idle()
    assert said and all(text.endswith(" s") for text in said)


def test_probability_map_and_surface_are_shown_and_hidden(host, opened, panel, idle):
    from MedSegLensLib.scene.overlays import slots

    host.click(panel.regions.ui.probabilityCheckBox)
    idle()
    last = slots() - 1
    assert opened.overlays.scene.shown(last)
    values = slicer.util.arrayFromVolume(opened.overlays.scene.node(last))
    assert values.min() >= 0 and 0.1 < values.max() <= 1.001
    host.click(panel.regions.ui.probabilityCheckBox)
    assert not opened.overlays.scene.shown(last)
    host.click(panel.regions.ui.surfaceCheckBox)
    assert opened.result.node.GetSegmentation().ContainsRepresentation("Closed surface")


def test_two_widgets_on_one_scene_show_the_same_work(host, widget, panel, opened, idle):
    import qt

    parent = slicer.qMRMLWidget()
    parent.setLayout(qt.QVBoxLayout())
    second = type(widget)(parent)
    second.setup()
    try:
        assert second.review is widget.review
        assert second.panel.regions.ui.regionsTable.item(0, 1).text() == panel.regions.ui.regionsTable.item(0, 1).text()
        idle()
        latent = panel.latents.listed()[0]
        opened.setStrength(latent.tap, latent.latent, 2.0)
        assert second.panel.edits.ui.editsTable.rowCount == panel.edits.ui.editsTable.rowCount == 1
    finally:
        second.cleanup()
    assert widget.review.isOpen


@pytest.mark.parametrize("modality", ["t2f"])
def test_a_single_modality_is_warned_of_and_tried(host, widget, panel, tiny_pack, idle, modality):
    from phantoms import SMALL

    from MedSegLensLib.panel import study_files

    panel.study._load(lambda: study_files.addPhantom(1, modalities=(modality,), **SMALL))
    assert "Only" in panel.study.ui.studyNotes.text
    widget.parameters.pack = str(tiny_pack)
    host.click(panel.apply.ui.applyButton)
    idle()
    assert not widget.review.isOpen  # the tiny pack needs t1c
    assert panel.apply.ui.messageLabel.visible and "⚠" in panel.apply.ui.messageLabel.text
    assert panel.apply.ui.applyButton.enabled
