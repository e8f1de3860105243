"""A case through the worker is the case through the engine: nothing is lost on the way or in the two grids."""

import time

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import SECONDS, recipe_for, volume_of

from MedSegLensLib.cases.case import region_mask
from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.editing.influence import attribute
from MedSegLensLib.editing.session import Session
from MedSegLensLib.editing.splice import dice_by_region
from MedSegLensLib.errors import Cancelled, CaseError, PackError, RecipeError, UsageError
from MedSegLensLib.packs.pack import load_pack
from MedSegLensLib.segmenters.engine import Engine
from MedSegLensLib.worker.client import Volume


@pytest.fixture(scope="module")
def engine_session(session, case, pack):
    """The same case in this process, with the worker's engine."""
    import torch

    told = session._engine
    engine = Engine(told["device"], getattr(torch, told["dtype"]), told["channels_last"], told["batch"])
    return Session(case, load_pack(pack), engine=engine)


def painted(session, edited) -> np.ndarray:
    """The unedited labels with the box over them, as the scene shows them."""
    labels = session.opened.labels.copy()
    if edited.box is not None:
        labels[edited.box.slices] = edited.box.labels
    return labels


def test_the_segmentation_lies_on_the_cases_own_grid(session, engine_session, volumes):
    own = sitk.GetArrayFromImage(engine_session.to_case(engine_session.labels))
    assert np.array_equal(session.opened.labels, own) and session.opened.labels.dtype == np.uint8
    assert np.allclose(session.opened.ijk_to_ras, volumes["t1n"].ijk_to_ras)
    assert session.opened.grid_of == "t1n" and session.opened.dice.keys() == {"WT", "TC", "ET"}


def test_opening_tells_volumes_and_dice(session, case):
    labels = session.opened.labels
    for region, ml in session.opened.regions_ml.items():
        assert ml == pytest.approx(np.count_nonzero(region_mask(labels, region)) * session.opened.voxel_ml)
    assert session.opened.dice == pytest.approx(dice_by_region(labels, sitk.GetArrayFromImage(case.labels)))


def test_an_edit_is_the_engines_edit_and_only_its_box_comes(session, engine_session, case):
    recipe = recipe_for(session.opened, (0, 3.0), (5, 0.0))
    ours = engine_session.edit(recipe)
    expected = sitk.GetArrayFromImage(engine_session.to_case(ours.labels))
    edited = session.edit(recipe).result(SECONDS)
    assert np.array_equal(painted(session, edited), expected)
    assert not np.array_equal(expected, session.opened.labels), "the edit should change something"
    assert edited.regions_ml["TC"] == pytest.approx(
        np.count_nonzero(region_mask(expected, "TC")) * session.opened.voxel_ml
    )
    assert edited.dice == pytest.approx(dice_by_region(expected, sitk.GetArrayFromImage(case.labels)))


def test_one_label_volume_painted_box_by_box_always_shows_the_newest_recipe(session, engine_session):
    shown = session.opened.labels.copy()
    session._touched = None
    for edits in [((0, 4.0),), ((3, 0.0), (4, 5.0)), (), ((0, 0.0),), ()]:
        recipe = recipe_for(session.opened, *edits)
        edited = session.edit(recipe).result(SECONDS)
        if edited.box is not None:
            shown[edited.box.slices] = edited.box.labels
        expected = engine_session.to_case(engine_session.edit(recipe).labels)
        assert np.array_equal(shown, sitk.GetArrayFromImage(expected))


def test_a_preview_is_one_slice_of_the_edit_and_the_next_edit_takes_it_back(session):
    session._touched = None
    strong = recipe_for(session.opened, (0, 5.0))
    whole = painted(session, session.edit(strong).result(SECONDS))
    plane = int(np.argmax((whole != session.opened.labels).sum((1, 2))))
    ras = tuple((session.opened.ijk_to_ras @ [24, 30, plane, 1])[:3])
    session._touched = None
    part = session.preview(strong, ras).result(SECONDS)
    assert part.lower[0] == plane and part.upper[0] == plane + 1
    assert np.array_equal(part.labels[0], whole[plane])
    shown = session.opened.labels.copy()
    shown[part.slices] = part.labels
    back = session.edit(recipe_for(session.opened)).result(SECONDS)
    shown[back.box.slices] = back.box.labels
    assert np.array_equal(shown, session.opened.labels)


def test_of_previews_asked_for_while_dragging_the_newest_wins(session):
    ras = tuple((session.opened.ijk_to_ras @ [24, 30, 10, 1])[:3])
    tasks = [session.preview(recipe_for(session.opened, (0, 0.1 * i)), ras) for i in range(30)]
    tasks[-1].result(SECONDS)
    assert sum(task.cancelled for task in tasks) > 10 and not tasks[-1].cancelled
    with pytest.raises(Cancelled):
        next(task for task in tasks if task.cancelled).result()


