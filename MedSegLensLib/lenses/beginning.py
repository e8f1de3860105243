"""Where a training of any kind begins: its first tokens, how they are centred and scaled, the decoder's first rows."""

import math

import torch
from torch import Tensor

from MedSegLensLib.errors import UsageError
from MedSegLensLib.lenses.dictionary import starting_rows
from MedSegLensLib.lenses.lens_config import LensConfig
from MedSegLensLib.lenses.sampling import TokenSource, generator_of

BEGIN, STEP = 0, 1
"""What a generator is for; its seed is (lens's seed, this, step)."""


def first_tokens(tokens: TokenSource, config: LensConfig) -> Tensor:
    """What a training begins with: a batch; some thirty tokens for each centroid or component made of it."""
    count = 0
    if config.kind == "archetypal":
        count = config.centroids or 2 * config.width
    elif config.init == "centroids":
        count = config.width
    elif config.init == "components":
        count = 1 << 11  # the most there may be: the smaller components differ from sample to sample
    batches = tokens.batches(config.batch, config.seed)
    wanted = max(1, math.ceil(min(32 * count, 1 << 16) / config.batch))
    return torch.cat([next(batches) for _ in range(wanted)])


def centre_and_scale(data: Tensor, config: LensConfig) -> tuple[Tensor, Tensor]:
    """Centre (d_in,) and scale () with which tokens (n, d_in) have a mean norm of sqrt(d_in). Raises UsageError."""
    centre = geometric_median(data[: max(config.batch, 2048)])
    norm = (data - centre).norm(dim=1).mean()
    if not torch.isfinite(norm) or norm <= 1e-12:
        cause = "the tokens are all alike or not finite; there is nothing to learn."
        raise UsageError(config.tap, cause, "Check the tap and the cases.")
    return centre, data.shape[1] ** 0.5 / norm


def rows_to_start(data: Tensor, config: LensConfig) -> Tensor:
    """Unit rows (width, d_in) of the decoder, from centred and scaled tokens (n, d_in)."""
    generator = generator_of(config.seed, BEGIN)
    return starting_rows(data, config.width, config.init, config.noise, generator)


def geometric_median(x: Tensor, iterations: int = 30) -> Tensor:
    """Point with the least sum of distances to the tokens (Weiszfeld's iteration): a mean that outliers do not pull."""
    median = x.mean(0)
    for _ in range(iterations):
        weight = 1 / (x - median).norm(dim=1, keepdim=True).clamp_min(1e-6)
        median = (weight * x).sum(0) / weight.sum()
    return median
