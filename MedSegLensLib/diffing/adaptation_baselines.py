"""What an adaptation by latents must beat: the same labelled cases, the same error, the same choice and rule.

Each is a `Method`. A gain that one of these reaches too is none of the lens's.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from MedSegLensLib.diffing.adaptation import SIZES, STAYS, Latents, Method, Setting, fit_gains
from MedSegLensLib.diffing.adjustments import ClassBias, Gains, Push, Reweighted
from MedSegLensLib.diffing.excerpts import LABELS, Excerpt
from MedSegLensLib.diffing.fitting import minimise

MOST_PUSH = 2.0
"""Times the difference of the means; more than this is outside of what the tail has seen."""

MIXES = (0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Threshold:
    """The decision threshold retuned: one number for each label but background, added to its logit."""

    stays: tuple[float, ...] = STAYS
    name: str = "retuned threshold"
    default: Setting = Setting(0, 10.0)

    def fits(self, excerpts, only=None, tick=None):
        def logits_of(i, bias):
            excerpt = excerpts[i]
            full = torch.cat([bias.new_zeros(1), bias]).to(excerpt.logits)
            return excerpt.logits + full.view(1, -1, *(1,) * (excerpt.logits.ndim - 2))

        found = {}
        for stay in (only.stay,) if only else self.stays:
            bias = minimise(torch.zeros(LABELS - 1), logits_of, excerpts, stay, tick=tick)
            found[Setting(0, stay)] = ClassBias(torch.cat([torch.zeros(1), bias]))
        return found


@dataclass(frozen=True)
class DifferenceInMeans:
    """A push along the difference of the mean activations of each label's tokens and of the brain's others.

    Marks and Tegmark 2023, arXiv 2310.06824; Rimsky et al. 2024, arXiv 2312.06681. It acts at every token of the brain:
    at a tap that nothing but linear layers follow it is a retuned threshold by another name.
    """

    tap: str
    stays: tuple[float, ...] = STAYS
    name: str = "difference-in-means steering"
    default: Setting = Setting(0, 10.0)

    def fits(self, excerpts, only=None, tick=None):
        directions = difference_in_means(excerpts)
        if not len(directions):
            return {}

        def logits_of(i, free):
            strengths = MOST_PUSH * free.tanh()
            return Push(self.tap, directions, strengths.to(directions)).on(excerpts[i])

        found = {}
        for stay in (only.stay,) if only else self.stays:
            free = minimise(torch.zeros(len(directions)), logits_of, excerpts, stay, tick=tick)
            found[Setting(0, stay)] = Push(self.tap, directions, (MOST_PUSH * free.tanh()).to(directions))
        return found


def difference_in_means(excerpts: Sequence[Excerpt]) -> torch.Tensor:
    """Directions (J, C): of each label that the excerpts have, its tokens' mean less that of the brain's unlabelled."""
    sums, counts = 0.0, 0.0
    for excerpt in excerpts:
        labels = excerpt.token_labels[excerpt.brain]
        of_label = torch.nn.functional.one_hot(labels, LABELS).to(excerpt.x)
        sums = sums + of_label.T @ excerpt.x.movedim(1, -1)[excerpt.brain]
        counts = counts + of_label.sum(0)
    there = [k for k in range(1, LABELS) if counts[k] > 0]
    means = sums / counts.clamp_min(1)[:, None]
    return means[there] - means[0]


@dataclass(frozen=True)
class RandomLatents:
    """Gains fitted in the same way, of latents drawn at random from those that fire in the labelled lesions."""

    tap: str
    seed: int = 0
    sizes: tuple[int, ...] = SIZES
    stays: tuple[float, ...] = STAYS
    name: str = "random latents"
    default: Setting = Latents.default

    def fits(self, excerpts, only=None, tick=None):
        firing = fires_in_lesion(excerpts)
        # One order for a seed, whichever excerpts it is drawn for: a fold then has the latents of the whole fit.
        drawn = np.random.default_rng(self.seed).permutation(len(firing))
        drawn = [int(j) for j in drawn if firing[j]]
        if not drawn:
            return {}
        found = {}
        for stay in (only.stay,) if only else self.stays:
            for size in (only.latents,) if only else self.sizes:
                latents = drawn[:size]
                gains = fit_gains(excerpts, latents, torch.ones(len(latents)), stay, tick)
                found[Setting(size, stay)] = Gains(self.tap, dict(zip(latents, gains.tolist(), strict=True)))
        return found


def fires_in_lesion(excerpts: Sequence[Excerpt]) -> np.ndarray:
    """Which latents fire on a token of a labelled lesion, bool (d_sae,)."""
    fires = np.zeros(excerpts[0].codes.n_latents, bool)
    for excerpt in excerpts:
        codes, lesion = excerpt.codes, (excerpt.token_labels > 0).flatten().cpu().numpy()
        latent_of = np.repeat(np.arange(codes.n_latents), np.diff(codes.pointers))
        fires[np.unique(latent_of[lesion[codes.tokens]])] = True
    return fires


@dataclass(frozen=True)
class BatchNorm:
    """Batch norm's means and variances taken anew on the labelled cases' slices, mixed with the old ones.

    Schneider et al. 2020, "Improving robustness against common corruptions by covariate shift adaptation", arXiv
    2006.16971; without mixing, Li et al. 2016, arXiv 1603.04779. It uses no labels but for the share of the mix.
    network: float32, in evaluation mode. A segmenter without batch norm gives nothing.
    """

    network: torch.nn.Module
    mixes: tuple[float, ...] = MIXES
    name: str = "batch-norm statistics"
    default: Setting = Setting(0, 0.0, 0.3)

    def fits(self, excerpts, only=None, tick=None):
        own = statistics_of(self.network)
        if not own:
            return {}
        estimated = copy.deepcopy(self.network)
        # Of torch itself: resets the statistics, then averages them over all batches.
        torch.optim.swa_utils.update_bn([part for e in excerpts for part in e.inputs.split(4)], estimated)
        # A single sample of one cell has no variance; what is not finite is left as it was.
        new = {n: torch.where(s.isfinite(), s, own[n]) for n, s in statistics_of(estimated).items()}
        mixes = (only.mix,) if only else self.mixes
        return {Setting(0, 0.0, mix): Reweighted(self.network, new, own).weaker(mix) for mix in mixes}


def statistics_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Running means and variances of a network's batch norms, by name."""
    return {
        f"{name}.{part}": getattr(module, part).detach().clone()
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and module.running_mean is not None
        for part in ("running_mean", "running_var")
    }


