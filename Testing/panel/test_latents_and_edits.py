"""Latents over the anatomy, strengths dragged, typed and undone, recipes, comparison: as a reader does it."""

import numpy as np
import pytest
import slicer

from MedSegLensLib.editing.recipe import Box, SliceRange, VoxelMask, load_recipe
from MedSegLensLib.panel.latent_list import COLUMNS

NAME, SHOWN, PINNED = (COLUMNS.index(name) for name in ("name", "shown", "pinned"))


@pytest.fixture
def rows(panel):
    return panel.latents.table


@pytest.fixture
def strong(opened, panel, host, idle):
    """The row of a latent whose suppression changes the segmentation."""
    for row, latent in enumerate(panel.latents.listed()[:8]):
        opened.setStrength(latent.tap, latent.latent, 0.0)
        idle()
        changed = (opened.result.labels() != opened.originalLabels()).sum()
        opened.undo()
        idle()
        if changed > 50:
            return row
    raise AssertionError("no latent of the tiny pack changes the segmentation")


def test_a_click_lays_the_activation_over_the_anatomy_in_all_views(host, opened, panel, rows, idle):
    listed = panel.latents.listed()
    assert len(listed) > 10
    rows.table.selectRow(2)
    idle()
    overlays = opened.overlays.scene
    assert overlays.key_of(0) == f"{listed[2].tap}/{listed[2].latent}"
    node = overlays.node(0)
    assert slicer.util.arrayFromVolume(node).max() == pytest.approx(listed[2].maximum, rel=0.05)
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        assert composite.GetForegroundVolumeID() == node.GetID()
    import qt

    assert rows.table.item(2, SHOWN).checkState() == qt.Qt.Checked
    rows.table.selectRow(3)
    idle()
    assert overlays.node(0) is node, "the same node is filled anew"
    assert overlays.key_of(0).endswith(f"/{listed[3].latent}")


def test_overlays_are_toggled_side_by_side_with_opacity_and_threshold(host, opened, panel, rows, idle):
    import qt

    first, second = panel.latents.listed()[:2]
    rows.table.selectRow(0)
    idle()
    rows.table.item(1, SHOWN).setCheckState(qt.Qt.Checked)
    idle()
    overlays = opened.overlays.scene
    assert [overlays.key_of(0), overlays.key_of(1)] == [f"{r.tap}/{r.latent}" for r in (first, second)]
    host.type(panel.latents.ui.opacitySlider, "0.30")
    host.type(panel.latents.ui.thresholdSlider, "40")
    assert overlays.opacity(1) == pytest.approx(0.3)
    assert overlays.threshold(0) == pytest.approx(0.4)
    assert opened.parameters.overlayOpacity == pytest.approx(0.3)
    rows.table.item(1, SHOWN).setCheckState(qt.Qt.Unchecked)
    idle()
    assert not overlays.shown(1) and overlays.shown(0)


def test_search_filter_sort_and_pin(host, opened, panel, rows, idle):
    import qt

    latents = panel.latents
    everything = latents.listed()
    host.type(latents.ui.searchBox, "1")
    assert {str(r.latent)[0] for r in latents.listed()} == {"1"}
    visible = [r for r in range(rows.table.rowCount) if not rows.table.isRowHidden(r)]
    assert len(visible) == len(latents.listed()) < len(everything)
    host.type(latents.ui.searchBox, "")
    rows.table.item(4, PINNED).setCheckState(qt.Qt.Checked)
    assert opened.parameters.pinned == f"{everything[4].tap}/{everything[4].latent}"
    latents.ui.filterComboBox.setCurrentIndex(3)
    assert [r.latent for r in latents.listed()] == [everything[4].latent]
    latents.ui.filterComboBox.setCurrentIndex(0)
    latents._onHeader(COLUMNS.index("number"))
    assert [r.latent for r in latents.listed()] == sorted(r.latent for r in everything)
    latents._onHeader(COLUMNS.index("number"))
    assert latents.listed()[0].latent == max(r.latent for r in everything)
    rows.table.selectRow(0)
    host.key(rows.table, "N")
    assert latents.current[1] == latents.listed()[1].latent
    host.key(rows.table, "P")
    assert latents.current[1] == latents.listed()[0].latent


