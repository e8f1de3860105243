"""Nulls: each is what it claims to be, and none of them learns what is planted."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lens_samples import planted_tokens, random_lens

from MedSegLensLib.lenses.calibration import threshold_at_k
from MedSegLensLib.lenses.measures import explained_variance, l0
from MedSegLensLib.lenses.nulls import (
    on_components,
    principal_components,
    random_decoder_lens,
    random_encoder_lens,
    random_rows,
    stability_nulls,
    untrained_lens,
)
from MedSegLensLib.lenses.stability import stable_share


@pytest.fixture(scope="module")
def tokens():
    return planted_tokens(8000)[0]


@pytest.fixture(scope="module")
def like():
    return random_lens(32, 64)


def reconstructed(lens, tokens) -> float:
    return explained_variance(tokens, lens.decode(lens.encode(tokens)))


def test_principal_components_keep_the_most_that_so_many_can(tokens):
    mean, basis = principal_components(tokens, 6)
    values = torch.linalg.svdvals(tokens - tokens.mean(0)).double().square()
    expected = float(values[:6].sum() / values.sum())
    assert explained_variance(tokens, on_components(tokens, mean, basis)) == pytest.approx(expected, abs=1e-4)
    assert torch.allclose(on_components(tokens, *principal_components(tokens, 99)), tokens, atol=1e-3)


def test_rows_have_unit_norm_and_a_seed():
    assert torch.allclose(random_rows(20, 32, 1).norm(dim=1), torch.ones(20), atol=1e-5)
    assert torch.equal(random_rows(20, 32, 1), random_rows(20, 32, 1))
    assert not torch.equal(random_rows(20, 32, 1), random_rows(20, 32, 2))


def test_every_null_has_the_l0_of_the_lens_it_stands_beside(tokens, like):
    nulls = [
        untrained_lens(tokens, F.normalize(tokens[:64] - tokens.mean(0), dim=1), like, tokens),
        random_encoder_lens(tokens, like, tokens),
        random_decoder_lens(tokens, like, tokens, steps=50, batch=256),
    ]
    for null in nulls:
        rate = l0(null.encode(tokens))
        assert rate == pytest.approx(like.k, rel=0.05) or null is nulls[1] and rate <= like.k * 1.05
        assert torch.allclose(null.W_dec.norm(dim=1), torch.ones(64), atol=1e-4)


def test_the_random_encoder_stays_random_and_its_decoder_is_the_best_for_it(tokens, like):
    null = random_encoder_lens(tokens, like, tokens, seed=5)
    cosine = torch.nn.functional.cosine_similarity(null.W_enc.T, random_rows(64, 32, 5), dim=1)
    assert torch.allclose(cosine, torch.ones(64), atol=1e-4)
    best = reconstructed(null, tokens)
    assert best > reconstructed(untrained_lens(tokens, random_rows(64, 32, 5), like, tokens), tokens)
    for _ in range(3):  # no other decoder near it does better
        null.W_dec += 0.03 * torch.randn_like(null.W_dec)
        assert reconstructed(null, tokens) < best


def test_the_random_decoder_stays_random_while_its_encoder_learns(tokens, like):
    few, many = (random_decoder_lens(tokens, like, tokens, steps=n, batch=512, seed=2) for n in (1, 200))
    assert torch.equal(many.W_dec, random_rows(64, 32, 2))
    assert reconstructed(many, tokens) > reconstructed(few, tokens) + 0.02


def test_the_threshold_is_where_k_latents_fire(tokens, like):
    like.k = 7
    like.threshold.fill_(threshold_at_k(like, tokens))
    assert l0(like.encode(tokens)) == pytest.approx(7, rel=1e-3)
    like.k = 64
    assert threshold_at_k(like, tokens) == 0  # fewer than that are ever above zero


def test_what_nobody_trained_is_not_stable(tokens):
    nulls = stability_nulls(tokens, 64, seeds=3)
    assert set(nulls) == {"random", "start", "tokens"} and all(len(rows) == 3 for rows, _ in nulls.values())
    shares = {name: stable_share(stability) for name, (_, stability) in nulls.items()}
    means = {name: float(np.mean(stability)) for name, (_, stability) in nulls.items()}
    assert shares["random"] == 0 and shares["start"] < 0.1
    assert means["random"] < means["start"] < means["tokens"]  # the order in which they are hard to beat
