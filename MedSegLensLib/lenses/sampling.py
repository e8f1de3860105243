"""Which tokens a lens is trained on: a share for each tissue, so that background does not swamp the lesion."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from MedSegLensLib.errors import UsageError

# Strata of tokens. AIR is what lies outside the brain; BORDER is what surrounds a lesion.
AIR, BRAIN, LESION, BORDER = 0, 1, 2, 3
STRATA = ("air", "brain", "lesion", "border")

# Chosen, not tuned: most tokens of a case are air or healthy brain, and the lesion is what the lens is asked about.
DEFAULT_SHARES = {AIR: 0.10, BRAIN: 0.45, LESION: 0.30, BORDER: 0.15}


class TokenSource(Protocol):
    """What a lens is trained on.

    `held_out` is used for no gradient: the closing measures are of it. `natural` sets the inference threshold, so it
    has the mixture on which L0 shall equal k (that of whole cases); it may be the held-out tokens themselves.
    """

    d_in: int
    held_out: Tensor  # (n, d_in)
    held_out_strata: np.ndarray  # int8 (n,)
    natural: Tensor  # (n, d_in)

    def batches(self, size: int, seed: int, start: int = 0) -> Iterator[Tensor]:
        """Endless batches (size, d_in), float32, from number `start` on; each depends on the seed and its number."""
        ...


class TokenBuffer:
    """A bounded, seeded sample of the tokens of many cases, drawn by stratum.

    Every stratum has a pool of tokens, uniform over all tokens of that stratum seen, and each batch takes the stated
    share from each pool. A stratum that occurs nowhere gives its share to the others; a pool that is smaller than its
    share repeats its tokens.

    >>> buffer = TokenBuffer.gather(((tokens(case), strata(case)) for case in cases), capacity=400_000, seed=0)
    >>> lens = train_lens(buffer, LensConfig(tap="bottleneck", width=1024, k=32, seed=0))
    """

    def __init__(
        self,
        pools: Mapping[int, Tensor],
        held_out: Tensor,
        held_out_strata: np.ndarray,
        shares: Mapping[int, float] = DEFAULT_SHARES,
    ):
        """pools: stratum -> (n, d_in); shares: stratum -> share of a batch, scaled to sum to 1 over the pools."""
        shares = {s: shares.get(s, 0.0) for s, pool in pools.items() if len(pool) and shares.get(s, 0.0) > 0}
        if not shares:
            raise UsageError("token sample", "no wanted stratum has a token.", "Check the shares and the cases.")
        self.pools = {s: pools[s] for s in shares}
        self.shares = {s: share / sum(shares.values()) for s, share in shares.items()}
        self.held_out, self.held_out_strata, self.natural = held_out, held_out_strata, held_out
        self.d_in = held_out.shape[1]

    @staticmethod
    def gather(
        chunks: Iterable[tuple[Tensor, np.ndarray]],
        capacity: int,
        seed: int = 0,
        shares: Mapping[int, float] = DEFAULT_SHARES,
        held_out: int = 16_384,
        dtype: torch.dtype = torch.float32,
    ) -> "TokenBuffer":
        """Draw a buffer from chunks of whole cases, one chunk in memory at a time.

        Each token gets a random key, and a pool keeps the smallest keys: a uniform sample without knowing how many
        tokens will come (bottom-k sampling; Cohen and Kaplan 2007). The held-out tokens are drawn first, from all
        tokens alike, and are in no pool.

        Args:
            chunks: (tokens (n, d_in), strata int (n,)) a chunk; strata are AIR, BRAIN, LESION or BORDER.
            capacity: tokens kept for training; memory is (capacity + held_out) * d_in * bytes of `dtype`.
            shares: stratum -> share of the capacity and of every batch.
            held_out: tokens kept for the threshold and the measures; 2 % of the tokens when there are fewer than 50
                times as many.
            dtype: how tokens are stored (float16 halves the memory); batches are float32.

        Raises UsageError when no chunk holds a token of the wanted strata.
        """
        rng = np.random.default_rng(seed)
        quota = {s: int(np.ceil(capacity * share)) for s, share in shares.items() if share > 0}
        pools = {s: Reservoir(q) for s, q in quota.items()}
        apart = {s: Reservoir(held_out) for s in range(len(STRATA))}
        for tokens, strata in chunks:
            strata = np.asarray(strata).reshape(-1)
            if len(tokens) != len(strata):
                raise ValueError(f"{len(tokens)} tokens with {len(strata)} strata")
            # one token in fifty may be held out: the split is by token, before any pool sees it
            is_held_out = rng.random(len(strata)) < 0.02
            key = rng.random(len(strata))
            for reservoirs, wanted in ((apart, is_held_out), (pools, ~is_held_out)):
                for stratum, reservoir in reservoirs.items():
                    reservoir.offer(tokens, np.flatnonzero(wanted & (strata == stratum)), key, dtype)
        if not any(r.n for r in apart.values()):
            raise UsageError("token sample", "there are too few tokens to hold any out.", "Give more or larger cases.")
        # The natural mixture: the smallest keys over all strata together.
        keys = np.concatenate([r.keys for r in apart.values()])
        tokens = torch.cat([r.tokens for r in apart.values() if r.n])
        strata = np.concatenate([np.full(r.n, s, np.int8) for s, r in apart.items()])
        order = np.argsort(keys)[:held_out]
        kept = {s: r.tokens for s, r in pools.items() if r.n}
        return TokenBuffer(kept, tokens[torch.from_numpy(order)].float(), strata[order], shares)

    def batches(self, size: int, seed: int, start: int = 0) -> Iterator[Tensor]:
        for number in itertools.count(start):
            yield draw(self.pools, self.shares, size, generator_of(seed, number))


def draw(pools: Mapping[int, Tensor], shares: Mapping[int, float], size: int, generator: torch.Generator) -> Tensor:
    """A batch (size, d_in), float32: of each stratum its share (they sum to 1), with replacement from its pool."""
    counts = {s: int(size * share) for s, share in shares.items()}
    counts[max(shares, key=shares.__getitem__)] += size - sum(counts.values())
    parts = [
        pools[s].index_select(0, torch.randint(len(pools[s]), (n,), generator=generator)).float()
        for s, n in counts.items()
    ]
    return torch.cat(parts)


def generator_of(*numbers: int) -> torch.Generator:
    """A generator for these numbers (a seed and a step, say): no state has to be kept to go on from any step."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


class Reservoir:
    """The `size` tokens with the smallest keys of all that were offered."""

    def __init__(self, size: int):
        self.size, self.keys, self.tokens = size, np.empty(0), None

    @property
    def n(self) -> int:
        return len(self.keys)

    def offer(self, tokens: Tensor, candidates: np.ndarray, key: np.ndarray, dtype: torch.dtype) -> None:
        """Consider tokens[candidates] with keys key[candidates]."""
        if self.n >= self.size:  # only what beats the worst key kept can enter: few, once many cases were seen
            candidates = candidates[key[candidates] < self.keys.max(initial=0.0)]
        if not len(candidates):
            return
        if len(candidates) > self.size:
            candidates = candidates[np.argpartition(key[candidates], self.size)[: self.size]]
        new = tokens[torch.from_numpy(candidates)].to("cpu", dtype)
        keys = np.concatenate([self.keys, key[candidates]])
        pool = new if self.tokens is None else torch.cat([self.tokens, new])
        if len(keys) > self.size:
            keep = np.argpartition(keys, self.size)[: self.size]
            keys, pool = keys[keep], pool[torch.from_numpy(keep)]
        self.keys, self.tokens = keys, pool
