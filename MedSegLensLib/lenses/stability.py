"""Whether a latent is found again by another seed: a latent that only one training found names nothing.

Two lenses of one tap are matched one to one, so that no latent serves as the partner of two, by the Hungarian method
(Kuhn 1955; `scipy.optimize.linear_sum_assignment`), either by the cosine of their decoder rows, as Paulo and Belrose
2025 (arXiv 2501.16615) do, or by the correlation of their codes on the same tokens.

>>> worst = decoder_stability(lens, [other_seed, third_seed])
>>> stable_share(worst), stable_share(worst, fires_on_lesion)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from MedSegLensLib.errors import UsageError
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.lenses.stable import STABLE

TOKENS_AT_A_TIME = 4096


def decoder_stability(lens: Lens, others: Sequence[Lens]) -> np.ndarray:
    """The worst, over the other seeds, of each latent's decoder cosine to its partner there: float32 (d_sae,), -1..1.

    The matching is the one to one assignment with the largest sum of cosines. A latent that is left without partner,
    because the other lens has fewer latents, has 0. Raises UsageError without another lens or for one of another width.
    """
    _check(lens, others)
    return rows_stability(lens.W_dec.cpu().numpy(), [other.W_dec.cpu().numpy() for other in others])


def rows_stability(rows: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """`decoder_stability` of bare unit rows (m, d)."""
    return _worst([rows @ other.T for other in others])


def activation_stability(lens: Lens, others: Sequence[Lens], tokens: Tensor) -> np.ndarray:
    """The worst, over the other seeds, of each latent's correlation with its partner's code: float32 (d_sae,), -1..1.

    Pearson's correlation over `tokens` (n, d_in); that of a latent which never fires on them, or always alike, is 0.
    Codes are matched as the rows are in `decoder_stability`. Memory does not grow with the tokens.
    """
    _check(lens, others)
    return _worst([code_correlation(lens, other, tokens) for other in others])


def code_correlation(lens: Lens, other: Lens, tokens: Tensor) -> np.ndarray:
    """Pearson's correlation of every code of one lens with every code of another on tokens, float32 (d_sae, d_sae')."""
    n = len(tokens)
    product = torch.zeros(lens.d_sae, other.d_sae, dtype=torch.float64)
    ours, theirs = torch.zeros(2, lens.d_sae, dtype=torch.float64), torch.zeros(2, other.d_sae, dtype=torch.float64)
    for x in tokens.split(TOKENS_AT_A_TIME):
        z, w = lens.encode(x.float()), other.encode(x.float())
        product += z.T @ w
        ours += torch.stack([z.sum(0), z.square().sum(0)])
        theirs += torch.stack([w.sum(0), w.square().sum(0)])
    covariance = product / n - torch.outer(ours[0], theirs[0]) / n**2
    deviation = [(s[1] / n - (s[0] / n).square()).clamp_min(0).sqrt() for s in (ours, theirs)]
    scale = torch.outer(*deviation)
    correlation = torch.where(scale > 1e-9, covariance / scale.clamp_min(1e-9), 0.0)
    return correlation.clamp(-1, 1).float().numpy()


def partners(similarity: np.ndarray) -> np.ndarray:
    """The column matched to each row of a similarity (m, m'), int64 (m,); -1 for rows left over where m' < m."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(similarity, maximize=True)
    found = np.full(len(similarity), -1)
    found[rows] = columns
    return found


def matched(similarity: np.ndarray) -> np.ndarray:
    """Each row's similarity to its partner (m,); 0 for rows left over."""
    partner = partners(similarity)
    return np.where(partner < 0, 0.0, similarity[np.arange(len(partner)), partner])


def stable_share(similarity: np.ndarray, among: np.ndarray | None = None, at_least: float = STABLE) -> float:
    """Share of the latents, of those in `among` (bool) where given, whose similarity is at least that; nan of none."""
    chosen = similarity if among is None else similarity[among]
    return float(np.mean(chosen >= at_least)) if len(chosen) else float("nan")


@dataclass(frozen=True)
class Substitution:
    """What happens when each latent's part of the reconstruction is replaced by its partner's. Arrays are (d_sae,).

    partner: int64, -1 where there is none. scale: what the partner's code is multiplied by, by least squares.
    removed: fall of the explained variance when the latent is taken out and nothing put in.
    replaced: fall when the partner takes its place; below `removed` where the partner helps.
    """

    partner: np.ndarray
    scale: np.ndarray
    removed: np.ndarray
    replaced: np.ndarray

    def kept(self) -> np.ndarray:
        """Share of what removing the latent costs that the partner makes good: 1 all of it, 0 nothing, below 0 it does
        harm; nan for a latent whose removal costs nothing."""
        costs = self.removed > 1e-9
        return np.where(costs, 1 - self.replaced / np.where(costs, self.removed, 1), np.nan)


def substitution(lens: Lens, other: Lens, tokens: Tensor) -> Substitution:
    """Each latent of `lens` in turn replaced by its partner (by decoder cosine) of `other`, on tokens (n, d_in).

    z_j d_j becomes s w_p d'_p, where w_p is the partner's own code and s the scale for which s w_p is nearest to z_j:
    a stricter question than the cosine, since the partner must also fire where the latent does. The change of the
    explained variance is exact, from five sums over the tokens for each pair.
    """
    _check(lens, [other])
    cosines = lens.W_dec @ other.W_dec.T
    partner = partners(cosines.cpu().numpy())
    matched = torch.from_numpy(np.maximum(partner, 0))
    zz, ww, zw, ez, ew = torch.zeros(5, lens.d_sae, dtype=torch.float64)
    total, mean = 0.0, tokens.double().mean(0)
    for x in tokens.split(TOKENS_AT_A_TIME):
        x = x.float()
        z, w = lens.encode(x), other.encode(x)[:, matched]
        error = x - lens.decode(z)
        zz += z.square().sum(0)
        ww += w.square().sum(0)
        zw += (z * w).sum(0)
        ez += ((error @ lens.W_dec.T) * z).sum(0)
        ew += ((error @ other.W_dec[matched].T) * w).sum(0)
        total += float((x.double() - mean).square().sum())
    scale = torch.where(ww > 0, zw / ww.clamp_min(1e-12), 0.0)
    scale[torch.from_numpy(partner < 0)] = 0
    cosine = cosines[torch.arange(lens.d_sae), matched].double()
    removed = 2 * ez + zz
    replaced = removed - 2 * scale * (ew + cosine * zw) + scale.square() * ww
    return Substitution(partner, scale.numpy(), (removed / total).numpy(), (replaced / total).numpy())


def _worst(similarities: list[np.ndarray]) -> np.ndarray:
    worst = np.full(len(similarities[0]), np.inf, np.float32)
    for similarity in similarities:
        worst = np.minimum(worst, matched(similarity).astype(np.float32))
    return worst


def _check(lens: Lens, others: Sequence[Lens]) -> None:
    if not others:
        remedy = "Train the lens again with another seed, and give it with --seed-lens."
        raise UsageError(lens.tap, "stability needs a lens of another seed.", remedy)
    for other in others:
        if other.d_in != lens.d_in:
            cause = f"it reads {other.d_in} channels and the lens at {lens.tap} {lens.d_in}: not one tap."
            raise UsageError(f"lens at {other.tap}", cause, "Give lenses of the same tap.")