def test_the_visible_slices_come_first(session):
    recipe = recipe_for(session.opened, *((j, 4.0) for j in range(12)))
    whole = painted(session, session.edit(recipe).result(SECONDS))
    session._touched = None
    ras = tuple((session.opened.ijk_to_ras @ [24, 30, 9, 1])[:3])
    task = session.edit(recipe, near_ras=[ras])
    task.result(SECONDS)
    part = task.partial()
    assert part.lower[0] == 9 and part.upper[0] == 10
    assert np.array_equal(part.labels[0], whole[9])


def test_a_newer_edit_takes_the_place_of_an_older_one(session):
    older = session.edit(recipe_for(session.opened, (1, 2.0)))
    newer = session.edit(recipe_for(session.opened, (2, 2.0)))
    newer.result(SECONDS)
    assert older.cancelled or older.done


def test_ranked_by_activity_all_that_fire_are_there(session, engine_session):
    tap = session.opened.default_tap
    rows = session.latents(tap).result(SECONDS)
    summary = engine_session.codes[tap].summary()
    assert {row.latent for row in rows} == set(np.flatnonzero(summary.count).tolist())
    first = [summary.total[row.latent] for row in rows if not row.dense]
    assert first == sorted(first, reverse=True)
    assert all(row.here is None and row.attribution_ml is None for row in rows)


def test_ranked_by_influence_as_the_engine_attributes(session, engine_session):
    tap = session.opened.default_tap
    rows = session.latents(tap, "influence", region="TC", measure=2).result(SECONDS)
    attribution = attribute(engine_session, tap, "TC")
    for row in rows:
        assert row.attribution_ml == pytest.approx(attribution[row.latent], rel=1e-3, abs=1e-4)
    assert sum(row.suppressed_ml is not None for row in rows) == min(2, sum(not row.dense for row in rows))


def test_ranked_at_a_point_by_the_code_there(session, engine_session):
    tap = session.opened.default_tap
    best = session.latents(tap).result(SECONDS)[0]
    rows = session.latents(tap, "point", ras=best.peak_ras).result(SECONDS)
    here = {row.latent: row.here for row in rows}
    assert here[best.latent] == pytest.approx(best.maximum)
    assert list(here.values()) == sorted(here.values(), reverse=True)


def test_ranked_inside_a_segment_on_a_grid_of_its_own(session, engine_session):
    tap = session.opened.default_tap
    best = session.latents(tap).result(SECONDS)[0]
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = np.array(best.peak_ras) - 8
    rows = session.latents(tap, "mask", mask=Volume(np.ones((5, 5, 5)), affine)).result(SECONDS)
    assert best.latent in {row.latent for row in rows[:8]} and all(row.here > 0 for row in rows)


def test_an_activation_lies_where_its_peak_is_said_to_be(session):
    tap = session.opened.default_tap
    for row in session.latents(tap).result(SECONDS)[:5]:
        overlay = session.activation(tap, row.latent).result(SECONDS)
        z, y, x = np.unravel_index(np.argmax(overlay.array), overlay.array.shape)
        assert np.allclose((overlay.ijk_to_ras @ [x, y, z, 1])[:3], row.peak_ras, atol=0.05)
        assert overlay.maximum == pytest.approx(row.maximum) and overlay.array.dtype == np.float32


def test_the_detail_of_a_latent_adds_up(session):
    tap = session.opened.default_tap
    row = session.latents(tap).result(SECONDS)[0]
    detail = session.detail(tap, row.latent).result(SECONDS)
    assert detail["volume_ml"] == pytest.approx(row.active_ml)
    assert sum(detail["region_share"].values()) == pytest.approx(1, abs=1e-4)
    profile = detail["slice_profile"]
    assert len(profile["s_mm"]) == len(profile["total"]) == len(session.opened.labels)
    assert sum(detail["histogram"]["counts"]) * row.mean == pytest.approx(sum(profile["total"]), rel=1e-3)
    assert len(detail["extent_mm"]) == 3 and np.allclose(detail["peak_ras"], row.peak_ras)


def test_the_probability_agrees_with_the_labels(session):
    recipe = recipe_for(session.opened, (0, 3.0))
    for asked in (None, recipe):
        overlay = session.probability("WT", asked).result(SECONDS)
        labels = session.opened.labels if asked is None else painted(session, session.edit(asked).result(SECONDS))
        assert overlay.array.shape == labels.shape and 0 <= overlay.array.min() <= overlay.array.max() <= 1 + 1e-5
        assert (overlay.array[labels > 0] > 0.24).all()


