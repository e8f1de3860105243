"""Random grids: labels return exactly where axes only change place, and within half a voxel otherwise."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from MedSegLensLib.cases.case import Case
from MedSegLensLib.cases.conform import InputSpec, conform

ONE = ("t1n",)
settings.register_profile("geometry", max_examples=30, deadline=None)
settings.load_profile("geometry")

lengths = st.sampled_from([0.5, 0.9, 1.0, 1.3, 2.0, 5.0])


@st.composite
def directions(draw, most_degrees=25.0):
    """A permutation and reversal of the axes, turned obliquely: right- and left-handed ones alike."""
    axes = np.eye(3)[:, draw(st.permutations(range(3)))] * draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    angles = np.radians([draw(st.floats(-most_degrees, most_degrees)) for _ in range(3)])
    for axis, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        turn = np.eye(3)
        i, j = [a for a in range(3) if a != axis]
        turn[[i, i, j, j], [i, j, i, j]] = c, -s, s, c
        axes = turn @ axes
    return axes


@st.composite
def cases(draw):
    """A small volume with an irregular brain and labels in it, anywhere in space."""
    size = draw(st.tuples(*[st.integers(4, 14)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = ndimage.gaussian_filter(rng.normal(size=size[::-1]), 1.0)
    brain = values > np.quantile(values, 0.4)
    image = sitk.GetImageFromArray(np.where(brain, 100 + 50 * values, 0).astype(np.float32))
    image.SetSpacing(draw(st.tuples(lengths, lengths, lengths)))
    image.SetOrigin(draw(st.tuples(*[st.floats(-200, 200)] * 3)))
    image.SetDirection(draw(directions()).ravel().tolist())
    labels = sitk.GetImageFromArray((rng.integers(0, 4, size[::-1]) * brain).astype(np.uint8))
    labels.CopyInformation(image)
    return Case("random", {"t1n": image}, labels)


divisors = st.tuples(*[st.sampled_from([1, 4, 16])] * 3)
orientations = st.sampled_from(["LPS", "RAS", "SAL", "PIR"])


@given(cases(), divisors, orientations)
def test_labels_return_exactly_where_axes_only_change_place(case, divisor, orientation):
    conformed = conform(case, InputSpec(ONE, size_divisor=divisor, orientation=orientation))
    assert not conformed.grid.resampled
    labels = conformed.labels(case.labels)
    inside = sitk.GetArrayFromImage(case.labels)
    back = conformed.to_case(labels)
    # The box may leave out a speck of brain; what it holds returns to the last voxel.
    box = sitk.GetArrayFromImage(conformed.to_case(np.ones(conformed.brain.shape, bool))) > 0
    assert np.array_equal(sitk.GetArrayFromImage(back)[box], inside[box])
    assert not sitk.GetArrayFromImage(back)[~box].any()
    assert back.GetOrigin() == case.reference.GetOrigin() and back.GetDirection() == case.reference.GetDirection()


@given(cases(), divisors, orientations)
def test_a_voxel_keeps_its_place_in_the_patient(case, divisor, orientation):
    """Against SimpleITK's TransformIndexToPhysicalPoint, for every voxel of the box that lies in the volume."""
    conformed = conform(case, InputSpec(ONE, size_divisor=divisor, orientation=orientation))
    number = np.arange(np.prod(case.reference.GetSize()), dtype=np.float32)
    numbers = sitk.GetImageFromArray(number.reshape(case.reference.GetSize()[::-1]) + 1)
    numbers.CopyInformation(case.reference)
    seen = conformed._in_box(numbers)
    box = conformed.to_image(seen)
    for z, y, x in np.argwhere(seen > 0)[:: max(1, int((seen > 0).sum() // 20))]:
        source = np.unravel_index(int(seen[z, y, x]) - 1, case.reference.GetSize()[::-1])
        place = case.reference.TransformIndexToPhysicalPoint([int(i) for i in source[::-1]])
        assert np.allclose(box.TransformIndexToPhysicalPoint((int(x), int(y), int(z))), place, atol=1e-6)


@given(cases(), orientations)
def test_the_axes_point_to_the_orientation_that_was_asked_for(case, orientation):
    grid = conform(case, InputSpec(ONE, orientation=orientation)).grid
    assert sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(grid.direction) == orientation
    # Whole axes changed place: no new direction came about.
    own = np.abs(np.array(case.reference.GetDirection()).reshape(3, 3))
    new = np.abs(np.array(grid.direction).reshape(3, 3))
    assert np.allclose(own[:, grid.permutation], new)


@given(cases(), st.tuples(*[st.one_of(st.none(), lengths)] * 3), divisors)
def test_resampled_labels_return_within_half_a_voxel(case, spacing, divisor):
    """No label lands further from where it was than half a voxel of either grid, along each axis."""
    conformed = conform(case, InputSpec(ONE, spacing=spacing, size_divisor=divisor))
    assume(conformed.grid.resampled)
    own = np.array(case.reference.GetSpacing())
    network = np.empty(3)
    network[list(conformed.grid.permutation)] = conformed.grid.spacing
    reach = np.floor((network / own + 1) / 2 + 1e-6).astype(int)[::-1]
    truth = sitk.GetArrayFromImage(case.labels)
    back = sitk.GetArrayFromImage(conformed.to_case(conformed.labels(case.labels)))
    for label in (1, 2, 3):
        near = ndimage.maximum_filter(truth == label, size=tuple(2 * reach + 1), mode="constant")
        assert not ((back == label) & ~near).any()


@given(directions(), st.tuples(lengths, lengths, lengths), st.tuples(lengths, lengths, lengths))
def test_the_centre_of_a_smooth_blob_stays_within_half_a_voxel(direction, spacing, wanted):
    size = [int(np.clip(40 / s, 8, 48)) for s in spacing]
    # In the middle: a blob cut off on one side would move when its values are normalised, without a voxel moving.
    middle = [(n - 1) * s / 2 for n, s in zip(size, spacing, strict=True)]
    width = [max(m / 3, s) for m, s in zip(middle, spacing, strict=True)]
    image = sitk.GaussianSource(sitk.sitkFloat32, size, width, middle, 100.0, [0.0] * 3, spacing)
    image = image + 1.0
    image.SetDirection(direction.ravel().tolist())
    conformed = conform(Case("blob", {"t1n": image}), InputSpec(ONE, spacing=wanted))

    def centre(volume):
        values = sitk.GetArrayFromImage(volume).astype(float)
        weights = np.clip(values - 0.3 * values.max(), 0, None)
        middle = [float(np.average(i, weights=weights)) for i in np.indices(values.shape)[::-1]]
        return np.array(volume.TransformContinuousIndexToPhysicalPoint(middle))

    apart = direction.T @ (centre(conformed.to_image(conformed.array[0])) - centre(image))
    assert np.abs(apart).max() <= 0.5 * max(*spacing, *conformed.grid.spacing)


def test_denormal_direction_cosines_do_not_empty_a_resampled_volume():
    tiny = 3.9e-313
    c, s = np.cos(0.3), np.sin(0.3)
    image = sitk.GaussianSource(sitk.sitkFloat32, [48] * 3, [4.0] * 3, [11.75] * 3, 100.0, [0.0] * 3, [0.5] * 3) + 1.0
    image.SetDirection((-c, tiny, s, -tiny, -1.0, tiny / 3, -s, 0.0, -c))
    conformed = conform(Case("blob", {"t1n": image}), InputSpec(ONE, spacing=(0.5, 0.5, 0.9)))
    assert conformed.array.max() > 3


@pytest.mark.parametrize("fine_first", [True, False], ids=["sagittal 0.5 mm", "coronal 5 mm"])
def test_a_volume_acquired_in_another_plane_becomes_axial(fine_first):
    size, spacing, direction = (
        ((30, 32, 12), (0.5, 0.5, 5.0), (0, 0, 1, 1, 0, 0, 0, -1, 0))
        if fine_first
        else ((20, 18, 10), (1.0, 1.0, 5.0), (1, 0, 0, 0, 0, 1, 0, -1, 0))
    )
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(100, 5, size[::-1]).astype(np.float32))
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    conformed = conform(Case("other plane", {"t1n": image}), InputSpec(ONE))
    assert np.allclose(conformed.grid.direction, np.eye(3).ravel())
    slices_along = {"sagittal": 0, "coronal": 1}["sagittal" if fine_first else "coronal"]
    assert conformed.grid.spacing[slices_along] == 5.0
