"""The tokens a lens is trained and measured on: a tap's values over cases, each with the tissue it lies in."""

from collections.abc import Iterator

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from MedSegLensLib.cases.case import Case
from MedSegLensLib.cases.conform import Conformed, InputSpec, conform
from MedSegLensLib.editing.places import brain_tokens
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
    """The brain's tokens (n, d_in) of one tap, sample after sample, and their strata int8 (n,) (see lenses.sampling).

    AIR is then what lies at the brain's edge with less than half of it inside.

    `network` is as `engine.prepare` gives it. A case without labels has no lesion stratum: all its brain is BRAIN.
    """
    conformed = conform(case, spec)
    sampling = sampling_of(config, conformed.brain.shape)
    volume = torch.from_numpy(conformed.array)
    tissue = tissue_of(conformed, conformed.labels(case.labels) if case.labels is not None else None)
    seen: list[torch.Tensor] = []
    brain = None
    with torch.no_grad(), changed(network, {tap: lambda x: seen.append(x)}):
        for sample in range(sampling.count):
            network(engine.place(sampling.inputs(volume, [sample])))
            value = seen.pop()
            grid = tuple(value.shape[2:])
            if brain is None:
                brain = brain_tokens(conformed, sampling, grid)
            keep = brain[sample].ravel()
            strata = token_values(tissue, sampling, sample, grid, 4).ravel()
            tokens = value.flatten(2).transpose(1, 2).flatten(0, 1).float().cpu()
            yield tokens[torch.from_numpy(keep)], strata[keep]


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
    pool = torch.nn.functional.adaptive_avg_pool2d if len(grid) == 2 else torch.nn.functional.adaptive_avg_pool3d
    one_hot = torch.from_numpy(np.stack([volume == v for v in range(n_values)]).astype(np.float32))
    shares = pool(sampling.inputs(one_hot, [sample]), grid)[0]
    return shares.argmax(0).to(torch.int8).numpy()
