"""Tokens spread over a case's own voxels are the activation volumes that the panel shows, on every kind of grid."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from MedSegLensLib.cases.case import Case
from MedSegLensLib.cases.conform import InputSpec, conform
from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.diffing.case_grid import Spread
from MedSegLensLib.lenses.activation import activation_volume
from MedSegLensLib.lenses.codes import Codes
from MedSegLensLib.segmenters.architectures import SegmenterConfig
from MedSegLensLib.segmenters.sampling import sampling_of, whole

SLICES = SegmenterConfig("segformer")
WINDOWS = SegmenterConfig("segresnet", {"init_filters": 8}, "patches", (16, 24, 16), 0.25)


@pytest.fixture(scope="module")
def case():
    return phantom(1, size=(30, 36, 14), spacing=(5.0, 5.0, 9.0))


def volume_of(conformed, sampling, codes, latent):
    """As `Session.activation_volume` and `Session.to_case` make it."""
    samples = torch.from_numpy(activation_volume(codes, latent, sampling.sample_shape))[:, None]
    merged = sampling.merge(samples, whole(conformed.brain.shape))[0].numpy()
    return sitk.GetArrayFromImage(conformed.to_case(merged, interpolation="linear"))


@settings(max_examples=25, deadline=None)
@given(
    config=st.sampled_from([SLICES, WINDOWS]),
    own=st.sampled_from(["LPS", "SAR", "PIR"]),
    orientation=st.sampled_from(["LPS", "RSP", "IAL"]),
    spacing=st.tuples(*[st.none() | st.floats(3.0, 11.0)] * 3),
    coarser=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_spread_codes_equal_the_activation_volume_on_the_case_grid(
    case, config, own, orientation, spacing, coarser, seed
):
    turned = Case(case.name, {m: sitk.DICOMOrient(image, own) for m, image in case.images.items()})
    conformed = conform(turned, InputSpec(spacing=spacing, orientation=orientation, size_divisor=(8, 8, 2)))
    sampling = sampling_of(config, conformed.brain.shape)
    rng = np.random.default_rng(seed)
    grid = (sampling.count, *(-(-n // coarser) for n in sampling.sample_shape))
    token = np.flatnonzero(rng.random(np.prod(grid)) < 0.3).astype(np.int32)
    codes = Codes(np.array([0, len(token)]), token, rng.random(len(token), np.float32) + 0.1, grid)
    shown = volume_of(conformed, sampling, codes, 0)
    voxels = np.stack(np.unravel_index(rng.choice(shown.size, 600, replace=False), shown.shape), 1)
    weights = Spread.of(conformed, sampling, grid[1:]).weights(voxels)
    assert weights.shape == (len(voxels), codes.n_tokens)
    np.testing.assert_allclose(weights @ codes.dense(0).ravel(), shown[tuple(voxels.T)], atol=2e-5)


def test_a_voxel_that_the_network_does_not_see_has_no_token(case):
    wide = {m: sitk.ConstantPad(image, (9, 0, 3), (0, 9, 3)) for m, image in case.images.items()}
    conformed = conform(Case(case.name, wide), InputSpec())
    sampling = sampling_of(SLICES, conformed.brain.shape)
    seen = sitk.GetArrayFromImage(conformed.to_case(np.ones(conformed.brain.shape, np.float32))) > 0
    assert not seen.all()
    weights = Spread.of(conformed, sampling, (6, 5)).weights(np.argwhere(~seen)[:50])
    assert weights.nnz == 0
