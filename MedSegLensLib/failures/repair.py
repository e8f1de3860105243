"""Repair by pointing: few latents whose strengths, changed where a point says so, move the segmentation its way.

A click is answered by itself, over the recipe so far. The latents are those that the target at the click depends on
most (gradient x activation); their gains are fitted through the tail alone, bounded, and held back by a term that
keeps everything else as it was:

    L(g) = - mean_M [w log p_g(target)]  +  STAY * sum_outside KL(p_1 || p_g) / |M|  +  SPARSE * mean |log g|

M: the tissue connected to the click and like it (`tissue.py`), of what the point contradicts; w: its likeness. Gains
multiply codes, so that a change keeps the latent's own shape and its borders follow the anatomy. What comes out is a
recipe like any other: seen before it is applied, adjusted by one strength, undone.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from MedSegLensLib.cases.boxes import box_of
from MedSegLensLib.cases.case import REGIONS, region_mask
from MedSegLensLib.editing.recipe import Edit, PackReference, Recipe, VoxelMask
from MedSegLensLib.errors import UsageError
from MedSegLensLib.failures.points import Point
from MedSegLensLib.failures.tissue import ALIKE, REACH_MM, tissue_at

if TYPE_CHECKING:
    from MedSegLensLib.editing.session import Session

STEPS = 12
MARGIN = 12
"""Voxels around the tissue that the fit looks at, where nothing is to change."""
LARGEST_GAIN = 5.0


@dataclass(frozen=True)
class Settings:
    """How a repair is sought.

    candidates: latents whose gains are fitted; kept: those of the recipe. stay, sparse: weights of the loss (above).
    alike, reach_mm, centred: of the tissue, see `tissue.tissue_at`. near_mm: how far from the click its say has fallen
    by half (0: not at all). samples: slices or windows that the gains are fitted on. least_change: share of the tissue
    that must come out as the point says, or no latent does this.
    """

    candidates: int = 8
    kept: int = 5
    stay: float = 3.0
    sparse: float = 0.02
    alike: float = ALIKE
    reach_mm: float = REACH_MM
    centred: bool = False
    near_mm: float = 0.0
    samples: int = 8
    least_change: float = 0.05


Progress = Callable[[str, float], None]


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
        return Recipe(name or self.recipe.name, self.recipe.pack, (*old, *_edits(self.gains, self.where, strength)))


def propose(
    session: "Session",
    point: Point,
    recipe: Recipe | None = None,
    tap: str | None = None,
    labels: np.ndarray | None = None,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    progress: Progress | None = None,
) -> Proposal:
    """What few latents can do for one point, over the edits of `recipe` so far.

    labels: the segmentation under `recipe`, uint8 (Z, Y, X), where it is known already.

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
    allowed = (inside != point.inside) & session.conformed.brain
    tissue, like = tissue_at(session, tap, voxel, allowed, settings.alike, settings.reach_mm, settings.centred)
    if settings.near_mm:
        like *= nearness(session, voxel, settings.near_mm)
    where = _mask_of(session, tissue)
    ml = float(np.count_nonzero(tissue)) * session.conformed.voxel_ml

    say("which latents", 0.2)
    fit = _Fit(session, tap, point, tissue, like, voxel, before_recipe, settings)
    if not fit.samples:
        return nothing("No latent fires here.", where, ml)
    slopes = fit.slopes()
    chosen = [int(j) for j in np.argsort(-np.abs(slopes))[: settings.candidates] if slopes[j] != 0]
    if not chosen:
        return nothing("No latent that fires here changes this.", where, ml)
    say("how strongly", 0.4)
    values = fit.gains(chosen)
    order = np.argsort(-np.abs(np.log(values)) * np.abs(slopes[chosen]))[: settings.kept]
    kept = [chosen[i] for i in order if abs(math.log(values[i])) > 0.02]
    if kept and len(kept) < len(chosen):
        values = fit.gains(kept, [values[chosen.index(j)] for j in kept])
    gains = tuple(Gain(tap, j, float(v)) for j, v in zip(kept, values, strict=False) if abs(math.log(v)) > 0.02)
    if not gains:
        return nothing("No latent does this without changing what is right around it.", where, ml)
    proposed = Recipe(before_recipe.name, before_recipe.pack, (*before_recipe.edits, *_edits(gains, where, 1.0)))
    say("what would change", 0.8)
    after = session.edit(proposed).labels
    moved = float(np.mean(region_mask(after, point.region)[tissue] == point.inside))
    if moved < settings.least_change:
        return nothing("No latent does this: what fires here moves the segmentation too little.", where, ml)
    seconds = time.perf_counter() - started
    return Proposal(point, tap, gains, where, ml, proposed, before, after, moved, "", seconds)


