"""A module written as Slicer's wizard writes one runs in the host, unchanged."""

import pytest


def test_the_panel_is_filled_from_the_ui_file(sample):
    assert sample.ui.inputSelector.currentNode().GetName() == "brain"
    assert sample.ui.applyButton.enabled
    assert sample.ui.applyButton.toolTip == "Compute"
    assert sample.ui.thresholdSlider.maximum == 500


def test_a_user_drags_clicks_and_types(host, sample):
    host.drag(sample.ui.thresholdSlider, 295)
    assert sample._parameterNode.threshold == pytest.approx(295, abs=1)
    host.click(sample.ui.applyButton)
    assert sample.ui.resultLabel.text == "30 voxels"
    host.click(sample.ui.invertBox)
    assert sample._parameterNode.invert
    host.type(sample.ui.titleEdit, "left side")
    assert sample._parameterNode.title == "left side"
    host.drag(sample.slider, 2.5)
    assert sample.states[-1] == pytest.approx(2.5, abs=0.06)


def test_parameters_move_the_widgets(host, sample):
    p = sample._parameterNode
    p.threshold, p.steps, p.rank, p.invert = 12.5, 7, "name", True
    assert sample.ui.thresholdSlider.value == 12.5
    assert sample.ui.stepsBox.value == 7
    assert sample.ui.rankBox.currentText == "name"
    assert sample.ui.invertBox.checked
    p.window.width = 9.0
    assert sample.ui.windowWidthBox.value == 9.0
    sample.ui.windowWidthBox.value = 11.0
    assert p.window.width == 11.0


def test_an_error_is_displayed_and_raised(host, sample):
    sample._parameterNode.threshold = -5.0
    with pytest.raises(AssertionError, match="Threshold is negative"):
        host.click(sample.ui.applyButton)
    assert host.messages[-1].kind == "error"
    assert "Failed to compute results." in host.messages[-1].text
    assert "ValueError" in host.messages[-1].details


def test_a_disabled_button_cannot_be_clicked(host, sample):
    sample.ui.inputSelector.setCurrentNode(None)
    assert not sample.ui.applyButton.enabled
    with pytest.raises(AssertionError, match="could not click"):
        host.click(sample.ui.applyButton)


def test_the_scene_is_closed_and_filled_again(host, sample):
    import slicer

    host.close_scene()
    assert sample.ui.inputSelector.currentNode() is None
    assert sample._parameterNode.threshold == 100
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "new")
    sample.ui.inputSelector.setCurrentNode(node)
    assert sample._parameterNode.inputVolume is node


def test_the_self_test_runs(host, sample):
    import slicer

    slicer.selfTests["SampleModule"](msec=0)


def test_sample_data_is_registered_once_started(host, sample):
    import slicer

    assert [s.sampleName for s in slicer.modules.sampleDataSources["Sample"]] == ["Sample1"]


def test_another_module_is_entered_and_left(host, sample):
    import slicer

    host.unload_module("SampleModule")
    assert sample.states[0] == "enter" and sample.states[-1] == "exit"
    assert not hasattr(slicer.modules, "samplemodule")


def test_reloading_makes_a_new_panel(host, sample):
    import slicer

    slicer.util.reloadScriptedModule("SampleModule")
    host.process()
    assert slicer.modules.SampleModuleWidget is not sample
    assert slicer.modules.SampleModuleWidget.ui.applyButton.enabled


def test_the_module_facts_are_kept(host, sample):
    import slicer

    assert slicer.modules.samplemodule.title == "Sample"
    assert slicer.modules.samplemodule.categories == ("Examples",)
    with pytest.raises(AttributeError):
        slicer.modules.samplemodule.titel = "misspelt"
