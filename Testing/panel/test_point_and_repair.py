"""A reader points at what is wrong, sees what would change, adjusts it, and takes or leaves it.

With the shipped pack on a phantom: a network with random weights offers no latent that does anything.
"""

import numpy as np
import pytest
import slicer

from MedSegLensLib.editing.recipe import RegionOf, VoxelMask, load_recipe
from MedSegLensLib.scene.hand_drawing import TISSUE

PACK = "glioma-segformer"


@pytest.fixture
def review(host, widget, panel, phantom_in_scene, idle):
    """The phantom, segmented with the shipped pack."""
    widget.parameters.pack = PACK
    panel.points.widget.collapsed = False
    widget.review.apply()
    idle()
    assert widget.review.isOpen, panel.apply.ui.messageLabel.text
    return widget.review


@pytest.fixture
def ui(panel):
    return panel.points.ui


@pytest.fixture
def click(host, review, ui, idle):
    """Presses a button and clicks in the axial view; waits for the answer."""

    def click(ras, inside: bool) -> None:
        from MedSegLensLib.scene import views

        views.jump_to(ras)
        host.process(0.05)
        host.click(ui.insideButton if inside else ui.outsideButton)
        assert ui.pointsState.text == "Click in a slice view."
        host.view("Red").click(ras=ras)
        idle()

    return click


@pytest.fixture
def propose(review, click):
    """Clicks "not tumour" in the tumour, here and there until something can be done about it; the place."""

    def propose() -> tuple[float, float, float]:
        review.pointing.reject()
        for ras in places(review, review.result.labels() > 0, 8):
            click(ras, inside=False)
            if review.pointing.canDecide:
                return ras
            review.pointing.reject()
        raise AssertionError("no latent does anything at any of these places")

    return propose


