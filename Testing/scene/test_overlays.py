"""Activation volumes over the anatomy: in place, in the right place, and nothing of the reader's is lost."""

import numpy as np
import pytest
import slicer
import slicer.util
from samples import GRIDS, SHAPE, centre, coloured, point_overlay, ras_of, volume

from MedSegLensLib.errors import UsageError
from MedSegLensLib.scene import views as slice_views
from MedSegLensLib.scene.colours import COLOURS, colour_table, swatch
from MedSegLensLib.scene.overlays import Overlays, slots
from MedSegLensLib.scene.probability import put_probability
from MedSegLensLib.worker.answers import Overlay

GRID = GRIDS["as scanned"]
AT = (11, 22, 33)
PLANES = (("Red", 2), ("Yellow", 0), ("Green", 1))


@pytest.fixture
def anatomy(views):
    node = volume()
    for view in views.values():
        view.show(node)
    slice_views.jump_to(tuple(ras_of(AT, GRID)))
    return node


@pytest.fixture
def overlays(owner, anatomy):
    return Overlays(owner)


def seen(views) -> np.ndarray:
    return coloured(views["Red"].pixels())


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("slot", [0, 2])
def test_an_overlay_is_drawn_where_it_lies(owner, views, grid, slot):
    reference = volume("t1c", GRIDS[grid])
    for view in views.values():
        view.show(reference)
    point = ras_of(AT, GRIDS[grid])
    slice_views.jump_to(tuple(point))
    Overlays(owner).show(slot, point_overlay(AT, GRIDS[grid]), "latent 1", reference)
    for view in views.values():
        mask = coloured(view.pixels())
        assert mask.any()
        assert np.abs(centre(mask) - view.pixel_of(point)).max() < 5


def test_a_coarse_grid_is_drawn_at_its_own_place(overlays, anatomy, views):
    coarse = GRID.copy()
    coarse[:3, :3] *= 4
    coarse[:3, 3] = (GRID @ (1.5, 1.5, 1.5, 1))[:3]
    array = np.zeros((7, 10, 12), np.float32)
    array[3, 5, 8] = 2.0
    overlays.show(0, Overlay(array, coarse, 2.0), "latent 1", anatomy)
    point = ras_of((3, 5, 8), coarse)
    slice_views.jump_to(tuple(point))
    for view in views.values():
        assert np.abs(centre(coloured(view.pixels())) - view.pixel_of(point)).max() < 3


def test_another_latent_uses_the_same_node_and_memory(overlays, anatomy):
    node = overlays.show(0, point_overlay(AT, GRID), "latent 1", anatomy, key="tap/1")
    array = slicer.util.arrayFromVolume(node)
    again = overlays.show(0, point_overlay((5, 5, 5), GRID), "latent 2", anatomy, key="tap/2")
    assert again is node
    assert np.shares_memory(slicer.util.arrayFromVolume(node), array)
    assert array[5, 5, 5] == 3 and array[AT] == 0
    assert (node.GetName(), overlays.key_of(0)) == ("latent 2", "tap/2")


def test_arrays_of_another_size_and_grid_replace_it(overlays, anatomy, views):
    node = overlays.show(0, point_overlay(AT, GRID), "latent 1", anatomy)
    other = point_overlay((2, 3, 4), GRIDS["oblique"], (9, 10, 11))
    assert overlays.show(0, other, "latent 2", anatomy) is node
    assert slicer.util.arrayFromVolume(node).shape == (9, 10, 11)
    slice_views.jump_to(tuple(ras_of((2, 3, 4), GRIDS["oblique"])))
    assert seen(views).any()


def test_showing_asks_the_views_to_draw(overlays, anatomy, views):
    overlays.show(0, point_overlay(AT, GRID), "latent 1", anatomy)
    seen(views)
    before = views["Red"].requests
    overlays.show(0, point_overlay((11, 20, 30), GRID), "latent 2", anatomy)
    assert views["Red"].requests > before


def test_hiding_leaves_no_trace_in_the_pictures(overlays, anatomy, views):
    before = {name: view.pixels() for name, view in views.items()}
    for slot in range(slots()):
        overlays.show(slot, point_overlay(AT, GRID), f"latent {slot}", anatomy)
    assert seen(views).any()
    for slot in range(slots()):
        overlays.hide(slot)
        assert not overlays.shown(slot)
    for name, view in views.items():
        assert np.array_equal(view.pixels(), before[name])


