"""Archetypal (RA-SAE): every row of the decoder is a mixture of tokens, and nearly nothing else.

Fel et al. 2025, "Archetypal SAE: adaptive and stable dictionary learning for concept extraction in large vision models"
(arXiv 2502.12892). rows = normalise(M C + L): C (c, d) are k-means centroids of the tokens, fixed; M (width, c) is
row-stochastic, so that M C lies in their convex hull; L (width, d) is a relaxation whose rows have at most the length
delta. Rows that cannot leave the data are shared by more seeds than free ones. The centroids are drawn with the
lens's own seed here: a stability that came from centroids shared between the seeds would be none.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from MedSegLensLib.lenses.centroids import centroids_of


class ArchetypalDictionary:
    """encoder (width, d), b_enc (width,), logits (width, c) of the mixture, relaxation (width, d), b_dec (d,);
    centroids (c, d) are fixed.

    M = softmax(logits). The authors' code clips M at zero and rescales its rows after each step; under Adam, whose
    steps are alike for all entries, thousands of them then rise together and every row becomes the mean of the data.
    """

    def __init__(self, data: Tensor, width: int, count: int, delta: float, generator: torch.Generator):
        """data: centred tokens (n, d); count: centroids; delta: length of the relaxation as a share of the
        centroids' mean norm."""
        self.centroids = centroids_of(data, count, generator)
        self.bound = float(delta * self.centroids.norm(dim=1).mean())
        # Each row starts at a centroid of its own, with a tenth of all the others together.
        chosen = torch.randperm(count, generator=generator)[torch.arange(width) % count]
        logits = torch.zeros(width, count)
        logits[torch.arange(width), chosen] = math.log(9 * count)
        self.logits = logits.to(data.device).requires_grad_()
        self.relaxation = torch.zeros(width, data.shape[1], device=data.device, requires_grad=True)
        self.encoder = self.rows().detach().clone().requires_grad_()
        self.b_enc = torch.zeros(width, device=data.device, requires_grad=True)
        self.b_dec = torch.zeros(data.shape[1], device=data.device, requires_grad=True)

    def parameters(self) -> dict[str, Tensor]:
        return {n: getattr(self, n) for n in ("encoder", "b_enc", "logits", "relaxation", "b_dec")}

    def constants(self) -> dict[str, Tensor]:
        return {"centroids": self.centroids}

    def rows(self) -> Tensor:
        return F.normalize(torch.addmm(self.relaxation, self.logits.softmax(1), self.centroids), dim=1)

    def before_step(self) -> None:
        pass

    @torch.no_grad()
    def after_step(self) -> None:
        length = self.relaxation.norm(dim=1, keepdim=True).clamp_min(1e-8)
        self.relaxation *= (self.bound / length).clamp_max(1)
