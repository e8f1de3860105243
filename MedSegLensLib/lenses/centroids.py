"""k-means of tokens: where a dictionary starts, or what an archetypal one is made of."""

import torch
from torch import Tensor


@torch.no_grad()
def centroids_of(data: Tensor, count: int, generator: torch.Generator, rounds: int = 15) -> Tensor:
    """Centroids (count, d) of tokens (n, d) by Lloyd's iteration, started at random tokens; equal for equal generators.

    A centroid that no token is nearest to moves to a random token. With fewer tokens than centroids some repeat.
    """
    n = len(data)
    start = torch.randperm(n, generator=generator)[:count]
    if n < count:
        start = torch.cat([start, torch.randint(n, (count - n,), generator=generator)])
    centres = data[start.to(data.device)].clone()
    for _ in range(rounds):
        half_norm = centres.square().sum(1) / 2
        nearest = torch.cat([(block @ centres.T - half_norm).argmax(1) for block in data.split(8192)])
        size = torch.bincount(nearest, minlength=count)
        sums = torch.zeros_like(centres).index_add_(0, nearest, data)
        centres = sums / size.clamp_min(1)[:, None]
        empty = (size == 0).nonzero().squeeze(1)
        if len(empty):
            again = torch.randint(n, (len(empty),), generator=generator)
            centres[empty] = data[again.to(data.device)]
    return centres
