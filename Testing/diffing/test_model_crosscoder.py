"""The crosscoder's second opinion: latents of one network alone, and those that only seem to be."""

import numpy as np
import pytest
import torch

from MedSegLensLib.diffing.crosscoder import (
    Crosscoder,
    Pairs,
    agreement,
    opinions,
    read_crosscoder,
    said,
    train_crosscoders,
)
from MedSegLensLib.lenses.lens import Lens


def pairs_of(x, d_a, codes_a, codes_b):
    n = len(x)
    return Pairs(x, d_a, {"a": codes_a, "b": codes_b}, np.ones(n, bool), np.arange(n) % 5 == 0)


@pytest.fixture(scope="module")
def by_hand():
    """Five sources on orthogonal channels. Latent 0 is of both networks. 1 is of a alone. 2 is of both, though its
    decoder has nothing of b. 3 and 4 are one source, of which a has one latent and b another."""
    rng = torch.Generator().manual_seed(0)
    n = 4000
    s = torch.relu(torch.randn(n, 4, generator=rng)) * (torch.rand(n, 4, generator=rng) < 0.3)
    basis = torch.eye(8)  # channels 0..3 of a, 4..7 of b
    a, b = basis[:4], basis[4:]
    x = s[:, [0]] * (a[0] + b[0]) + s[:, [1]] * a[1] + s[:, [2]] * (a[2] + b[2]) + s[:, [3]] * (a[3] + b[3])
    rows = torch.stack([(a[0] + b[0]) / 2**0.5, a[1], a[2], a[3], b[3]])
    encoder = torch.stack([(a[0] + b[0]) / 2**0.5, a[1], a[2], a[3], b[3]]).T.contiguous()
    lens = Lens("both", encoder, torch.zeros(5), rows, torch.zeros(8), torch.full((5,), 1e-3), 2)
    pairs = pairs_of(x, 4, s.numpy(), s.numpy())
    return read_crosscoder(lens, pairs), pairs


def test_each_way_of_seeming_to_be_of_one_network_is_told_apart(by_hand):
    cross, _ = by_hand
    assert cross.kind.tolist() == ["both", "only a", "shrunk", "decoupled", "decoupled"]
    np.testing.assert_allclose(cross.share, [0.5, 0, 0, 0, 1], atol=1e-6)
    assert cross.scaled[2] == pytest.approx(0.5, abs=0.02) and cross.scaled[1] < 0.1
    assert cross.twin[3] > 0.99 and cross.twin[1] < 0.3


def test_a_latent_that_never_fires_says_nothing(by_hand):
    cross, pairs = by_hand
    lens = cross.lens
    never = Lens("both", lens.W_enc, lens.b_enc, lens.W_dec, lens.b_dec, torch.full((5,), 99.0), 2)
    assert set(read_crosscoder(never, pairs).kind) == {"silent"}


def test_a_lens_latent_is_judged_by_the_crosscoder_latent_that_fires_with_it(by_hand):
    cross, pairs = by_hand
    kinds, r = opinions(cross, pairs, "a")
    assert kinds.tolist() == ["both", "only a", "shrunk", "decoupled"] and (r > 0.95).all()
    noise = np.random.default_rng(0).random((len(pairs.x), 1)).astype(np.float32)
    assert opinions(cross, pairs_of(pairs.x, 4, noise, noise), "b")[0].tolist() == ["none"]


def test_a_trained_crosscoder_finds_what_is_shared_and_what_is_not():
    rng = np.random.default_rng(0)
    n, sources = 12_000, 24
    s = np.where(rng.random((n, sources)) < 0.08, rng.gamma(3.0, size=(n, sources)), 0).astype(np.float32)
    maps = [np.linalg.qr(rng.normal(size=(32, sources)))[0].T.astype(np.float32) for _ in "ab"]
    only_a, only_b = range(16, 20), range(20, 24)
    maps[0][list(only_b)], maps[1][list(only_a)] = 0, 0
    raw = [{"natural": np.ones(n, bool), "lesion": np.arange(n) % 4 == 0}]
    for side, m in zip("ab", maps, strict=True):
        raw[0] |= {side: (s @ m + 3.0).astype(np.float16), f"{side}_codes": s.astype(np.float16)}
    pairs = Pairs.of(raw)
    assert pairs.d_a == 32
    for half in (pairs.x[:, :32], pairs.x[:, 32:]):
        assert half.square().sum(1).mean().item() == pytest.approx(1, abs=0.01)
    (lens,) = train_crosscoders(pairs, width=32, k=2, steps=700, seeds=(0,))
    cross = read_crosscoder(lens, pairs)
    kinds, _ = opinions(cross, pairs, "a")
    assert np.mean(kinds[:16] == "both") >= 0.9
    assert np.mean(kinds[list(only_a)] == "only a") >= 0.75 and np.mean(kinds[list(only_b)] == "only b") >= 0.75


def test_agreement_stands_beside_chance():
    known = [("shared", "both")] * 6 + [("specific", "only a")] * 2 + [("specific", "both")] * 2
    known += [("undecided", "both"), ("shared", "none"), ("never fires", "silent")]
    found = agreement(known, "only a")
    assert found["n"] == 10 and found["agree"] == pytest.approx(0.8)
    assert found["by_chance"] == pytest.approx(0.6 * 0.8 + 0.4 * 0.2) and found["kappa"] > 0.4
    assert agreement([("undecided", "both")], "only a") is None


def test_the_opinion_is_a_sentence():
    kinds = {"both": 5, "only a": 2, "only b": 1, "decoupled": 3, "shrunk": 1, "silent": 0}
    one = {"n": 10, "agree": 0.8, "by_chance": 0.5, "kappa": 0.6}
    result = {"kinds": [kinds], "width": 12, "agreement": {"a": one, "b": None}}
    text = said(result, {"a": "one", "b": "two"})
    assert text.endswith(".") and "80 % of 10 categories of one (50 % by chance)" in text and "4 more" in text


def test_it_is_cut_where_the_first_network_ends(by_hand):
    cross, pairs = by_hand
    assert isinstance(cross, Crosscoder) and cross.d_a == pairs.d_a == 4
