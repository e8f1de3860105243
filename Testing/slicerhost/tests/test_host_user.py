"""Dialogs, files, packages and errors: recorded and answered, never waited for."""

import pytest


def test_dialogs_are_recorded_and_answered(host):
    import slicer

    slicer.util.errorDisplay("no room", detailedText="traceback")
    slicer.util.infoDisplay("done")
    assert slicer.util.confirmOkCancelDisplay("install?") is True
    host.answers.confirm = False
    assert slicer.util.confirmOkCancelDisplay("install?") is False
    assert slicer.util.confirmYesNoDisplay("sure?") is False
    assert [m.kind for m in host.messages] == ["error", "info", "confirm", "confirm", "confirm"]
    assert host.messages[0].details == "traceback"


def test_file_dialogs_return_what_the_test_says(host):
    import qt

    host.answers.files = ["/data/case"]
    assert qt.QFileDialog.getExistingDirectory(None, "Case") == "/data/case"
    with pytest.raises(AssertionError, match="answers.files"):
        qt.QFileDialog.getOpenFileName(None, "Pack")


def test_a_menu_is_answered_by_its_text(host):
    import qt

    menu, chosen = qt.QMenu(), []
    menu.addAction("Phantom").connect("triggered()", lambda: chosen.append("phantom"))
    host.answers.menu = "Phantom"
    menu.exec_()
    assert chosen == ["phantom"]


def test_packages_are_asked_for_and_not_installed(host):
    import slicer.packaging

    slicer.packaging.pip_ensure(["numpy>=1.0"], requester="MedSegLens")
    assert slicer.packaging.requested == []
    slicer.packaging.pip_ensure(["not-there-at-all>=2"], requester="MedSegLens")
    assert slicer.packaging.requested == [["not-there-at-all>=2"]]
    host.answers.confirm = False
    with pytest.raises(RuntimeError, match="refused"):
        slicer.packaging.pip_ensure(["not-there-at-all>=2"])


def test_an_error_in_a_callback_is_raised_by_process(host):
    import qt

    qt.QTimer.singleShot(0, lambda: 1 / 0)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        host.process(0.05)
    host.process()


def test_waiting_ends_when_it_is_so_or_too_late(host):
    import qt

    said = []
    qt.QTimer.singleShot(20, lambda: said.append(1))
    host.wait(lambda: said, seconds=5)
    with pytest.raises(TimeoutError):
        host.wait(lambda: False, seconds=0.05)


def test_keys_reach_shortcuts_and_widgets(host):
    import qt

    window, got = qt.QWidget(), []
    edit = qt.QLineEdit(window)
    shortcut = qt.QShortcut(qt.QKeySequence("Ctrl+Z"), window)
    shortcut.connect("activated()", lambda: got.append("undo"))
    window.show()
    host.type(edit, "rim")
    host.key(window, "Z", "Ctrl")
    assert edit.text == "rim" and got == ["undo"]


def test_settings_are_those_of_the_process(host):
    import slicer

    slicer.app.userSettings().setValue("MedSegLens/pack", "glioma")
    assert slicer.util.settingsValue("MedSegLens/pack", "none") == "glioma"
    host.reset()
    assert slicer.util.settingsValue("MedSegLens/pack", "none") == "none"


def test_sample_data_is_downloaded_with_its_checksum(host, tmp_path):
    import hashlib

    import numpy as np
    import SampleData
    import slicer

    node = slicer.util.addVolumeFromArray(np.ones((3, 4, 5), np.float32))
    assert slicer.util.saveNode(node, str(tmp_path / "a.nrrd"), {})
    digest = hashlib.sha256((tmp_path / "a.nrrd").read_bytes()).hexdigest()
    logic = SampleData.SampleDataLogic()
    for name, checksum in (("good", digest), ("bad", 64 * "0")):
        logic.registerCustomSampleDataSource(
            "Tests", name, (tmp_path / "a.nrrd").as_uri(), f"{name}.nrrd", name, checksums=f"SHA256:{checksum}"
        )
    assert logic.downloadSample("good").GetName() == "good"
    with pytest.raises(ValueError, match="Checksum"):
        logic.downloadSample("bad")


def test_facts_are_those_of_the_given_api_file(tmp_path):
    from slicerhost.extract_facts import extract
    from slicerhost.facts import load, normalized

    api = {"about": "a", "widgets": load()["widgets"], "python": load()["python"]}
    assert set(extract(api)["widgets"]) >= {"ctkSliderWidget", "qMRMLNodeComboBox"}
    assert normalized("valuesChanged(double min, const QString& b)") == "valuesChanged(double,QString)"
    assert normalized("currentNodeChanged(vtkMRMLNode* node)") == "currentNodeChanged(vtkMRMLNode*)"