def test_four_overlays_each_have_their_colour_and_place(overlays, anatomy, views):
    places = [(11, 10, 10), (11, 10, 40), (11, 30, 10), (11, 30, 40)]
    for slot, place in enumerate(places):
        overlays.show(slot, point_overlay(place, GRID), f"latent {slot}", anatomy, opacity=1.0)
    pixels = views["Red"].pixels()
    tops = [pixels[views["Red"].pixel_of(ras_of(place, GRID))].astype(int) for place in places]
    for slot, place in enumerate(places):
        expected = np.array(table_top(COLOURS[slot]))
        assert np.abs(tops[slot] - expected).max() < 20, place
    overlays.hide(1)
    pixels = views["Red"].pixels()
    assert np.ptp(pixels[views["Red"].pixel_of(ras_of(places[1], GRID))].astype(int)) < 10
    assert np.abs(pixels[views["Red"].pixel_of(ras_of(places[3], GRID))].astype(int) - tops[3]).max() < 3


def table_top(name):
    rgba = [0.0] * 4
    colour_table(name).GetColor(255, rgba)
    return [round(255 * part) for part in rgba[:3]]


def test_opacity_blends_with_the_anatomy(overlays, anatomy, views):
    at = views["Red"].pixel_of(ras_of(AT, GRID))
    bare = views["Red"].pixels()[at].astype(float)
    for slot in (0, 1):
        overlays.show(slot, point_overlay(AT, GRID), "latent", anatomy, opacity=1.0)
        full = views["Red"].pixels()[at].astype(float)
        overlays.set_opacity(slot, 0.25)
        assert np.abs(views["Red"].pixels()[at] - (0.25 * full + 0.75 * bare)).max() < 3
        overlays.set_opacity(slot, 0.0)
        assert np.abs(views["Red"].pixels()[at] - bare).max() < 2
        overlays.hide(slot)


def test_what_lies_below_the_threshold_leaves_the_anatomy_alone(overlays, anatomy, views):
    ramp = np.broadcast_to(np.linspace(0, 4, SHAPE[2], dtype=np.float32), SHAPE)
    overlays.show(0, Overlay(ramp, GRID, 4.0), "ramp", anatomy, threshold=0.5, opacity=1.0)
    pixels = views["Red"].pixels()
    low, high = (pixels[views["Red"].pixel_of(ras_of((11, 20, x), GRID))].astype(int) for x in (20, 40))
    assert np.ptp(low) < 10 < np.ptp(high)
    overlays.set_threshold(0, 0.2)
    assert np.ptp(views["Red"].pixels()[views["Red"].pixel_of(ras_of((11, 20, 20), GRID))].astype(int)) > 25


def test_a_latent_that_does_not_fire_shows_nothing(overlays, anatomy, views):
    overlays.show(0, Overlay(np.zeros(SHAPE, np.float32), GRID, 0.0), "silent", anatomy, threshold=0.0)
    assert not seen(views).any()


@pytest.mark.parametrize("name", COLOURS)
def test_colour_tables_start_at_a_mid_tone_and_grow_lighter(scene, name):
    table, rgba = colour_table(name), [0.0] * 4
    lightness = []
    for value in range(256):
        table.GetColor(value, rgba)
        lightness.append(float(np.array(rgba[:3]) ** 2.2 @ (0.2126, 0.7152, 0.0722)))
        assert rgba[3] == 1
    assert lightness[0] > 0.02
    assert np.all(np.diff(lightness) > -1e-3)  # the table holds whole numbers of 255
    assert colour_table(name) is table
    assert all(0 <= part <= 255 for part in swatch(name))


def test_colours_opacity_and_threshold_stay_with_the_slot(overlays, anatomy):
    overlays.show(1, point_overlay(AT, GRID), "a", anatomy, colour="viridis", threshold=0.3, opacity=0.4)
    overlays.show(1, point_overlay(AT, GRID), "b", anatomy)
    assert (overlays.colour(1), overlays.threshold(1), overlays.opacity(1)) == ("viridis", 0.3, 0.4)
    overlays.set_colour(1, "purple")
    assert overlays.node(1).GetDisplayNode().GetColorNode() is colour_table("purple")


def test_wrong_values_are_refused(overlays, anatomy):
    overlay = point_overlay(AT, GRID)
    for wrong in ({"threshold": 1.5}, {"opacity": -1}, {"opacity": float("nan")}, {"colour": "rainbow"}):
        with pytest.raises(UsageError):
            overlays.show(0, overlay, "a", anatomy, **wrong)
    with pytest.raises(UsageError, match="no slot"):
        overlays.show(slots(), overlay, "a", anatomy)
    with pytest.raises(UsageError, match="Show a latent first"):
        overlays.set_opacity(2, 0.5)
    assert overlays.node(0) is None


def test_the_readers_own_foreground_comes_back(overlays, anatomy, views):
    theirs = volume("t2f")
    views["Red"].composite.SetForegroundVolumeID(theirs.GetID())
    views["Red"].composite.SetForegroundOpacity(0.5)
    overlays.show(0, point_overlay(AT, GRID), "latent 1", anatomy)
    overlays.show(0, point_overlay(AT, GRID), "latent 2", anatomy)
    overlays.hide(0)
    assert views["Red"].composite.GetForegroundVolumeID() == theirs.GetID()
    assert views["Red"].composite.GetForegroundOpacity() == 0.5
    assert views["Green"].composite.GetForegroundVolumeID() is None