@pytest.mark.parametrize("asked", ["tap", "latent", "region", "rank", "point", "recipe"])
def test_what_does_not_exist_is_said_and_the_session_goes_on(session, asked):
    tap, opened = session.opened.default_tap, session.opened
    other = recipe_for(opened, (0, 0.0))
    other = type(other)("other", type(other.pack)("other", "1", "f" * 64), other.edits)
    task, error = {
        "tap": lambda: (session.latents("nowhere"), UsageError),
        "latent": lambda: (session.activation(tap, 10_000), UsageError),
        "region": lambda: (session.probability("XX"), UsageError),
        "rank": lambda: (session.latents(tap, "beauty"), UsageError),
        "point": lambda: (session.preview(recipe_for(opened), (9000.0, 0.0, 0.0)), UsageError),
        "recipe": lambda: (session.edit(other), RecipeError),
    }[asked]()
    with pytest.raises(error):
        task.result(SECONDS)
    assert session.edit(recipe_for(opened, (0, 0.0))).result(SECONDS).seconds >= 0


@pytest.mark.parametrize("kind", ["flipped", "other grid", "skewed", "one modality"])
def test_odd_studies_come_out_on_their_own_grid(client, pack, kind):
    size, spacing = ((48, 60, 20), (3.5, 3.5, 7.0))
    angle = np.radians(20)
    oblique = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    direction = np.eye(3)
    if kind == "flipped":  # coronal slices from front to back, feet first, and oblique
        size, spacing, direction = (48, 20, 60), (3.5, 7.0, 3.5), oblique @ [[-1, 0, 0], [0, 0, 1], [0, 1, 0]]
    direction = tuple(np.ravel(direction))
    case = phantom(1, size=size, spacing=spacing, direction=direction)
    volumes = {m: volume_of(image, f"{m} of {kind}") for m, image in case.images.items()}
    if kind == "one modality":
        volumes = {"t2f": volumes["t2f"]}
        with pytest.raises(CaseError, match="t1c"):
            client.open_case(volumes, kind, str(pack)).result(SECONDS)
        return
    finest = "t1n"
    if kind == "other grid":
        finer = phantom(1, size=(60, 74, 30), spacing=(2.8, 2.8, 5.0))
        volumes["t2w"], finest = volume_of(finer.images["t2w"], "fine t2w"), "t2w"
    if kind == "skewed":
        skewed = volumes["t2w"].ijk_to_ras.copy()
        skewed[0, 1] += 0.02
        volumes["t2w"] = Volume(volumes["t2w"].array, skewed, "skewed t2w")
    session = client.open_case(volumes, kind, str(pack), volume_of(case.labels)).result(SECONDS)
    opened = session.opened
    assert opened.grid_of == finest and np.allclose(opened.ijk_to_ras, volumes[finest].ijk_to_ras, atol=1e-6)
    assert opened.labels.shape == volumes[finest].array.shape
    if kind in ("other grid", "skewed"):
        assert any("resampled" in note or "perpendicular" in note for note in opened.notes)
    session.close().result(SECONDS)


@pytest.mark.parametrize("kind", ["labels", "nan", "constant", "flat", "text", "affine", "key"])
def test_volumes_that_are_no_images_are_refused_by_name(client, pack, volumes, kind):
    good = volumes["t1n"]
    bad = {
        "labels": Volume((good.array > 0).astype(np.uint8), good.ijk_to_ras, "tumour"),
        "nan": Volume(np.where(good.array > 5, np.nan, good.array), good.ijk_to_ras, "tumour"),
        "constant": Volume(np.zeros_like(good.array), good.ijk_to_ras, "tumour"),
        "flat": Volume(good.array[0], good.ijk_to_ras, "tumour"),
        "text": Volume(good.array.astype(str), good.ijk_to_ras, "tumour"),
        "affine": Volume(good.array, np.zeros((4, 4)), "tumour"),
        "key": good,
    }[kind]
    given = volumes | ({"t9": bad} if kind == "key" else {"t1n": bad})
    with pytest.raises((CaseError, UsageError), match="'t9' is not a modality" if kind == "key" else "tumour"):
        client.open_case(given, "bad", str(pack)).result(SECONDS)


def test_a_pack_that_is_gone_is_said(client, volumes, tmp_path):
    with pytest.raises(PackError):
        client.open_case(volumes, "x", str(tmp_path / "gone")).result(SECONDS)


def test_an_opening_can_be_cancelled_and_leaves_no_volume_behind(client, volumes, pack, shared_base):
    before = set(shared_base.glob("*/c-*"))
    task = client.open_case(volumes, "cancelled", str(pack))
    task.cancel()
    assert task.done and task.cancelled
    with pytest.raises(Cancelled):
        task.result()
    deadline = time.monotonic() + SECONDS
    while set(shared_base.glob("*/c-*")) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(shared_base.glob("*/c-*")) == before
