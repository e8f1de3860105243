"""Lesion-balanced sampling, on tokens that carry their own stratum and number."""

import numpy as np
import pytest
import torch

from MedSegLensLib.errors import UsageError
from MedSegLensLib.lenses.sampling import AIR, BORDER, BRAIN, LESION, TokenBuffer

NATURAL = {AIR: 0.6, BRAIN: 0.35, LESION: 0.03, BORDER: 0.02}


def cases(n_cases=5, n=8000, seed=100):
    """Chunks whose tokens are (stratum, case, number); not with the seed of the draw, whose numbers these would be."""
    rng = np.random.default_rng(seed)
    for case in range(n_cases):
        strata = rng.choice(list(NATURAL), n, p=list(NATURAL.values()))
        tokens = np.stack([strata, np.full(n, case), np.arange(n)], 1).astype(np.float32)
        yield torch.from_numpy(tokens), strata


def test_batches_hold_the_stated_shares():
    shares = {AIR: 0.1, BRAIN: 0.4, LESION: 0.3, BORDER: 0.2}
    buffer = TokenBuffer.gather(cases(), capacity=2000, shares=shares)
    batch = next(buffer.batches(1000, seed=1))
    assert batch.shape == (1000, 3) and batch.dtype == torch.float32
    found = {s: float((batch[:, 0] == s).float().mean()) for s in shares}
    assert found == pytest.approx(shares, abs=0.002)


def test_held_out_tokens_have_the_natural_mixture_and_are_not_trained_on():
    buffer = TokenBuffer.gather(cases(), capacity=400_000, held_out=800)
    assert len(buffer.held_out) == len(buffer.held_out_strata) <= 800
    assert np.array_equal(buffer.held_out[:, 0].numpy(), buffer.held_out_strata)
    for stratum, share in NATURAL.items():
        assert np.mean(buffer.held_out_strata == stratum) == pytest.approx(share, abs=0.05)
    kept = {tuple(t) for pool in buffer.pools.values() for t in pool.tolist()}
    assert not kept & {tuple(t) for t in buffer.held_out.tolist()}
    assert len(kept) + len(buffer.held_out) == pytest.approx(40_000, abs=200)


def test_memory_is_bounded_and_every_case_is_drawn_from():
    buffer = TokenBuffer.gather(cases(n_cases=20), capacity=1000, held_out=50, dtype=torch.float16)
    assert sum(len(pool) for pool in buffer.pools.values()) <= 1004
    drawn = buffer.pools[BRAIN]
    assert drawn.dtype == torch.float16
    per_case = torch.bincount(drawn[:, 1].long(), minlength=20)
    assert per_case.min() > 5 and len(buffer.held_out) == 50


def test_the_same_seed_draws_the_same_tokens():
    first, same, other = (TokenBuffer.gather(cases(), 500, seed=s) for s in (3, 3, 4))
    assert torch.equal(first.pools[LESION], same.pools[LESION])
    assert not torch.equal(first.pools[LESION], other.pools[LESION])
    a, b, c = (next(first.batches(64, seed)) for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_a_stratum_that_does_not_occur_leaves_its_share_to_the_others():
    healthy = ((t[s < LESION], s[s < LESION]) for t, s in cases())
    buffer = TokenBuffer.gather(healthy, capacity=1000)
    assert set(buffer.shares) == {AIR, BRAIN} and sum(buffer.shares.values()) == pytest.approx(1)
    assert len(next(buffer.batches(333, 0))) == 333


def test_no_wanted_token_at_all_is_refused():
    with pytest.raises(UsageError, match="no wanted stratum"):
        TokenBuffer.gather(((t[s == AIR], s[s == AIR]) for t, s in cases()), 100, shares={LESION: 1.0})
    with pytest.raises(UsageError, match="too few tokens"):
        TokenBuffer.gather([], 100)
