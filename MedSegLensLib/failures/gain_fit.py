"""How strongly to change what fires at a point: gains of a few units, fitted through the tail alone.

    L(g) = - sum_v w_v log p_g(target, v) / W + sparse * mean |log g|

v: voxels of the tissue in some slices or windows; w: its likeness to the click, W their sum. Nothing holds back what
happens elsewhere: the edits are exact (`editing.exact`) and do not show there. A unit is a latent of the lens
(`LatentUnits`); the benchmark fits other things by the same loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from MedSegLensLib.cases.boxes import box_of
from MedSegLensLib.diffing.fitting import descend
from MedSegLensLib.failures.strength import LARGEST_GAIN
from MedSegLensLib.segmenters.sampling import Box

if TYPE_CHECKING:
    from MedSegLensLib.editing.session import Session

STEPS = 12
"""Iterations of LBFGS."""


class Units(Protocol):
    """What gains multiply: unit j adds (g_j - 1) times its value times its direction to a tap's token."""

    directions: torch.Tensor  # (J, C)

    def at(self, sample: int, cells: np.ndarray) -> np.ndarray:
        """Values of all units at some tokens of a sample, float32 (J, len(cells))."""


class LatentUnits:
    """The latents of a session's lens, by their recorded codes."""

    def __init__(self, session: "Session", tap: str):
        self.directions, self._codes = session.lenses[tap].W_dec.float(), session.codes_at(tap)
        self._size = int(np.prod(self._codes.grid[1:]))

    def at(self, sample: int, cells: np.ndarray) -> np.ndarray:
        codes, first = self._codes, sample * self._size
        column = np.full(self._size, -1)
        column[cells] = np.arange(len(cells))
        entries = np.flatnonzero((codes.tokens >= first) & (codes.tokens < first + self._size))
        where = column[codes.tokens[entries] - first]
        entries, where = entries[where >= 0], where[where >= 0]
        latent = np.searchsorted(codes.pointers, entries, side="right") - 1
        values = np.zeros((codes.n_latents, len(cells)), np.float32)
        values[latent, where] = codes.values[entries]
        return values


@dataclass
class Look:
    """One slice or window that a fit looks at.

    box: of the sample, all below is cut to it. weight: likeness, float32, 0 outside the tissue. tokens: where units are
    changed, bool (*tap grid). base: what earlier edits add at the tap, (C, *tap grid) or None. values: of the units at
    the tokens, (J, n).
    """

    sample: int
    box: Box
    weight: torch.Tensor
    tokens: np.ndarray
    base: torch.Tensor | None
    values: np.ndarray = field(init=False)


