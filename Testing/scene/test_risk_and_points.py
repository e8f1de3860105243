"""The risk map in a layer of its own, and the points that a reader places."""

import json

import numpy as np
import pytest
import slicer
import slicer.util
from samples import GRIDS, ras_of, volume

from MedSegLensLib.failures.points import read_points
from MedSegLensLib.scene import layers
from MedSegLensLib.scene.colours import RISK_STEPS, risk_table
from MedSegLensLib.scene.overlays import Overlays
from MedSegLensLib.scene.points import ReaderPoints
from MedSegLensLib.scene.restore import restore
from MedSegLensLib.scene.risk import RiskMap
from MedSegLensLib.scene.views import jump_to
from MedSegLensLib.worker.answers import Overlay

GRID = GRIDS["as scanned"]
MIDDLE = (15, 20, 26)


@pytest.fixture
def reference(views):
    reference = volume()
    for view in views.values():
        view.show(reference)
    jump_to(tuple(ras_of(MIDDLE, GRID)))
    return reference


def risk_of(reference, *values: float) -> Overlay:
    """A risk of each value in a stripe of its own across the middle slice."""
    array = np.zeros(slicer.util.arrayFromVolume(reference).shape, np.float32)
    for n, value in enumerate(values):
        array[MIDDLE[0], :, 6 + 10 * n : 14 + 10 * n] = value
    return Overlay(array, GRID, float(array.max()))


def test_risk_is_drawn_in_three_steps_and_clear_below_the_first(owner, reference, views):
    risk = RiskMap(owner)
    before = views["Red"].pixels().astype(int)
    risk.fill(risk_of(reference, 0.1, 0.4, 0.6, 0.9), reference)
    assert (views["Red"].pixels() == before).all(), "it is hidden until it is asked for"
    risk.show(True)
    pixels, place = views["Red"].pixels().astype(int), views["Red"].pixel_of
    seen = [pixels[place(ras_of((MIDDLE[0], 20, 10 + 10 * n), GRID))] for n in range(4)]
    was = [before[place(ras_of((MIDDLE[0], 20, 10 + 10 * n), GRID))] for n in range(4)]
    assert np.abs(seen[0] - was[0]).max() < 10
    lightness = [0.3 * r + 0.6 * g + 0.1 * b for r, g, b in seen[1:]]
    assert all(r > b + 20 for r, _g, b in seen[1:]) and lightness == sorted(lightness)
    risk.hide()
    assert np.abs(views["Red"].pixels().astype(int) - before).max() < 10


def test_the_steps_differ_for_every_eye():
    """Lightness alone tells them apart: each is lighter than the one before by a quarter of it and more."""
    lightness = [0.2126 * r + 0.7152 * g + 0.0722 * b for _least, (r, g, b) in RISK_STEPS]
    assert all(after > 1.25 * before for before, after in zip(lightness, lightness[1:], strict=False))


def test_the_table_is_clear_below_the_first_step(scene):
    table, rgba = risk_table(), [0.0] * 4
    table.GetColor(60, rgba)
    assert rgba[3] == 0
    table.GetColor(70, rgba)
    assert rgba[3] == 1


def test_it_is_filled_in_place_beside_the_overlays_and_found_again(owner, reference, views):
    risk, overlays = RiskMap(owner), Overlays(owner)
    latent = risk_of(reference, 1.0)
    for slot in range(3):
        overlays.show(slot, latent, f"latent {slot}", reference, key=str(slot))
    node = risk.fill(risk_of(reference, 0.9), reference)
    risk.show(True)
    assert risk.fill(risk_of(reference, 0.5), reference) is node and risk.shown
    shown = {overlays.node(1).GetID(), overlays.node(2).GetID(), node.GetID()}
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        count = view.GetNumberOfAdditionalLayers()
        assert {view.GetNthLayerVolumeID(layers.FIRST_ADDITIONAL + n) for n in range(count)} == shown
        view.SetNthLayerVolumeID(layers.FIRST_ADDITIONAL + count - 1, None)
    assert restore(owner) == []
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        count = view.GetNumberOfAdditionalLayers()
        assert {view.GetNthLayerVolumeID(layers.FIRST_ADDITIONAL + n) for n in range(count)} == shown


def test_points_say_what_they_were_placed_for_and_are_told_of(owner, scene):
    points, heard = ReaderPoints(owner), []
    points.watch(lambda: heard.append(len(points.all())))
    inside, outside = points.add((1, 2, 3), True, "tumour"), points.add((4, 5, 6), False, "not ET")
    assert [(p.ras, p.label, p.inside) for p in points.all()] == [
        ((1, 2, 3), "tumour", True),
        ((4, 5, 6), "not ET", False),
    ]
    assert heard == [1, 2] and points.undecided() == [inside, outside]
    points.decide(inside.key, "done")
    assert points.undecided() == [outside] and points.find(inside.key).fate == "done"
    points.remove(outside.key)
    assert points.find(outside.key) is None and heard[-1] == 1
    points.unwatch()
    points.add((0, 0, 0), True, "tumour")
    assert heard[-1] == 1


def test_the_next_click_places_a_point_in_the_chosen_list(owner, scene):
    points = ReaderPoints(owner)
    assert points.placing is None
    points.begin_placing(False, "not ED")
    assert points.placing is False
    node = points.node(False)
    node.AddControlPoint([7.0, 8.0, 9.0])  # as a click does: without a label
    assert points.all()[0].label == "not ED"
    points.end_placing()
    assert points.placing is None


def test_the_saved_list_is_read_as_points_by_the_command(owner, scene, tmp_path):
    points = ReaderPoints(owner)
    points.add((10.0, -20.0, 30.0), False, "not ET")
    path = tmp_path / "not tumour.mrk.json"
    points.node(False).AddDefaultStorageNode(str(path))
    assert points.node(False).GetStorageNode().WriteData(points.node(False))
    assert json.loads(path.read_text(encoding="utf-8"))["markups"]
    (point,) = read_points(path)
    assert point.ras == pytest.approx((10, -20, 30)) and point.words == "not ET"
