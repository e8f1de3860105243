"""A simulated acquisition changes what it says it changes, and nothing else."""

import hashlib
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from MedSegLensLib.cases.case import MODALITIES, Case
from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cohorts import scanner_effects as effects
from MedSegLensLib.cohorts.acquisitions import KINDS, Acquisition, kinds
from MedSegLensLib.errors import CaseError, UsageError


@pytest.fixture(scope="module")
def case() -> Case:
    return phantom(7, size=(64, 78, 70), spacing=(2.4, 2.4, 2.4), modalities=("t1c", "t2w"))


def array(case: Case, modality: str = "t1c") -> np.ndarray:
    return sitk.GetArrayFromImage(case.images[modality])


@pytest.mark.parametrize("kind", KINDS)
def test_labels_grid_and_background_stay_and_the_note_says_simulated(case, kind):
    made = Acquisition(kind, 1.0, 3).apply(case)
    assert made.labels is case.labels and list(made.images) == list(case.images)
    for modality, image in made.images.items():
        given = case.images[modality]
        assert image.GetSize() == given.GetSize() and image.GetSpacing() == given.GetSpacing()
        assert image.GetOrigin() == given.GetOrigin() and image.GetDirection() == given.GetDirection()
        assert np.isfinite(array(made, modality)).all()
        assert np.array_equal(array(made, modality) != 0, array(case, modality) != 0)  # the brain is as large as it was
        assert not np.allclose(array(made, modality), array(case, modality))
    assert made.notes[:-1] == case.notes and made.notes[-1].startswith(f"Simulated: {kind}, strength 1, seed 3")
    assert made.invented


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_voxels_and_another_does_not(case, kind):
    def digest(seed: int, which: Case = case) -> str:
        return hashlib.sha256(array(Acquisition(kind, 1.0, seed).apply(which)).tobytes()).hexdigest()

    assert digest(1) == digest(1)
    if kind not in ("thick-slices", "low-resolution"):  # nothing is random in these
        assert digest(1) != digest(2)
    alone = Case(case.name, {"t1c": case.images["t1c"]})
    assert digest(1, alone) == digest(1)  # a missing modality does not change the others


@pytest.mark.parametrize("kind", KINDS)
def test_more_strength_changes_more(case, kind):
    def change(strength: float) -> float:
        brain = array(case) != 0
        return float(np.abs(array(Acquisition(kind, strength, 5).apply(case)) - array(case))[brain].mean())

    assert change(0.3) < change(1.0) < change(2.0)


def test_every_case_has_its_own_noise_but_one_scanner_has_one_contrast(case):
    other = Case("somebody-else", case.images, case.labels)
    noise, contrast = Acquisition("noise"), Acquisition("other-contrast")
    assert not np.array_equal(array(noise.apply(case)), array(noise.apply(other)))
    assert np.array_equal(array(contrast.apply(case)), array(contrast.apply(other)))


def test_a_bias_field_is_smooth_and_a_factor(case):
    brain = array(case) != 0
    share = array(Acquisition("bias-field").apply(case))[brain] / array(case)[brain]
    field = np.where(brain, 0.0, np.nan)
    field[brain] = np.log(share)
    steps = np.abs(np.diff(field, axis=2))
    assert np.nanmax(steps) < 0.1 < np.nanmax(field) - np.nanmin(field)


def test_another_contrast_keeps_the_order_of_brightness_but_for_its_edge_filter(case):
    inside = array(case) != 0
    made = effects.recontrasted(array(case), inside, 1.4)
    order = np.argsort(array(case)[inside])
    assert (np.diff(made[inside][order]) >= -1e-3).all()


def test_motion_keeps_the_brain_where_it_is(case):
    """Rotations are about the grid's middle: about BraTS's origin, a corner, the brain would swing away."""
    places = np.argwhere(array(case) != 0)
    made = array(Acquisition("motion", 1.0, 2).apply(case))
    weights = made[tuple(places.T)]
    before = array(case)[tuple(places.T)]
    apart = (places * weights[:, None]).sum(0) / weights.sum() - (places * before[:, None]).sum(0) / before.sum()
    assert np.abs(apart * 2.4).max() < 2.0  # mm


