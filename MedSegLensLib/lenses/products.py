"""Codes of a batch and what they reconstruct, in the cheaper of two ways; both give the same gradients.

A batch of n tokens has n x width activations, of which k / width (some 3 %) stay. Dense products ignore that: of the
five matrix products of a step (encode, decode, and three gradients) four have mostly zeros in them. The sparse way does
only the first in full, and the rest entry by entry with `embedding_bag`. Measured on one AVX-512 thread, d = 256, 2048
latents, k = 32, 4096 tokens: dense decode 66 ms, sparse 6; gradient of the codes 56 and 9; of the decoder 70 and 7; of
the encoder 70 and 7. A GPU's dense products are the faster ones.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SPARSE_BELOW = 1 / 10
"""Share of active latents below which the sparse way is the faster one on a CPU. Loss and gradients of 2048 tokens, d =
128, 1024 latents, one AVX-512 thread, at a share of 1/32, 1/16, 1/8: dense 78, 56, 57 ms; sparse 24, 35, 54 ms."""


@dataclass(frozen=True)
class Pattern:
    """Where the codes of a batch are not zero, by token and by latent.

    A nested (Matryoshka) lens reconstructs from g groups of consecutive latents; each token then has g bags of entries,
    and otherwise one.

    Attributes:
        tokens, latents: int64 (nnz,), ordered by token, within it by latent.
        bags: int64 (nnz,), token * g + group.
        bag_starts: int64 (n * g,).
        order: int64 (nnz,), the same entries ordered by latent.
        latent_starts: int64 (width,), where each latent's run starts in that order.
        fired: bool (width,).
    """

    tokens: Tensor
    latents: Tensor
    bags: Tensor
    bag_starts: Tensor
    order: Tensor
    latent_starts: Tensor
    fired: Tensor

    @staticmethod
    def of(active: Tensor, prefixes: tuple[int, ...] = ()) -> "Pattern":
        """From bool (n, width) on the CPU; `prefixes` are where the groups after the first begin."""
        n, width = active.shape
        hits = np.flatnonzero(active.numpy())  # three times as fast as torch.nonzero
        tokens = hits // width
        latents = hits - tokens * width
        starts = np.array([0, *prefixes])
        group = np.searchsorted(starts, np.arange(width), side="right") - 1
        bags = tokens * len(starts) + group[latents] if prefixes else tokens
        bag_starts = np.searchsorted(hits, (np.arange(n)[:, None] * width + starts).ravel())
        narrow = latents.astype(np.uint16) if width <= 1 << 16 else latents
        order = np.argsort(narrow, kind="stable")  # a radix sort for 16 bits: 1 ms for 131 000 entries
        counts = np.bincount(latents, minlength=width)
        parts = (tokens, latents, bags, bag_starts, order, np.cumsum(counts) - counts, counts > 0)
        return Pattern(*map(torch.from_numpy, parts))


class ActiveValues(torch.autograd.Function):
    """The activations (nnz,) at a pattern's entries, out of a dense product done before: only their gradient flows.

    a = centred @ encoder.T + b_enc with centred = x - b_dec (n, d) and encoder (width, d); x needs no gradient.
    """

    @staticmethod
    def forward(ctx, encoder: Tensor, b_enc: Tensor, b_dec: Tensor, centred: Tensor, a: Tensor, pattern: Pattern):
        ctx.save_for_backward(encoder, centred)
        ctx.pattern = pattern
        return a.view(-1).index_select(0, pattern.tokens * a.shape[1] + pattern.latents)

    @staticmethod
    def backward(ctx, grad: Tensor):
        encoder, centred = ctx.saved_tensors
        d_encoder = _rows_by_latent(ctx.pattern, ctx.pattern.tokens, grad, centred)
        d_b_enc = torch.zeros(len(encoder)).index_add_(0, ctx.pattern.latents, grad)
        return d_encoder, d_b_enc, -(d_b_enc @ encoder), None, None, None


class SparseDecode(torch.autograd.Function):
    """What each bag of codes makes, (bags, d): the values (nnz,) of a pattern times their rows (width, d)."""

    @staticmethod
    def forward(ctx, values: Tensor, rows: Tensor, pattern: Pattern):
        ctx.save_for_backward(values, rows)
        ctx.pattern = pattern
        return F.embedding_bag(pattern.latents, rows, pattern.bag_starts, mode="sum", per_sample_weights=values)

    @staticmethod
    def backward(ctx, grad: Tensor):
        values, rows = ctx.saved_tensors
        p, grad = ctx.pattern, grad.contiguous()
        # what autograd calls for embedding_bag's weights; its own gradient of the rows takes 25 ms where ours takes 7
        d_values = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            grad, rows, p.latents, p.bag_starts, p.bags, 0, -1
        )
        return d_values, _rows_by_latent(p, p.bags, values, grad), None


def _rows_by_latent(pattern: Pattern, sources: Tensor, weights: Tensor, vectors: Tensor) -> Tensor:
    """For each latent the sum over its entries of weight * vectors[source], (width, d)."""
    order = pattern.order
    return F.embedding_bag(
        sources[order], vectors, pattern.latent_starts, mode="sum", per_sample_weights=weights[order]
    )
