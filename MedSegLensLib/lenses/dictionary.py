"""The parameters of a lens while it is trained, on centred and scaled tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor

from MedSegLensLib.lenses.centroids import centroids_of


class Dictionary:
    """A free dictionary: every row of the decoder is a parameter of unit norm.

    encoder (width, d), b_enc (width,), decoder (width, d), b_dec (d,). The encoder starts as the decoder, and the
    decoder as directions of tokens, where the data are, so that few latents are dead from the start.
    """

    def __init__(self, start: Tensor):
        """start: unit rows (width, d)."""
        self.encoder = start.clone().requires_grad_()
        self.decoder = start.clone().requires_grad_()
        self.b_enc = torch.zeros(len(start), device=start.device, requires_grad=True)
        self.b_dec = torch.zeros(start.shape[1], device=start.device, requires_grad=True)

    def parameters(self) -> dict[str, Tensor]:
        return {"encoder": self.encoder, "b_enc": self.b_enc, "decoder": self.decoder, "b_dec": self.b_dec}

    def constants(self) -> dict[str, Tensor]:
        """What is not trained and still belongs to the state."""
        return {}

    def rows(self) -> Tensor:
        """The decoder's rows (width, d), differentiable."""
        return self.decoder

    @torch.no_grad()
    def before_step(self) -> None:
        """Remove the gradient along each row, which the next normalisation would undo but Adam would remember."""
        grad = self.decoder.grad
        grad -= (grad * self.decoder).sum(1, keepdim=True) * self.decoder

    @torch.no_grad()
    def after_step(self) -> None:
        self.decoder /= self.decoder.norm(dim=1, keepdim=True).clamp_min(1e-8)


def starting_rows(data: Tensor, width: int, init: str, noise: float, generator: torch.Generator) -> Tensor:
    """Unit rows (width, d) to begin with, from centred tokens (n, d).

    init "tokens": directions of random tokens, with `noise` times as much noise, which keeps duplicates apart;
    "centroids": directions of the tokens' k-means centroids, which two seeds share more of. "components": the tokens'
    principal components, each with its opposite (a latent is not negative), largest first; where d is less than half
    the width, tokens for the rest. Two seeds begin nearly alike, as two non-negative matrix factorisations do that
    start from the same singular vectors (NNDSVD; Boutsidis and Gallopoulos 2008), and end alike: docs/lenses.md.
    """
    components = torch.empty(0, data.shape[1], device=data.device)
    if init == "components":
        vectors = torch.linalg.svd(data - data.mean(0), full_matrices=False).Vh[: width // 2]
        components = torch.stack([vectors, -vectors], dim=1).flatten(0, 1)
        width -= len(components)
    if init == "centroids":
        picked = centroids_of(data, width, generator)
    else:
        picked = data[torch.randint(len(data), (width,), generator=generator).to(data.device)]
    rows = F.normalize(picked, dim=1)
    if noise:
        rows = rows + noise * F.normalize(torch.randn(width, data.shape[1], generator=generator).to(data.device), dim=1)
    return torch.cat([components, F.normalize(rows, dim=1)])