def test_ranked_by_influence_at_the_crosshair_and_inside_a_segment(host, opened, panel, idle):
    latents = panel.latents
    latents.ui.rankComboBox.setCurrentIndex(1)
    idle()
    assert latents.rows[0].attribution_ml is not None
    assert latents.ui.rankRegionComboBox.visible
    assert "WT" in latents.ui.latentsTable.horizontalHeaderItem(COLUMNS.index("influence")).text()
    peak = latents.rows[0].peak_ras
    latents.ui.rankComboBox.setCurrentIndex(2)
    idle()
    from MedSegLensLib.scene import views

    views.jump_to(peak)
    host.process(0.2)
    idle()
    here = [r.here for r in latents.rows]
    assert here == sorted(here, reverse=True) and here[0] > 0
    first = [(r.latent, r.here) for r in latents.rows]
    views.jump_to(tuple(np.add(peak, (14, 0, 7))))
    host.process(0.2)
    idle()
    assert [(r.latent, r.here) for r in latents.rows] != first, "the list follows the crosshair"
    latents.ui.rankComboBox.setCurrentIndex(3)
    idle()
    assert latents.ui.rankSegmentSelector.currentNode() is opened.result.node
    assert all(r.here > 0 for r in latents.rows)


def test_dragging_previews_one_slice_and_releasing_edits_the_case(host, opened, panel, rows, strong, idle):
    latent = panel.latents.listed()[strong]
    panel.latents.jumpTo(latent.tap, latent.latent)
    before = opened.result.labels()
    previews = []
    shown = opened.preview.show
    opened.preview.show = lambda box: (previews.append(box), shown(box))
    slider = rows._sliders[strong]
    from slicerhost import driving

    for step, _ in enumerate(driving.drag(slider, 0.0, 6)):
        host.process(0.15)
        if step == 4:
            assert opened.history.recipe.edits == (), "nothing is kept while dragging"
            assert (opened.result.labels() == before).all()
    idle()
    assert previews and all(box.labels.shape[0] == 1 for box in previews), "one axial slice each"
    (edit,) = opened.history.recipe.edits
    assert (edit.latent, edit.kind, edit.value) == (latent.latent, "scale", 0.0)
    after = opened.result.labels()
    assert (after != before).any()
    assert (opened.originalLabels() == before).all()
    voxel = opened.session.opened.voxel_ml
    table = panel.regions.ui.regionsTable
    assert table.item(0, 2).text() == f"{np.count_nonzero(after) * voxel:.1f}"
    host.click(panel.edits.ui.undoButton)
    idle()
    assert (opened.result.labels() == before).all()
    host.click(panel.edits.ui.redoButton)
    idle()
    assert (opened.result.labels() == after).all()


def test_a_typed_strength_is_an_edit_and_keys_suppress_reset_and_undo(host, opened, panel, rows, idle):
    rows.table.selectRow(1)
    latent = panel.latents.listed()[1]
    host.type(rows._sliders[1], "2.5")
    idle()
    assert [e.value for e in opened.history.recipe.edits] == [2.5]
    assert panel.edits.ui.editsTable.item(0, 1).text() == "× 2.5"
    host.key(rows.table, "0")
    idle()
    assert [(e.latent, e.value) for e in opened.history.recipe.edits] == [(latent.latent, 0.0)]
    assert panel.edits.ui.editsTable.item(0, 1).text() == "suppressed"
    host.key(rows.table, "1")
    idle()
    assert opened.history.recipe.edits == ()
    host.key(rows.table, "Z", "Ctrl")
    idle()
    assert [e.value for e in opened.history.recipe.edits] == [0.0]
    host.click(panel.edits.ui.resetAllButton)
    idle()
    assert opened.history.recipe.edits == ()
    assert (opened.result.labels() == opened.originalLabels()).all()


def test_edits_are_limited_to_a_box_a_segment_or_slices(host, opened, panel, strong, idle):
    latents, edits = panel.latents, panel.edits
    latent = latents.listed()[strong]
    everywhere = (opened.result.labels() != opened.originalLabels()).sum()
    assert everywhere == 0
    panel.latents.jumpTo(latent.tap, latent.latent)
    changed = {}
    for kind, place in ((1, Box), (2, VoxelMask), (3, SliceRange)):
        edits.ui.whereComboBox.setCurrentIndex(kind)
        if kind == 2:
            edits.ui.whereSegmentSelector.setCurrentNode(opened.result.node)
            host.process()
        latents.release(latent.tap, latent.latent, 0.0)
        idle()
        assert [type(e.where) for e in opened.history.recipe.edits] == [place], panel.apply.ui.messageLabel.text
        changed[place] = opened.result.labels() != opened.originalLabels()
        assert edits.ui.editsTable.item(0, 2).text() != "everywhere"
        opened.undo()
        idle()
    edits.ui.whereComboBox.setCurrentIndex(0)
    latents.release(latent.tap, latent.latent, 0.0)
    idle()
    whole = (opened.result.labels() != opened.originalLabels()).sum()
    assert all(mask.sum() < whole for mask in changed.values())
    lower, upper = edits.ui.sliceRange.minimumValue, edits.ui.sliceRange.maximumValue
    to_ras = opened.session.opened.ijk_to_ras
    z = np.flatnonzero(changed[SliceRange].any(axis=(1, 2)))
    s = to_ras[2, 2] * z + to_ras[2, 3]
    assert len(z) and (s >= lower - 14).all() and (s <= upper + 14).all()  # 7 mm slices


