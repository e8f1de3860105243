"""Repair by pointing: few latents whose strengths, changed where a point says so, move the segmentation its way.

A click is answered by itself, over the recipe so far. The latents are those that the target at the click depends on
most (gradient x activation); their gains are fitted through the tail alone and bounded (`gain_fit.py`). They act in
the tissue that is connected to the click and like it (`tissue.py`), and show there alone. Gains multiply codes, so that
a change keeps the latent's own shape; where nothing fires that could be raised, no latent does it, and that is said.
What comes out is a recipe like any other: seen before it is applied, adjusted by one strength, undone.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from MedSegLensLib.cases.case import REGIONS, region_mask
from MedSegLensLib.editing.latent_edits import LatentEdits
from MedSegLensLib.editing.places import voxel_of
from MedSegLensLib.editing.recipe import Edit, PackReference, Recipe, VoxelMask
from MedSegLensLib.errors import UsageError
from MedSegLensLib.failures.gain_fit import GainFit, LatentUnits, looks_at
from MedSegLensLib.failures.points import Point, contradict
from MedSegLensLib.failures.strength import at_strength
from MedSegLensLib.failures.tissue import ALIKE, REACH_MM, SURER, UNLIKE, disagreed, liker_than, no_surer, tissue_at

if TYPE_CHECKING:
    from MedSegLensLib.editing.session import Session

Progress = Callable[[str, float], None]

LEAST_LOG_GAIN = 0.02
"""A gain nearer to 1 than this is none."""


@dataclass(frozen=True)
class Settings:
    """How a repair is sought.

    candidates: latents whose gains are fitted; kept: those of the recipe. sparse: weight in the loss.
    alike, surer, unlike, reach_mm: of the tissue, see `tissue.py`.
    samples: slices or windows that the gains are fitted on.
    least_change: share of the tissue that must come out as the point says, or no latent does this: the tissue is then
        mostly not what the point says. Proposals below gained 0.007 of Dice on average (7 of 95 on failures of phantoms
        and of a training case under simulated acquisitions), all 0.12.
    """

    candidates: int = 8
    kept: int = 5
    sparse: float = 0.02
    alike: float = ALIKE
    surer: float = SURER
    unlike: tuple[float, ...] = UNLIKE
    reach_mm: float = REACH_MM
    samples: int = 8
    least_change: float = 0.4


@dataclass(frozen=True)
class Gain:
    """One latent of a proposal, and what its code is multiplied by at strength 1."""

    tap: str
    latent: int
    value: float


@dataclass(frozen=True)
class Proposal:
    """What is proposed for one point.

    gains: at most `KEPT`, strongest change first; empty where no latent does this.
    where: the tissue it acts in. tissue_ml: its volume.
    recipe: the recipe before, and these edits, at strength 1.
    before, after: uint8 (Z, Y, X) labels on the network's grid.
    moved: share (0..1) of the tissue that comes out as the point says.
    reason: why there is nothing, where there is nothing; else "".
    """

    point: Point
    tap: str
    gains: tuple[Gain, ...]
    where: VoxelMask | None
    tissue_ml: float
    recipe: Recipe
    before: np.ndarray = field(repr=False)
    after: np.ndarray = field(repr=False)
    moved: float
    reason: str
    seconds: float

    def at(self, strength: float, name: str | None = None) -> Recipe:
        """The recipe with the proposal at another strength: gains to this power, 0 for none, 1 as fitted, at most 2."""
        old = self.recipe.edits[: len(self.recipe.edits) - len(self.gains)]
        edits = (*old, *_edits(self.gains, self.where, strength))
        return replace(self.recipe, name=name or self.recipe.name, edits=edits)


def propose(
    session: "Session",
    point: Point,
    recipe: Recipe | None = None,
    tap: str | None = None,
    labels: np.ndarray | None = None,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    progress: Progress | None = None,
    earlier: Sequence[Point] = (),
    opinion: np.ndarray | None = None,
) -> Proposal:
    """What few latents can do for one point, over the edits of `recipe` so far.

    labels: the segmentation under `recipe`, uint8 (Z, Y, X), where it is known already. earlier: the points that the
    recipe answers already; what is liker to one that says the contrary stays as that made it. opinion: another
    segmentation of the case, uint8 (Z, Y, X), such as another pack's: where it says at the point what the point says,
    what it says around it is the tissue.

    Raises UsageError for a point outside the volume or the brain, or a region that the pack cannot tell.
    """
    started = time.perf_counter()
    say = progress or (lambda stage, share: None)
    tap = tap or session.pack.default_tap
    before_recipe = recipe or Recipe("repair", PackReference.of(session.pack))
    voxel = voxel_at(session, point)
    say("what is here", 0.0)
    if labels is None:
        labels = session.edit(before_recipe).labels if before_recipe.edits else session.labels
    before = labels

    def nothing(reason: str, where: VoxelMask | None = None, ml: float = 0.0) -> Proposal:
        seconds = time.perf_counter() - started
        return Proposal(point, tap, (), where, ml, before_recipe, before, before, 0.0, reason, seconds)

    inside = region_mask(before, point.region)
    if bool(inside[voxel]) == point.inside:
        return nothing(f"The segmentation already says {point.words} here.")
    tissue, like = tissue_of(session, tap, point, voxel, before, settings, earlier, opinion)
    where = _mask_of(session, tissue)
    ml = float(np.count_nonzero(tissue)) * session.conformed.voxel_ml

    say("which latents", 0.2)
    looks = looks_at(session, tap, tissue, like, voxel, settings.samples, _added(session, tap, before_recipe))
    if not looks:
        return nothing("No latent fires here.", where, ml)
    target = REGIONS[point.region]
    fit = GainFit(session, tap, LatentUnits(session, tap), looks, target, point.inside, settings.sparse)
    if not fit.slopes().any():
        return nothing("No latent that fires here changes this.", where, ml)
    say("how strongly", 0.4)
    gains = tuple(Gain(tap, j, value) for j, value in fitted_gains(fit, settings))
    if not gains:
        return nothing("No latent does this.", where, ml)
    proposed = replace(before_recipe, edits=(*before_recipe.edits, *_edits(gains, where, 1.0)))
    say("what would change", 0.8)
    after = session.edit(proposed).labels
    moved = float(np.mean(region_mask(after, point.region)[tissue] == point.inside))
    if moved < settings.least_change:
        return nothing("No latent does this: what fires here moves the segmentation too little.", where, ml)
    seconds = time.perf_counter() - started
    return Proposal(point, tap, gains, where, ml, proposed, before, after, moved, "", seconds)


def tissue_of(
    session: "Session",
    tap: str,
    point: Point,
    voxel: tuple[int, int, int],
    labels: np.ndarray,
    settings: Settings,
    earlier: Sequence[Point] = (),
    opinion: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Where one point acts, and the likeness of each voxel to it; see `tissue.tissue_at`, and `tissue.disagreed` for a
    second opinion."""
    allowed = (region_mask(labels, point.region) != point.inside) & session.conformed.brain
    if opinion is not None:
        piece = disagreed(session, voxel, allowed, labels, opinion, point.region, point.inside, settings.reach_mm)
        if piece is not None:
            return piece, piece.astype(np.float32)
    allowed &= no_surer(session, voxel, point.region, point.inside, settings.surer, settings.reach_mm)
    contrary = [voxel_at(session, other) for other in earlier if contradict(point, other)]
    if contrary:
        allowed &= liker_than(session, voxel, contrary, settings.reach_mm)
    return tissue_at(session, tap, voxel, allowed, settings.alike, settings.reach_mm, settings.unlike)


