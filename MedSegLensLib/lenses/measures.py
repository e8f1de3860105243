"""How good a lens is: explained variance, L0, dead and hyperactive latents, overall and by tissue."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.lenses.sampling import STRATA


def explained_variance(x: Tensor, reconstruction: Tensor) -> float:
    """1 - sum |x - xhat|^2 / sum |x - mean(x)|^2 over tokens (n, d): 1 minus the fraction of variance unexplained.

    The usual measure of SAE work. The mean is that of the tokens given, so one tissue is measured against its own
    variance. nan without variance.
    """
    x, reconstruction = x.double(), reconstruction.double()
    total = (x - x.mean(0)).square().sum()
    return float(1 - (x - reconstruction).square().sum() / total) if total > 0 else float("nan")


def l0(z: Tensor) -> float:
    """Mean number of active latents a token, of codes z (n, d_sae)."""
    return float((z > 0).sum(1).double().mean())


def dead_share(counts: np.ndarray) -> float:
    """Share of latents that fire on no token, from the tokens each fires on, counts (d_sae,)."""
    return float(np.mean(np.asarray(counts) == 0))


def hyperactive_share(counts: np.ndarray, n_tokens: int, above: float = 0.10) -> float:
    """Share of latents that fire on more than `above` of the tokens (our bound): too dense to stand for one thing."""
    return float(np.mean(np.asarray(counts) > above * n_tokens))


@dataclass(frozen=True)
class Measures:
    """Measures of one lens on one set of tokens. Those by stratum have the strata's names as keys.

    Attributes:
        n_tokens: tokens measured, and by stratum.
        explained_variance: see `explained_variance`; a stratum's is against that stratum's own mean.
        l0: mean number of active latents a token.
        dead_share, hyperactive_share: shares of the latents, over all the tokens.
        counts: int64 (d_sae,), tokens on which each latent fires.
    """

    n_tokens: int
    explained_variance: float
    l0: float
    dead_share: float
    hyperactive_share: float
    n_tokens_by: dict[str, int]
    explained_variance_by: dict[str, float]
    l0_by: dict[str, float]
    counts: np.ndarray

    def to_json(self) -> dict:
        """The measures without the counts, rounded to five digits, nan as None."""
        return {name: _plain(value) for name, value in vars(self).items() if name != "counts"}


@torch.inference_mode()
def measure_lens(
    lens: Lens,
    chunks: Iterable[tuple[Tensor, np.ndarray]],
    names: Mapping[int, str] | None = None,
) -> Measures:
    """Measure a lens on tokens that come in chunks, in one pass and bounded memory.

    Args:
        chunks: (tokens (n, d_in), strata int (n,)) a chunk.
        names: stratum -> name; the strata of `sampling` where not given.

    Raises ValueError when there is no token.
    """
    names = dict(enumerate(STRATA)) if names is None else dict(names)
    counts = torch.zeros(lens.d_sae, dtype=torch.int64, device=lens.W_enc.device)
    sums: dict[int, _Sums] = {}
    for tokens, strata in chunks:
        strata = torch.as_tensor(np.asarray(strata).reshape(-1).astype(np.int64))
        for x, stratum in zip(tokens.split(2048), strata.split(2048), strict=True):
            x, stratum = x.to(lens.W_enc.device, torch.float32), stratum.to(lens.W_enc.device)
            z = lens.encode(x)
            fires = z > 0
            counts += fires.sum(0)
            active, error = fires.sum(1), (x - lens.decode(z)).square().sum(1)
            for s in stratum.unique().tolist():
                mine = stratum == s
                sums.setdefault(s, _Sums.zero(lens.d_in)).add(x[mine], error[mine], active[mine])
    if not sums:
        raise ValueError("no tokens to measure the lens on")
    by = {names.get(s, str(s)): sums[s] for s in sorted(sums)}
    everything = _Sums.zero(lens.d_in)
    for part in by.values():
        everything.merge(part)
    fired = counts.cpu().numpy()
    return Measures(
        n_tokens=everything.n,
        explained_variance=everything.explained_variance(),
        l0=everything.active / everything.n,
        dead_share=dead_share(fired),
        hyperactive_share=hyperactive_share(fired, everything.n),
        n_tokens_by={name: part.n for name, part in by.items()},
        explained_variance_by={name: part.explained_variance() for name, part in by.items()},
        l0_by={name: part.active / part.n for name, part in by.items()},
        counts=fired,
    )


@dataclass
class _Sums:
    """What explained variance and L0 need, kept in float64: the variance is a difference of large sums."""

    n: int
    x: np.ndarray
    x_squared: float
    error: float
    active: int

    @staticmethod
    def zero(d: int) -> "_Sums":
        return _Sums(0, np.zeros(d), 0.0, 0.0, 0)

    def add(self, x: Tensor, error: Tensor, active: Tensor) -> None:
        x = x.double()
        self.n += len(x)
        self.x += x.sum(0).cpu().numpy()
        self.x_squared += float(x.square().sum())
        self.error += float(error.double().sum())
        self.active += int(active.sum())

    def merge(self, other: "_Sums") -> None:
        self.n, self.x, self.active = self.n + other.n, self.x + other.x, self.active + other.active
        self.x_squared, self.error = self.x_squared + other.x_squared, self.error + other.error

    def explained_variance(self) -> float:
        total = self.x_squared - float(self.x @ self.x) / self.n
        # below this the difference is rounding: air tokens are often all alike
        return 1 - self.error / total if total > 1e-9 * self.x_squared else float("nan")


def _plain(value):
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, float):
        return round(value, 5) if np.isfinite(value) else None
    return value
