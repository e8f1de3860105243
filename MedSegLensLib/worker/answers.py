"""What the worker is given and what it answers, as plain values. Arrays are (Z, Y, X); places are RAS, mm."""

from dataclasses import dataclass, field, replace

import numpy as np

from MedSegLensLib.editing.recipe import Edit, Recipe
from MedSegLensLib.failures.findings import Check
from MedSegLensLib.failures.points import Point as ReaderPoint
from MedSegLensLib.failures.strength import at_strength

Point = tuple[float, float, float]
Index = tuple[int, int, int]


@dataclass(frozen=True)
class Volume:
    """A volume as it lies in Slicer. array: (Z, Y, X), any numeric type; ijk_to_ras: (4, 4); name: used in messages."""

    array: np.ndarray
    ijk_to_ras: np.ndarray
    name: str = ""


@dataclass(frozen=True)
class Handshake:
    """What a worker says of itself.

    device: 'cpu', 'cuda' or 'mps'; device_line: the same for a reader ("CPU, torch 2.13.0, AVX2, 2 threads, 24.0 GB").
    packs: one dictionary per installed pack: name, version, hash, path, default_tap, taps (list), description,
        model_card (Markdown) and error (None, or why it cannot be used; then the others may be empty).
    """

    protocol: int
    version: str
    device: str
    device_line: str
    packs: list[dict]


@dataclass(frozen=True)
class LabelBox:
    """Labels of a part of the case. lower, upper: (z, y, x), half-open, on the case's own grid; labels: uint8."""

    lower: Index
    upper: Index
    labels: np.ndarray

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as an index of an array of the case's grid: `whole[box.slices] = box.labels`."""
        return tuple(slice(a, b) for a, b in zip(self.lower, self.upper, strict=True))


@dataclass(frozen=True)
class Opened:
    """A case opened with a pack: its segmentation, and what there is to say of both.

    labels: uint8 (Z, Y, X) on the case's own grid; ijk_to_ras: (4, 4) of that grid.
    grid_of: the modality whose volume has that grid. Where all volumes share one grid (the usual study) it is the
        first in the order t1n, t1c, t2w, t2f; else the finest of them, so that no detail is lost. Take its node for
        the reference geometry.
    pack: name, version, hash, path, default_tap, taps, description, model_card; the hash is the one that recipes name.
    label_meta: one dictionary per label: value, name, region, code {value, meaning, scheme} or None, colour [r, g, b].
    regions_ml: mL of WT, TC, ET, NCR, ED; voxel_ml: mL of one voxel of the case's grid.
    notes: sentences for the user (resampled, missing, not skull-stripped).
    engine: what computes ("cpu, float32, contiguous"); timings: seconds by stage.
    dice: by region against the reference given, None for a region that it lacks; None without a reference.
    comparisons: those that the pack is shipped with, as documents (`packs.comparisons.PackComparison`).
    """

    name: str
    labels: np.ndarray
    ijk_to_ras: np.ndarray
    grid_of: str
    pack: dict
    label_meta: list[dict]
    regions_ml: dict[str, float]
    voxel_ml: float
    notes: list[str]
    engine: str
    timings: dict[str, float]
    dice: dict[str, float | None] | None = None
    comparisons: list[dict] = field(default_factory=list)

    @property
    def taps(self) -> list[str]:
        return self.pack["taps"]

    @property
    def default_tap(self) -> str | None:
        return self.pack["default_tap"]


@dataclass(frozen=True)
class Edited:
    """The segmentation under a recipe.

    box: what to write over the labels shown so far: it holds all that this recipe changes of the unedited labels, and
        all that results fetched before had changed. None where nothing is to be written.
    regions_ml, dice: of the whole edited segmentation, as in `Opened`; seconds: the engine's own edit.
    """

    box: LabelBox | None
    regions_ml: dict[str, float]
    dice: dict[str, float | None] | None
    seconds: float


@dataclass(frozen=True)
class LatentRow:
    """One latent of the case.

    name: what the catalogue calls it, or where it fired ("71% in edema"), or ''. active_ml: where it fires;
    brain_share: the same as a share of the brain; maximum, mean: of its code where it fires; here: its code at the
    point asked for, or its mean inside the mask, else None; attribution_ml, suppressed_ml: change of the region's
    volume were it suppressed, predicted and measured, else None; dense: fires on more than a quarter of the brain;
    peak_ras: where its maximum lies; where: where it fired on the catalogue's cases, or ''; stability: its smallest
    cosine to partners in lenses of other seeds, None where not known; unclear: the catalogue found too little evidence
    for a name.
    """

    tap: str
    latent: int
    name: str
    active_ml: float
    brain_share: float
    maximum: float
    mean: float
    here: float | None
    attribution_ml: float | None
    suppressed_ml: float | None
    dense: bool
    peak_ras: Point
    where: str = ""
    stability: float | None = None
    unclear: bool = False

    @property
    def named(self) -> bool:
        """Whether it has a name, and not only a place."""
        return bool(self.name) and self.name != self.where


@dataclass(frozen=True)
class Overlay:
    """A volume to lay over the anatomy: float32 (z, y, x) on a grid of its own, mostly coarser than the case's; VTK
    interpolates. maximum: its largest value."""

    array: np.ndarray = field(repr=False)
    ijk_to_ras: np.ndarray
    maximum: float


@dataclass(frozen=True)
class ProposalAnswer:
    """What few latents can do for a point (`failures.repair.Proposal`), on the case's own grid.

    before, after: the recipe that the point was asked over, and with the proposal at strength 1; equal where no latent
        does this. words: what the latents are; reason: why there is nothing, where there is nothing, else "".
    box: where the labels under `after` differ from the *unedited* ones, with the former; None where nowhere.
    tissue: 1 in the tissue that was found, whether or not a latent does something there; tissue_ml: its volume.
    moved: share (0..1) of it that comes out as the point says. regions_ml: of the whole segmentation under `after`.
    """

    point: ReaderPoint
    before: Recipe
    after: Recipe
    words: str
    reason: str
    box: LabelBox | None
    tissue: LabelBox | None
    tissue_ml: float
    moved: float
    regions_ml: dict[str, float]
    seconds: float

    @property
    def edits(self) -> tuple[Edit, ...]:
        """Those that are proposed, at strength 1."""
        kept = {edit: None for edit in self.before.edits}
        return tuple(edit for edit in self.after.edits if edit not in kept)

    def at(self, strength: float) -> Recipe:
        """The recipe with the proposal at a strength: gains to this power, 0 for none, 1 as fitted, at most 2."""
        if strength == 0:
            return self.before
        return replace(self.before, edits=(*self.before.edits, *at_strength(self.edits, strength)))


@dataclass(frozen=True)
class CheckAnswer:
    """check: what was found. risk: how likely each voxel is wrong, 0 to 1, on the case's own grid."""

    check: Check
    risk: Overlay
