"""The small pictures of an atlas: a slice of anatomy, outlines, an activation; each a layer of one size and place.

The page lays them over each other, so a slice that is an example of many latents is written once. All slices of a
case are drawn on one canvas in mm, of all cases to the same scale where they fit: heads can be compared by eye.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from MedSegLensLib.reports import figures
from MedSegLensLib.reports.atlas_examples import Example

WIDTH, HEIGHT = 252, 315
"""Of the canvas, pixels."""

PIXELS_PER_MM, MARGIN_MM = 1.5, 4.0
"""So the canvas is 168 x 210 mm, which an adult's brain fits into; a larger head is drawn smaller."""

OUTLINE = 2
"""Pixels."""

_PALETTE = figures.heat_inks()


@dataclass(frozen=True)
class Canvas:
    """Where the slices of one case lie on the canvas.

    centre: voxel (y, x) of the network's grid that lies in the middle. spacing: (y, x), mm.
    """

    centre: tuple[float, float]
    spacing: tuple[float, float]
    pixels_per_mm: float = PIXELS_PER_MM

    @staticmethod
    def around(brain: np.ndarray, spacing: tuple[float, float, float]) -> "Canvas":
        """Centred on the brain, bool (Z, Y, X); spacing is x, y, z in mm."""
        middle, scale = [], PIXELS_PER_MM
        for axis, step, pixels in ((1, spacing[1], HEIGHT), (2, spacing[0], WIDTH)):
            inside = np.flatnonzero(brain.any(axis=(0, 3 - axis)))
            first, last = (inside[0], inside[-1]) if len(inside) else (0, brain.shape[axis] - 1)
            middle.append(float(first + last) / 2)
            scale = min(scale, pixels / ((last - first + 1) * step + 2 * MARGIN_MM))
        return Canvas(tuple(middle), (spacing[1], spacing[0]), float(scale))

    @property
    def width_mm(self) -> float:
        return WIDTH / self.pixels_per_mm

    def draw(self, section: np.ndarray, cell: tuple[float, float], resample: Image.Resampling) -> np.ndarray:
        """A map of one slice, float32 (rows, columns), as (HEIGHT, WIDTH); 0 beyond it. cell: voxels (y, x) that one
        of its cells covers (a tap's grid is coarser than the slice)."""
        # PIL wants, for each pixel of the canvas, the place on the map, in cells from the outer edge of the first one.
        step = [1 / (self.pixels_per_mm * s * c) for s, c in zip(self.spacing, cell, strict=True)]
        middle = [(m + 0.5) / c for m, c in zip(self.centre, cell, strict=True)]
        corner = [m - n * s / 2 for m, n, s in zip(middle, (HEIGHT, WIDTH), step, strict=True)]
        image = Image.fromarray(np.ascontiguousarray(section, np.float32))
        affine = (step[1], 0.0, corner[1], 0.0, step[0], corner[0])
        return np.asarray(image.transform((WIDTH, HEIGHT), Image.Transform.AFFINE, affine, resample))


def write_anatomy(
    canvas: Canvas, image: np.ndarray, brain: np.ndarray, window: tuple[float, float], path: Path
) -> None:
    """A slice (Y, X) in grey, black outside the brain, as WebP."""
    low, high = window
    inside = canvas.draw(brain, (1, 1), Image.Resampling.BILINEAR) > 0.5
    section = canvas.draw(image, (1, 1), Image.Resampling.BICUBIC)
    # The darkest tissue (CSF on FLAIR) stays lighter than the black outside.
    grey = np.where(inside, 18 + 237 * np.clip((section - low) / (high - low), 0, 1), 0).astype(np.uint8)
    # A picture takes 3.4 ms and 1.6 KB so; level 4 takes 5.4 ms and saves 7 %, JPEG 0.3 ms and twice the bytes.
    Image.fromarray(grey).save(path, "webp", quality=80, method=2)


def write_outlines(canvas: Canvas, labels: np.ndarray, path: Path) -> bool:
    """The outlines of the labels of a slice (Y, X), transparent elsewhere; False, and no file, where there are none."""
    shapes = {
        label: canvas.draw(labels == label, (1, 1), Image.Resampling.BILINEAR) > 0.5
        for label in (2, 3, 1)
        if (labels == label).any()
    }
    shapes = {label: shape for label, shape in shapes.items() if shape.any()}
    if not shapes:
        return False
    _write_inked(figures.outlines(shapes, (HEIGHT, WIDTH), OUTLINE), figures.INKS, path)
    return True


def write_activation(canvas: Canvas, example: Example, shape: tuple[int, int], maximum: float, path: Path) -> None:
    """A latent on a slice of `shape` (Y, X) voxels: the nearer to `maximum`, the lighter and the more opaque."""
    cell = tuple(n / g for n, g in zip(shape, example.grid, strict=True))
    strength = canvas.draw(example.map(), cell, Image.Resampling.BILINEAR) / max(maximum, 1e-12)
    _write_inked((np.clip(strength, 0, 1) * 255).round().astype(np.uint8), _PALETTE, path)


def _write_inked(indices: np.ndarray, inks: np.ndarray, path: Path) -> None:
    picture = Image.fromarray(indices)
    picture.putpalette(inks[:, :3].ravel().tolist())
    picture.save(path, "png", transparency=inks[:, 3].tobytes(), compress_level=6)
