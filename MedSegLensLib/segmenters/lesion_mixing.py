"""More lesions than there are patients: lesions moved to other brains, and lesions made fainter.

Seven training cases hold seven lesions, and a network learns them by heart: where they lie and how bright they are.
Cases that share a grid (BraTS cases lie in one atlas space) can lend each other theirs, as they are or mirrored to the
other hemisphere (after CarveMix, Zhang et al. 2023, arXiv 2108.06883; without its random carving of the border). And a
lesion blended with the mirrored healthy tissue of the other hemisphere is the same lesion with less contrast, down to
what a reader would call a faint one.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from MedSegLensLib.cases.conform import Conformed, cut_box

BORDER_MM = 1.0
"""Standard deviation of the soft border along which a moved lesion fades into the brain around it."""


@dataclass(frozen=True)
class TrainingVolume:
    """A conformed, labelled case kept in memory. image (C, Z, Y, X) float32; labels uint8, brain bool, and lesion
    float16 (the soft mask, 0..1), each (Z, Y, X)."""

    image: np.ndarray
    labels: np.ndarray
    brain: np.ndarray
    lesion: np.ndarray
    first: np.ndarray  # centre of the first voxel, mm (LPS)
    spacing: np.ndarray  # x, y, z in mm
    direction: np.ndarray  # (9,)

    @staticmethod
    def of(conformed: Conformed, labels: np.ndarray) -> "TrainingVolume":
        sigma = BORDER_MM / np.array(conformed.grid.spacing)[::-1]
        soft = ndimage.gaussian_filter(ndimage.binary_dilation(labels > 0).astype(np.float32), sigma, truncate=3.0)
        return TrainingVolume(
            conformed.array,
            labels,
            conformed.brain,
            soft.astype(np.float16),
            np.array(conformed.grid.point(conformed.start)),
            np.array(conformed.grid.spacing),
            np.array(conformed.grid.direction),
        )

    @property
    def shape(self) -> np.ndarray:
        return np.array(self.labels.shape)

    def mirrored(self) -> "TrainingVolume":
        """Left and right exchanged about the middle of the brain's box; views, nothing is copied."""
        return TrainingVolume(
            self.image[..., ::-1],
            self.labels[..., ::-1],
            self.brain[..., ::-1],
            self.lesion[..., ::-1],
            self.first,
            self.spacing,
            self.direction,
        )

    def offset_in(self, host: "TrainingVolume") -> np.ndarray | None:
        """This volume's first voxel as a voxel (z, y, x) of `host`; None where their grids do not line up."""
        if not (np.allclose(self.spacing, host.spacing) and np.allclose(self.direction, host.direction, atol=1e-3)):
            return None
        apart = self.direction.reshape(3, 3).T @ (self.first - host.first) / self.spacing
        return np.round(apart).astype(int)[::-1]

    def window(self, start: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """image (C, *size), labels, brain, lesion of the box that starts at voxel `start` (z, y, x); 0 beyond."""
        first, shape = tuple(int(i) for i in start[::-1]), tuple(int(n) for n in size)
        image = np.stack([cut_box(channel, first, shape) for channel in self.image])
        return (image, *(cut_box(part, first, shape) for part in (self.labels, self.brain, self.lesion)))


def fainter(volume: TrainingVolume, start: np.ndarray, size: np.ndarray, share: float):
    """A window as `TrainingVolume.window` gives it, its lesion blended with `share` of the mirrored tissue.

    Only where that tissue is brain and not itself lesion.
    """
    image, labels, brain, lesion = volume.window(start, size)
    other, _, other_brain, other_lesion = volume.mirrored().window(start, size)
    weight = share * lesion.astype(np.float32) * np.clip(1 - other_lesion.astype(np.float32), 0, 1) * other_brain
    return image + weight * (other - image), labels, brain, lesion


def transplant(host, donor):
    """The host's window with the donor's lesion in it, where the host has brain; windows of the same place and size."""
    image, labels, brain, lesion = host
    given, given_labels, _, soft = donor
    weight = soft.astype(np.float32) * brain
    mixed = image + weight * (given - image)
    # A voxel is the donor's where most of its value is.
    return mixed, np.where(weight > 0.5, given_labels, labels).astype(labels.dtype), brain, np.maximum(lesion, soft)
