"""A lens of eight latents, and the taps of the pack that the tests use."""

import torch

from MedSegLensLib.lenses.lens import Lens

TAPS = ("down_4", "upcat_3.convs.conv_1")


def tiny_lens(tap: str, seed: int) -> Lens:
    rng = torch.Generator().manual_seed(seed)
    decoder = torch.randn(8, 4, generator=rng)
    return Lens(
        tap=tap,
        W_enc=torch.randn(4, 8, generator=rng),
        b_enc=torch.zeros(8),
        W_dec=decoder / decoder.norm(dim=1, keepdim=True),
        b_dec=torch.zeros(4),
        threshold=torch.full((8,), 0.1),
        k=2,
    )