@dataclass(frozen=True)
class Head:
    """Fine-tuning of all weights behind the tap on the labelled cases, from their own values on."""

    network: torch.nn.Module
    stays: tuple[float, ...] = STAYS
    rounds: int = 16
    name: str = "fine-tuned head"
    default: Setting = Setting(0, 10.0)

    def fits(self, excerpts, only=None, tick=None):
        names = excerpts[0].behind.learnable
        if not names:
            return {}
        own = {n: w.detach().clone() for n, w in self.network.named_parameters() if n in names}
        flat = torch.cat([own[n].flatten() for n in names])

        def weights_of(vector):
            parts = vector.split([own[n].numel() for n in names])
            return {n: part.view_as(own[n]) for n, part in zip(names, parts, strict=True)}

        def logits_of(i, vector):
            return excerpts[i].behind(excerpts[i].x, weights_of(vector))

        found = {}
        for stay in (only.stay,) if only else self.stays:
            vector = minimise(flat, logits_of, excerpts, stay, self.rounds, tick)
            found[Setting(0, stay)] = Reweighted(self.network, weights_of(vector), own)
        return found


def baselines(network: torch.nn.Module, tap: str, seed: int = 0) -> list[Method]:
    """All of them but no change, for a segmenter and one of its taps."""
    return [
        Threshold(),
        DifferenceInMeans(tap),
        RandomLatents(tap, seed),
        BatchNorm(network),
        Head(network),
    ]