def fitted_gains(fit: GainFit, settings: Settings) -> list[tuple[int, float]]:
    """The units that a fit changes and their gains, at most `settings.kept`, strongest change first."""
    slopes = fit.slopes()
    chosen = [int(j) for j in np.argsort(-np.abs(slopes))[: settings.candidates] if slopes[j] != 0]
    if not chosen:
        return []
    values = fit.gains(chosen)
    order = np.argsort(-np.abs(np.log(values)) * np.abs(slopes[chosen]))[: settings.kept]
    kept = [chosen[i] for i in order if abs(math.log(values[i])) > LEAST_LOG_GAIN]
    if kept and len(kept) < len(chosen):
        values = fit.gains(kept, [values[chosen.index(j)] for j in kept])
    return [(j, float(v)) for j, v in zip(kept, values, strict=False) if abs(math.log(v)) > LEAST_LOG_GAIN]


def voxel_at(session: "Session", point: Point) -> tuple[int, int, int]:
    """The voxel (z, y, x) of the conformed box at a point. Raises UsageError for one outside the head or the brain."""
    conformed = session.conformed
    z, y, x = voxel_of(conformed, point.ras)
    shape = conformed.brain.shape
    at = ", ".join(f"{v:.0f}" for v in point.ras)
    if not all(0 <= i < n for i, n in zip((z, y, x), shape, strict=True)):
        raise UsageError(f"point ({at}) mm", "it lies outside the head.", "Place it on the brain.")
    if not conformed.brain[z, y, x]:
        raise UsageError(f"point ({at}) mm", "it lies outside the brain.", "Place it on the brain.")
    return z, y, x


def _edits(gains: Sequence[Gain], where: VoxelMask, strength: float) -> tuple[Edit, ...]:
    return at_strength((Edit(g.tap, g.latent, "scale", g.value, where, True) for g in gains), strength)


def _mask_of(session: "Session", tissue: np.ndarray) -> VoxelMask:
    return VoxelMask.from_image(session.conformed.to_image(tissue))


def _added(session: "Session", tap: str, recipe: Recipe) -> dict[int, torch.Tensor]:
    """What the recipe so far adds at a tap, (C, *tap grid) by sample."""
    edits = [edit for edit in recipe.edits if edit.tap == tap]
    if not edits:
        return {}
    earlier = LatentEdits(session, tap, edits)
    return {s: torch.einsum("j...,jc->c...", maps, earlier.directions) for s, maps in earlier.maps().items()}