def test_noise_is_as_strong_as_it_says(case):
    flat = np.full((40, 40, 40), 100.0, np.float32)
    noisy = effects.rician(flat, 10.0, np.random.default_rng(0))
    assert noisy.std() == pytest.approx(10.0, rel=0.05)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.floats(1.0, 70.0))
def test_coarse_voxels_keep_a_constant_and_average_the_rest(count, ratio):
    there, back = effects._to_coarse(count, ratio)
    assert np.allclose(there.sum(axis=1), 1, atol=1e-5) and np.allclose(back.sum(axis=1), 1, atol=1e-5)
    ramp = np.arange(count, dtype=np.float32)
    through = back @ (there @ ramp)
    assert through.min() >= -1e-3 and through.max() <= count - 1 + 1e-3
    assert (np.diff(through) >= -1e-3).all()


def test_slices_are_thick_from_foot_to_head_whatever_the_grids_axes():
    coronal = phantom(3, size=(60, 50, 70), spacing=(2.5, 2.6, 2.8), direction=(1, 0, 0, 0, 0, 1, 0, 1, 0))
    made, given = (array(one) for one in (Acquisition("thick-slices", 2.0).apply(coronal), coronal))
    brain = given != 0

    def rough(values: np.ndarray, axis: int) -> float:
        both = np.minimum(brain, np.roll(brain, 1, axis))
        return float(np.abs(values - np.roll(values, 1, axis))[both].mean())

    lost = [rough(made, axis) / rough(given, axis) for axis in range(3)]
    assert np.argmin(lost) == 1 and lost[1] < 0.5


def test_volumes_with_negative_brightness_stay_so(case):
    image = sitk.Cast(case.images["t2w"], sitk.sitkFloat32)
    values = sitk.GetArrayFromImage(image)
    brain = values != 0
    values[brain] = (values[brain] - values[brain].mean()) / values[brain].std()  # z-scored, background 0
    scored = sitk.GetImageFromArray(values)
    scored.CopyInformation(image)
    made = array(Acquisition("noise", 0.3).apply(Case("a", {"t2w": scored})), "t2w")
    assert (made[brain] < 0).any() and np.array_equal(made[~brain], values[~brain])
    assert abs(made[brain].mean()) < 0.3


def test_voxels_that_are_coarse_already_stay_and_that_is_said():
    coarse = phantom(1, size=(40, 48, 14), spacing=(4.0, 4.0, 9.0))
    made = Acquisition("low-resolution").apply(coarse)
    assert np.array_equal(array(made), array(coarse)) and "coarse already" in made.notes[-1]
    assert "coarse already" not in Acquisition("low-resolution", 3.0).apply(coarse).notes[-1]


def test_a_missing_modality_is_gone_and_the_last_one_is_not_taken(case):
    assert "t2f" not in Acquisition("missing-t2f").apply(phantom(1, size=(40, 48, 14), spacing=(4, 4, 9))).images
    with pytest.raises(CaseError, match="no volume"):
        Acquisition("missing-t1c").apply(Case("a", {"t1c": case.images["t1c"]}))


@pytest.mark.parametrize(
    "asked",
    [("sunshine",), ("missing-ct",), ("noise", 0.0), ("noise", 4.0), ("noise", float("nan")), ("noise", 1.0, -1)],
)
def test_what_cannot_be_simulated_is_refused(asked):
    with pytest.raises(UsageError):
        Acquisition(*asked)


def test_words_carry_the_numbers_of_the_strength():
    assert "slices of 10 mm, 2.2 mm in the plane" in Acquisition("low-field", 2.0).in_words
    assert all(Acquisition(kind).in_words for kind in kinds())
    assert len(kinds()) == len(KINDS) + len(MODALITIES)


def test_without_torchio_motion_says_what_to_install_and_the_others_work(case, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchio", None)
    with pytest.raises(UsageError, match=r"medseglens\[cohort\]"):
        Acquisition("motion").apply(case)
    assert Acquisition("thick-slices", 2.0).apply(case).notes[-1].startswith("Simulated")
