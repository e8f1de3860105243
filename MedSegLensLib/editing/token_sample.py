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
from MedSegLensLib.editing.harvest import tissue_of
from MedSegLensLib.editing.places import brain_tokens
from MedSegLensLib.editing.tissues import CSF, GREY, WHITE, tissues
from MedSegLensLib.errors import CaseError
from MedSegLensLib.lenses.sampling import BORDER, LESION
from MedSegLensLib.segmenters.architectures import SegmenterConfig
from MedSegLensLib.segmenters.engine import Engine
from MedSegLensLib.segmenters.sampling import sampling_of
from MedSegLensLib.segmenters.taps import changed

PROBED_TISSUES = {"csf": CSF, "grey": GREY, "white": WHITE}
"""Tissues outside the tumour that are probed beside the regions, told apart by intensity (see `tissues`)."""


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
    tissue: np.ndarray
    case: np.ndarray
    cases: tuple[str, ...]
    total: int

    @staticmethod
    def joined(samples: "list[TokenSample]") -> "TokenSample":
        """Samples of one tap as one; their cases are counted on."""
        before = np.cumsum([0, *(len(s.cases) for s in samples)])
        return TokenSample(
            torch.cat([s.tokens for s in samples]),
            np.concatenate([s.labels for s in samples]),
            np.concatenate([s.strata for s in samples]),
            np.concatenate([s.tissue for s in samples]),
            np.concatenate([s.case + n for s, n in zip(samples, before, strict=False)]).astype(np.int16),
            tuple(name for s in samples for name in s.cases),
            sum(s.total for s in samples),
        )

    def some(self, n: int, seed: int = 0) -> "TokenSample":
        """n of the tokens, uniformly at random; all of them where there are no more."""
        if len(self.tokens) <= n:
            return self
        kept = np.sort(np.random.default_rng(seed).choice(len(self.tokens), n, replace=False))
        tokens = self.tokens[torch.from_numpy(kept)]
        of = (self.labels[kept], self.strata[kept], self.tissue[kept], self.case[kept])
        return TokenSample(tokens, *of, self.cases, self.total)

    def lesion(self) -> Tensor:
        """The tokens of the lesion, (n, d_in)."""
        return self.tokens[torch.from_numpy(self.strata == LESION)]

    def targets(self) -> dict[str, np.ndarray]:
        """What can be probed for: every region and tissue, bool (n,)."""
        found = {region: region_mask(self.labels, region) for region in REGIONS}
        found["border"] = self.strata == BORDER
        return found | {name: self.tissue == value for name, value in PROBED_TISSUES.items()}

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
        strata = tissue_of(conformed, labels)
        channels = {m: i for i, m in enumerate(spec.modalities) if m in case.images}
        tissue = tissues(conformed, channels, labels > 0)
        if tissue is None:
            tissue = np.zeros_like(labels)
        sampling = sampling_of(config, conformed.brain.shape)
        volume = torch.from_numpy(conformed.array)
        what = torch.from_numpy(np.stack([labels, strata, tissue]).astype(np.float32))
        kept: dict[str, np.ndarray] = {}  # tap -> bool (samples, *grid)
        seen: dict[str, Tensor] = {}
        with torch.no_grad(), changed(network, {tap: _noting(seen, tap) for tap in taps}):
            for first in range(0, sampling.count, engine.batch):
                samples = list(range(first, min(first + engine.batch, sampling.count)))
                if kept and not any(mask[samples].any() for mask in kept.values()):
                    continue
                network(engine.place(sampling.inputs(volume, samples)))
                what_here = sampling.inputs(what, samples)
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
                    of = (most_common(v, grid).ravel()[keep.ravel()] for v in what_here.unbind(1))
                    parts[tap].append((tokens, *of, np.full(len(tokens), number, np.int16)))
    if not names:
        raise CaseError("cases", "there is none to measure on.", "Give a folder of labelled cases.")
    if progress:
        progress("reading tokens", 1.0)
    return {
        tap: TokenSample(
            torch.cat([p[0] for p in parts[tap]]),
            *(np.concatenate([p[i] for p in parts[tap]]) for i in (1, 2, 3, 4)),
            tuple(names),
            totals[tap],
        )
        for tap in taps
    }


def most_common(values: Tensor, grid: tuple[int, ...]) -> np.ndarray:
    """The value 0..4 that most voxels of each token have, int8 (B, *grid), of values (B, *sample_shape)."""
    pool = torch.nn.functional.adaptive_avg_pool2d if len(grid) == 2 else torch.nn.functional.adaptive_avg_pool3d
    one_hot = torch.stack([values == v for v in range(5)], 1).float()
    return pool(one_hot, grid).argmax(1).to(torch.int8).numpy()


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