def places(review, mask, count: int) -> list[tuple[float, float, float]]:
    """RAS of some voxels of a mask, spread over it."""
    voxels = np.argwhere(mask)
    chosen = voxels[np.linspace(len(voxels) // 4, len(voxels) - 1, count).astype(int)]
    to_ras = review.session.opened.ijk_to_ras
    return [tuple(float(v) for v in (to_ras @ [*voxel[::-1], 1.0])[:3]) for voxel in chosen]


def test_a_click_is_answered_tried_at_other_strengths_accepted_undone_and_saved(
    host, review, panel, ui, propose, idle, tmp_path
):
    before = review.result.labels()
    ras = propose()
    assert np.allclose(review.pointing.point.ras, ras, atol=1.0)
    assert "“not tumour”" in ui.pointsState.text and "mL" in ui.pointsChange.text
    shown = slicer.util.arrayFromVolume(slicer.mrmlScene.GetFirstNodeByName("What would change"))
    wanted = review.pointing.answer
    assert shown.any() and (review.result.labels() == before).all(), "nothing is applied before it is accepted"
    assert review.history.recipe.edits == ()

    def changed(strength: float) -> int:
        host.type(ui.pointStrengthSlider, str(strength))
        idle()
        return int(np.count_nonzero(shown))

    some = changed(1.0)
    assert changed(0.0) == 0 and not ui.acceptButton.enabled
    assert changed(2.0) > 0 and changed(1.0) == some

    host.click(ui.acceptButton)
    idle()
    assert review.history.recipe == wanted.after
    after = review.result.labels()
    assert np.count_nonzero(after != before) == some
    node = review.pointing.points.node(False)
    assert node.GetNthControlPointLocked(0) and node.GetNthControlPointVisibility(0)

    host.click(panel.edits.ui.undoButton)
    idle()
    assert (review.result.labels() == before).all()
    assert not node.GetNthControlPointVisibility(0), "a point whose edits are undone is not in force"
    host.click(panel.edits.ui.redoButton)
    idle()
    assert (review.result.labels() == after).all() and node.GetNthControlPointVisibility(0)
    review.saveRecipe(str(tmp_path / "recipe.json"))
    assert load_recipe(tmp_path / "recipe.json") == review.history.recipe

    panel.batch.widget.collapsed = False
    assert panel.batch.ui.batchWhereComboBox.visible
    assert {edit.where for edit in panel.batch.recipe().edits} == {RegionOf("WT", 10)}
    panel.batch.ui.batchWhereComboBox.setCurrentIndex(2)
    assert panel.batch.recipe() == review.history.recipe

    edits, (point,) = review.history.recipe.edits, review.pointing.points.all()
    host.save_scene(tmp_path / "saved.mrb")
    host.close_scene()
    host.load_scene(tmp_path / "saved.mrb")
    host.process(0.1)
    assert review.history.recipe.edits == edits
    (again,) = review.pointing.points.all()
    assert (again.label, again.fate) == (point.label, point.fate) and np.allclose(again.ras, point.ras, atol=1e-3)
    assert ui.pointsState.text == "Press Continue first." and not ui.insideButton.enabled


def test_while_the_slider_is_dragged_the_slice_follows_and_reject_leaves_nothing(host, review, ui, propose, idle):
    from slicerhost import driving

    before = review.result.labels()
    propose()
    shown = slicer.util.arrayFromVolume(slicer.mrmlScene.GetFirstNodeByName("What would change"))
    seen = []
    for _step, _event in enumerate(driving.drag(ui.pointStrengthSlider, 0.0, 5)):
        host.process(0.3)
        seen.append(np.count_nonzero(shown))
    idle()
    assert len(set(seen)) > 1 and not shown.any()
    host.click(ui.rejectButton)
    idle()
    assert (review.result.labels() == before).all() and review.history.recipe.edits == ()
    assert review.pointing.points.all() == [] and not ui.rejectButton.visible


def test_what_cannot_be_asked_or_done_is_said_in_the_section(host, review, panel, ui, click, propose):
    air = np.zeros(review.result.shape, bool)
    air[10, 1, 1] = True
    click(places(review, air, 1)[0], inside=True)
    assert "outside the brain" in ui.pointsState.text or "outside the head" in ui.pointsState.text
    assert ui.insideButton.enabled and ui.rejectButton.visible and not ui.acceptButton.visible
    node = review.pointing.points.node(True)
    node.SetNthControlPointPosition(0, *places(review, review.result.labels() == 2, 1)[0])
    node.InvokeEvent(node.PointEndInteractionEvent)  # dragged elsewhere and let go: it is asked again
    review.wait()
    assert "already says tumour here" in ui.pointsState.text
    inside = propose()
    assert len(review.pointing.points.all()) == 1, "the point that could not be asked about is gone"
    review.pointing.accept()
    review.wait()
    review.pointing.say(inside, True, "WT")
    review.wait()
    assert "within 1.5 mm" in ui.pointsState.text and "Remove one of them" in ui.pointsState.text
    host.click(ui.rejectButton)
    (tumour,) = places(review, review.result.labels() == 3, 1)
    review.pointing.say(tumour, True, "WT")
    review.wait()
    assert "already says tumour here" in ui.pointsState.text
    assert not ui.drawButton.visible, "there is nothing to draw"

    # Where no latent does it the Segment Editor is prepared. It is not in the host: what it would find is.
    background = (review.result.labels() == 0) & (slicer.util.arrayFromVolume(review.parameters.t2f) > 0)
    for ras in places(review, background, 8):
        click(ras, inside=True)
        if review.pointing.canDraw:
            break
        review.pointing.reject()
    tissue = review.pointing.answer.tissue
    assert "No latent" in ui.pointsState.text
    labels = review.result.labels()
    host.click(ui.drawButton)
    assert "no Segment Editor" in panel.apply.ui.messageLabel.text
    editor = slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    node = editor.GetSegmentationNode()
    assert node is review.result.node and editor.GetActiveEffectName() == "Paint"
    drawn = slicer.util.arrayFromSegmentBinaryLabelmap(node, TISSUE, review.result.reference)
    assert np.count_nonzero(drawn) == np.count_nonzero(tissue.labels)
    assert (drawn[tissue.slices] == tissue.labels).all()
    assert (review.result.labels() == labels).all(), "nothing is drawn yet"
    assert all(point.fate for point in review.pointing.points.all()), "the point is gone"


def test_two_widgets_show_one_proposal_and_another_edit_asks_for_it_again(
    host, review, panel, ui, propose, idle, widget
):
    import qt

    parent = slicer.qMRMLWidget()
    parent.setLayout(qt.QVBoxLayout())
    second = type(widget)(parent)
    second.setup()
    second.panel.points.widget.collapsed = False
    parent.show()
    try:
        propose()
        first = review.pointing.answer
        assert second.panel.points.ui.pointsState.text == ui.pointsState.text != ""
        latent = panel.latents.listed()[0]
        review.setStrength(latent.tap, latent.latent, 1.5)
        idle()
        answer = review.pointing.answer or pytest.fail(ui.pointsState.text)
        assert answer is not first and answer.before == review.history.recipe and answer.point == first.point
        if not review.pointing.canDecide:
            propose()
        host.click(second.panel.points.ui.acceptButton)
        idle()
        assert len(review.history.recipe.edits) > 1 and not ui.acceptButton.visible
        assert all(isinstance(edit.where, VoxelMask) for edit in review.history.recipe.edits[1:])
    finally:
        second.cleanup()
    propose()
    assert ui.acceptButton.enabled, "the widget that stays goes on"
