"""The last steps of a lens's training: not only alike to the tap's value, but taken alike by what follows it.

A reconstruction with 2 % of the variance missing can cost percents of Dice when what is missing is what the tail
decides by. A few hundred steps on the divergence of the spliced network from the plain one mend that (Karvonen 2025,
"Revisiting end-to-end sparse autoencoder training: a short finetune is all you need", arXiv 2503.17272).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from MedSegLensLib.cases.case import Case
from MedSegLensLib.cases.conform import InputSpec, conform
from MedSegLensLib.editing.places import brain_tokens
from MedSegLensLib.lenses.checkpoint import LossIsNoNumber
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.segmenters.architectures import SegmenterConfig
from MedSegLensLib.segmenters.engine import Engine
from MedSegLensLib.segmenters.sampling import sampling_of
from MedSegLensLib.segmenters.taps import changed

LESION_SHARE = 0.75
"""Of the samples drawn: those with lesion in them, where there is something to decide."""


def finetune(
    lens: Lens,
    cases: Sequence[Case],
    network: nn.Module,
    config: SegmenterConfig,
    spec: InputSpec,
    engine: Engine,
    steps: int,
    lr: float = 2e-4,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> Lens:
    """A copy of the lens after `steps` steps on KL(plain || spliced) + w * MSE.

    KL is the mean over the brain's voxels of one sample; w makes both terms weigh the same at every step, as in the
    paper. Decoder rows keep unit norm, and latents that do not fire on a token get no gradient from it. The threshold
    is left as it is: set it anew (`training.calibrate`) afterwards.

    network: as `engine.prepare` gives it; cases are kept in memory, conformed. Raises LossIsNoNumber where the loss is
    none any more; whatever `progress` raises passes.
    """
    rng = np.random.default_rng(seed)
    lens = lens.to(engine.device)
    weights = [w.clone().requires_grad_() for w in (lens.W_enc, lens.b_enc, lens.W_dec, lens.b_dec)]
    names = ("W_enc", "b_enc", "W_dec", "b_dec")
    trained = replace(lens, **dict(zip(names, weights, strict=True)))
    optimiser = torch.optim.Adam(weights, lr=lr, fused=True)
    samples = [_Samples.of(case, spec, config) for case in cases]
    errors: list[Tensor] = []

    def splice(x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2).flatten(0, 1)
        inside = tokens[brain].float()
        rebuilt = trained.decode(trained.encode(inside))
        errors.append((rebuilt - inside).square().mean())
        tokens = tokens.index_put((brain,), rebuilt.to(tokens.dtype))
        return tokens.view(*x.shape[2:], -1).movedim(-1, 0)[None]

    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = lr * (1 - step / steps)
        drawn = samples[rng.integers(len(samples))]
        sample = drawn.draw(rng)
        x = engine.place(drawn.sampling.inputs(drawn.volume, [sample]))
        inside = drawn.sampling.inputs(drawn.brain, [sample])[0, 0].to(engine.device) > 0
        with torch.no_grad():
            plain = network(x)[0].float()
        brain = drawn.tokens(sample, network, lens.tap, x).to(engine.device)
        if not brain.any():
            continue
        errors.clear()
        with changed(network, {lens.tap: splice}):
            spliced = network(x)[0].float()
        divergence = F.kl_div(spliced.log_softmax(0), plain.log_softmax(0), reduction="none", log_target=True).sum(0)
        kl, mse = divergence[inside].mean(), errors[0]
        loss = kl + mse * (kl.detach() / mse.detach().clamp_min(1e-12))
        if not math.isfinite(float(loss.detach())):
            raise LossIsNoNumber.at(lens.tap, step, lr, "while it was fitted to the segmentation")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        with torch.no_grad():
            rows, grad = weights[2], weights[2].grad
            grad -= (grad * rows).sum(1, keepdim=True) * rows
            optimiser.step()
            rows /= rows.norm(dim=1, keepdim=True).clamp_min(1e-8)
        if progress:
            progress(f"fitting the lens to the segmentation, divergence {float(kl.detach()):.4f}", (step + 1) / steps)
    if not all(torch.isfinite(w).all() for w in weights):
        raise LossIsNoNumber.at(lens.tap, steps, lr, "while it was fitted to the segmentation")
    done = {name: w.detach() for name, w in zip(names, weights, strict=True)}
    return replace(lens, **done, metadata=dict(lens.metadata))


class _Samples:
    """The samples of one conformed case, drawn lesion first."""

    def __init__(self, volume: Tensor, brain: Tensor, sampling, conformed, with_lesion: np.ndarray):
        self.volume, self.brain, self.sampling, self.conformed = volume, brain, sampling, conformed
        self.all = np.flatnonzero([sampling.inputs(brain, [s]).any() for s in range(sampling.count)])
        self.with_lesion = with_lesion
        self._tokens: np.ndarray | None = None

    @staticmethod
    def of(case: Case, spec: InputSpec, config: SegmenterConfig) -> "_Samples":
        conformed = conform(case, spec)
        sampling = sampling_of(config, conformed.brain.shape)
        brain = torch.from_numpy(conformed.brain.astype(np.float32))[None]
        lesion = np.empty(0, int)
        if case.labels is not None:
            labels = torch.from_numpy(conformed.labels(case.labels).astype(np.float32))[None]
            lesion = np.flatnonzero([sampling.inputs(labels, [s]).any() for s in range(sampling.count)])
        return _Samples(torch.from_numpy(conformed.array), brain, sampling, conformed, lesion)

    def draw(self, rng: np.random.Generator) -> int:
        pool = self.with_lesion if len(self.with_lesion) and rng.random() < LESION_SHARE else self.all
        return int(pool[rng.integers(len(pool))])

    def tokens(self, sample: int, network: nn.Module, tap: str, x: Tensor) -> Tensor:
        """The sample's tokens with brain in them, bool (n,): a lens reads no others."""
        if self._tokens is None:
            seen: list[tuple[int, ...]] = []
            with torch.no_grad(), changed(network, {tap: lambda value: seen.append(tuple(value.shape[2:]))}):
                network(x)
            self._tokens = brain_tokens(self.conformed, self.sampling, seen[0])
        return torch.from_numpy(self._tokens[sample].ravel())
