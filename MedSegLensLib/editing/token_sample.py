"""A stated, seeded sample of a cohort's tokens with what each token is: what a lens is measured and probed on.

All tokens of two cases at a U-Net's last stage are 640 000 of 64 channels, at every measure anew; a sample of some
ten thousand a case gives the same figures to the third digit and fits in memory for a whole cohort.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from MedSegLensLib.cases.case import REGIONS, Case, region_mask
from MedSegLensLib.cases.conform import InputSpec, conform
from MedSegLensLib.editing.harvest import tissue_of, token_values
from MedSegLensLib.editing.places import brain_tokens
from MedSegLensLib.errors import CaseError
from MedSegLensLib.lenses.sampling import BORDER, BRAIN, LESION
from MedSegLensLib.segmenters.architectures import SegmenterConfig
from MedSegLensLib.segmenters.engine import Engine
from MedSegLensLib.segmenters.sampling import sampling_of
from MedSegLensLib.segmenters.taps import changed

TISSUES = {"border": "within 8 mm of the tumour", "brain": "brain away from the tumour"}
"""Tissues that are probed beside the regions."""


@dataclass
class TokenSample:
    """Tokens of one tap with what they are.

    tokens: float32 (n, d_in). labels: int8 (n,), the label 0..3 that most voxels of the token have. strata: int8 (n,)
    (see lenses.sampling). case: int16 (n,), the number of its case. cases: their names. total: brain tokens there
    were, of which these are a uniform sample, case by case.
    """

    tokens: Tensor
    labels: np.ndarray
    strata: np.ndarray
    case: np.ndarray
    cases: tuple[str, ...]
    total: int

    def lesion(self) -> Tensor:
        """The tokens of the lesion, (n, d_in)."""
        return self.tokens[torch.from_numpy(self.strata == LESION)]

    def targets(self) -> dict[str, np.ndarray]:
        """What can be probed for: every region and tissue, bool (n,)."""
        found = {region: region_mask(self.labels, region) for region in REGIONS}
        return found | {"border": self.strata == BORDER, "brain": self.strata == BRAIN}

    def mixture(self, n: int, shares: dict[int, float], seed: int = 0) -> Tensor:
        """n tokens with the given share of each stratum, as the batches of a training have them, drawn with return."""
        rng = np.random.default_rng(seed)
        weight = np.zeros(len(self.strata))
        for stratum, share in shares.items():
            mine = self.strata == stratum
            weight[mine] = share / max(mine.sum(), 1)
        return self.tokens[torch.from_numpy(rng.choice(len(weight), n, p=weight / weight.sum()))]


def sample_tokens(
    cases: Iterable[Case],
    network: nn.Module,
    config: SegmenterConfig,
    spec: InputSpec,
    taps: Iterable[str],
    engine: Engine,
    per_case: int = 40_000,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
    count: int | None = None,
) -> dict[str, TokenSample]:
    """For each tap, `per_case` tokens of each case, uniform over its brain's tokens; all of them where they are fewer.

    One pass of the network a case for all taps, in the engine's batches; `network` is as `engine.prepare` gives it.
    Which tokens are drawn depends on the seed and the case's place in the cohort alone. `count`: of cases, for the
    progress. Raises CaseError for a case without labels, or when there is no case; UsageError for a tap that is no
    module.
    """
    taps, names = list(taps), []
    parts: dict[str, list[tuple]] = {tap: [] for tap in taps}
    totals = dict.fromkeys(taps, 0)
    for number, case in enumerate(cases):
        if case.labels is None:
            raise CaseError(case.name, "has no labels to measure by.", "Add its segmentation, or leave it out.")
        if progress:
            progress("reading tokens", number / count if count else 0.0)
        names.append(case.name)
        conformed = conform(case, spec)
        labels = conformed.labels(case.labels)
        tissue = tissue_of(conformed, labels)
        sampling = sampling_of(config, conformed.brain.shape)
        volume = torch.from_numpy(conformed.array)
        kept: dict[str, np.ndarray] = {}  # tap -> bool (samples, *grid)
        seen: dict[str, Tensor] = {}
        with torch.no_grad(), changed(network, {tap: _noting(seen, tap) for tap in taps}):
            for first in range(0, sampling.count, engine.batch):
                samples = list(range(first, min(first + engine.batch, sampling.count)))
                network(engine.place(sampling.inputs(volume, samples)))
                for tap, value in seen.items():
                    grid = tuple(value.shape[2:])
                    if tap not in kept:
                        brain = brain_tokens(conformed, sampling, grid)
                        totals[tap] += int(brain.sum())
                        kept[tap] = _drawn(brain, per_case, np.random.default_rng([seed, number]))
                    keep = kept[tap][samples]
                    if not keep.any():
                        continue
                    tokens = value.flatten(2).transpose(1, 2).flatten(0, 1)
                    tokens = tokens[torch.from_numpy(keep.ravel()).to(tokens.device)].float().cpu()
                    of = [
                        np.concatenate(
                            [
                                token_values(what, sampling, s, grid, 4).ravel()[keep[i].ravel()]
                                for i, s in enumerate(samples)
                                if keep[i].any()
                            ]
                        )
                        for what in (labels, tissue)
                    ]
                    parts[tap].append((tokens, *of, np.full(len(tokens), number, np.int16)))
    if not names:
        raise CaseError("cases", "there is none to measure on.", "Give a folder of labelled cases.")
    if progress:
        progress("reading tokens", 1.0)
    return {
        tap: TokenSample(
            torch.cat([p[0] for p in parts[tap]]),
            *(np.concatenate([p[i] for p in parts[tap]]) for i in (1, 2, 3)),
            tuple(names),
            totals[tap],
        )
        for tap in taps
    }


def _noting(seen: dict[str, Tensor], tap: str) -> Callable[[Tensor], None]:
    def note(value: Tensor) -> None:
        seen[tap] = value

    return note


def _drawn(brain: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of the tokens that are true, at random, as a mask of the same shape."""
    where = np.flatnonzero(brain)
    if len(where) <= count:
        return brain
    drawn = np.zeros(brain.size, bool)
    drawn[rng.choice(where, count, replace=False)] = True
    return drawn.reshape(brain.shape)
