"""The tokens a lens is trained and measured on: a tap's values over cases, each with the tissue it lies in."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from MedSegLensLib.cases.case import Case
from MedSegLensLib.cases.conform import Conformed, InputSpec, conform
from MedSegLensLib.editing.places import brain_tokens
from MedSegLensLib.errors import UsageError
from MedSegLensLib.lenses.sampling import AIR, BORDER, BRAIN, LESION
from MedSegLensLib.segmenters.architectures import SegmenterConfig
from MedSegLensLib.segmenters.engine import Engine
from MedSegLensLib.segmenters.sampling import Sampling, sampling_of
from MedSegLensLib.segmenters.taps import changed

BORDER_MM = 8.0
"""How far around a lesion the border stratum reaches."""


def harvest(
    case: Case, network: nn.Module, config: SegmenterConfig, spec: InputSpec, tap: str, engine: Engine
) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
    """The brain's tokens (n, d_in) of one tap and their strata int8 (n,), in pieces; see `harvest_taps`."""
    for tokens, strata in harvest_taps(case, network, config, spec, (tap,), engine):
        yield tokens[tap], strata[tap]


def harvest_taps(
    case: Case, network: nn.Module, config: SegmenterConfig, spec: InputSpec, taps: Sequence[str], engine: Engine
) -> Iterator[tuple[dict[str, torch.Tensor], dict[str, np.ndarray]]]:
    """The brain's tokens (n, d_in) of several taps in one pass, and their strata int8 (n,) (see lenses.sampling).

    AIR is then what lies at the brain's edge with less than half of it inside. The tokens come in the order of the
    samples, `engine.batch` samples at a time; what follows the last tap is not run.

    `network` is as `engine.prepare` gives it. A case without labels has no lesion stratum: all its brain is BRAIN.

    Raises UsageError for a tap that is no module of the network, does not run, or has no map over the image.
    """
    conformed = conform(case, spec)
    sampling = sampling_of(config, conformed.brain.shape)
    volume = torch.from_numpy(conformed.array)
    tissue = tissue_of(conformed, conformed.labels(case.labels) if case.labels is not None else None)
    one_hot = _one_hot(tissue, 4)
    brain: dict[str, np.ndarray] = {}
    for first in range(0, sampling.count, engine.batch):
        samples = list(range(first, min(first + engine.batch, sampling.count)))
        samples = [s for s in samples if not brain or any(inside[s].any() for inside in brain.values())]
        if not samples:
            continue
        values = _values_at(network, engine.place(sampling.inputs(volume, samples)), taps)
        tokens, strata = {}, {}
        for tap, value in values.items():
            _check_map(tap, value, len(samples), config.spatial_dims)
            grid = tuple(value.shape[2:])
            if tap not in brain:
                brain[tap] = brain_tokens(conformed, sampling, grid)
            keep = brain[tap][samples].ravel()
            tokens[tap] = value.flatten(2).transpose(1, 2).flatten(0, 1).float().cpu()[torch.from_numpy(keep)]
            strata[tap] = _most(one_hot, sampling, samples, grid).ravel()[keep]
        yield tokens, strata


class _AllSeen(Exception):
    """Every tap has given its value: the rest of the network need not run."""


def _values_at(network: nn.Module, x: torch.Tensor, taps: Sequence[str]) -> dict[str, torch.Tensor]:
    seen: dict[str, torch.Tensor] = {}

    def note(tap: str):
        def keep(value: torch.Tensor) -> None:
            seen[tap] = value
            if len(seen) == len(taps):
                raise _AllSeen

        return keep

    with torch.no_grad(), changed(network, {tap: note(tap) for tap in taps}), contextlib.suppress(_AllSeen):
        network(x)
    for tap in taps:
        if tap not in seen:
            cause = "does not run when this segmenter does."
            raise UsageError(tap, cause, "List the modules that can be taps with `medseglens pack show PACK --taps`.")
    return seen


def _check_map(tap: str, value: torch.Tensor | None, samples: int, spatial_dims: int) -> None:
    if value is None or value.ndim != spatial_dims + 2 or len(value) != samples:
        shape = "no tensor" if value is None else f"of shape {tuple(value.shape)}"
        cause = f"its output is {shape}, which has no {spatial_dims} axes over the image."
        raise UsageError(tap, cause, "List the modules that can be taps with `medseglens pack show PACK --taps`.")


def tissue_of(conformed: Conformed, labels: np.ndarray | None) -> np.ndarray:
    """Strata of the voxels, int8 (Z, Y, X)."""
    tissue = np.where(conformed.brain, BRAIN, AIR).astype(np.int8)
    if labels is not None and (labels > 0).any():
        distance = ndimage.distance_transform_edt(labels == 0, sampling=conformed.grid.spacing[::-1])
        tissue[(distance <= BORDER_MM) & conformed.brain] = BORDER
        tissue[labels > 0] = LESION
    return tissue


def token_values(
    volume: np.ndarray, sampling: Sampling, sample: int, grid: tuple[int, ...], n_values: int
) -> np.ndarray:
    """The value (0 <= value < n_values) that most voxels of each token of one sample have, int8 (*grid)."""
    return _most(_one_hot(volume, n_values), sampling, [sample], grid)[0]


def _one_hot(volume: np.ndarray, n_values: int) -> torch.Tensor:
    return torch.from_numpy(np.stack([volume == v for v in range(n_values)]).astype(np.float32))


def _most(one_hot: torch.Tensor, sampling: Sampling, samples: list[int], grid: tuple[int, ...]) -> np.ndarray:
    """The value that most voxels of each token have, int8 (samples, *grid)."""
    pool = torch.nn.functional.adaptive_avg_pool2d if len(grid) == 2 else torch.nn.functional.adaptive_avg_pool3d
    return pool(sampling.inputs(one_hot, samples), grid).argmax(1).to(torch.int8).numpy()
