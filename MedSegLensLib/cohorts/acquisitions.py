"""Another acquisition of a case, simulated: the patient and the labels stay, the scanner changes.

What is made here is no measurement of any scanner. It is named as simulated in the case's notes, with its kind,
strength and seed, and the same three give the same voxels.
"""

import zlib
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from MedSegLensLib.cases.case import MODALITIES, MODALITY_NAMES, Case
from MedSegLensLib.cases.foreground import brain_mask
from MedSegLensLib.errors import CaseError, UsageError

SIMULATED = "Simulated"
"""How a note begins that says that a case is not as it was acquired."""


def _noise(case: Case, strength: float, rng: np.random.Generator) -> tuple[dict, str]:
    """Gaussian noise with a standard deviation of `strength` x 10 % of each modality's mean in the brain."""
    brain = brain_mask(case.images)
    images = {}
    for modality, image in case.images.items():
        array = sitk.GetArrayFromImage(image)
        sigma = 0.1 * strength * float(array[brain].mean())
        noisy = array + sigma * rng.standard_normal(array.shape, dtype=np.float32)
        images[modality] = _as(image, np.where(brain, noisy, array))
    return images, f"noise of {10 * strength:.3g} % of the mean brightness"


KINDS = {"noise": _noise}
MISSING = "missing-"


@dataclass(frozen=True)
class Acquisition:
    """kind: one of `KINDS`, or 'missing-<modality>'. strength: 1 is the documented one. seed: of what is random."""

    kind: str
    strength: float = 1.0
    seed: int = 0

    def __post_init__(self):
        known = [*KINDS, *(MISSING + m for m in MODALITIES)]
        if self.kind not in known:
            raise UsageError(self.kind, "is no acquisition that can be simulated.", f"Use one of {', '.join(known)}.")
        if not (np.isfinite(self.strength) and 0 < self.strength <= 3):
            raise UsageError(f"strength {self.strength}", "is not between 0 and 3.", "1 is the documented strength.")

    @property
    def missing(self) -> str | None:
        """The modality that is taken away, if one is."""
        return self.kind.removeprefix(MISSING) if self.kind.startswith(MISSING) else None

    def apply(self, case: Case) -> Case:
        """The case as acquired so: float32 volumes and labels on the grid that they had."""
        if self.missing:
            images = {m: i for m, i in case.images.items() if m != self.missing}
            if not images:
                raise CaseError(case.name, f"without {self.missing} it has no volume.", "Leave out another modality.")
            words = f"{self.missing} ({MODALITY_NAMES[self.missing]}) was left out"
        else:
            rng = np.random.default_rng([self.seed, zlib.crc32(case.name.encode())])  # each case its own noise
            images, words = KINDS[self.kind](case, self.strength, rng)
        note = f"{SIMULATED}: {self.kind}, strength {self.strength:g}, seed {self.seed}: {words}."
        return replace(case, images=images, notes=(*case.notes, note))

    def to_json(self) -> dict:
        return dict(vars(self))


def _as(image: sitk.Image, array: np.ndarray) -> sitk.Image:
    made = sitk.GetImageFromArray(array.astype(np.float32))
    made.CopyInformation(image)
    return made