def voxel_at(session: "Session", point: Point) -> tuple[int, int, int]:
    """The voxel (z, y, x) of the conformed box at a point. Raises UsageError for one outside the head or the brain."""
    conformed = session.conformed
    spacing, direction = np.array(conformed.grid.spacing), np.reshape(conformed.grid.direction, (3, 3))
    lps = np.array(point.ras) * (-1, -1, 1)
    index = np.linalg.solve(direction * spacing, lps - np.array(conformed.grid.point(conformed.start)))
    x, y, z = (int(v) for v in np.floor(index + 0.5))
    shape = conformed.brain.shape
    at = ", ".join(f"{v:.0f}" for v in point.ras)
    if not all(0 <= i < n for i, n in zip((z, y, x), shape, strict=True)):
        raise UsageError(f"point ({at}) mm", "it lies outside the head.", "Place it on the brain.")
    if not conformed.brain[z, y, x]:
        raise UsageError(f"point ({at}) mm", "it lies outside the brain.", "Place it on the brain.")
    return z, y, x


def nearness(session: "Session", voxel: tuple[int, int, int], half_mm: float) -> np.ndarray:
    """2^-(d / half_mm)^2 by the distance d of each voxel to one, float32 (Z, Y, X)."""
    spacing = session.conformed.grid.spacing[::-1]
    axes = [
        (np.arange(n) - v) * s / half_mm for n, v, s in zip(session.conformed.brain.shape, voxel, spacing, strict=True)
    ]
    z, y, x = (np.exp2(-np.square(a)).astype(np.float32) for a in axes)
    return z[:, None, None] * y[:, None] * x


def _edits(gains: Sequence[Gain], where: VoxelMask, strength: float) -> tuple[Edit, ...]:
    return tuple(Edit(g.tap, g.latent, "scale", min(g.value**strength, LARGEST_GAIN**2), where) for g in gains)


def _mask_of(session: "Session", tissue: np.ndarray) -> VoxelMask:
    return VoxelMask.from_image(session.conformed.to_image(tissue))


