"""Matching pursuit: one latent after another, each the one that explains most of what the others left.

Costa et al. 2025, "From flat to hierarchical: extracting sparse representations with matching pursuit" (arXiv
2506.03093). Trained by sae-lens; here only encoded, as its `MatchingPursuitSAE` does. There is no encoder: the
decoder's rows are compared with what is left.
"""

import torch
from torch import Tensor


def encode(residual: Tensor, rows: Tensor, rounds: int, enough: float) -> Tensor:
    """Codes (n, width) of centred tokens (n, d).

    In each of at most `rounds` rounds a token takes the row with the largest inner product with what is left, where
    that is above zero, and its share is subtracted; a latent that is chosen twice adds up. A token is done when no
    new latent was added, or less than the length `enough` is left.
    """
    z = residual.new_zeros(len(residual), len(rows))
    done = torch.zeros(len(residual), dtype=torch.bool, device=residual.device)
    for _ in range(rounds):
        value, latent = (residual @ rows.T).max(1)
        value = torch.where(done, 0.0, value.clamp_min(0))
        is_new = (z.gather(1, latent[:, None]).squeeze(1) == 0) & (value > 0)
        z.scatter_add_(1, latent[:, None], value[:, None])
        residual = residual - value[:, None] * rows[latent]
        done = done | ~is_new | (residual.norm(dim=1) < enough)
        if done.all():
            break
    return z
