"""What a scanner can do to a volume: coarser voxels, noise, motion, a bias field, another contrast.

Arrays are float32 (Z, Y, X), not negative, 0 where nothing was measured. `spacing` is in mm, in the same order.
Motion is TorchIO's (Perez-Garcia et al., Comput Methods Programs Biomed 2021), with explicit parameters, so that no
global random state is read; its other transforms were weighed, and where one is not used it says why.
"""

import numpy as np

from MedSegLensLib.errors import UsageError


def coarser(array: np.ndarray, inside: np.ndarray, spacing: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The array as voxels of `wanted` mm would have it, on its own grid; of what is `inside`, nothing else blends in.

    Each coarse voxel averages over its whole width (a boxcar profile), and linear interpolation goes back. TorchIO's
    Anisotropy takes the nearest slice without averaging, which aliases and is no slice profile. Axes that are coarser
    already stay.
    """
    ways = [_to_coarse(n, max(1.0, float(w / s))) for n, s, w in zip(array.shape, spacing, wanted, strict=True)]
    through = [back @ there for there, back in ways]
    weight = inside.astype(np.float32)
    array, weight = _product(array * weight, through), _product(weight, through)
    # The scan had skull and fluid around the brain, not the zeros that stripping left: without the division by the
    # weight the brain's rim would darken by half.
    return np.where(inside, array / np.maximum(weight, np.float32(1e-3)), 0).astype(np.float32)


def _product(array: np.ndarray, matrices: list[np.ndarray]) -> np.ndarray:
    """The array with a matrix (to, from) applied along each axis."""
    for axis, matrix in enumerate(matrices):
        if matrix.shape[0] != matrix.shape[1] or not np.array_equal(matrix, np.eye(len(matrix))):
            array = np.moveaxis(np.tensordot(matrix, array, axes=(1, axis)), 0, axis)
    return array


def _to_coarse(count: int, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Matrices from `count` voxels to voxels `ratio` times as wide (mean over the width), and back (linear)."""
    slabs = max(1, int(np.ceil(count / ratio)))
    start = (count - slabs * ratio) / 2  # the slabs cover the grid from end to end, both ends alike
    low = start + ratio * np.arange(slabs)[:, None]
    voxel = np.arange(count)[None, :]
    there = np.clip(np.minimum(voxel + 1, low + ratio) - np.maximum(voxel, low), 0, 1)
    there /= there.sum(axis=1, keepdims=True)
    place = np.clip((np.arange(count) + 0.5 - start) / ratio - 0.5, 0, slabs - 1)
    first = np.minimum(place.astype(int), max(slabs - 2, 0))
    back = np.zeros((count, slabs))
    rows, share = np.arange(count), place - first
    back[rows, first] = 1 - share
    back[rows, np.minimum(first + 1, slabs - 1)] += share
    return there.astype(np.float32), back.astype(np.float32)


def rician(array: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of magnitude images (Gudbjartsson and Patz, Magn Reson Med 1995): Gaussian of `sigma` in either channel."""
    real = array + np.float32(sigma) * rng.standard_normal(array.shape, dtype=np.float32)
    imaginary = np.float32(sigma) * rng.standard_normal(array.shape, dtype=np.float32)
    return np.hypot(real, imaginary)


def rician_in_coarse_voxels(
    array: np.ndarray,
    inside: np.ndarray,
    spacing: np.ndarray,
    wanted: np.ndarray,
    sigma: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """`coarser`, with the noise of the coarse voxels: it is as coarse as they are, not as the grid."""
    ways = [_to_coarse(n, max(1.0, float(w / s)))[1] for n, s, w in zip(array.shape, spacing, wanted, strict=True)]
    real, imaginary = (
        np.float32(sigma) * _product(rng.standard_normal([way.shape[1] for way in ways], dtype=np.float32), ways)
        for _ in range(2)
    )
    return np.hypot(coarser(array, inside, spacing, wanted) + real, imaginary)


def moved(array: np.ndarray, spacing: np.ndarray, degrees: np.ndarray, mm: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The head in another position from each of `times` (0 to 1 of the scan) on: k-space put together from these.

    degrees, mm: (movements, 3). The slow axis is the array's first. By torchio.Motion (Shaw et al., MIDL 2019).
    """
    tio = torchio()
    return _through(tio.Motion(degrees, mm, times, "linear"), array, spacing)


def bias_field(shape: tuple[int, ...], order: int, largest: float, rng: np.random.Generator) -> np.ndarray:
    """exp(p) over the grid, float32, with p a polynomial in z, y, x from -1 to 1 (Van Leemput et al., IEEE TMI 1999).

    Its coefficients are uniform up to +-`largest`, those of higher total order than `order` are 0: torchio.BiasField's
    field, whose 20 passes over the volume take 40 times as long as this product of its axes, and which fails on odd
    sides (1.2.1).
    """
    powers = [np.linspace(-1, 1, n)[None] ** np.arange(order + 1)[:, None] for n in shape]
    terms = rng.uniform(-largest, largest, (order + 1,) * 3)
    terms[np.indices(terms.shape).sum(axis=0) > order] = 0
    polynomial = np.einsum("ijk,iz->zjk", terms, powers[0])
    polynomial = np.einsum("zjk,jy->zyk", polynomial, powers[1])
    return np.exp((polynomial @ powers[2]).astype(np.float32))


def recontrasted(array: np.ndarray, inside: np.ndarray, gamma: float) -> np.ndarray:
    """Brightness through the curve x^gamma between 0 and the 99.5th percentile inside; linear beyond."""
    top = float(np.percentile(array[inside][::7], 99.5)) or 1.0
    share = array / np.float32(top)
    return np.where(share < 1, share ** np.float32(gamma), 1 + gamma * (share - 1)).astype(np.float32) * np.float32(top)


def sharpened(array: np.ndarray, spacing: np.ndarray, amount: float) -> np.ndarray:
    """An unsharp mask of 1 mm, as vendors filter: amount above 0 sharpens, below 0 (to -1) smooths."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(array, 1.0 / spacing, truncate=3.0)
    return np.maximum(array + np.float32(amount) * (array - smooth), 0)


def torchio():
    """The package. Raises UsageError where it is not installed."""
    try:
        import torchio as package
    except ImportError:
        cause = "motion is simulated by TorchIO, which is not installed."
        raise UsageError("torchio", cause, 'Install it: pip install "medseglens[cohort]".') from None
    return package


def _through(transform, array: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    import torch

    # The grid's middle is put at 0: torchio.Motion turns about the origin, which in BraTS lies at a corner, where a
    # degree would move the brain by 3 mm.
    size = np.array(array.shape[::-1])
    affine = np.diag([*spacing[::-1], 1.0])
    affine[:3, 3] = -spacing[::-1] * (size - 1) / 2
    image = torchio().ScalarImage(tensor=torch.from_numpy(np.ascontiguousarray(array.T))[None], affine=affine)
    return np.ascontiguousarray(transform(image).data[0].numpy().T)
