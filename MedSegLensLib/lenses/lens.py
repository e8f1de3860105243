"""A lens: one sparse autoencoder (SAE) at one tap, as plain tensors."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from MedSegLensLib.lenses import matching_pursuit, topk


@dataclass
class Lens:
    """A JumpReLU sparse autoencoder over the activation vectors (tokens) of one tap.

        z    = a * (a > threshold),   a = relu((x - b_dec) @ W_enc + b_enc)
        xhat = z @ W_dec + b_dec

    JumpReLU: Rajamanoharan et al. 2024 (arXiv 2407.14435). A BatchTopK lens (Bussmann et al. 2024,
    arXiv 2412.06410) is used in this form, with one threshold for all latents, so that the code of a token does not
    depend on the batch it came in. The formulas and the order of operations are SAELens' `JumpReLUSAE`
    with `apply_b_dec_to_input`, so both give the same codes from the same file.

    Two kinds cannot be written with a threshold, and `activation` names them. "topk": each token keeps its k largest
    a (see topk.py). "matching_pursuit": see matching_pursuit.py; there k is the most rounds, the threshold the length
    of the rest at which it stops, and the encoder is not used. Where SAELens chose latents by rows that are not of
    unit norm, these two keep the rows as they are.

    Attributes:
        tap: name of the module whose output is decomposed.
        W_enc: (d_in, d_sae) float32.
        b_enc: (d_sae,).
        W_dec: (d_sae, d_in), each row of unit norm: the latent's direction, so z is in the units of x.
        b_dec: (d_in,).
        threshold: (d_sae,), not negative.
        k: mean number of active latents a token the lens was trained for (of "topk" exactly).
        metadata: facts for the reader (training configuration, log, measures); JSON values only.
        activation: "jumprelu", "topk" or "matching_pursuit".

    The tensors are on one device and float32; `encode_tokens` moves tokens there.

    >>> lens = load_lens(pack / "lenses" / "bottleneck")
    >>> codes = encode_tokens(lens, chunks, grid=(155, 30, 30))
    """

    tap: str
    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    threshold: Tensor
    k: int
    metadata: dict = field(default_factory=dict)
    activation: str = "jumprelu"

    @property
    def d_in(self) -> int:
        return self.W_enc.shape[0]

    @property
    def d_sae(self) -> int:
        return self.W_enc.shape[1]

    def encode(self, x: Tensor) -> Tensor:
        """Codes (N, d_sae) of tokens x (N, d_in); zero where a latent does not fire."""
        if self.activation == "matching_pursuit":
            return matching_pursuit.encode(x - self.b_dec, self.W_dec, self.k, float(self.threshold[0]))
        a = torch.addmm(self.b_enc, x - self.b_dec, self.W_enc)
        if self.activation == "topk":
            return torch.where(a > topk.cut(a.detach(), self.k), a, 0.0)
        # threshold >= 0, so a > threshold implies a > 0 and the relu needs no pass of its own
        return torch.where(a > self.threshold, a, 0.0)

    def encode_latents(self, x: Tensor, latents: list[int]) -> Tensor:
        """Codes (..., len(latents)) of tokens x (..., d_in) for some latents; cheap where a threshold decides alone."""
        if self.activation != "jumprelu":
            return self.encode(x.reshape(-1, self.d_in))[:, latents].view(*x.shape[:-1], len(latents))
        a = (x - self.b_dec) @ self.W_enc[:, latents] + self.b_enc[latents]
        return torch.where(a > self.threshold[latents], a, 0.0)

    def decode(self, z: Tensor) -> Tensor:
        """Reconstruction (N, d_in) of codes z (N, d_sae)."""
        return torch.addmm(self.b_dec, z, self.W_dec)

    def to(self, device: torch.device | str) -> "Lens":
        """The same lens with its tensors on `device`."""
        tensors = {n: getattr(self, n).to(device) for n in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")}
        return replace(self, **tensors)