def test_the_readers_own_further_layers_are_left_alone(overlays, anatomy, views):
    theirs, composite = volume("pet"), views["Red"].composite
    composite.SetNthLayerVolumeID(3, theirs.GetID())
    composite.SetNthLayerOpacity(3, 0.3)
    overlays.show(2, point_overlay(AT, GRID), "b", anatomy, opacity=0.7)
    overlays.show(1, point_overlay(AT, GRID), "a", anatomy, opacity=0.6)
    layers = [(composite.GetNthLayerVolume(n).GetName(), composite.GetNthLayerOpacity(n)) for n in (3, 4, 5)]
    assert layers == [("pet", 0.3), ("a", 0.6), ("b", 0.7)]
    overlays.hide(1)
    layers = [(composite.GetNthLayerVolume(n).GetName(), composite.GetNthLayerOpacity(n)) for n in (3, 4)]
    assert layers == [("pet", 0.3), ("b", 0.7)]
    assert composite.GetNumberOfAdditionalLayers() == 2


@pytest.mark.parametrize("slot", [0, 1])
def test_a_volume_that_the_reader_deleted_is_made_anew(overlays, anatomy, views, slot):
    overlays.show(slot, point_overlay(AT, GRID), "latent 1", anatomy)
    overlays.show(3, point_overlay((11, 30, 10), GRID), "latent 3", anatomy, opacity=0.9)
    slicer.mrmlScene.RemoveNode(overlays.node(slot))
    assert not overlays.shown(slot)
    assert overlays.key_of(slot) == ""
    overlays.hide(slot)
    assert not overlays.show_again(slot)
    overlays.show(slot, point_overlay(AT, GRID), "latent 2", anatomy)
    pixels = coloured(views["Red"].pixels())
    assert pixels[views["Red"].pixel_of(ras_of(AT, GRID))]
    assert pixels[views["Red"].pixel_of(ras_of((11, 30, 10), GRID))]
    assert views["Red"].composite.GetNthLayerOpacity(3 if slot == 0 else 4) == 0.9


def test_a_deleted_colour_table_is_made_anew(overlays, anatomy, views):
    overlays.show(0, point_overlay(AT, GRID), "latent 1", anatomy)
    slicer.mrmlScene.RemoveNode(colour_table("heat"))
    overlays.show(0, point_overlay(AT, GRID), "latent 2", anatomy)
    assert seen(views).any()


def test_two_sessions_do_not_take_each_others_nodes(overlays, anatomy, views, scene):
    other = Overlays(scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "MedSegLens"))
    ours = [overlays.show(slot, point_overlay(AT, GRID), f"ours {slot}", anatomy) for slot in (0, 1)]
    theirs = [other.show(slot, point_overlay((11, 30, 10), GRID), f"theirs {slot}", anatomy) for slot in (0, 1)]
    assert not set(ours) & set(theirs)
    other.remove(0)
    other.remove(1)
    assert views["Red"].composite.GetForegroundVolumeID() == ours[0].GetID()
    assert [overlays.node(slot) for slot in (0, 1)] == ours
    assert views["Red"].composite.GetNumberOfAdditionalLayers() == 1


def test_a_hidden_overlay_of_another_session_is_not_brought_back(overlays, anatomy, views, scene):
    other = Overlays(scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "MedSegLens"))
    overlays.show(0, point_overlay(AT, GRID), "ours", anatomy)
    other.show(0, point_overlay((11, 30, 10), GRID), "theirs", anatomy)
    overlays.hide(0)
    other.hide(0)
    assert views["Red"].composite.GetForegroundVolumeID() is None


def test_a_probability_is_a_volume_beside_the_input(owner, anatomy):
    array = np.linspace(0, 1, np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    node = put_probability(owner, "WT", Overlay(array, GRID, 1.0), anatomy)
    assert put_probability(owner, "WT", Overlay(array / 2, GRID, 1.0), anatomy) is node
    assert put_probability(owner, "ET", Overlay(array, GRID, 1.0), anatomy) is not node
    assert node.GetName() == "WT probability"
    assert np.array_equal(slicer.util.arrayFromVolume(node), array / 2)


def test_jumping_moves_the_planes_and_not_the_picture(anatomy, views):
    before = {name: np.array(view.node.GetFieldOfView()) for name, view in views.items()}
    slice_views.jump_to((-20.0, -30.0, 17.0))
    planes = [views[name].node.GetSliceToRAS().GetElement(axis, 3) for name, axis in PLANES]
    assert planes == pytest.approx([17, -20, -30])
    assert slice_views.crosshair_ras() == (-20.0, -30.0, 17.0)
    assert all(np.array_equal(view.node.GetFieldOfView(), before[name]) for name, view in views.items())
    points = slice_views.visible_points()
    assert len(points) == 3
    assert points[0][2] == 17
