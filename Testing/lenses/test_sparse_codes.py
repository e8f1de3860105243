"""Sparse codes against the dense encode, and their statistics against naive numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lens_samples import random_lens

from MedSegLensLib.errors import CaseError, UsageError
from MedSegLensLib.lenses.codes import encode_tokens

GRIDS = st.one_of(
    st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 7)),
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)),
)


def tokens_of(grid, d_in, seed=0, scale=1.0):
    return torch.randn(int(np.prod(grid)), d_in, generator=torch.Generator().manual_seed(seed)) * scale


@given(grid=GRIDS, d_sae=st.integers(2, 60), chunk=st.integers(1, 90), threshold=st.sampled_from([0.0, 0.8, 3.0]))
@settings(max_examples=60, deadline=None)
def test_codes_equal_the_dense_encode(grid, d_sae, chunk, threshold):
    lens = random_lens(d_sae=d_sae, threshold=threshold)
    x = tokens_of(grid, lens.d_in)
    codes = encode_tokens(lens, x.split(chunk), grid)
    dense = lens.encode(x).numpy()
    assert codes.grid == grid and codes.n_latents == d_sae
    assert (codes.pointers.dtype, codes.tokens.dtype, codes.values.dtype) == (np.int64, np.int32, np.float32)
    for j in range(d_sae):
        tokens, values = codes.latent(j)
        assert np.all(np.diff(tokens) > 0)
        # an activation within rounding of the threshold may fall on either side in another order of summation
        near = np.abs(dense[:, j] - threshold) < 1e-4
        assert np.array_equal(np.setdiff1d(tokens, np.flatnonzero(near)), np.flatnonzero((dense[:, j] > 0) & ~near))
        assert np.allclose(values, dense[tokens, j], rtol=1e-5, atol=1e-5)
        assert np.allclose(codes.dense(j).reshape(-1)[~near], dense[~near, j], rtol=1e-5, atol=1e-5)


def test_codes_do_not_depend_on_the_chunks(lens, monkeypatch):
    grid = (5, 20, 20)
    x = tokens_of(grid, lens.d_in)
    whole = encode_tokens(lens, [x], grid)
    monkeypatch.setattr("MedSegLensLib.lenses.codes.BLOCK", 333)
    cut = encode_tokens(lens, x.half().split(401), grid)
    same = encode_tokens(lens, x.split(77), grid)
    assert np.array_equal(whole.pointers, same.pointers) and np.array_equal(whole.tokens, same.tokens)
    assert abs(len(cut.tokens) - len(whole.tokens)) < 0.01 * len(whole.tokens)  # float16 tokens move a few activations


@given(grid=GRIDS, n_labels=st.integers(1, 5), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_summary_equals_naive_numpy(grid, n_labels, seed):
    lens = random_lens(threshold=1.2, seed=seed)
    codes = encode_tokens(lens, [tokens_of(grid, lens.d_in, seed)], grid)
    labels = np.random.default_rng(seed).integers(0, n_labels, grid).astype(np.int8)
    codes.summary()  # what needs no labels is kept and must still be right with them
    summary = codes.summary(labels, n_labels)
    for j in range(codes.n_latents):
        dense = codes.dense(j)
        where = np.argwhere(dense)
        assert summary.count[j] == len(where)
        assert summary.maximum[j] == dense.max()
        assert np.isclose(summary.total[j], dense.sum(dtype=float), rtol=1e-5)
        assert summary.samples[j] == len(np.unique(where[:, 0])) == len(codes.samples(j))
        assert np.array_equal(codes.samples(j), np.unique(where[:, 0]))
        overlap = [np.sum((dense > 0) & (labels == k)) for k in range(n_labels)]
        assert np.array_equal(summary.overlap[j], overlap)
        if not len(where):
            assert codes.box(j) is None and np.isnan(summary.centre[j]).all() and (summary.box_min[j] == -1).all()
            continue
        assert np.isclose(summary.mean[j], dense[dense > 0].mean(), rtol=1e-5)
        centre = (where * dense[tuple(where.T)][:, None]).sum(0) / dense.sum(dtype=float)
        assert np.allclose(summary.centre[j], centre, rtol=1e-4, atol=1e-4)
        assert np.array_equal(summary.box_min[j], where.min(0)) and np.array_equal(summary.box_max[j], where.max(0))
        assert [(s.start, s.stop - 1) for s in codes.box(j)] == list(zip(where.min(0), where.max(0), strict=True))


def test_summary_is_the_same_in_many_blocks(lens, monkeypatch):
    grid = (4, 16, 16)
    labels = np.zeros(grid, np.int8)
    codes, again = (encode_tokens(lens, [tokens_of(grid, lens.d_in)], grid) for _ in range(2))
    whole = codes.summary(labels)
    monkeypatch.setattr("MedSegLensLib.lenses.summary.BLOCK", 100)
    cut = again.summary(labels)
    for name, value in vars(whole).items():
        assert np.allclose(value, getattr(cut, name), rtol=1e-6, equal_nan=True), name


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_refused(lens, bad):
    x = tokens_of((1, 4, 4), lens.d_in)
    x[3, 2] = bad
    with pytest.raises(CaseError, match="not finite"):
        encode_tokens(lens, [x], (1, 4, 4))


def test_a_wrong_number_of_tokens_is_a_bug(lens):
    with pytest.raises(ValueError, match="15 tokens"):
        encode_tokens(lens, [tokens_of((1, 3, 5), lens.d_in)], (1, 4, 4))
    with pytest.raises(ValueError, match="reads"):
        encode_tokens(lens, [torch.zeros(16, 3)], (1, 4, 4))


@pytest.mark.parametrize("latent", [-1, 40])
def test_an_unknown_latent_is_named(lens, latent):
    codes = encode_tokens(lens, [tokens_of((1, 4, 4), lens.d_in)], (1, 4, 4))
    with pytest.raises(UsageError, match=f"latent {latent}"):
        codes.latent(latent)
