"""Another acquisition of a case, simulated: the patient and the labels stay, the scanner changes.

What is made here is no measurement of any scanner. It is named as simulated in the case's notes, with its kind,
strength and seed, and the same three give the same voxels. All volumes keep their grid, so that labels stay right as
they are: as in BraTS, where coarse studies were interpolated to 1 mm. Outside the brain nothing changes.
"""

import re
import zlib
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from MedSegLensLib.cases.boxes import box_of, widened
from MedSegLensLib.cases.case import MODALITIES, MODALITY_NAMES, Case
from MedSegLensLib.cases.foreground import background_value, brain_mask, looks_unstripped
from MedSegLensLib.cases.grid import voxel_ml
from MedSegLensLib.cohorts import scanner_effects as effects
from MedSegLensLib.errors import CaseError, UsageError

SIMULATED = "Simulated"
"""How a note begins that says that a case is not as it was acquired."""

MISSING = "missing-"
STRONGEST = 3.0
AROUND_MM = 12.0


@dataclass(frozen=True)
class Volume:
    """One modality on its way through a scanner, cut to the box of what was measured and some air around it.

    array: float32 (Z, Y, X), 0 outside and above 0 inside the brain. inside: bool, where it was measured. mean: of the
    brain. spacing: mm (Z, Y, X). slices: the array's axis that runs from foot to head. rng: of this case and modality.
    scanner: the same for all cases of a cohort.
    """

    array: np.ndarray
    inside: np.ndarray
    mean: float
    spacing: np.ndarray
    slices: int
    rng: np.random.Generator
    scanner: np.random.Generator


def low_field(volume: Volume, strength: float) -> np.ndarray:
    wanted = np.full(3, 1 + 0.6 * strength)
    wanted[volume.slices] = 5.0 * strength
    sigma = 0.08 * strength * volume.mean
    return effects.rician_in_coarse_voxels(volume.array, volume.inside, volume.spacing, wanted, sigma, volume.rng)


def thick_slices(volume: Volume, strength: float) -> np.ndarray:
    wanted = volume.spacing.copy()
    wanted[volume.slices] = 5.0 * strength
    return effects.coarser(volume.array, volume.inside, volume.spacing, wanted)


def low_resolution(volume: Volume, strength: float) -> np.ndarray:
    return effects.coarser(volume.array, volume.inside, volume.spacing, np.full(3, 1 + 1.5 * strength))


def motion(volume: Volume, strength: float) -> np.ndarray:
    movements = 3
    degrees, mm = volume.rng.uniform(-4 * strength, 4 * strength, (2, movements, 3))
    times = (np.arange(1, movements + 1) + volume.rng.uniform(-0.3, 0.3, movements)) / (movements + 1)
    return effects.moved(volume.array, volume.spacing, degrees, mm, times)


def bias_field(volume: Volume, strength: float) -> np.ndarray:
    # Median over 40 seeds: 0.75 to 1.32 of the middle brightness (2nd and 98th percentile in a ball), as an uncorrected
    # 3 T head coil has; twice this is TorchIO's default.
    return volume.array * effects.bias_field(volume.array.shape, 3, 0.25 * strength, volume.rng)


def other_contrast(volume: Volume, strength: float) -> np.ndarray:
    side, far, edge = volume.scanner.choice([-1, 1]), volume.scanner.uniform(0.25, 0.5), volume.scanner.uniform(-0.6, 1)
    array = effects.recontrasted(volume.array, volume.inside, float(np.exp(side * far * strength)))
    return effects.sharpened(array, volume.spacing, float(np.clip(edge * strength, -1, 2)))


def noise(volume: Volume, strength: float) -> np.ndarray:
    return effects.rician(volume.array, 0.1 * strength * volume.mean, volume.rng)


KINDS = {
    "low-field": (
        low_field,
        "slices of {5:g} mm, {1+.6:g} mm in the plane, Rician noise of {8:g} % of the brain's mean",
    ),
    "thick-slices": (thick_slices, "slices of {5:g} mm, averaged over their thickness"),
    "low-resolution": (low_resolution, "voxels of {1+1.5:g} mm along each axis"),
    "motion": (motion, "3 movements of up to {4:g} degrees and {4:g} mm during the scan"),
    "bias-field": (bias_field, "a field exp(p) with p a polynomial of order 3 and coefficients up to {.25:g}"),
    "other-contrast": (other_contrast, "a curve x^g with ln g of {.25:g} to {.5:g} either way, and an edge filter"),
    "noise": (noise, "Rician noise of {10:g} % of the brain's mean"),
}
"""What each does, and in words: '{5:g}' is 5 x strength, '{1+.6:g}' is 1 + 0.6 x strength."""