class GainFit:
    """The loss of one point over gains of units at one tap.

    target: label values of the point's region; inside: whether the point lies in it.
    """

    def __init__(
        self,
        session: "Session",
        tap: str,
        units: Units,
        looks: Sequence[Look],
        target: Sequence[int],
        inside: bool,
        sparse: float,
    ):
        self.session, self.tap, self.units, self.looks = session, tap, units, looks
        self.target, self.inside, self.sparse = list(target), inside, sparse
        self.weight = max(sum(float(look.weight.sum()) for look in looks), 1e-6)
        shape = session.replay.tap_shapes[tap]
        self._slopes = np.zeros(len(units.directions))
        for look in looks:
            look.values = units.at(look.sample, np.flatnonzero(look.tokens))
            change = (torch.zeros(shape) if look.base is None else look.base.clone()).requires_grad_()
            with torch.enable_grad():
                logits = session.replay.logits_near(tap, look.sample, change, look.box)
                loss = self._loss(look, logits)
            (gradient,) = torch.autograd.grad(loss, change)
            along = units.directions @ gradient[:, torch.from_numpy(look.tokens)]
            self._slopes += (along.numpy() * look.values).sum(1)

    def slopes(self) -> np.ndarray:
        """dL / dg of every unit where nothing is changed yet, float64 (J,): gradient x activation."""
        return self._slopes

    def gains(self, chosen: Sequence[int], start: Sequence[float] | None = None) -> np.ndarray:
        """The fitted gains of these units, from `start` (1) on: float64 (len(chosen),), 0 to `LARGEST_GAIN`."""
        chosen = list(chosen)
        begin = torch.tensor([1.0] * len(chosen) if start is None else list(start), dtype=torch.float32)
        theta = torch.logit((begin / LARGEST_GAIN).clamp(1e-3, 1 - 1e-3))

        def of_look(look: Look, near, effects: torch.Tensor, base: torch.Tensor | float, theta: torch.Tensor):
            gain = LARGEST_GAIN * torch.sigmoid(theta)
            return self._loss(look, near(base + torch.tensordot(gain - 1, effects, 1)))

        def held(theta: torch.Tensor) -> torch.Tensor:
            return self.sparse * torch.log(LARGEST_GAIN * torch.sigmoid(theta)).abs().mean()

        terms = [partial(of_look, look, *self._effects(look, chosen)) for look in self.looks]
        theta = descend(theta, [*terms, held], STEPS)
        return (LARGEST_GAIN * torch.sigmoid(theta)).double().numpy()

    @torch.no_grad()
    def _effects(self, look: Look, chosen: list[int]):
        """The tail of a look, what doubling each unit adds where it starts, (J, C, *window), and what is there yet."""
        replay = self.session.replay
        near = replay.near(self.tap, look.sample, look.box)
        tokens, effects = torch.from_numpy(look.tokens), []
        for j in chosen:
            map_ = torch.zeros(replay.tap_shapes[self.tap][1:])
            map_[tokens] = torch.from_numpy(look.values[j])
            effects.append(near.effect(map_, self.units.directions[j]).float())
        return near, torch.stack(effects), 0.0 if look.base is None else near.change(look.base).float()

    def _loss(self, look: Look, logits: torch.Tensor) -> torch.Tensor:
        in_region, outside = log_odds_of(logits, self.target)
        return -((in_region if self.inside else outside) * look.weight).sum() / self.weight


def looks_at(
    session: "Session",
    tap: str,
    tissue: np.ndarray,
    like: np.ndarray,
    voxel: tuple[int, int, int],
    most: int,
    base: dict[int, torch.Tensor],
) -> list[Look]:
    """At most `most` slices or windows of the tissue (bool, Z, Y, X), evenly spread, the click's own among them.

    like: float32 (Z, Y, X), see `tissue.tissue_at`. base: what earlier edits add at the tap, by sample.
    """
    sampling, grid = session.sampling, session.replay.tap_shapes[tap][1:]
    pool = torch.nn.functional.adaptive_avg_pool2d if len(grid) == 2 else torch.nn.functional.adaptive_avg_pool3d
    box = box_of(tissue)
    samples = sampling.samples_of(box) if box else []
    if not sampling.overlapping:
        samples = [s for s in samples if tissue[s].any()]
        if len(samples) > most:
            picked = np.linspace(0, len(samples) - 1, most - 1).round().astype(int)
            samples = sorted({voxel[0], *(samples[i] for i in picked)})
    volume = torch.from_numpy(np.stack([tissue, like]).astype(np.float32))
    looks = []
    for sample in samples:
        inputs = sampling.inputs(volume, [sample])[0]
        mask = inputs[0] > 0.5
        if not mask.any():
            continue
        tokens = (pool(inputs[:1], grid)[0] > 0).numpy() & session.brain_tokens[tap][sample]
        if not tokens.any():
            continue
        around = box_of(mask.numpy())
        looks.append(Look(sample, around, inputs[1][around], tokens, base.get(sample)))
    return looks


def log_odds_of(logits: torch.Tensor, values: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """log p(region) and log p(not region) of logits (K, ...), each (...)."""
    log_p = logits.log_softmax(0)
    others = [k for k in range(len(logits)) if k not in values]
    return log_p[list(values)].logsumexp(0), log_p[others].logsumexp(0)
