"""Conforming a case: the box, the units, missing modalities, and the way back."""

import json
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegLensLib.cases.case import MODALITIES, Case, region_mask
from MedSegLensLib.cases.conform import InputSpec, conform
from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.errors import CaseError, PackError


def array(image):
    return sitk.GetArrayFromImage(image)


def with_values(case, change):
    """The case with `change(values)` in place of each volume."""
    images = {}
    for modality, image in case.images.items():
        images[modality] = sitk.GetImageFromArray(change(array(image)).astype(np.float32))
        images[modality].CopyInformation(image)
    return Case(case.name, images, case.labels, case.notes)


def test_the_array_is_z_scored_in_the_brain_and_zero_outside(small_phantom):
    conformed = conform(small_phantom, InputSpec())
    assert conformed.array.dtype == np.float32 and conformed.array.shape == (4, *conformed.brain.shape)
    for channel in conformed.array:
        assert np.all(channel[~conformed.brain] == 0)
        assert abs(channel[conformed.brain].mean()) < 0.05
        assert abs(channel[conformed.brain].std() - 1) < 0.05
        assert np.abs(channel).max() <= 5
    assert conformed.present == (True,) * 4
    assert conformed.voxel_ml == pytest.approx(0.064)


def test_the_channels_follow_the_spec(small_phantom):
    whole, two = conform(small_phantom, InputSpec()), conform(small_phantom, InputSpec(modalities=("t2f", "t1n")))
    assert np.array_equal(two.array, whole.array[[3, 0]])


def test_a_few_extreme_voxels_do_not_move_the_rest(small_phantom):
    def spoil(values):
        values[values > 0] = np.where(np.arange((values > 0).sum()) % 2000 == 0, 1e6, values[values > 0])
        return values

    plain, spoilt = conform(small_phantom, InputSpec()), conform(with_values(small_phantom, spoil), InputSpec())
    usual = spoilt.array < 5
    assert np.abs(plain.array - spoilt.array)[usual].max() < 0.15


def test_the_units_of_the_scanner_do_not_matter(small_phantom):
    plain = conform(small_phantom, InputSpec())
    scaled = conform(with_values(small_phantom, lambda values: values * 7.3), InputSpec())
    assert np.allclose(plain.array, scaled.array, atol=1e-4)


def test_a_background_that_is_not_zero_is_seen_as_background(small_phantom):
    plain = conform(small_phantom, InputSpec())
    shifted = conform(with_values(small_phantom, lambda values: values / 100 - 2), InputSpec())
    assert np.array_equal(plain.brain, shifted.brain)
    assert np.allclose(plain.array, shifted.array, atol=1e-3)


@pytest.mark.parametrize("divisor", [(1, 1, 1), (16, 16, 1), (32, 8, 64)])
def test_the_box_is_padded_to_multiples_even_beyond_the_volume(small_phantom, divisor):
    conformed = conform(small_phantom, InputSpec(size_divisor=divisor))
    assert all(n % d == 0 for n, d in zip(conformed.brain.shape[::-1], divisor, strict=True))
    labels = conformed.labels(small_phantom.labels)
    assert np.array_equal(array(conformed.to_case(labels)), array(small_phantom.labels))
    assert conformed.brain.sum() == conform(small_phantom, InputSpec()).brain.sum()


def test_the_box_has_a_margin_and_leaves_specks_out():
    case = phantom(4, size=(80, 80, 80), spacing=(4.0, 4.0, 4.0))

    def speck(values):
        values[2:4, 2:4, 2:4] = 100
        return values

    plain, spoilt = conform(case, InputSpec()), conform(with_values(case, speck), InputSpec())
    assert plain.brain.shape == spoilt.brain.shape and np.array_equal(plain.brain, spoilt.brain)
    for axis in range(3):
        filled = np.flatnonzero(plain.brain.any(axis=tuple(a for a in range(3) if a != axis)))
        assert filled[0] == 2 and filled[-1] == plain.brain.shape[axis] - 3


def test_a_missing_modality_is_a_zero_channel_where_the_spec_allows_it(small_phantom):
    images = {m: small_phantom.images[m] for m in ("t1n", "t2w", "t2f")}
    case = Case("x", images, notes=("t1c (T1 with contrast) is missing.",))  # as the reader says
    conformed = conform(case, InputSpec(may_be_missing=("t1c",)))
    assert conformed.present == (True, False, True, True) and not conformed.array[1].any()
    assert ["caution" in note for note in conformed.notes if "t1c" in note] == [True], "said once"


def test_a_missing_modality_is_refused_where_the_spec_needs_it(small_phantom):
    case = Case("the case", {"t2f": small_phantom.images["t2f"]})
    with pytest.raises(CaseError, match="the case: t1n .* is missing, and the pack needs it. Add the t1n volume"):
        conform(case, InputSpec(may_be_missing=("t1c",)))
    with pytest.raises(CaseError, match="none of t1c"):
        conform(case, InputSpec(modalities=("t1c",), may_be_missing=MODALITIES))


def test_any_modality_alone_will_do_where_all_may_be_missing(small_phantom):
    for modality in MODALITIES:
        case = Case("x", {modality: small_phantom.images[modality]})
        conformed = conform(case, InputSpec(may_be_missing=MODALITIES))
        assert [m for m, present in zip(MODALITIES, conformed.present, strict=True) if present] == [modality]


