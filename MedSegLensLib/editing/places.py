"""Where an edit acts: a recipe's place as voxels of the network's grid, and as tokens of a tap's grid."""

import numpy as np
import torch
from scipy import ndimage

from MedSegLensLib.cases.case import region_mask
from MedSegLensLib.cases.conform import Conformed
from MedSegLensLib.editing.recipe import RegionOf, SliceRange, VoxelMask, Where
from MedSegLensLib.segmenters.sampling import Box, Sampling


def voxels_of(where: Where, conformed: Conformed, labels: np.ndarray) -> np.ndarray:
    """The place as bool (Z, Y, X) on the conformed box; `labels` is the unedited segmentation there."""
    if isinstance(where, RegionOf):
        inside = region_mask(labels, where.region)
        if where.dilation and inside.any():
            spacing = conformed.grid.spacing[::-1]
            inside = ndimage.distance_transform_edt(~inside, sampling=spacing) <= where.dilation
        return inside
    if isinstance(where, VoxelMask):
        return conformed.mask(where.to_image())
    shape = conformed.brain.shape
    inside = np.ones(shape, bool)
    if isinstance(where, SliceRange):
        limits = [(2, where.lower, where.upper)]
    else:
        limits = zip((0, 1, 2), where.lower, where.upper, strict=True)
    for axis, low, high in limits:
        position = ras_coordinate(conformed, axis)
        inside &= (position >= low) & (position <= high)
    return inside


def ras_coordinate(conformed: Conformed, axis: int) -> np.ndarray:
    """One RAS coordinate (0 R, 1 A, 2 S; mm) of each voxel's centre, broadcastable to (Z, Y, X)."""
    sign = (-1.0, -1.0, 1.0)[axis]
    direction = np.reshape(conformed.grid.direction, (3, 3))[axis] * conformed.grid.spacing * sign
    start = conformed.grid.point(conformed.start)[axis] * sign
    nz, ny, nx = conformed.brain.shape
    x, y, z = np.arange(nx), np.arange(ny)[:, None], np.arange(nz)[:, None, None]
    return start + direction[0] * x + direction[1] * y + direction[2] * z


def ras_point(conformed: Conformed, index: tuple[float, float, float]) -> tuple[float, float, float]:
    """The place (RAS, mm) of a voxel index (z, y, x) of the conformed box."""
    z, y, x = (i + s for i, s in zip(index, conformed.start[::-1], strict=True))
    lps = conformed.grid.point((x, y, z))
    return -lps[0], -lps[1], lps[2]


def voxel_of(conformed: Conformed, ras: tuple[float, float, float]) -> tuple[int, int, int]:
    """The voxel index (z, y, x) of the conformed box nearest to a place (RAS, mm); it may lie outside."""
    step = np.reshape(conformed.grid.direction, (3, 3)) * conformed.grid.spacing
    lps = np.array(ras) * (-1, -1, 1)
    x, y, z = np.floor(np.linalg.solve(step, lps - np.array(conformed.grid.point(conformed.start))) + 0.5)
    return int(z), int(y), int(x)


def tokens_of(inside: np.ndarray, sampling: Sampling, grid: tuple[int, ...], touched: bool = False) -> np.ndarray:
    """A place (Z, Y, X) as tokens, bool (samples, *grid): those of which at least half lies inside; a place smaller
    than half of every token it touches takes all the tokens it touches. touched: always takes these."""
    share = share_inside(inside, sampling, grid)
    tokens = share >= 0.5
    return tokens if tokens.any() and not touched else share > 0


def token_box(token: int, sampling: Sampling, grid: tuple[int, ...]) -> Box:
    """The box (z, y, x) of the conformed volume that a token covers; `grid` is the codes': (samples, *the tap's)."""
    sample, *cell = (int(i) for i in np.unravel_index(int(token), grid))
    steps = [n // g for n, g in zip(sampling.sample_shape, grid[1:], strict=True)]
    return sampling.place(sample, tuple(slice(i * f, (i + 1) * f) for i, f in zip(cell, steps, strict=True)))


def token_middle(token: int, sampling: Sampling, grid: tuple[int, ...]) -> tuple[float, float, float]:
    """The voxel index (z, y, x) of a token's middle in the conformed box; see `token_box`."""
    return tuple((b.start + b.stop - 1) / 2 for b in token_box(token, sampling, grid))


def brain_tokens(conformed: Conformed, sampling: Sampling, grid: tuple[int, ...]) -> np.ndarray:
    """The tokens that have any brain in them, bool (samples, *grid): a lens reads and changes only these.

    Air is more than half of the tokens and nothing to a reader; with it in, a U-Net lens spent most of its latents on
    the edge of the image, and the latents that a region hung on most lay outside the head.
    """
    return share_inside(conformed.brain, sampling, grid) > 0


def share_inside(
    inside: np.ndarray, sampling: Sampling, grid: tuple[int, ...], samples: list[int] | None = None
) -> np.ndarray:
    """How much of each token lies inside, float32 (samples, *grid), 0..1; of `samples` only, in order, where given."""
    samples = list(range(sampling.count)) if samples is None else samples
    share = np.empty((len(samples), *grid), np.float32)
    pool = torch.nn.functional.adaptive_avg_pool2d if len(grid) == 2 else torch.nn.functional.adaptive_avg_pool3d
    volume = torch.from_numpy(inside.astype(np.float32))[None]
    for i, sample in enumerate(samples):
        share[i] = pool(sampling.inputs(volume, [sample]), grid)[0, 0].numpy()
    return share
