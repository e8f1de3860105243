"""Recipes: round trip, refusals, and masks in patient coordinates."""

import base64
import dataclasses
import json
import math
import subprocess
import sys
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from MedSegLensLib.editing.recipe import (
    MAX_MASK_VOXELS,
    SCHEMA,
    Box,
    Edit,
    PackReference,
    Recipe,
    RegionOf,
    SliceRange,
    VoxelMask,
    load_recipe,
    save_recipe,
)
from MedSegLensLib.errors import MedSegLensError, OutputError, RecipeError, UsageError
from MedSegLensLib.packs.checked_json import schema_problems

REFERENCE = PackReference("tiny-unet", "1.2.0", "ab" * 32)
IDENTITY = (1, 0, 0, 0, 1, 0, 0, 0, 1)


def pack_with(reference=REFERENCE, **sizes):
    lenses = tuple(SimpleNamespace(tap=tap, d_sae=d_sae) for tap, d_sae in (sizes or {"up": 8, "down": 4}).items())
    info = SimpleNamespace(name=reference.name, version=reference.version, lenses=lenses)
    return SimpleNamespace(info=info, hash="of the whole pack", edits_hash=reference.hash)


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
mm = st.floats(-1e4, 1e4)
points = st.tuples(mm, mm, mm)


@st.composite
def masks(draw):
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    bits = draw(st.lists(st.booleans(), min_size=math.prod(shape), max_size=math.prod(shape)))
    mask = np.array(bits).reshape(shape)
    mask[tuple(draw(st.integers(0, n - 1)) for n in shape)] = True
    turn = draw(st.floats(-math.pi, math.pi))
    direction = (math.cos(turn), -math.sin(turn), 0, math.sin(turn), math.cos(turn), 0, 0, 0, -1)
    spacing = draw(st.tuples(*[st.floats(0.1, 10)] * 3))
    return VoxelMask.from_array(mask, draw(points), spacing, direction)


places = st.one_of(
    st.none(),
    st.builds(lambda a, b: Box(tuple(map(min, a, b)), tuple(map(max, a, b))), points, points),
    st.builds(lambda a, b: SliceRange(min(a, b), max(a, b)), mm, mm),
    st.builds(RegionOf, st.sampled_from(["WT", "TC", "ET", "NCR", "ED"]), st.floats(0, 100)),
    masks(),
)
latents = st.integers(0, 2**31 - 1)
edits = st.one_of(
    st.builds(Edit, text, latents, st.just("scale"), st.floats(0, 1e6), places),
    st.builds(Edit, text, latents, st.sampled_from(["add", "clamp"]), st.floats(-1e6, 1e6), places),
)
recipes = st.builds(Recipe, text, st.just(REFERENCE), st.lists(edits, max_size=4).map(tuple), text)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recipe=recipes)
def test_round_trip(recipe, tmp_path):
    path = tmp_path / "recipe.json"
    save_recipe(recipe, path)
    assert load_recipe(path) == recipe
    assert schema_problems(json.loads(path.read_text(encoding="utf-8")), SCHEMA) == []
    assert list(tmp_path.iterdir()) == [path]


def test_the_later_of_two_edits_of_the_same_latent_and_place_counts():
    first, everywhere = Edit("up", 1, "scale", 0.5), Edit("up", 2, "scale", 0)
    in_tumour, again = Edit("up", 1, "scale", 0, RegionOf("ET", 5)), Edit("up", 1, "add", 2)
    recipe = Recipe("r", REFERENCE, (first, everywhere, in_tumour, again, Edit("up", 1, "scale", 1, RegionOf("ET", 5))))
    assert recipe.edits == (again, everywhere, dataclasses.replace(in_tumour, value=1.0))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "0.5", None, True, 1 + 2j, 1e7, [1]])
