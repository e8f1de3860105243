"""A case on the grid, in the box and in the units that a network wants, and results back on the case's own grid."""

from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from MedSegLensLib.cases.case import MODALITIES, MODALITY_NAMES, Case
from MedSegLensLib.cases.foreground import background_value, brain_mask
from MedSegLensLib.cases.grid import in_words, same_grid
from MedSegLensLib.cases.network_grid import NetworkGrid
from MedSegLensLib.cases.normalisation import Normalisation
from MedSegLensLib.errors import CaseError, PackError

MARGIN = 2
"""Voxels left around the brain, so that a network sees its border on all sides."""

SMOOTH_ABOVE = 1.5
"""Volumes are smoothed first where the new spacing is more than this many times the old one."""


@dataclass(frozen=True)
class InputSpec:
    """What a pack's segmenter wants as input. Tuples of three are in x, y, z order.

    modalities: the channels, in order.
    spacing: mm; None keeps the case's own (2D packs keep slices).
    size_divisor: the brain's box is padded to multiples of these, in voxels.
    orientation: where the axes point, as a DICOM code ('LPS').
    normalisation: what is done to each modality's values, see normalisation.py.
    may_be_missing: modalities that a case may lack; at least one must be present all the same.

    Raises PackError for a modality, orientation or normalisation that is not known, or numbers out of range.
    """

    modalities: tuple[str, ...] = MODALITIES
    spacing: tuple[float | None, float | None, float | None] = (None, None, None)
    size_divisor: tuple[int, int, int] = (1, 1, 1)
    orientation: str = "LPS"
    normalisation: str | dict = "zscore_brain"
    may_be_missing: tuple[str, ...] = ()

    def __post_init__(self):
        for name in ("modalities", "spacing", "size_divisor", "may_be_missing"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        unknown = [m for m in self.modalities + self.may_be_missing if m not in MODALITIES]
        if unknown or not self.modalities:
            raise PackError(
                "input", f"the modalities {unknown} are not known.", f"Use some of {', '.join(MODALITIES)}."
            )
        Normalisation.of(self.normalisation)
        pairs = [pair for axis in self.orientation for pair in ("LR", "AP", "IS") if axis in pair]
        if sorted(pairs) != ["AP", "IS", "LR"] or len(self.orientation) != 3:
            raise PackError("input", f"orientation {self.orientation!r} is not known.", "Use a code such as 'LPS'.")
        if len(self.spacing) != 3 or any(s is not None and not 0.05 <= s <= 50 for s in self.spacing):
            raise PackError("input", f"spacing {self.spacing} is not three lengths in mm.", "Use 0.05 to 50 or null.")
        if len(self.size_divisor) != 3 or any(not 1 <= d <= 512 for d in self.size_divisor):
            raise PackError("input", f"size_divisor {self.size_divisor} is not three counts.", "Use 1 to 512.")

    def to_json(self) -> dict:
        """The spec as JSON types; `from_json` gives an equal one back."""
        return {
            "modalities": list(self.modalities),
            "spacing": list(self.spacing),
            "size_divisor": list(self.size_divisor),
            "orientation": self.orientation,
            "normalisation": self.normalisation,
            "may_be_missing": list(self.may_be_missing),
        }

    @staticmethod
    def from_json(d: dict) -> "InputSpec":
        """The spec that `to_json` wrote."""
        return InputSpec(**d)


@dataclass
class Conformed:
    """A case as a network takes it, and the way back.

    array: float32 (C, Z, Y, X), the brain's box on the network's grid, normalised (by 'zscore_brain': 0 outside it).
    brain: bool (Z, Y, X), where the brain is within the box.
    present: per channel, whether the case had it; a channel that it lacks is 0.
    notes: the case's notes and what was said here, one sentence each.
    grid: the network's grid of the whole volume.
    start: the box's first voxel (x, y, z) on that grid; negative where the padding goes beyond the volume.
    reference: the case's own grid (its voxels are not used).
    """

    array: np.ndarray
    brain: np.ndarray
    present: tuple[bool, ...]
    notes: tuple[str, ...]
    grid: NetworkGrid
    start: tuple[int, int, int]
    reference: sitk.Image = field(repr=False)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel of the network's grid in millilitres."""
        return float(np.prod(self.grid.spacing)) / 1000.0

    def labels(self, image: sitk.Image) -> np.ndarray:
        """A label volume (on the case's grid or any other) in the box, uint8 (Z, Y, X), nearest neighbour; 0 outside.

        BraTS 2021's value 4 is taken as ET (3).
        """
        values = self._in_box(image).astype(np.uint8)
        values[values == 4] = 3
        return values

    def mask(self, image: sitk.Image) -> np.ndarray:
        """Where a volume (on the case's grid or any other) is not 0, in the box, bool (Z, Y, X), nearest neighbour."""
        return self._in_box(image) != 0

    def to_image(self, array: np.ndarray) -> sitk.Image:
        """An array (Z, Y, X) of the box as a volume with the box's own geometry, without resampling.

        bool becomes uint8 and float16 float32, which SimpleITK does not have; every other type is kept.
        """
        self._check(array)
        image = sitk.GetImageFromArray(_storable(array))
        image.SetSpacing(self.grid.spacing)
        image.SetDirection(self.grid.direction)
        image.SetOrigin(self.grid.point(self.start))
        return image

    def to_case(self, array: np.ndarray, *, interpolation: str = "nearest") -> sitk.Image:
        """An array (Z, Y, X) of the box on the case's own grid, 0 outside the box.

        interpolation: 'nearest' (labels, masks) or 'linear' (activations); of no effect where the two grids differ
        only in the order and sense of their axes: then voxels are copied. Types as in `to_image`.
        """
        if interpolation not in ("nearest", "linear"):
            raise ValueError(f"interpolation is 'nearest' or 'linear', not {interpolation!r}")
        if self.grid.resampled:
            kind = sitk.sitkNearestNeighbor if interpolation == "nearest" else sitk.sitkLinear
            return sitk.Resample(self.to_image(array), self.reference, sitk.Transform(), kind, 0)
        self._check(array)
        array = _storable(array)
        whole = np.zeros(self.reference.GetSize()[::-1], array.dtype)
        inside, box = _overlap(self.start, array.shape, self.grid.size)
        self.grid.oriented(whole)[inside] = array[box]
        image = sitk.GetImageFromArray(whole)
        image.CopyInformation(self.reference)
        return image

    def _check(self, array: np.ndarray) -> None:
        if array.shape != self.brain.shape:
            raise ValueError(f"the box is {self.brain.shape} (Z, Y, X), the array {array.shape}")

    def _in_box(self, image: sitk.Image) -> np.ndarray:
        if not self.grid.resampled and same_grid(image, self.reference):
            values = self.grid.oriented(sitk.GetArrayViewFromImage(image))
            return cut_box(values, self.start, self.brain.shape)
        box = self.to_image(self.brain)
        return sitk.GetArrayFromImage(sitk.Resample(image, box, sitk.Transform(), sitk.sitkNearestNeighbor, 0))


def conform(case: Case, spec: InputSpec) -> Conformed:
    """Bring a case to what `spec` asks for.

    The axes are reordered and reversed to the orientation (no interpolation: an oblique volume stays oblique); where
    a spacing is asked for and differs by more than 1 %, volumes are resampled linearly, smoothed first when the
    voxels grow by more than half. The brain's box (union of the modalities, specks apart from it left out, margin of
    2 voxels) is padded to multiples of `size_divisor`, if need be with zeros beyond the volume.

    'zscore_brain', the usual normalisation: (value - mean) / standard deviation over the brain's voxels of each
    modality, both taken after clipping to the 0.1 to 99.9 percentile, so that a vessel or an artefact of a few voxels
    does not move them; then limited to [-5, 5], so that those few voxels stay in the range a network has learned. The
    others are in normalisation.py.

    Raises CaseError when a modality is missing that the spec does not let a case lack, or none is present.
    """
    notes = list(case.notes)
    present = tuple(m in case.images for m in spec.modalities)
    if not any(present):
        raise CaseError(
            case.name,
            f"it has {', '.join(case.images)}, but none of {', '.join(spec.modalities)} that the pack takes.",
            f"Add one of {', '.join(spec.modalities)} or choose another pack.",
        )
    for modality in spec.modalities:
        if modality in case.images:
            continue
        if modality not in spec.may_be_missing:
            raise CaseError(
                case.name,
                f"{modality} ({MODALITY_NAMES[modality]}) is missing, and the pack needs it.",
                f"Add the {modality} volume, or choose a pack that may lack it.",
            )
        said = f"{modality} ({MODALITY_NAMES[modality]}) is missing"
        notes = [note for note in notes if note != f"{said}."]  # by the reader, before it was known what for
        notes.append(f"{said}: its channel is zero. The pack allows this, but read the result with caution.")

    images = {m: case.images[m] for m in spec.modalities if m in case.images}
    grid = NetworkGrid.of(case.reference, spec.orientation, spec.spacing)
    head = brain_mask(images)
    if grid.resampled:
        notes.append(f"Resampled to {in_words(grid.header())} for the segmenter, from {in_words(case.reference)}.")
        weight = _resampled(head.astype(np.float32), case.reference, grid)
        whole = weight >= 0.5
        if not whole.any():  # thinner than half a voxel everywhere
            whole = weight > 0
    else:
        whole = grid.oriented(head)

    low, high = _brain_box(whole)
    divisor = np.array(spec.size_divisor)[::-1]
    shape = -(-(high - low) // divisor) * divisor
    first = low - (shape - (high - low)) // 2
    start, shape = tuple(int(i) for i in first[::-1]), tuple(int(n) for n in shape)
    brain = cut_box(whole, start, shape)
    # Specks that the box leaves out may still touch its padding.
    kept = np.zeros(shape, bool)
    core = tuple(slice(int(a - f), int(b - f)) for a, b, f in zip(low, high, first, strict=True))
    kept[core] = brain[core]
    brain = kept

    normalisation = Normalisation.of(spec.normalisation)
    array = np.zeros((len(spec.modalities), *shape), np.float32)
    for channel, modality in enumerate(spec.modalities):
        if modality not in images:
            continue
        values = sitk.GetArrayViewFromImage(images[modality])
        background = background_value(values)
        if grid.resampled:
            # Dividing by the resampled brain keeps the background from darkening the brain's border.
            moved = _resampled(np.where(head, values - background, 0).astype(np.float32), case.reference, grid)
            values, background = moved / np.maximum(weight, 0.5), 0.0
        else:
            values = grid.oriented(values)
        box = cut_box(values, start, shape, fill=background)
        normalisation.apply(box, values, brain, background, out=array[channel])
    return Conformed(array, brain, present, tuple(notes), grid, start, case.reference)


def _resampled(array: np.ndarray, reference: sitk.Image, grid: NetworkGrid) -> np.ndarray:
    """`array` (Z, Y, X on the reference's grid) on the network's grid, linear, smoothed along axes that get coarser."""
    own = np.array(reference.GetSpacing())
    wanted = np.empty(3)
    wanted[list(grid.permutation)] = grid.spacing
    ratio = (wanted / own)[::-1]
    sigmas = np.where(ratio > SMOOTH_ABOVE, (ratio - 1) / 2, 0.0)
    if sigmas.any():
        array = ndimage.gaussian_filter(array, sigmas, mode="nearest", truncate=3.0)
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(reference)
    return sitk.GetArrayFromImage(sitk.Resample(image, grid.header(), sitk.Transform(), sitk.sitkLinear, 0.0))


def _brain_box(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and one-past-last voxel (z, y, x) of the mask's large pieces with a margin, within the volume.

    Pieces are found on every second to fourth voxel, which is enough for a box and takes a few milliseconds. A piece
    of less than a twentieth of the largest one is a speck.
    """
    step = tuple(4 if n >= 64 else 2 if n >= 32 else 1 for n in mask.shape)
    coarse = mask[tuple(slice(None, None, s) for s in step)]
    size = np.array(mask.shape)
    pieces, count = ndimage.label(coarse)
    if count == 0:
        low, high = np.zeros(3, int), size
    else:
        volumes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
        large = [s for s, v in zip(ndimage.find_objects(pieces), volumes, strict=True) if v * 20 >= volumes.max()]
        low = np.min([[s.start for s in piece] for piece in large], axis=0)
        high = np.max([[s.stop for s in piece] for piece in large], axis=0)
        # Between the coarse voxels more brain may lie: look for it, then put the margin around what is found.
        low, high = np.maximum((low - 1) * step, 0), np.minimum(high * step, size)
    around = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    for axis in range(3):
        filled = np.flatnonzero(around.any(axis=tuple(a for a in range(3) if a != axis)))
        if filled.size:
            low[axis], high[axis] = low[axis] + filled[0], low[axis] + filled[-1] + 1
    return np.maximum(low - MARGIN, 0), np.minimum(high + MARGIN, size)


def _overlap(start: tuple[int, int, int], shape: tuple[int, ...], size: tuple[int, int, int]) -> tuple:
    """Slices (Z, Y, X) of the part of a box that lies in the volume: in the volume, and in the box."""
    inside, box = [], []
    for first, length, whole in zip(start[::-1], shape, size[::-1], strict=True):
        a, b = max(first, 0), max(min(first + length, whole), 0)
        inside.append(slice(a, b))
        box.append(slice(a - first, b - first))
    return tuple(inside), tuple(box)


def cut_box(array: np.ndarray, start: tuple[int, int, int], shape: tuple[int, ...], fill: float = 0) -> np.ndarray:
    """A copy of the box (start in x, y, z; shape in Z, Y, X), `fill` where it goes beyond the array."""
    cut = np.full(shape, fill, array.dtype)
    inside, box = _overlap(start, shape, array.shape[::-1])
    cut[box] = array[inside]
    return cut


def _storable(array: np.ndarray) -> np.ndarray:
    if array.dtype == bool:
        return array.view(np.uint8) if array.flags.c_contiguous else array.astype(np.uint8)
    return array.astype(np.float32) if array.dtype == np.float16 else array
