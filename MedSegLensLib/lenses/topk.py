"""TopK: each token keeps its k largest activations.

Makhzani and Frey 2013, "k-Sparse autoencoders" (arXiv 1312.5663); Gao et al. 2024 (arXiv 2406.04093). Every token has
exactly k active latents (fewer where fewer are above zero), at inference too, so that no threshold can stand for it.
"""

import numpy as np
import torch
from torch import Tensor


def cut(a: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
    """The value of each token (n, 1) above which its k largest activations a (n, width) lie; not negative."""
    if a.device.type == "cpu":  # 27 ms where torch.topk takes 76 (4096 x 2048, k = 32)
        largest = np.partition(a.numpy(), a.shape[1] - k - 1, axis=1)[:, a.shape[1] - k - 1]
        return torch.from_numpy(largest)[:, None].clamp_min(0.0)
    return a.topk(k + 1, dim=1, sorted=False).values.amin(1, keepdim=True).clamp_min(0.0)