@pytest.mark.parametrize("kind", ["scale", "add", "clamp"])
def test_values_that_are_no_numbers(value, kind):
    with pytest.raises(UsageError):
        Edit("up", 1, kind, value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Edit("up", 1, "scale", -0.1),
        lambda: Edit("up", 1, "scale", 0.5, exact=True),
        lambda: Edit("up", -1, "scale", 1),
        lambda: Edit("up", 1.0, "scale", 1),
        lambda: Edit("up", True, "scale", 1),
        lambda: Edit("", 1, "scale", 1),
        lambda: Edit("up", 1, "multiply", 1),
        lambda: Edit("up", 1, "scale", 1, "ET"),
        lambda: Box((0, 0, 1), (1, 1, 0)),
        lambda: Box((0, 0), (1, 1)),
        lambda: Box((0, 0, math.nan), (1, 1, 1)),
        lambda: SliceRange(2, 1),
        lambda: RegionOf("tumour"),
        lambda: RegionOf("ET", -1),
        lambda: RegionOf("ET", 1000),
        lambda: VoxelMask.from_array(np.zeros((2, 2, 2)), (0, 0, 0), (1, 1, 1), IDENTITY),
        lambda: VoxelMask.from_array(np.ones((2, 2)), (0, 0, 0), (1, 1, 1), IDENTITY),
        lambda: VoxelMask.from_array(np.ones((2, 2, 2)), (0, 0, 0), (1, 0, 1), IDENTITY),
        lambda: VoxelMask.from_array(np.ones((2, 2, 2)), (0, 0, 0), (1, 1, 1), (1,) * 9),
        lambda: VoxelMask((2, 2, 2), (0, 0, 0), (1, 1, 1), IDENTITY, b""),
        lambda: VoxelMask((1, 1, 1), (0, 0, 0), (1, 1, 1), IDENTITY, b"\xff"),
        lambda: VoxelMask((60_000, 60_000, 60_000), (0, 0, 0), (1, 1, 1), IDENTITY, b""),
    ],
)
def test_edits_and_places_that_are_none(make):
    with pytest.raises(UsageError) as raised:
        make()
    assert raised.value.cause and raised.value.remedy


def test_numpy_numbers_are_numbers(tmp_path):
    recipe = Recipe("r", REFERENCE, (Edit("up", np.int64(3), "scale", np.float32(0.5)),))
    save_recipe(recipe, tmp_path / "r.json")
    assert load_recipe(tmp_path / "r.json").edits == (Edit("up", 3, "scale", 0.5),)


def test_check_pack():
    recipe = Recipe("no rim", REFERENCE, (Edit("up", 7, "scale", 0),))
    recipe.check_pack(pack_with())
    with pytest.raises(RecipeError) as raised:
        recipe.check_pack(pack_with(PackReference("other", "2.0.0", "cd" * 32)))
    message = str(raised.value)
    for part in ("no rim", "tiny-unet 1.2.0", "abababababab", "other 2.0.0", "cdcdcdcdcdcd", "Open tiny-unet"):
        assert part in message
    with pytest.raises(RecipeError, match="another build"):
        recipe.check_pack(pack_with(dataclasses.replace(REFERENCE, hash="cd" * 32)))
    with pytest.raises(UsageError, match="no latent 7.*0 to 3"):
        recipe.check_pack(pack_with(up=4))
    with pytest.raises(UsageError, match="'up'.*down"):
        recipe.check_pack(pack_with(down=8))


def mutated(recipe: Recipe, function) -> dict:
    document = json.loads(json.dumps(recipe.to_json()))
    function(document)
    return document


MASK = VoxelMask.from_array(np.ones((3, 4, 5)), (0, 0, 0), (1, 1, 1), IDENTITY)
FULL = Recipe(
    "full",
    REFERENCE,
    (
        Edit("up", 0, "scale", 0),
        Edit("up", 1, "add", 1, Box((0, 0, 0), (1, 1, 1))),
        Edit("up", 2, "clamp", 1, SliceRange(0, 1)),
        Edit("up", 3, "scale", 2, RegionOf("ET")),
        Edit("up", 4, "scale", 2, MASK),
        Edit("up", 5, "scale", 2, MASK, exact=True),
    ),
)


def set_data(data):
    return lambda d: d["edits"][4]["where"].update(data=data)


@pytest.mark.parametrize(
    ("function", "cause"),
    [
        (lambda d: d.update(medseglens_recipe=2), "version is 2"),
        (lambda d: d.pop("medseglens_recipe"), "not a MedSegLens recipe"),
        (lambda d: d.pop("pack"), "pack"),
        (lambda d: d["pack"].update(hash="12"), "/pack/hash"),
        (lambda d: d["edits"][0].update(value="0"), "/edits/0/value"),
        (lambda d: d["edits"][0].update(value=-1), "/edits/0/value"),
        (lambda d: d["edits"][0].update(latent=1.0), "/edits/0/latent"),
        (lambda d: d["edits"][1]["where"].update(type="ball"), "/edits/1/where/type"),
        (lambda d: d["edits"][1]["where"].update(lower=[2, 0, 0]), "/edits/1"),
        (lambda d: d["edits"][2]["where"].pop("upper"), "/edits/2/where"),
        (lambda d: d["edits"][3]["where"].update(dilation=-1), "/edits/3/where/dilation"),
        (lambda d: d["edits"][4]["where"].update(shape=[1, 1, 1]), "does not match"),
        (lambda d: d["edits"][4]["where"].update(shape=[60_000] * 3), "voxels"),
        (lambda d: d["edits"][4]["where"].update(direction=[1] * 9), "right angles"),
        (set_data("not base64!"), "damaged"),
        (set_data("é"), "damaged"),
        (set_data(base64.b64encode(b"not zlib").decode()), "damaged"),
        (set_data(base64.b64encode(zlib.compress(b"\xff" * 8)[:-6]).decode()), "does not match"),
        (set_data(base64.b64encode(zlib.compress(bytes(10**8), 9)).decode()), "does not match"),
        (set_data(base64.b64encode(zlib.compress(b"\xff" * 8) + b"more").decode()), "does not match"),
        (set_data(base64.b64encode(zlib.compress(b"\xff" * 8)).decode()), "bits do not match"),
        (lambda d: d.update(edits=d["edits"][:1] * 1001), "/edits"),
    ],
)
def test_bad_recipes_name_the_field(tmp_path, function, cause):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(mutated(FULL, function)))
    with pytest.raises(RecipeError) as raised:
        load_recipe(path)
    assert cause in raised.value.cause and raised.value.subject == str(path) and raised.value.remedy


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"medseglens_recipe": NaN}', b"[" * 10**5, b"PK\3\4"])
def test_files_that_are_no_recipes(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match="bad.json"):
        load_recipe(path)


