"""The inference threshold of a lens: where, over whole cases, as many latents are active as it was trained for."""

import numpy as np
import torch
from torch import Tensor

from MedSegLensLib.lenses.lens import Lens

TOKENS_AT_A_TIME = 2048


@torch.no_grad()
def threshold_at_k(lens: Lens, tokens: Tensor) -> float:
    """The one threshold at which the mean L0 of the lens on tokens (n, d_in) is its k; 0 where fewer are ever above 0.

    Exactly k * n activations remain: it is an order statistic, so there is no bisection. Memory is that of the
    activations above zero.
    """
    keep = min(lens.k, lens.d_sae) * len(tokens)
    above = [torch.empty(0)]
    for block in tokens.split(TOKENS_AT_A_TIME):
        a = torch.addmm(lens.b_enc, block.to(lens.W_enc) - lens.b_dec, lens.W_enc)
        above.append(a[a > 0].cpu())
    largest = torch.cat(above).numpy()
    rank = len(largest) - round(keep) - 1
    return float(np.partition(largest, rank)[rank]) if rank >= 0 else 0.0
