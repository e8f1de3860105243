"""Sparse and dense products: the same codes, reconstructions and gradients."""

import dataclasses

import numpy as np
import pytest
import torch
from lens_samples import planted_tokens

from MedSegLensLib.lenses.lens_config import LensConfig
from MedSegLensLib.lenses.products import Pattern
from MedSegLensLib.lenses.sampling import BRAIN, TokenBuffer
from MedSegLensLib.lenses.training import Training

CONFIG = LensConfig("tap", width=64, k=4, batch=128, steps=10, products="dense")


def buffer():
    x, _ = planted_tokens(4000)
    return TokenBuffer({BRAIN: x[500:]}, x[:500], np.full(500, BRAIN, np.int8))


@pytest.mark.parametrize("kind", ["batch_topk", "topk", "matryoshka", "archetypal"])
def test_both_ways_give_the_same_loss_and_gradients(kind):
    training = Training(buffer(), dataclasses.replace(CONFIG, kind=kind))
    training.idle[:10] = 1e9  # some dead ones, for the auxiliary loss
    x = (next(training.tokens.batches(128, 3)) - training.centre) * training.scale
    found = {}
    for products in ("dense", "sparse"):
        total, loss, _, active, fired = training._loss(x, products)
        total.backward()
        gradients = [p.grad.clone() for p in training.parameters.values()]
        training.optimizer.zero_grad(set_to_none=True)
        found[products] = (total.detach(), loss, active, fired, gradients)
    dense, sparse = found["dense"], found["sparse"]
    assert torch.allclose(dense[0], sparse[0], rtol=1e-5) and torch.allclose(dense[1], sparse[1], rtol=1e-5)
    assert float(dense[2]) == float(sparse[2]) > 0 and torch.equal(dense[3], sparse[3])
    for a, b in zip(dense[4], sparse[4], strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-6 * float(a.abs().max()) + 1e-9) and a.abs().max() > 0


def test_bfloat16_products_are_near_those_of_float32():
    training = Training(buffer(), CONFIG)
    x = (next(training.tokens.batches(128, 3)) - training.centre) * training.scale
    loss = {p: float(training._loss(x, p)[1]) for p in ("dense", "dense_bf16", "sparse_bf16")}
    assert loss["dense_bf16"] == pytest.approx(loss["dense"], rel=0.05)
    assert loss["sparse_bf16"] == pytest.approx(loss["dense"], rel=0.05)


def test_a_pattern_knows_each_token_and_each_latent():
    active = torch.zeros(3, 5, dtype=torch.bool)
    active[0, [1, 4]] = active[2, [0, 1, 3]] = True
    pattern = Pattern.of(active, prefixes=(2,))
    assert pattern.tokens.tolist() == [0, 0, 2, 2, 2] and pattern.latents.tolist() == [1, 4, 0, 1, 3]
    assert pattern.bags.tolist() == [0, 1, 4, 4, 5] and pattern.bag_starts.tolist() == [0, 1, 2, 2, 2, 4]
    assert pattern.latents[pattern.order].tolist() == [0, 1, 1, 3, 4]
    assert pattern.latent_starts.tolist() == [0, 1, 3, 3, 4] and pattern.fired.tolist() == [1, 1, 0, 1, 1]