def test_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "absent.json")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path)
    with pytest.raises(OutputError):
        save_recipe(FULL, tmp_path / "absent" / "r.json")
    save_recipe(FULL, tmp_path / "r.json")
    before = (tmp_path / "r.json").read_bytes()
    with pytest.raises(RecipeError, match="comment"):
        save_recipe(dataclasses.replace(FULL, comment="\ud800"), tmp_path / "r.json")
    too_many = tuple(Edit("up", j, "scale", 0) for j in range(1001))
    with pytest.raises(RecipeError, match="/edits"):
        save_recipe(dataclasses.replace(FULL, edits=too_many), tmp_path / "r.json")
    assert (tmp_path / "r.json").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def paths_of(document, path=()):
    yield path
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        yield from paths_of(value, (*path, key))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_recipe_is_a_recipe_or_refused(data, tmp_path):
    document = mutated(FULL, lambda d: None)
    for _ in range(data.draw(st.integers(1, 3))):
        *above, last = data.draw(st.sampled_from(list(paths_of(document))[1:]))
        target = document
        for key in above:
            target = target[key]
        if data.draw(st.booleans()):
            target[last] = data.draw(json_values)
        else:
            del target[last]
        if not document:
            break
    path = tmp_path / "fuzzed.json"
    path.write_text(json.dumps(document))
    try:
        recipe = load_recipe(path)
    except MedSegLensError:
        return
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_masks_are_cropped_and_stay_where_they_were_drawn():
    image = sitk.Image(20, 30, 10, sitk.sitkUInt8)
    image.SetSpacing((0.5, 0.7, 5.0))
    image.SetOrigin((12.0, -30.0, 55.0))
    turn = math.radians(30)
    image.SetDirection((math.cos(turn), -math.sin(turn), 0, math.sin(turn), math.cos(turn), 0, 0, 0, -1))
    for index in [(5, 7, 2), (6, 9, 4), (11, 8, 3)]:
        image[index] = 1
    mask = VoxelMask.from_image(image)
    assert mask.shape == (3, 3, 7) and mask.array.sum() == 3
    back = mask.to_image()
    for index in [(5, 7, 2), (6, 9, 4), (11, 8, 3)]:
        point = image.TransformIndexToPhysicalPoint(index)
        assert back[back.TransformPhysicalPointToIndex(point)] == 1
    left, posterior, superior = image.TransformIndexToPhysicalPoint((5, 7, 2))
    assert np.allclose(mask.origin, (-left, -posterior, superior))
    again = sitk.Resample(back, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    assert np.array_equal(sitk.GetArrayFromImage(again), sitk.GetArrayFromImage(image))


def test_a_mask_of_a_whole_head_is_small_in_a_recipe(tmp_path):
    z, y, x = np.ogrid[:155, :240, :240]
    head = ((z - 77) / 70) ** 2 + ((y - 120) / 100) ** 2 + ((x - 120) / 80) ** 2 < 1
    mask = VoxelMask.from_array(head, (0, 0, 0), (1, 1, 1), IDENTITY)
    save_recipe(Recipe("head", REFERENCE, (Edit("up", 0, "scale", 0, mask),)), tmp_path / "r.json")
    assert (tmp_path / "r.json").stat().st_size < 200_000
    assert load_recipe(tmp_path / "r.json").edits[0].where.array.sum() == head.sum()
    assert mask.voxels < MAX_MASK_VOXELS


def test_recipes_do_not_import_torch():
    code = "import MedSegLensLib.editing.recipe, sys; assert 'torch' not in sys.modules"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
