"""Activation volumes against torch's own interpolation of the whole dense code."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from MedSegLensLib.errors import UsageError
from MedSegLensLib.lenses.activation import activation_volume
from MedSegLensLib.lenses.codes import Codes


def sparse_codes(grid, samples, seed=0) -> Codes:
    """Codes of two latents: one fires in the given samples, the other nowhere."""
    rng = np.random.default_rng(seed)
    dense = np.zeros((grid[0], int(np.prod(grid[1:]))), np.float16)
    for s in samples:
        dense[s, rng.choice(dense.shape[1], max(1, dense.shape[1] // 8), replace=False)] = rng.uniform(0.1, 9)
    tokens = np.flatnonzero(dense).astype(np.int32)
    return Codes(np.array([0, len(tokens), len(tokens)]), tokens, dense.reshape(-1)[tokens], grid)


@pytest.mark.parametrize(
    ("grid", "samples", "shape"),
    [
        ((9, 15, 15), [0, 1, 4, 8], (240, 240)),
        ((6, 11, 14), [2, 3], (88, 112)),
        ((5, 7, 9), range(5), (30, 31)),  # ratios that are no integers
        ((3, 4, 5, 6), [0, 2], (16, 20, 24)),
        ((2, 6, 6, 6), [1], (6, 6, 6)),
    ],
)
def test_equals_torch_interpolate(grid, samples, shape):
    codes = sparse_codes(grid, samples)
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    whole = F.interpolate(torch.from_numpy(codes.dense(0))[:, None], size=shape, mode=mode, align_corners=False)
    volume = activation_volume(codes, 0, shape)
    assert volume.dtype == np.float32 and volume.shape == (grid[0], *shape)
    assert np.allclose(volume, whole[:, 0].numpy(), atol=1e-6)
    untouched = np.setdiff1d(np.arange(grid[0]), list(samples))
    assert not volume[untouched].any()


def test_a_given_volume_is_written_over():
    codes = sparse_codes((6, 8, 8), [1, 5])
    out = np.full((6, 32, 32), 7, np.float32)
    assert activation_volume(codes, 0, (32, 32), out) is out
    assert np.array_equal(out, activation_volume(codes, 0, (32, 32)))
    with pytest.raises(ValueError, match="out is"):
        activation_volume(codes, 0, (32, 32), np.zeros((6, 32, 31), np.float32))


def test_a_latent_that_never_fires_is_empty():
    assert not activation_volume(sparse_codes((6, 8, 8), [1]), 1, (32, 32)).any()


def test_an_unknown_latent_is_named():
    with pytest.raises(UsageError, match="latent 2"):
        activation_volume(sparse_codes((6, 8, 8), [1]), 2, (32, 32))
