"""The crosscoder's second opinion: latents of one network alone, and those that only seem to be."""

import json

import numpy as np
import pytest
import torch

from MedSegLensLib.diffing.comparison import LatentFinding
from MedSegLensLib.diffing.crosscoder import (
    Crosscoder,
    Pairs,
    agreement,
    opinion_on,
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


@pytest.fixture(scope="module")
def sources():
    """24 sources in two networks of 32 channels each: 16 of both, 4 of the first alone, 4 of the second alone."""
    rng = np.random.default_rng(0)
    n, count = 12_000, 24
    s = np.where(rng.random((n, count)) < 0.08, rng.gamma(3.0, size=(n, count)), 0).astype(np.float32)
    maps = [np.linalg.qr(rng.normal(size=(32, count)))[0].T.astype(np.float32) for _ in "ab"]
    maps[0][20:], maps[1][16:20] = 0, 0
    result = {"natural": np.ones(n, bool), "lesion": np.arange(n) % 4 == 0}
    for side, m in zip("ab", maps, strict=True):
        result |= {side: (s @ m + 3.0).astype(np.float16), f"{side}_codes": s.astype(np.float16)}
    return Pairs.of([result])


def test_a_trained_crosscoder_finds_what_is_shared_and_what_is_not(sources):
    assert sources.d_a == 32
    for half in (sources.x[:, :32], sources.x[:, 32:]):
        assert half.square().sum(1).mean().item() == pytest.approx(1, abs=0.01)
    (lens,) = train_crosscoders(sources, width=32, k=2, steps=700, seeds=(0,))
    kinds, _ = opinions(read_crosscoder(lens, sources), sources, "a")
    assert np.mean(kinds[:16] == "both") >= 0.9
    assert np.mean(kinds[16:20] == "only a") >= 0.75 and np.mean(kinds[20:] == "only b") >= 0.75


def test_the_whole_opinion_is_json_and_stands_beside_chance(sources):
    kinds = ["shared"] * 16 + ["undecided"] * 4 + ["never fires"] * 4
    findings = [LatentFinding(side, "tap", j, kind) for side in "ab" for j, kind in enumerate(kinds)]
    found = opinion_on(sources, {"a": "tap", "b": "tap"}, findings, steps=40)
    assert json.loads(json.dumps(found)) == found
    assert found["width"] == 48 and len(found["kinds"]) == 2 and sum(found["kinds"][0].values()) == 48
    assert sum(found["table"]["a"]["shared"].values()) == 16 and 0 < found["explained"]["a"] <= 1
    assert said(found, {"a": "one", "b": "two"}).endswith(".")


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
    assert "held against" in said({**result, "agreement": {"a": None, "b": None}}, {"a": "one", "b": "two"})


def test_it_is_cut_where_the_first_network_ends(by_hand):
    cross, pairs = by_hand
    assert isinstance(cross, Crosscoder) and cross.d_a == pairs.d_a == 4