@dataclass(frozen=True)
class Acquisition:
    """kind: one of `KINDS`, or 'missing-<modality>'. strength: 1 is the documented one. seed: of what is random."""

    kind: str
    strength: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if self.kind not in kinds():
            cause = "is no acquisition that can be simulated."
            raise UsageError(self.kind, cause, f"Use one of {', '.join(kinds())}.")
        if not (np.isfinite(self.strength) and 0 < self.strength <= STRONGEST):
            cause = f"is not above 0 and up to {STRONGEST:g}."
            raise UsageError(f"strength {self.strength}", cause, "1 is the documented strength.")
        if self.seed < 0:
            raise UsageError(f"seed {self.seed}", "is negative.", "Give 0 or more.")

    @property
    def missing(self) -> str | None:
        """The modality that is taken away, if one is."""
        return self.kind.removeprefix(MISSING) if self.kind.startswith(MISSING) else None

    @property
    def in_words(self) -> str:
        """What is done, with its numbers."""
        if self.missing:
            return f"{self.missing} ({MODALITY_NAMES[self.missing]}) is left out"
        return _filled(KINDS[self.kind][1], self.strength)

    @property
    def note(self) -> str:
        return f"{SIMULATED}: {self.kind}, strength {self.strength:g}, seed {self.seed}: {self.in_words}."

    def apply(self, case: Case) -> Case:
        """The case as acquired so, on the grids that it had; labels are those of `case`.

        Raises CaseError where no volume would be left, UsageError where TorchIO is needed and absent.
        """
        if self.missing:
            images = {m: image for m, image in case.images.items() if m != self.missing}
            if not images:
                raise CaseError(case.name, f"without {self.missing} it has no volume.", "Leave out another modality.")
        else:
            images = {modality: self._acquired(case.name, modality, image) for modality, image in case.images.items()}
        said = (self.note,)
        if not self.missing and all(_same(images[m], image) for m, image in case.images.items()):
            said = (f"{self.note[:-1]}; its voxels are as coarse already, so that nothing changed.",)
        return replace(case, images=images, notes=(*case.notes, *said))

    def to_json(self) -> dict:
        return dict(vars(self))

    def _acquired(self, name: str, modality: str, image: sitk.Image) -> sitk.Image:
        given = sitk.GetArrayFromImage(image)
        background = background_value(given)
        whole = looks_unstripped(given, voxel_ml(image))  # then air was measured too
        inside = np.ones(given.shape, bool) if whole else given != background
        floor = min(float(given[inside].min()), background)
        brain = brain_mask({modality: image}) if whole else inside
        spacing = np.array(image.GetSpacing())[::-1]
        # Only the brain and some air around it go through: a third of BraTS's grid, and of the time.
        box = widened(box_of(inside), np.ceil(AROUND_MM / spacing).astype(int).tolist(), inside.shape)
        array = np.where(inside[box], given[box] - np.float32(floor), 0).astype(np.float32)
        which = MODALITIES.index(modality)
        volume = Volume(
            array,
            inside[box],
            float(array[brain[box]].mean()),
            spacing,
            2 - int(np.abs(np.array(image.GetDirection()).reshape(3, 3)[2]).argmax()),
            # Each modality has its own generator, so that leaving one out does not change the others.
            np.random.default_rng([self.seed, which, zlib.crc32(name.encode())]),
            np.random.default_rng([self.seed, which]),
        )
        made = KINDS[self.kind][0](volume, self.strength)
        # What was measured stays apart from what was not: 0 is read as background everywhere.
        made = np.maximum(made, np.float32(1e-3 * volume.mean)) + np.float32(floor)
        result = given.astype(np.float32)
        result[box] = np.where(volume.inside, made, given[box])
        placed = sitk.GetImageFromArray(result)
        placed.CopyInformation(image)
        return placed


def kinds() -> list[str]:
    """Every kind that there is."""
    return [*KINDS, *(MISSING + modality for modality in MODALITIES)]


def _same(made: sitk.Image, given: sitk.Image) -> bool:
    return np.allclose(sitk.GetArrayViewFromImage(made), sitk.GetArrayViewFromImage(given), rtol=1e-4)


def _filled(words: str, strength: float) -> str:
    """'{5:g}' becomes 5 x strength and '{1+.6:g}' 1 + .6 x strength."""

    def number(found: re.Match) -> str:
        base, _, slope = found[1].rpartition("+")
        return f"{float(base or 0) + float(slope) * strength:.3g}"

    return re.sub(r"\{([\d.+]+):g\}", number, words)
