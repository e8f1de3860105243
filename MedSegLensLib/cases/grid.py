"""A volume's grid (size, spacing, origin, direction): comparing two, and describing one in words."""

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # the import takes a tenth of a second, and Slicer's process needs only the words
    import SimpleITK as sitk

SAME_WITHIN_VOXELS = 0.02
"""Two grids are one when no corner voxel lies further apart than this. NIfTI's float32 affines err by about 1e-4."""


def settle_direction(image: "sitk.Image") -> None:
    """Set direction cosines below 1e-12 to zero, in place.

    They carry no place in the patient, and ITK inverts a direction by an SVD that fails on denormal numbers (1e-313,
    say): every resampling would then give an empty volume, without an error.
    """
    cosines = np.array(image.GetDirection())
    if np.any((cosines != 0) & (np.abs(cosines) < 1e-12)):
        image.SetDirection(np.where(np.abs(cosines) < 1e-12, 0.0, cosines).tolist())


def corner_points(image: "sitk.Image") -> np.ndarray:
    """Centres of the eight corner voxels in mm (LPS), shape (8, 3)."""
    ends = [(0, n - 1) for n in image.GetSize()]
    return np.array([image.TransformIndexToPhysicalPoint(index) for index in itertools.product(*ends)])


def same_grid(a: "sitk.Image", b: "sitk.Image") -> bool:
    """Whether voxel (i, j, k) of one is at the same place as voxel (i, j, k) of the other, for all voxels."""
    if a.GetSize() != b.GetSize():
        return False
    apart = np.abs(corner_points(a) - corner_points(b)).max()
    return bool(apart <= SAME_WITHIN_VOXELS * min(a.GetSpacing()))


def voxel_ml(image: "sitk.Image") -> float:
    """Volume of one voxel in millilitres."""
    return float(np.prod(image.GetSpacing())) / 1000.0


def in_words(image: "sitk.Image") -> str:
    """For example '240 x 240 x 155 at 1 x 1 x 1 mm'."""
    return f"{' x '.join(map(str, image.GetSize()))} at {' x '.join(f'{s:.3g}' for s in image.GetSpacing())} mm"
