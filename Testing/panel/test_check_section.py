"""The case is checked on demand: numbers, sentences, a list of places to go to, a map; kept with the scene."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import slicer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pack_with_reference(tiny_pack, tmp_path_factory) -> Path:
    """The tiny pack with a reference of three labelled phantoms as they are, under no other acquisition; made in a
    process of its own, as only the worker may import torch."""
    folder = tmp_path_factory.mktemp("packs") / "tiny-with-reference"
    make = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}]
from pathlib import Path
from MedSegLensLib.cohorts.cohort import CohortCase
from MedSegLensLib.cohorts.phantoms import PhantomRequest
from MedSegLensLib.failures import reference as references
from MedSegLensLib.packs.pack import load_pack
from MedSegLensLib.packs.shipped_reference import with_reference
references.DETECTOR_ACQUISITIONS = ()
sizes = {{"size": (40, 48, 14), "spacing": (4.0, 4.0, 9.0)}}
cases = [CohortCase(f"phantom-{{s}}", f"phantom-{{s}}", phantom=PhantomRequest(s, **sizes)) for s in range(40, 43)]
pack = load_pack({str(tiny_pack)!r})
reference, _failed = references.build_reference(pack, cases)
with_reference(pack, reference.shipped(pack.info), Path({str(folder)!r}))
"""
    subprocess.run([sys.executable, "-c", make], check=True, timeout=600)
    return folder


@pytest.fixture
def review(widget, panel, phantom_in_scene, pack_with_reference, idle):
    widget.parameters.pack = str(pack_with_reference)
    panel.check.widget.collapsed = False
    widget.review.apply()
    idle()
    assert widget.review.isOpen, panel.apply.ui.messageLabel.text
    return widget.review


@pytest.fixture
def ui(panel):
    return panel.check.ui


def test_likely_mistakes_are_listed_gone_to_and_pointed_at(host, review, panel, ui, idle, tmp_path):
    from MedSegLensLib.scene import views

    host.process(0.1)
    assert review.checking.found is None, "nothing is checked before it is asked for"
    labels = review.result.labels()
    host.click(ui.checkButton)
    assert ui.checkButton.text == "Cancel" and ui.checkProgress.visible
    idle()
    found = review.checking.found
    assert found.suspects and ui.suspectsTable.rowCount == len(found.suspects)
    assert (review.result.labels() == labels).all(), "a check changes nothing"
    assert ui.shiftLabel.text == found.shift.words
    assert [ui.qualityTable.item(row, 1).text() for row in range(ui.qualityTable.rowCount)] == [
        f"{one.dice:.2f}" for one in found.quality
    ]
    host.click(ui.riskCheckBox)
    node = review.checking.map.node
    risk = slicer.util.arrayFromVolume(node)
    assert risk.shape == labels.shape and 0 < risk.max() <= 1
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        shown = [composite.GetNthLayerVolumeID(3 + n) for n in range(composite.GetNumberOfAdditionalLayers())]
        assert shown == [node.GetID()]

    worst = found.suspects[0]
    ui.suspectsTable.selectRow(0)
    host.process()
    assert worst.words.split(":")[0] in ui.suspectLabel.text
    panel.check._go(0)
    assert np.allclose(views.crosshair_ras(), worst.ras, atol=0.5)
    host.click(ui.repairHereButton)
    idle()
    (said,) = review.pointing.points.all()
    assert said.label == ("not " if worst.kind == "false positive" else "") + (
        "tumour" if worst.region == "WT" else worst.region
    )
    assert not panel.points.widget.collapsed and panel.points.ui.pointsState.text
    review.pointing.reject()

    latent = panel.latents.listed()[0]
    review.setStrength(latent.tap, latent.latent, 0.0)
    idle()
    assert "check again" in ui.checkNotes.text
    host.click(ui.checkButton)
    idle()
    assert "check again" not in ui.checkNotes.text and "without edits" in ui.checkNotes.text
    assert review.checking.map.node is node, "the map is filled anew in place"

    found = review.checking.found
    host.save_scene(tmp_path / "saved.mrb")
    host.close_scene()
    assert review.checking.found is None
    host.load_scene(tmp_path / "saved.mrb")
    host.process(0.1)
    assert review.checking.found == found and ui.suspectsTable.rowCount == len(found.suspects)
    assert review.checking.map.shown and ui.riskCheckBox.checked


def test_a_check_is_cancelled_and_a_pack_without_reference_says_what_to_do(
    host, review, panel, ui, idle, tiny_pack, widget
):
    host.click(ui.checkButton)
    host.click(ui.checkButton)
    assert ui.checkButton.text == "Check this case" and review.checking.found is None
    idle()
    assert review.checking.found is None and not ui.checkProgress.visible
    widget.parameters.pack = str(tiny_pack)
    review.apply()
    idle()
    host.click(ui.checkButton)
    idle()
    assert "pack add-reference" in ui.checkNotes.text
    panel.check.widget.collapsed = True
    review.checking._tell()
    panel.check.widget.collapsed = False
    assert not ui.suspectsTable.visible and not ui.riskCheckBox.visible and not ui.repairHereButton.visible
