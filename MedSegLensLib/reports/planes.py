"""Planes of a volume as a radiologist hangs them: which way up, how large in mm, and where in the patient.

Volumes are (Z, Y, X) in LPS: X grows to the patient's left, Y to the back, Z upwards. Axial slices are seen from
below, coronal ones from the front (the patient's right is on the picture's left), sagittal ones from the left
(the front is on the picture's left).
"""

from dataclasses import dataclass

import numpy as np

PLANES = {"axial": 0, "coronal": 1, "sagittal": 2}
"""The array axis that each plane is a slice of."""

LETTERS = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
"""What is at the left, right, upper and lower edge of a picture."""

SENSES = {"axial": "IS", "coronal": "AP", "sagittal": "RL"}
"""What a negative and a positive LPS position across the plane is called."""

MARGIN_MM = 2.0
"""Left around the brain when a volume is cropped to it."""


@dataclass(frozen=True)
class Planes:
    """How the slices of one case are cut.

    crop: the part of the volume to show, (Z, Y, X).
    shape: the whole volume's, (Z, Y, X).
    spacing: x, y, z in mm.
    origin: LPS mm (x, y, z) of the first voxel's centre; None when not known or the grid is oblique.
    """

    crop: tuple[slice, slice, slice]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] | None = None

    @staticmethod
    def around(
        brain: np.ndarray, spacing: tuple[float, float, float], origin: tuple[float, float, float] | None = None
    ) -> "Planes":
        """Planes cropped to a brain, bool (Z, Y, X); the whole volume where there is none."""
        crop = []
        for axis in range(3):
            inside = np.flatnonzero(brain.any(axis=tuple(a for a in range(3) if a != axis)))
            if not len(inside):
                crop.append(slice(0, brain.shape[axis]))
                continue
            margin = int(round(MARGIN_MM / spacing[2 - axis]))
            crop.append(slice(int(max(inside[0] - margin, 0)), int(min(inside[-1] + 1 + margin, brain.shape[axis]))))
        return Planes(tuple(crop), brain.shape, tuple(float(s) for s in spacing), origin)

    def cut(self, volume: np.ndarray, plane: str, index: int) -> np.ndarray:
        """The slice `index` of a volume (Z, Y, X), cropped, as rows from the top and columns from the left."""
        axis = PLANES[plane]
        where = [index if a == axis else part for a, part in enumerate(self.crop)]
        section = volume[tuple(where)]
        return section if plane == "axial" else section[::-1]  # Z grows upwards, rows downwards

    def size_mm(self, plane: str) -> tuple[float, float]:
        """Width and height of a plane's picture in mm."""
        z, y, x = ((part.stop - part.start) * step for part, step in zip(self.crop, self.spacing[::-1], strict=True))
        return {"axial": (x, y), "coronal": (x, z), "sagittal": (y, z)}[plane]

    def position(self, plane: str, index: int) -> str:
        """Where a slice is, in words short enough for a picture: 'S 12.0 mm', or 'z = 60.0 mm' from the
        volume's first slice where its place in the patient is not known."""
        axis = PLANES[plane]
        step = self.spacing[2 - axis]
        if self.origin is None:
            return f"{'zyx'[axis]} = {index * step:.1f} mm"
        at = self.origin[2 - axis] + index * step
        return f"{SENSES[plane][int(at >= 0)]} {abs(at):.1f} mm"

    def number(self, plane: str, index: int) -> str:
        """'axial slice 74 of 155', counted from 1."""
        return f"{plane} slice {index + 1} of {self.shape[PLANES[plane]]}"