class _Fit:
    """The loss of one point over gains of latents of one tap, through the tail on a few samples."""

    def __init__(
        self, session: "Session", tap: str, point: Point, tissue, like, voxel, recipe: Recipe, settings: Settings
    ):
        self.settings = settings
        self.session, self.tap, self.target = session, tap, list(REGIONS[point.region])
        self.inside = point.inside
        self.codes, self.lens = session.codes_at(tap), session.lenses[tap]
        self.samples: dict[int, _Here] = {}
        sampling = session.sampling
        grid = self.codes.grid[1:]
        wanted = self._spread(np.flatnonzero(tissue.any((1, 2))), voxel[0]) if not sampling.overlapping else None
        for sample in range(sampling.count) if wanted is None else wanted:
            inputs = sampling.inputs(torch.from_numpy(np.stack([tissue, like]).astype(np.float32)), [sample])[0]
            mask, weight = inputs[0] > 0.5, inputs[1]
            if not mask.any():
                continue
            share = (
                torch.nn.functional.adaptive_avg_pool2d if len(grid) == 2 else torch.nn.functional.adaptive_avg_pool3d
            )
            tokens = share(inputs[:1], grid)[0]
            tokens = tokens >= 0.5 if (tokens >= 0.5).any() else tokens > 0
            box = tuple(
                slice(max(0, s.start - MARGIN), min(n, s.stop + MARGIN))
                for s, n in zip(box_of(mask.numpy()), sampling.sample_shape, strict=True)
            )
            tokens = tokens.numpy() & session.brain_tokens[tap][sample]
            if tokens.any():
                self.samples[sample] = _Here(box, mask[box], weight[box], tokens)
        self.base = self._base(recipe)
        total = sum(float(h.weight[h.mask].sum()) for h in self.samples.values())
        self.weight = max(total, 1e-6)

    def _spread(self, slices: np.ndarray, own: int) -> list[int]:
        most = self.settings.samples
        if len(slices) <= most:
            return slices.tolist()
        picked = slices[np.linspace(0, len(slices) - 1, most - 1).round().astype(int)]
        return sorted({int(own), *picked.tolist()})

    def _base(self, recipe: Recipe) -> dict[int, torch.Tensor]:
        """What the recipe so far already adds at this tap, (C, *grid) by sample."""
        from MedSegLensLib.editing.latent_edits import LatentEdits

        edits = [e for e in recipe.edits if e.tap == self.tap]
        if not edits:
            return {}
        earlier = LatentEdits(self.session, self.tap, edits)
        return {
            s: torch.einsum("j...,jc->c...", m, earlier.directions) for s, m in earlier.maps(list(self.samples)).items()
        }

    def _change(self, sample: int, maps: torch.Tensor, directions: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        change = torch.einsum("j,j...,jc->c...", factors, maps, directions)
        return change + self.base[sample] if sample in self.base else change

    def _loss(self, sample: int, logits: torch.Tensor) -> torch.Tensor:
        here = self.samples[sample]
        say = log_odds_of(logits, self.target)  # log p(region), log p(not region)
        wanted = say[0] if self.inside else say[1]
        pull = -(wanted[here.mask] * here.weight[here.mask]).sum()
        now = logits.log_softmax(0)
        kept = (here.before.exp() * (here.before - now)).sum(0)[~here.mask].sum()
        return (pull + self.settings.stay * kept) / self.weight

    def slopes(self) -> np.ndarray:
        """dL / d log g of every latent at g = 1, float64 (d_sae,)."""
        slope = np.zeros(self.codes.n_latents)
        decoder = self.lens.W_dec
        for sample, here in self.samples.items():
            shape = self.session.replay.tap_shapes[self.tap]
            change = self.base.get(sample, torch.zeros(shape)).clone().requires_grad_(True)
            with torch.enable_grad():
                logits = self.session.replay.logits_near(self.tap, sample, change, here.box)
                here.before = logits.detach().log_softmax(0)
                loss = self._loss(sample, logits)
            (gradient,) = torch.autograd.grad(loss, change)
            along = torch.einsum("c...,jc->j...", gradient, decoder)[:, torch.from_numpy(here.tokens)]
            size = int(np.prod(self.codes.grid[1:]))
            cells = np.flatnonzero(here.tokens)
            here.codes = self._codes_at(sample, size, cells)
            slope += (along.numpy() * here.codes).sum(1)
        return slope

    def _codes_at(self, sample: int, size: int, cells: np.ndarray) -> np.ndarray:
        """Codes of all latents at some cells of one sample, float32 (d_sae, cells)."""
        codes = self.codes
        column = np.full(size, -1)
        column[cells] = np.arange(len(cells))
        entries = np.flatnonzero((codes.tokens >= sample * size) & (codes.tokens < (sample + 1) * size))
        where = column[codes.tokens[entries] - sample * size]
        entries, where = entries[where >= 0], where[where >= 0]
        latent = np.searchsorted(codes.pointers, entries, side="right") - 1
        found = np.zeros((codes.n_latents, len(cells)), np.float32)
        found[latent, where] = codes.values[entries]
        return found

    def gains(self, latents: list[int], start: Sequence[float] | None = None) -> np.ndarray:
        """The fitted gains of these latents, float64 (len(latents),), 0 to `LARGEST_GAIN`."""
        directions = self.lens.W_dec[latents]
        maps = {}
        for sample, here in self.samples.items():
            dense = torch.zeros((len(latents), *here.tokens.shape))
            dense[:, torch.from_numpy(here.tokens)] = torch.from_numpy(here.codes[latents])
            maps[sample] = dense
        begin = torch.tensor([1.0] * len(latents) if start is None else list(start), dtype=torch.float32)
        theta = torch.logit((begin / LARGEST_GAIN).clamp(1e-3, 1 - 1e-3)).requires_grad_(True)
        optimiser = torch.optim.LBFGS([theta], lr=1.0, max_iter=STEPS, history_size=8, line_search_fn="strong_wolfe")
        replay = self.session.replay

        def closure() -> torch.Tensor:
            optimiser.zero_grad()
            total = 0.0
            for sample, here in self.samples.items():
                with torch.enable_grad():
                    factors = LARGEST_GAIN * torch.sigmoid(theta) - 1
                    change = self._change(sample, maps[sample], directions, factors)
                    logits = replay.logits_near(self.tap, sample, change, here.box)
                    loss = self._loss(sample, logits)
                loss.backward()
                total += float(loss.detach())
            with torch.enable_grad():
                held = self.settings.sparse * torch.log(LARGEST_GAIN * torch.sigmoid(theta)).abs().mean()
            held.backward()
            return torch.tensor(total + float(held.detach()))

        optimiser.step(closure)
        return (LARGEST_GAIN * torch.sigmoid(theta)).detach().double().numpy()


class _Here:
    """One sample of a fit: the box (of the sample) it looks at, the tissue in it, likeness, and tokens of the tap."""

    def __init__(self, box, mask: torch.Tensor, weight: torch.Tensor, tokens: np.ndarray):
        self.box, self.mask, self.weight, self.tokens = box, mask, weight, tokens
        self.before: torch.Tensor | None = None
        self.codes: np.ndarray | None = None


def log_odds_of(logits: torch.Tensor, values: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """log p(region) and log p(not region) of logits (K, ...), each (...)."""
    log_p = logits.log_softmax(0)
    others = [k for k in range(len(logits)) if k not in values]
    return log_p[values].logsumexp(0), log_p[others].logsumexp(0)
