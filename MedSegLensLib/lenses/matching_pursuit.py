"""Matching pursuit: one latent after another, each the one that explains most of what the others left.

Costa et al. 2025, "From flat to hierarchical: extracting sparse representations with matching pursuit" (arXiv
2506.03093). Trained by sae-lens; here only encoded. There is no encoder: the decoder's rows are compared with the rest.
"""

from torch import Tensor


def encode(residual: Tensor, rows: Tensor, k: int) -> Tensor:
    """Codes (n, width) of centred tokens (n, d) after k rounds; a latent that is chosen twice adds up.

    A round takes, for each token, the row with the largest inner product with what is left, where that is above zero,
    and subtracts its share.
    """
    z = residual.new_zeros(len(residual), len(rows))
    for _ in range(k):
        value, latent = (residual @ rows.T).max(1)
        value = value.clamp_min(0)
        z.scatter_add_(1, latent[:, None], value[:, None])
        residual = residual - value[:, None] * rows[latent]
    return z