def test_a_place_that_is_not_chosen_is_said_and_the_slider_goes_back(host, opened, panel, rows):
    panel.edits.ui.whereComboBox.setCurrentIndex(2)
    panel.edits.ui.whereSegmentSelector.setCurrentNode(None)
    host.type(rows._sliders[0], "3.0")
    assert "Choose a segment under Edits" in panel.apply.ui.messageLabel.text
    assert rows._sliders[0].value == 1.0
    assert opened.history.recipe.edits == ()


def test_original_difference_and_side_by_side(host, opened, panel, strong, idle):
    latent = panel.latents.listed()[strong]
    opened.setStrength(latent.tap, latent.latent, 0.0)
    idle()
    ui = panel.edits.ui
    host.click(ui.originalButton)
    assert opened.result.shown == "original"
    host.click(ui.originalButton)
    assert opened.result.shown == "edited"
    host.click(ui.differenceButton)
    changes = slicer.util.arrayFromVolume(opened.difference.node)
    assert opened.difference.shown
    assert ((changes > 0) == (opened.result.labels() != opened.originalLabels())).all()
    opened.undo()
    idle()
    assert slicer.util.arrayFromVolume(opened.difference.node).max() == 0
    before = slicer.app.layoutManager().layout
    host.click(ui.sideBySideButton)
    host.process(0.1)
    assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView
    host.click(ui.sideBySideButton)
    assert slicer.app.layoutManager().layout == before
    assert opened.result.shown == "edited"
    host.key(panel.latents.ui.latentsTable, "H")
    assert opened.result.shown == "original"
    host.process(0.9)
    assert opened.result.shown == "edited", "no more repeats of the key: it was let go"


def test_a_recipe_is_saved_loaded_and_refused_for_another_pack(host, opened, panel, idle, tmp_path):
    latent = panel.latents.listed()[0]
    opened.setStrength(latent.tap, latent.latent, 2.0)
    idle()
    path = tmp_path / "recipe.json"
    host.answers.files.append(str(path))
    host.click(panel.edits.ui.saveRecipeButton)
    assert load_recipe(path).edits == opened.history.recipe.edits
    opened.resetAll()
    idle()
    host.answers.files.append(str(path))
    host.click(panel.edits.ui.loadRecipeButton)
    idle()
    assert [e.value for e in opened.history.recipe.edits] == [2.0]
    path.write_text(path.read_text().replace(opened.history.recipe.pack.hash, "f" * 64))
    panel.edits.loadRecipe(str(path))
    assert "another" in panel.apply.ui.messageLabel.text or "made for" in panel.apply.ui.messageLabel.text
    assert [e.value for e in opened.history.recipe.edits] == [2.0]


def test_details_tell_where_a_latent_fires_with_units(host, opened, panel, rows, idle):
    panel.details.widget.collapsed = False
    rows.table.selectRow(0)
    idle()
    latent = panel.latents.listed()[0]
    text = panel.details.ui.detailsText.text
    assert f"Latent {latent.latent}" in panel.details.ui.detailsTitle.text
    assert " mL" in text and " mm" in text and " %" in text
    host.click(panel.details.ui.jumpButton)
    from MedSegLensLib.scene import views

    assert np.allclose(views.crosshair_ras(), latent.peak_ras, atol=0.5)


def test_the_same_recipe_runs_over_the_studies_in_the_scene(host, opened, panel, idle):
    import qt
    from phantoms import SMALL

    from MedSegLensLib.panel import study_files

    latent = panel.latents.listed()[0]
    opened.setStrength(latent.tap, latent.latent, 0.0)
    idle()
    study_files.addPhantom(2, **SMALL)
    panel.batch.widget.collapsed = False
    host.process()
    table = panel.batch.ui.batchTable
    names = [table.item(r, 0).text() for r in range(table.rowCount)]
    assert names == ["phantom-1 (4 volumes)", "phantom-2 (4 volumes)"]
    table.item(1, 0).setCheckState(qt.Qt.Checked)
    host.click(panel.batch.ui.batchApplyButton)
    idle(120)
    assert table.item(1, 6).text() == "done"
    assert float(table.item(1, 1).text()) > 0
    assert table.item(1, 4).text() == "–" and "pack add-reference" in table.item(1, 4).toolTip()
    assert table.item(0, 6).text() == ""
    assert opened.isOpen, "the study under review stays open"
    made = [n for n in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if "phantom-2" in n.GetName()]
    assert made and not any(n.GetDisplayNode().GetVisibility() for n in made), "the views are of another study"
    assert opened.result.shown == "edited"
