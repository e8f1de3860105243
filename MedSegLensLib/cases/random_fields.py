"""Random smooth fields in space, sampled on a grid: what gives a phantom its folds, irregular shapes and texture."""

import numpy as np
import SimpleITK as sitk


class Fields:
    """Places, smooth fields and noise on the grid of `box` (its voxels are not used).

    box: the grid, in mm with the brain's centre at 0.
    reach: half the sides (x, y, z in mm) of the space that fields cover.
    rng: where all randomness comes from; the order of calls decides what is drawn.
    """

    def __init__(self, box: sitk.Image, reach: np.ndarray, rng: np.random.Generator):
        self.box, self.reach, self.rng = box, np.asarray(reach), rng
        self.shape = box.GetSize()[::-1]
        self._axes = np.array(box.GetDirection()).reshape(3, 3)

    def places(self) -> list[np.ndarray]:
        """x, y, z in mm (LPS) of every voxel, float32, broadcastable to (Z, Y, X)."""
        step = self._axes * np.array(self.box.GetSpacing())
        index = [
            np.arange(n, dtype=np.float32).reshape([-1 if axis == 2 - a else 1 for a in range(3)])
            for axis, n in enumerate(self.box.GetSize())
        ]
        # Zero terms are left out, which keeps the arrays one-dimensional where the axes point along x, y and z.
        return [
            np.float32(start) + sum(np.float32(s) * i for s, i in zip(row, index, strict=True) if abs(s) > 1e-9)
            for start, row in zip(self.box.GetOrigin(), step, strict=True)
        ]

    def around(self, centre: tuple, half: np.ndarray) -> tuple[slice, slice, slice]:
        """Slices (Z, Y, X) of the voxels within `half` (x, y, z in mm) of a place."""
        middle = np.array(self.box.TransformPhysicalPointToContinuousIndex([float(c) for c in centre]))
        wide = np.abs(self._axes.T) @ half / np.array(self.box.GetSpacing())
        low = np.clip(np.floor(middle - wide), 0, self.box.GetSize()).astype(int)
        high = np.clip(np.ceil(middle + wide) + 1, low, self.box.GetSize()).astype(int)
        return tuple(slice(int(a), int(b)) for a, b in zip(low[::-1], high[::-1], strict=True))

    def smooth(self, scale: float) -> np.ndarray:
        """A field of mean 0 and standard deviation 1 that varies over about `scale` mm, float32 (Z, Y, X).

        Random weights on a lattice of `scale` / 1.5, spread by cubic B-splines. These are a product of three
        one-dimensional functions, so that on a grid along x, y and z three matrix products do the sampling.
        """
        pitch = scale / 1.5
        count = np.ceil(2 * self.reach / pitch).astype(int) + 4
        lattice = self.rng.standard_normal(tuple(count[::-1]), dtype=np.float32)
        columns = np.abs(self._axes).argmax(axis=0)  # the direction in space that each of the grid's axes follows
        if np.allclose(np.abs(self._axes[columns, range(3)]), 1):
            places = [np.ravel(p) for p in self.places()]
            field = _spread(lattice, places, pitch)
            return np.ascontiguousarray(field.transpose([2 - columns[2 - axis] for axis in range(3)]))
        # On an oblique grid: the same field on a fine grid along x, y and z first, then linearly from there.
        fine = pitch / 4
        places = [np.arange(-r - fine, r + 2 * fine, fine, dtype=np.float32) for r in self.reach]
        image = sitk.GetImageFromArray(_spread(lattice, places, pitch))
        image.SetSpacing([fine] * 3)
        image.SetOrigin([float(p[0]) for p in places])
        return sitk.GetArrayFromImage(sitk.Resample(image, self.box, sitk.Transform(), sitk.sitkLinear, 0.0))

    def noise(self) -> np.ndarray:
        """Independent noise of standard deviation 1 for every voxel, float32 (Z, Y, X)."""
        return self.rng.standard_normal(self.shape, dtype=np.float32)


def _spread(lattice: np.ndarray, places: list[np.ndarray], pitch: float) -> np.ndarray:
    """The lattice's field (z, y, x) at all combinations of `places` (x, y, z; each one-dimensional, mm)."""
    x, y, z = (_spline(p, n, pitch) for p, n in zip(places, lattice.shape[::-1], strict=True))
    field = y @ (lattice @ x.T)
    return (z @ field.reshape(len(field), -1)).reshape(len(z), *field.shape[1:])


def _spline(places: np.ndarray, count: int, pitch: float) -> np.ndarray:
    """Weights (places, count) of a lattice centred on 0, with sum of squares 1 for a field of unit variance."""
    t = np.abs(places[:, None] / pitch - (np.arange(count) - (count - 1) / 2))
    weights = np.where(t < 1, 2 / 3 - t * t + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0))
    norm = np.sqrt((weights**2).sum(axis=1, keepdims=True))
    return (weights / np.maximum(norm, 1e-6)).astype(np.float32)
