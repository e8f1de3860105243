"""The grid a network wants a case on: the case's own grid with its axes reordered and, where asked, another spacing."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

SPACING_TOLERANCE = 0.01
"""Spacings that differ by no more than this share are left as they are."""


@dataclass(frozen=True)
class NetworkGrid:
    """A whole volume's grid in the network's orientation. Tuples are in x, y, z order; lengths in mm (LPS).

    permutation, flips: axis i is the case's axis permutation[i], reversed where flips[i].
    resampled: whether the spacing differs from the case's, so that voxels are interpolated and not only reordered.
    """

    permutation: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    resampled: bool

    @staticmethod
    def of(
        reference: sitk.Image, orientation: str, spacing: tuple[float | None, float | None, float | None]
    ) -> "NetworkGrid":
        """The grid for a case on `reference`'s grid. An oblique volume stays oblique: only whole axes change place."""
        # A one-voxel volume with the case's direction is enough for SimpleITK to say how the axes move.
        probe = sitk.Image(1, 1, 1, sitk.sitkUInt8)
        probe.SetDirection(reference.GetDirection())
        orient = sitk.DICOMOrientImageFilter()
        orient.SetDesiredCoordinateOrientation(orientation)
        orient.Execute(probe)
        permutation = tuple(int(axis) for axis in orient.GetPermuteOrder())
        flips = tuple(bool(flip) for flip in orient.GetFlipAxes())

        columns = np.array(reference.GetDirection()).reshape(3, 3)
        own_size, own_spacing = np.array(reference.GetSize()), np.array(reference.GetSpacing())
        first = np.zeros(3)
        for axis, flip in zip(permutation, flips, strict=True):
            first[axis] = own_size[axis] - 1 if flip else 0
        origin = np.array(reference.TransformContinuousIndexToPhysicalPoint(first.tolist()))
        direction = columns[:, permutation] * np.where(flips, -1.0, 1.0)
        size, old = own_size[list(permutation)], own_spacing[list(permutation)]

        wanted = np.array([o if s is None else s for o, s in zip(old, spacing, strict=True)])
        new = np.where(np.abs(wanted / old - 1) <= SPACING_TOLERANCE, old, wanted)
        resampled = bool(np.any(new != old))
        if resampled:
            # The first voxels' outer faces coincide, so that the same piece of space is covered.
            origin = origin + direction @ ((new - old) / 2)
            size = np.maximum(1, np.ceil(size * old / new - 1e-3)).astype(int)
        return NetworkGrid(
            permutation,
            flips,
            tuple(int(n) for n in size),
            tuple(float(s) for s in new),
            tuple(float(o) for o in origin),
            tuple(float(d) for d in direction.ravel()),
            resampled,
        )

    def oriented(self, array: np.ndarray) -> np.ndarray:
        """A view of `array` (Z, Y, X on the case's grid) with this grid's axes; writing to it writes to `array`."""
        turned = array.transpose([2 - self.permutation[2 - axis] for axis in range(3)])
        return turned[tuple(slice(None, None, -1 if self.flips[2 - axis] else 1) for axis in range(3))]

    def point(self, index: tuple[float, float, float]) -> tuple[float, float, float]:
        """The place in mm (LPS) of a voxel index (x, y, z), which may lie outside the volume."""
        direction = np.array(self.direction).reshape(3, 3)
        return tuple(float(p) for p in np.array(self.origin) + direction @ (np.array(index) * np.array(self.spacing)))

    def header(self) -> sitk.Image:
        """An empty uint8 volume on this grid, as a reference for resampling."""
        image = sitk.Image(self.size, sitk.sitkUInt8)
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction)
        return image
