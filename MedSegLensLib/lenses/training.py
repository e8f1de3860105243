"""Training a lens: a BatchTopK sparse autoencoder with an auxiliary loss against dead latents."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from MedSegLensLib import __version__
from MedSegLensLib.errors import UsageError
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.lenses.measures import measure_lens
from MedSegLensLib.lenses.sampling import TokenSource


@dataclass(frozen=True)
class LensConfig:
    """How a lens is trained.

    Attributes:
        tap: name of the module whose output the tokens are.
        width: number of latents (d_sae).
        k: mean number of active latents a token.
        seed: of initialisation and batches; on one device the same seed gives the same lens.
        steps, batch: optimiser steps and tokens a step. The default 12 M tokens take six minutes on one AVX2 thread at
            d = 128 (34 000 tokens a CPU second, two thirds of it matrix products).
        lr: peak learning rate of Adam; rises linearly over the first `warmup` of the steps and falls linearly to zero
            over the last `decay` of them.
        aux_weight: weight of the auxiliary loss (1/32 in Gao et al. 2024).
        dead_after: tokens without firing after which a latent counts as dead and the auxiliary loss revives it.
        prefixes: numbers of latents, ascending and below the width; a Matryoshka lens where there are any (see
            `_Dictionary.reconstructions`).
        log_every: steps between entries of the log.
        device: where to train; "cuda" uses TF32 products, a CPU float32.
    """

    tap: str
    width: int = 1024
    k: int = 32
    seed: int = 0
    steps: int = 6000
    batch: int = 2048
    lr: float = 1e-3
    warmup: float = 0.03
    decay: float = 0.25
    aux_weight: float = 1 / 32
    dead_after: int = 500_000
    prefixes: tuple[int, ...] = ()
    log_every: int = 200
    device: str = "cpu"

    def __post_init__(self):
        if not 0 < self.k < self.width:
            raise UsageError(f"k = {self.k}", f"a lens of {self.width} latents needs 0 < k < width.", "Change k.")
        if self.steps < 1 or self.batch < 1 or not self.lr > 0:
            raise UsageError("lens training", "steps, batch and lr must be above zero.", "Correct the configuration.")
        object.__setattr__(self, "prefixes", tuple(self.prefixes))
        ascending = [0, *self.prefixes, self.width]
        if any(a >= b for a, b in zip(ascending, ascending[1:], strict=False)):
            cause = f"{list(self.prefixes)} is not ascending from above 0 to below the width {self.width}."
            raise UsageError("prefixes", cause, "Correct the configuration.")


def train_lens(tokens: TokenSource, config: LensConfig, progress: Callable[[str, float], None] | None = None) -> Lens:
    """Train a BatchTopK SAE (Bussmann et al. 2024, arXiv 2412.06410), Matryoshka where the configuration has prefixes,
    and give it back as a JumpReLU lens.

    In each batch the k * batch largest activations are kept, however they spread over the tokens; dead latents
    learn to reconstruct what the live ones leave (AuxK, Gao et al. 2024, arXiv 2406.04093); the decoder's
    rows have unit norm and the gradient along them is removed. The inference threshold starts as the running mean of
    the batches' smallest kept activation and is then set so that the mean L0 on `tokens.held_out` is k: the
    training mixture is lesion-balanced, whole cases are not, and the running mean alone misses k there.

    Tokens are centred on their geometric median and scaled to a mean norm of sqrt(d_in); both are folded into the
    weights at the end, so the lens reads plain activations.

    Returns a lens whose metadata hold the configuration, the training log (`log`: step, loss, l0, dead_share,
    explained_variance, threshold) and the measures on the held-out tokens, overall and by stratum.

    Raises UsageError when the tokens do not vary or are not finite; whatever `progress` raises (Cancelled) passes.
    """
    torch.manual_seed(config.seed)
    device = torch.device(config.device)
    batches = tokens.batches(config.batch, config.seed)
    first = next(batches).to(device)
    centre = _geometric_median(first)
    norm = (first - centre).norm(dim=1).mean()
    if not torch.isfinite(norm) or norm <= 1e-12:
        cause = "the tokens are all alike or not finite; there is nothing to learn."
        raise UsageError(config.tap, cause, "Check the tap and the cases.")
    scale = tokens.d_in**0.5 / norm
    sae = _Dictionary(tokens.d_in, config.width, (first - centre) * scale)
    optimizer = torch.optim.Adam(sae.parameters, lr=config.lr, betas=(0.9, 0.999), fused=True)

    running, idle, log = None, torch.zeros(config.width, device=device), []
    started = time.perf_counter()
    for step in range(config.steps):
        x = (next(batches).to(device, non_blocking=True) - centre) * scale
        for group in optimizer.param_groups:
            group["lr"] = config.lr * _schedule(step / config.steps, config.warmup, config.decay)
        a = sae.pre_activation(x)
        threshold = _batch_threshold(a.detach(), config.k, config.width)
        running = threshold if running is None else 0.99 * running + 0.01 * threshold
        z = F.threshold(a, threshold, 0.0)  # a * (a > threshold) in one pass each way
        errors = [x - reconstruction for reconstruction in sae.reconstructions(z, config.prefixes)]
        error = errors[-1]
        fired = z.detach().amax(0) > 0
        idle = torch.where(fired, 0.0, idle + len(x))
        dead = idle >= config.dead_after
        loss = error.square().mean()
        nested = sum(e.square().mean() for e in errors) / len(errors)
        total = nested + config.aux_weight * _revive(sae, a, error.detach(), dead)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        sae.project_gradient()
        optimizer.step()
        sae.normalise()
        if step % config.log_every == 0 or step == config.steps - 1:
            log.append(_log_entry(step, loss, x, z, dead, threshold / scale))
            if progress:
                progress("training the lens", (step + 1) / config.steps)
    seconds = time.perf_counter() - started

    lens = sae.to_lens(config, centre, scale)
    lens.metadata = {
        "medseglens_version": __version__,
        "training": {
            **asdict(config),
            "seconds": round(seconds, 1),
            "tokens_per_second": round(config.steps * config.batch / seconds),
        },
        "threshold_running": float(running / scale),
        "log": log,
    }
    return calibrate(lens, tokens)


def calibrate(lens: Lens, tokens: TokenSource) -> Lens:
    """The lens on the CPU with the threshold at which its mean L0 on `tokens.held_out` is k, and measured there."""
    lens.threshold.fill_(_calibrated_threshold(lens, tokens.held_out))
    lens = lens.to("cpu")
    measures = measure_lens(lens, [(tokens.held_out.cpu(), tokens.held_out_strata)])
    lens.metadata |= {"threshold": float(lens.threshold[0]), "held_out": measures.to_json()}
    return lens


class _Dictionary:
    """The parameters while training, on centred and scaled tokens."""

    def __init__(self, d: int, m: int, data: Tensor):
        # Rows start as directions of tokens with noise of equal norm, and the encoder as their transpose: tokens put
        # the rows where the data are (few dead latents from the start), the noise keeps duplicates apart.
        picked = data[torch.randint(len(data), (m,)).to(data.device)]
        noise = torch.randn(m, d).to(data.device)
        rows = F.normalize(F.normalize(picked, dim=1) + F.normalize(noise, dim=1), dim=1)
        self.W_dec = rows.clone().requires_grad_()
        self.W_enc = rows.T.clone().contiguous().requires_grad_()
        self.b_enc = torch.zeros(m, device=data.device, requires_grad=True)
        self.b_dec = torch.zeros(d, device=data.device, requires_grad=True)
        self.parameters = [self.W_enc, self.b_enc, self.W_dec, self.b_dec]

    def pre_activation(self, x: Tensor) -> Tensor:
        return torch.addmm(self.b_enc, x - self.b_dec, self.W_enc)

    def reconstructions(self, z: Tensor, prefixes: tuple[int, ...]) -> list[Tensor]:
        """What the first latents alone reconstruct, for each prefix, and at last all of them.

        The loss of a Matryoshka SAE is the mean over these (Bussmann et al. 2025, arXiv 2503.17547), which keeps the
        general latents, the first ones, from being split up into special ones. Each row is multiplied once.
        """
        rebuilt, done = self.b_dec, []
        for first, last in zip((0, *prefixes), (*prefixes, len(self.W_dec)), strict=True):
            rebuilt = rebuilt + z[:, first:last] @ self.W_dec[first:last]
            done.append(rebuilt)
        return done

    @torch.no_grad()
    def project_gradient(self) -> None:
        """Remove the gradient along each row, which the next normalisation would undo but Adam would remember."""
        grad = self.W_dec.grad
        grad -= (grad * self.W_dec).sum(1, keepdim=True) * self.W_dec

    @torch.no_grad()
    def normalise(self) -> None:
        self.W_dec /= self.W_dec.norm(dim=1, keepdim=True).clamp_min(1e-8)

    def to_lens(self, config: LensConfig, centre: Tensor, scale: Tensor) -> Lens:
        """Fold x_trained = (x - centre) * scale into the weights; codes come out in the units of x."""
        return Lens(
            tap=config.tap,
            W_enc=self.W_enc.detach().clone(),
            b_enc=self.b_enc.detach() / scale,
            W_dec=self.W_dec.detach().clone(),
            b_dec=self.b_dec.detach() / scale + centre,
            threshold=torch.zeros_like(self.b_enc.detach()),
            k=config.k,
        )


def _schedule(progress: float, warmup: float, decay: float) -> float:
    """Factor of the learning rate at a progress of 0..1: linear up, flat, linear down."""
    return min(1.0, (progress + 1e-3) / warmup if warmup else 1.0, (1.0 - progress) / decay if decay else 1.0)


def _batch_threshold(a: Tensor, k: int, width: int, sample: int = 1 << 16) -> Tensor:
    """The value above which about k * batch activations of `a` (batch, width) lie; not negative.

    From a random sample: with 65536 of 2 M values the L0 it gives scatters by 2 %, and costs 1 ms where the exact
    top-k takes as long as the products (BatchTopK's flat top-k: 1.3 times slower steps).
    """
    flat = a.reshape(-1)
    if flat.numel() > sample:
        flat = flat[torch.randint(flat.numel(), (sample,), device=a.device)]
    rank = round(flat.numel() * (1 - k / width))
    return flat.kthvalue(max(rank, 1)).values.clamp_min(0.0)


def _revive(sae: _Dictionary, a: Tensor, error: Tensor, dead: Tensor) -> Tensor:
    """AuxK: what the largest d/2 activations of dead latents leave of the error, as mean square."""
    columns = dead.nonzero().squeeze(1)
    if not len(columns):
        return error.new_zeros(())
    k_aux = min(len(columns), max(1, error.shape[1] // 2))
    top = a[:, columns].relu().topk(k_aux, dim=1)
    z = torch.zeros(len(a), len(columns), device=a.device).scatter(1, top.indices, top.values)
    return (error - z @ sae.W_dec[columns]).square().mean()


def _geometric_median(x: Tensor, iterations: int = 30) -> Tensor:
    """Point with the least sum of distances to the tokens (Weiszfeld's iteration): a mean that outliers do not pull."""
    median = x.mean(0)
    for _ in range(iterations):
        weight = 1 / (x - median).norm(dim=1, keepdim=True).clamp_min(1e-6)
        median = (weight * x).sum(0) / weight.sum()
    return median


@torch.no_grad()
def _calibrated_threshold(lens: Lens, x: Tensor) -> float:
    """The threshold at which exactly k * len(x) activations of tokens x remain: an order statistic, so no bisection."""
    keep = min(lens.k, lens.d_sae) * len(x)
    largest = torch.empty(0)
    for block in x.split(2048):
        a = torch.addmm(lens.b_enc, block.to(lens.W_enc) - lens.b_dec, lens.W_enc)
        largest = torch.cat([largest, a[a > 0].cpu()])
    if len(largest) <= keep:
        return 0.0
    return float(np.partition(largest.numpy(), len(largest) - keep - 1)[len(largest) - keep - 1])


@torch.no_grad()
def _log_entry(step: int, loss: Tensor, x: Tensor, z: Tensor, dead: Tensor, threshold: Tensor) -> dict:
    return {
        "step": step,
        "loss": round(float(loss), 6),
        "l0": round(float((z > 0).sum() / len(z)), 2),
        "dead_share": round(float(dead.float().mean()), 4),
        "explained_variance": round(1 - float(loss) / float((x - x.mean(0)).square().mean()), 5),
        "threshold": round(float(threshold), 6),
    }
