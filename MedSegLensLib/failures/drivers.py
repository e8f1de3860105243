"""Which earlier latents a later one goes with: the small circuit between taps by which a failure is told as a chain.

Over the places of the reference, a later latent's strength is a linear function of a few earlier ones (least squares on
the `MOST` that correlate with it most). An association over places, not an intervention: what an earlier latent really
does to a later one only an edit shows. What the earlier ones do not account for is a sign of trouble of its own.
"""

from dataclasses import dataclass

import numpy as np

MOST = 3
"""Earlier latents that a later one is told by. With all of them the fit would be no chain that anyone can follow."""
LEAST_CORRELATION = 0.3


@dataclass(frozen=True)
class Drivers:
    """Of each of J later latents its earlier ones: latents int64 (J, MOST), -1 where it has fewer; weights float64
    (J, MOST); offset and spread (of what is left) float64 (J,)."""

    latents: np.ndarray
    weights: np.ndarray
    offset: np.ndarray
    spread: np.ndarray

    @staticmethod
    def fit(early: np.ndarray, late: np.ndarray) -> "Drivers":
        """early (places, I), late (places, J): strengths of the latents over the same places."""
        centred, later = early - early.mean(0), late - late.mean(0)
        norms = np.sqrt(np.square(centred).sum(0)[:, None] * np.square(later).sum(0)[None])
        correlation = np.divide(centred.T @ later, norms, out=np.zeros_like(norms), where=norms > 1e-9)
        count = late.shape[1]
        latents, weights = np.full((count, MOST), -1), np.zeros((count, MOST))
        offset, spread = late.mean(0), late.std(0)
        for j in range(count):
            chosen = np.argsort(-np.abs(correlation[:, j]))[:MOST]
            chosen = chosen[np.abs(correlation[chosen, j]) >= LEAST_CORRELATION]
            if not len(chosen):
                continue
            design = np.column_stack([early[:, chosen], np.ones(len(early))])
            solution, *_ = np.linalg.lstsq(design, late[:, j], rcond=None)
            latents[j, : len(chosen)], weights[j, : len(chosen)] = chosen, solution[:-1]
            offset[j], spread[j] = solution[-1], (late[:, j] - design @ solution).std()
        return Drivers(latents, weights, offset, spread)

    def unaccounted(self, early: np.ndarray, late: np.ndarray) -> np.ndarray:
        """What of the later latents the earlier ones leave, in spreads, float64 (places, J), within -10..10."""
        told = self.offset + np.einsum("pjm,jm->pj", early[:, self.latents], self.weights)
        return np.clip((late - told) / np.maximum(self.spread, 0.05), -10, 10)

    def driver(self, latent: int, excess: np.ndarray) -> int | None:
        """The earlier latent that adds most to a later one where the earlier ones exceed what is usual by `excess`
        (I,); None where none adds anything."""
        added = np.where(self.latents[latent] >= 0, self.weights[latent] * excess[self.latents[latent]], 0.0)
        best = int(added.argmax())
        return int(self.latents[latent, best]) if added[best] > 0 else None

    def to_json(self) -> dict:
        return {
            "latents": self.latents.tolist(),
            "weights": np.round(self.weights, 4).tolist(),
            "offset": np.round(self.offset, 4).tolist(),
            "spread": np.round(self.spread, 4).tolist(),
        }

    @staticmethod
    def from_json(document: dict) -> "Drivers":
        return Drivers(
            np.array(document["latents"], np.int64).reshape(-1, MOST),
            np.array(document["weights"], np.float64).reshape(-1, MOST),
            np.array(document["offset"], np.float64),
            np.array(document["spread"], np.float64),
        )
