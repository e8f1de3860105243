"""Made-up lenses and tokens for the tests of this room."""

import torch
import torch.nn.functional as F

from MedSegLensLib.lenses.lens import Lens


def random_lens(d_in=12, d_sae=40, threshold=0.8, seed=0) -> Lens:
    g = torch.Generator().manual_seed(seed)
    rows = F.normalize(torch.randn(d_sae, d_in, generator=g), dim=1)
    return Lens(
        tap="encoder.stage3",
        W_enc=rows.T.contiguous() + 0.05 * torch.randn(d_in, d_sae, generator=g),
        b_enc=0.1 * torch.randn(d_sae, generator=g),
        W_dec=rows,
        b_dec=torch.randn(d_in, generator=g),
        threshold=torch.full((d_sae,), threshold),
        k=5,
        metadata={"training": {"seed": 3}},
    )


def planted_tokens(n: int, d: int = 32, atoms: int = 64, k: int = 4, seed: int = 0):
    """Tokens (n, d) that are sums of on average k of `atoms` unit directions, off the origin; and the directions."""
    g = torch.Generator().manual_seed(seed)
    directions = F.normalize(torch.randn(atoms, d, generator=g), dim=1)
    z = (torch.rand(n, atoms, generator=g) < k / atoms) * (1 + torch.rand(n, atoms, generator=g))
    return 5 * (z @ directions) + 0.05 * torch.randn(n, d, generator=g) + 3, directions