def test_a_head_with_skull_and_noisy_air_still_works(small_phantom):
    rng = np.random.default_rng(0)

    def head(values):
        z, y, x = np.indices(values.shape)
        skin = ((x - 20) / 19) ** 2 + ((y - 25) / 24) ** 2 + ((z - 21) / 20) ** 2 < 1
        return np.where(skin & (values == 0), 0.6 * values.max(), values) + np.abs(rng.normal(0, 2, values.shape))

    conformed = conform(with_values(small_phantom, head), InputSpec())
    assert np.isfinite(conformed.array).all()
    assert 0.1 < conformed.brain.mean() < 0.9
    brain = conformed.mask(small_phantom.images["t1n"])
    assert conformed.brain[brain].mean() > 0.95


def test_stripped_volumes_decide_where_the_brain_is(small_phantom):
    images = dict(small_phantom.images)
    unstripped = array(images["t1n"]) + 30 + np.abs(np.random.default_rng(0).normal(0, 2, (42, 50, 40)))
    images["t1n"] = sitk.GetImageFromArray(unstripped.astype(np.float32))
    images["t1n"].CopyInformation(small_phantom.reference)
    conformed = conform(Case("x", images), InputSpec())
    assert np.array_equal(conformed.brain, conform(small_phantom, InputSpec()).brain)


def test_slices_of_5_mm_can_be_kept_or_resampled():
    case = phantom(5, size=(320, 400, 33), spacing=(0.5, 0.5, 5.0), modalities=("t2f",))
    missing = ("t1n", "t1c", "t2w")
    kept = conform(case, InputSpec(spacing=(1.0, 1.0, None), may_be_missing=missing))
    assert kept.grid.spacing == (1.0, 1.0, 5.0) and any("Resampled" in note for note in kept.notes)
    assert kept.grid.size == (160, 200, 33)
    truth = array(case.labels)
    for conformed in (kept, conform(case, InputSpec(spacing=(1.0, 1.0, 1.0), may_be_missing=missing))):
        back = conformed.to_case(conformed.labels(case.labels))
        assert back.GetSize() == case.reference.GetSize() and back.GetSpacing() == case.reference.GetSpacing()
        for region in ("WT", "TC", "ET"):
            a, b = region_mask(truth, region), region_mask(array(back), region)
            assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.9, region


def test_a_spacing_within_one_per_cent_is_left_alone():
    case = phantom(6, size=(80, 100, 84), spacing=(2.01, 1.99, 2.0), modalities=("t1n",))
    conformed = conform(case, InputSpec(modalities=("t1n",), spacing=(2.0, 2.0, 2.0)))
    assert not conformed.grid.resampled and conformed.grid.spacing == (2.01, 1.99, 2.0)


def test_activations_return_linearly_and_with_their_type(small_phantom):
    conformed = conform(small_phantom, InputSpec(spacing=(8.0, 8.0, 8.0)))
    shape = conformed.brain.shape
    ramp = np.broadcast_to(np.arange(shape[2], dtype=np.float32), shape)
    back = conformed.to_case(np.ascontiguousarray(ramp), interpolation="linear")
    assert back.GetPixelID() == sitk.sitkFloat32
    assert len(np.unique(array(back))) > shape[2] + 5
    for kind in (np.uint8, np.int16, np.int32, np.float32, np.float64):
        assert array(conformed.to_case(np.ones(shape, kind))).dtype == kind
    assert array(conformed.to_case(np.ones(shape, bool))).dtype == np.uint8
    assert array(conformed.to_case(np.ones(shape, np.float16))).dtype == np.float32


def test_an_array_of_another_shape_or_an_unknown_interpolation_is_a_bug_and_raises(small_phantom):
    conformed = conform(small_phantom, InputSpec())
    with pytest.raises(ValueError, match="box"):
        conformed.to_case(np.zeros((1, 2, 3)))
    with pytest.raises(ValueError, match="nearest"):
        conformed.to_case(conformed.brain, interpolation="cubic")


def test_labels_from_another_grid_are_brought_into_the_box(small_phantom):
    conformed = conform(small_phantom, InputSpec())
    turned = sitk.DICOMOrient(small_phantom.labels, "RAS")
    assert np.array_equal(conformed.labels(turned), conformed.labels(small_phantom.labels))
    assert np.array_equal(conformed.mask(turned), conformed.labels(small_phantom.labels) > 0)


def test_label_4_becomes_enhancing_tumour(small_phantom):
    conformed = conform(small_phantom, InputSpec())
    old = sitk.ChangeLabel(small_phantom.labels, {3: 4})
    assert np.array_equal(conformed.labels(old), conformed.labels(small_phantom.labels))


def test_the_spec_survives_json():
    spec = InputSpec(("t2f", "t1n"), (1.0, 1.0, None), (32, 32, 1), may_be_missing=("t1n",))
    assert InputSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    "wrong",
    [
        {"modalities": ("t1",)},
        {"modalities": ()},
        {"normalisation": "none"},
        {"spacing": (1.0, 1.0)},
        {"spacing": (0.0, 1.0, 1.0)},
        {"spacing": (float("nan"), 1.0, 1.0)},
        {"size_divisor": (0, 1, 1)},
        {"orientation": "up"},
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(PackError):
        InputSpec(**wrong)


def test_this_room_is_imported_without_torch():
    code = (
        "import sys, MedSegLensLib.cases.reading, MedSegLensLib.cases.conform, MedSegLensLib.cases.phantom, "
        "MedSegLensLib.cases.writing, MedSegLensLib.cases.dicom; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
