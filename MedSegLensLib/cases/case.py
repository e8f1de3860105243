"""The case: one patient's co-registered volumes at one time point, and what its labels mean."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from MedSegLensLib.cases.grid import settle_direction
from MedSegLensLib.errors import CaseError

if TYPE_CHECKING:
    import SimpleITK as sitk

MODALITIES = ("t1n", "t1c", "t2w", "t2f")
"""BraTS 2023 names, in the order of every table, channel list and dictionary of this project."""

MODALITY_NAMES = {"t1n": "T1", "t1c": "T1 with contrast", "t2w": "T2", "t2f": "T2 FLAIR"}
"""What a radiologist calls them."""

LABELS = {1: "NCR", 2: "ED", 3: "ET"}
"""BraTS 2023 label values: necrotic core, edema (SNFH), enhancing tumour. 0 is background."""

PHANTOM = "A procedural phantom"
"""How a note begins that says that a case is one: whatever is shown of it is named as invented."""

REGIONS = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,), "NCR": (1,), "ED": (2,)}
"""Label values of the regions that results are stated for."""


@dataclass(frozen=True)
class Case:
    """One patient's volumes, all on one grid.

    name: what the case is called, usually its folder's name.
    images: float32 volumes by modality; keys from `MODALITIES` and in that order; at least one.
    labels: uint8 volume with BraTS 2023 values (see `LABELS`) on the same grid, or None.
    notes: what was said while reading, one sentence each (resampling, matched series, missing, not skull-stripped).

    Raises CaseError when there is no volume, a key is no modality, or the volumes are not on one grid.
    """

    name: str
    images: "dict[str, sitk.Image]"
    labels: "sitk.Image | None" = None
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        unknown = [key for key in self.images if key not in MODALITIES]
        if unknown:
            raise CaseError(self.name, f"{unknown[0]!r} is not a modality.", f"Use one of {', '.join(MODALITIES)}.")
        if not self.images:
            raise CaseError(self.name, "it has no volume.", f"Give at least one of {', '.join(MODALITIES)}.")
        object.__setattr__(self, "images", {m: self.images[m] for m in MODALITIES if m in self.images})
        for image in [*self.images.values(), *([self.labels] if self.labels is not None else [])]:
            settle_direction(image)
        others = list(self.images.items())[1:] + ([("labels", self.labels)] if self.labels is not None else [])
        for key, image in others:
            if image.GetSize() != self.reference.GetSize():
                raise CaseError(
                    self.name,
                    f"{key} is {image.GetSize()} voxels and {next(iter(self.images))} {self.reference.GetSize()}.",
                    "Read it with read_case or read_volumes, which bring all volumes onto one grid.",
                )

    @property
    def reference(self) -> "sitk.Image":
        """The first volume: its grid is the case's own grid."""
        return next(iter(self.images.values()))

    @property
    def invented(self) -> bool:
        """Whether it is a phantom, freshly made or read from files that were written as one."""
        return any(note.startswith(PHANTOM) for note in self.notes)

    @property
    def missing(self) -> tuple[str, ...]:
        """Modalities that the case does not have."""
        return tuple(m for m in MODALITIES if m not in self.images)


def region_mask(labels: np.ndarray, region: str) -> np.ndarray:
    """Where `labels` (uint8, any shape, BraTS 2023 values) lies in `region` (a key of `REGIONS`), as bool."""
    values = REGIONS[region]
    mask = labels == values[0]
    for value in values[1:]:
        mask |= labels == value
    return mask
