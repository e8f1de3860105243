"""Stability across seeds, with the truth planted: a permuted lens is itself, a random one is another."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from lens_samples import planted_tokens, random_lens

from MedSegLensLib.errors import UsageError
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.lenses.stability import (
    activation_stability,
    decoder_stability,
    partners,
    stable_share,
    substitution,
)


def permuted(lens: Lens, seed: int = 0) -> tuple[Lens, np.ndarray]:
    """The lens with its latents in another order, and where each latent went."""
    order = torch.randperm(lens.d_sae, generator=torch.Generator().manual_seed(seed))
    shuffled = replace(
        lens,
        W_enc=lens.W_enc[:, order],
        b_enc=lens.b_enc[order],
        W_dec=lens.W_dec[order],
        threshold=lens.threshold[order],
    )
    return shuffled, np.argsort(order.numpy())


def true_lens(directions) -> Lens:
    """A lens whose rows are the planted directions."""
    m = len(directions)
    return Lens(
        "tap",
        directions.T.clone(),
        torch.zeros(m),
        directions,
        torch.full((directions.shape[1],), 3.0),
        torch.full((m,), 2.5),
        4,
    )


def test_a_permuted_lens_is_wholly_stable():
    lens = random_lens(d_in=32, d_sae=64)
    other, went = permuted(lens)
    tokens = torch.randn(2000, 32)
    assert np.allclose(decoder_stability(lens, [other]), 1, atol=1e-5)
    fires = (lens.encode(tokens) > 0).any(0).numpy()
    assert np.allclose(activation_stability(lens, [other], tokens)[fires], 1, atol=1e-4)
    assert np.array_equal(partners((lens.W_dec @ other.W_dec.T).numpy()), went)


def test_random_lenses_share_next_to_nothing():
    lens, *others = [random_lens(d_in=64, d_sae=128, seed=s) for s in range(3)]
    assert stable_share(decoder_stability(lens, others)) == 0
    assert stable_share(activation_stability(lens, others, torch.randn(3000, 64))) < 0.02


def test_what_one_of_two_seeds_lacks_is_not_stable():
    lens = random_lens(d_in=32, d_sae=40)
    changed, _ = permuted(lens)
    lost = replace(lens, W_dec=torch.cat([lens.W_dec[:30], random_lens(32, 40, seed=9).W_dec[:10]]))
    assert stable_share(decoder_stability(lens, [changed])) == 1
    worst = decoder_stability(lens, [changed, lost])
    assert (worst[:30] > 0.99).all() and (worst[30:] < 0.7).all()
    assert stable_share(worst, among=np.arange(40) < 30) == 1


def test_the_matching_is_one_to_one():
    twice = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.01]]), dim=1)
    lens, other = true_lens_of(twice), true_lens_of(torch.eye(2))
    # both rows are nearest to the first row of the other; only one of them may have it
    assert sorted(decoder_stability(lens, [other]).round(2)) == [0.01, 1.0]


def true_lens_of(rows) -> Lens:
    m, d = rows.shape
    return Lens("tap", rows.T.clone(), torch.zeros(m), rows, torch.zeros(d), torch.zeros(m), 1)


def test_latents_without_a_partner_have_none():
    lens, narrow = random_lens(16, 20), random_lens(16, 8, seed=1)
    assert (decoder_stability(lens, [narrow]) == 0).sum() >= 12


def test_of_no_latents_there_is_no_share():
    assert np.isnan(stable_share(np.ones(3, np.float32), among=np.zeros(3, bool)))


def test_stability_needs_another_lens_of_the_same_tap():
    with pytest.raises(UsageError, match="another seed"):
        decoder_stability(random_lens(), [])
    with pytest.raises(UsageError, match="not one tap"):
        decoder_stability(random_lens(12), [random_lens(13)])


def test_a_twin_takes_the_place_of_each_latent():
    tokens, directions = planted_tokens(4000, d=128, atoms=32)  # few enough to be nearly at right angles
    lens = true_lens(directions)
    other, went = permuted(lens)
    found = substitution(lens, other, tokens)
    assert np.array_equal(found.partner, went)
    assert np.allclose(found.scale, 1, atol=1e-4)
    assert np.allclose(found.replaced, 0, atol=1e-5) and (found.removed > 1e-4).all()
    assert np.allclose(found.kept(), 1, atol=1e-2)


def test_the_substitution_is_what_replacing_by_hand_gives():
    tokens, directions = planted_tokens(3000)
    lens, other = true_lens(directions), random_lens(32, 64, threshold=1.0, seed=4)
    found = substitution(lens, other, tokens)
    z, w = lens.encode(tokens), other.encode(tokens)
    total = (tokens - tokens.mean(0)).square().sum()
    plain = lens.decode(z)
    for j in (0, 17, 63):
        p, s = int(found.partner[j]), float(found.scale[j])
        without = plain - z[:, j : j + 1] * lens.W_dec[j]
        instead = without + s * w[:, p : p + 1] * other.W_dec[p]
        errors = [(tokens - r).square().sum() for r in (plain, without, instead)]
        assert found.removed[j] == pytest.approx(float((errors[1] - errors[0]) / total), abs=1e-5)
        assert found.replaced[j] == pytest.approx(float((errors[2] - errors[0]) / total), abs=1e-5)
    assert np.nanmedian(found.kept()) < 0.3  # a random lens has no such latents
