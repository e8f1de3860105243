"""Probes, with the truth planted: the latent that is the region is found, and labels without order are not."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.lenses.nulls import random_encoder_lens
from MedSegLensLib.lenses.probing import (
    aurocs,
    best_single,
    dense_probe,
    k_sparse_probe,
    probe,
    shuffled_within,
    sparse_codes,
)

ATOMS, D = 48, 64


@pytest.fixture(scope="module")
def directions():
    return F.normalize(torch.randn(ATOMS, D, generator=torch.Generator().manual_seed(3)), dim=1)


def planted(directions, n: int, seed: int):
    """Tokens of about 3 of the directions each; which tokens hold direction 7, and which 11 or 12; two cases."""
    g = torch.Generator().manual_seed(seed)
    z = (torch.rand(n, ATOMS, generator=g) < 3 / ATOMS) * (3 + torch.rand(n, ATOMS, generator=g))
    tokens = z @ directions + 0.05 * torch.randn(n, D, generator=g)
    one, two = (z[:, 7] > 0).numpy(), ((z[:, 11] > 0) | (z[:, 12] > 0)).numpy()
    return tokens, {"one": one, "two": two, "rare": np.arange(n) < 5}, np.arange(n) % 2


@pytest.fixture(scope="module")
def lens(directions):
    return Lens(
        "tap", directions.T.clone(), torch.zeros(ATOMS), directions, torch.zeros(D), torch.full((ATOMS,), 2.0), 3
    )


@pytest.fixture(scope="module")
def found(lens, directions):
    seen, unseen = planted(directions, 6000, 0), planted(directions, 4000, 1)
    null = random_encoder_lens(seen[0], lens, seen[0])
    return probe(lens, seen, unseen, null=null)


def test_aurocs_are_those_of_scikit_learn(lens, directions):
    tokens, of, _ = planted(directions, 800, 2)
    codes = sparse_codes(lens, tokens)
    targets = np.stack([of["one"], of["two"]], 1)
    expected = [[roc_auc_score(t, codes[:, j].toarray()[:, 0]) for t in targets.T] for j in range(ATOMS)]
    assert np.allclose(aurocs(codes, targets), expected, atol=1e-9)
    assert np.allclose(aurocs(codes.toarray(), targets), expected, atol=1e-9)


def test_ties_count_half_and_a_target_of_nothing_has_no_score():
    features = np.array([[1.0], [1.0], [0.0], [2.0]])
    targets = np.array([[True, False], [False, False], [False, False], [True, False]])
    for x in (features, sp.csc_matrix(features)):
        score = aurocs(x, targets)
        assert score[0, 0] == pytest.approx((0.5 + 1 + 1 + 1) / 4) and np.isnan(score[0, 1])


def test_a_feature_low_in_the_region_serves_as_well():
    best = best_single(np.array([0.6, 0.1]), np.array([0.9, 0.2]))
    assert (best.feature, best.sign, best.seen, best.unseen) == (1, -1, 0.9, 0.8)


def test_the_planted_latent_is_found_and_beats_every_channel(found):
    one = found["one"]
    assert one.latent.feature == 7 and one.sparse["latent"][1].features == (7,)
    assert one.latent.unseen > 0.97 and one.latent.unseen > one.channel.unseen + 0.1
    assert one.latent.unseen > max(one.component.unseen, one.null.unseen, one.direction.unseen) + 0.1


def test_two_latents_need_a_probe_of_two(found):
    two = found["two"]
    latents = two.sparse["latent"]
    assert set(latents[5].features) >= {11, 12}
    assert latents[5].unseen > 0.97 > 0.9 > latents[1].unseen
    for kind in ("channel", "component", "null"):  # five of anything else do not find what two latents are
        assert latents[5].unseen > two.sparse[kind][5].unseen + 0.02
    assert two.dense.unseen > 0.97  # a plane finds them too, with all the channels


def test_shuffled_labels_say_nothing(found):
    for of in found.values():
        assert abs(of.shuffled.unseen - 0.5) < 0.06 and abs(of.sparse_shuffled.unseen - 0.5) < 0.06


def test_a_region_of_a_few_tokens_is_not_probed(found):
    assert set(found) == {"one", "two"}


def test_shuffling_keeps_each_cases_count():
    y, case = np.arange(100) < 30, np.repeat([0, 1], 50)
    shuffled = shuffled_within(y, case, 0)
    assert shuffled[:50].sum() == 30 and shuffled[50:].sum() == 0 and (shuffled != y).any()


def test_a_dense_probe_finds_a_plane():
    rng = np.random.default_rng(0)
    x, x2 = rng.normal(size=(2, 2000, 10)) * [1, 100, *[1] * 8]
    y, y2 = (v[:, 0] + v[:, 1] / 100 > 0 for v in (x, x2))
    assert dense_probe(x, x2, y, y2).unseen > 0.99
    assert k_sparse_probe(x, x2, y, y2, 2).unseen > 0.99 > k_sparse_probe(x, x2, y, y2, 1).unseen
