"""What a repair by latents is held against, each under the same clicks and confined to the same tissue.

A control answers clicks one after another (`answer`), each over what the earlier ones did, and holds `labels`. Fitted
ones have the loss of `failures.gain_fit`: what the point says, weighted by likeness, and a term that keeps the rest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from scipy import ndimage

from MedSegLensLib.cases.boxes import box_of
from MedSegLensLib.cases.case import REGIONS, region_mask
from MedSegLensLib.diffing.fitting import descend
from MedSegLensLib.diffing.tails import TailReader
from MedSegLensLib.editing.places import share_inside
from MedSegLensLib.editing.session import Session, best_label
from MedSegLensLib.editing.splice import dice
from MedSegLensLib.failures.gain_fit import GainFit, LatentUnits, Look, Units, log_odds_of, looks_at
from MedSegLensLib.failures.points import Point
from MedSegLensLib.failures.repair import Settings, fitted_gains
from MedSegLensLib.lenses.lens import Lens

RADII_MM = (5.0, 10.0, 20.0)
LINEAR_STAY = 30.0
"""Weight of the stay-put term of linear fits; 3 for gains (DESIGN: both were found so in the first experiment)."""


@dataclass(frozen=True)
class Click:
    """A point, its voxel, and the tissue that every method is confined to (see `failures.tissue`)."""

    point: Point
    voxel: tuple[int, int, int]
    tissue: np.ndarray
    like: np.ndarray


class TapValues:
    """A tap's value and the tail behind it, sample by sample, computed where they are asked for and kept."""

    def __init__(self, session: Session, tap: str):
        self.session, self.tap = session, tap
        network = session.pack.network().eval().requires_grad_(False)
        channels = len(session.conformed.array)
        self.reader = TailReader(network, tap, (channels, *session.sampling.sample_shape))
        self._kept: dict[int, tuple] = {}

    def read(self, samples: Sequence[int]) -> None:
        missing = [sample for sample in samples if sample not in self._kept]
        if missing:
            volume = torch.from_numpy(self.session.conformed.array)
            inputs = self.session.sampling.inputs(volume, missing)
            _, x, others = self.reader.values(inputs, 4)
            for i, sample in enumerate(missing):
                self._kept[sample] = inputs[i : i + 1], x[i : i + 1], [o[i : i + 1] for o in others]

    def at(self, sample: int, cells: np.ndarray) -> torch.Tensor:
        """The tap's value at some tokens of a sample, float32 (n, C)."""
        self.read([sample])
        return self._kept[sample][1][0].flatten(1).T[torch.from_numpy(cells)].float()

    def behind(self, sample: int, box) -> tuple[Callable, torch.Tensor]:
        """The tail of one sample for a box of it, and what goes in."""
        self.read([sample])
        inputs, x, others = self._kept[sample]
        tail = self.reader.behind(inputs, x, others, box)
        return tail, x[(..., *tail.window)]


@dataclass
class RawChannels:
    """The channels of the tap themselves as units: gains multiply what a channel holds."""

    values: TapValues
    directions: torch.Tensor

    def at(self, sample, cells):
        return np.ascontiguousarray(self.values.at(sample, cells).T.numpy())


@dataclass
class CodesOf:
    """The latents of another lens at the same tap."""

    values: TapValues
    lens: Lens

    @property
    def directions(self):
        return self.lens.W_dec

    def at(self, sample, cells):
        return np.ascontiguousarray(self.lens.encode(self.values.at(sample, cells)).T.numpy())


@dataclass
class Constant:
    """Directions added with one strength at every token: gains 0 to 5 are -1 to +4 times the direction."""

    directions: torch.Tensor

    def at(self, sample, cells):
        return np.ones((len(self.directions), len(cells)), np.float32)


class AtTap:
    """Gains of units at the default tap, chosen and fitted as a repair chooses and fits latents.

    along: the directions that are written in place of the units' own, by number; None for their own.
    """

    def __init__(self, session: Session, units_of: Callable[[Point], Units], settings: Settings, along=None):
        self.session, self.tap, self.units_of, self.settings = session, session.pack.default_tap, units_of, settings
        self.labels, self.added, self.along = session.labels, {}, along

    def answer(self, click: Click) -> None:
        point, chosen = click.point, self.settings
        looks = looks_at(self.session, self.tap, click.tissue, click.like, click.voxel, chosen.samples, self.added)
        if not looks:
            return
        units = self.units_of(point)
        fit = GainFit(
            self.session, self.tap, units, looks, REGIONS[point.region], point.inside, chosen.stay, chosen.sparse
        )
        gains = fitted_gains(fit, chosen)
        if gains:
            self.write(units, gains, click.tissue)

    @torch.no_grad()
    def write(self, units: Units, gains: list[tuple[int, float]], tissue: np.ndarray) -> None:
        """The gains on all tokens of the tissue, and the labels under them."""
        session, shape = self.session, self.session.replay.tap_shapes[self.tap]
        chosen, factors = [j for j, _ in gains], np.array([g - 1 for _, g in gains], np.float32)
        directions = units.directions[chosen] if self.along is None else self.along[chosen]
        self.labels = self.labels.copy()
        for sample, tokens in tokens_by_sample(session, self.tap, tissue):
            cells = np.flatnonzero(tokens)
            values = torch.from_numpy(factors[:, None] * units.at(sample, cells)[chosen])
            change = self.added.get(sample, torch.zeros(shape)).flatten(1).clone()
            change[:, torch.from_numpy(cells)] += directions.T @ values
            self.added[sample] = change.unflatten(1, shape[1:])
            whole = tuple(slice(0, n) for n in session.sampling.sample_shape)
            logits = session.replay.logits_near(self.tap, sample, self.added[sample], whole)
            self.labels[session.sampling.place(sample, whole)] = best_label(logits)


class AtLogits:
    """What is fitted or drawn at the logits: the current ones of every sample, changed in the tissue alone."""

    def __init__(self, session: Session, settings: Settings):
        self.session, self.settings, self.labels = session, settings, session.labels
        self.logits: dict[int, torch.Tensor] = {}  # of the samples changed so far

    def now(self, sample: int) -> torch.Tensor:
        return self.logits.get(sample, self.session.replay.logits[sample].float())

    def looks(self, click: Click) -> list[Look]:
        session, tap = self.session, self.session.pack.default_tap
        looks = looks_at(session, tap, click.tissue, click.like, click.voxel, self.settings.samples, {})
        for look in looks:
            look.before = self.now(look.sample)[(slice(None), *look.box)].log_softmax(0)
        return looks

    def write(self, tissue: np.ndarray, changed: Callable[[int, torch.Tensor], torch.Tensor]) -> None:
        """changed(sample, logits) -> the logits (K, *sample_shape) that the tissue gets."""
        self.labels = self.labels.copy()
        sampling = self.session.sampling
        for sample in np.flatnonzero(tissue.any((1, 2))).tolist():
            inside = torch.from_numpy(tissue[sample])
            self.logits[sample] = torch.where(inside, changed(sample, self.now(sample)), self.now(sample))
            whole = tuple(slice(0, n) for n in sampling.sample_shape)
            self.labels[sampling.place(sample, whole)] = best_label(self.logits[sample])[None]

    def loss(self, logits: torch.Tensor, look: Look, point: Point, weight: float) -> torch.Tensor:
        in_region, outside = log_odds_of(logits, REGIONS[point.region])
        pull = -((in_region if point.inside else outside) * look.weight).sum()
        moved = (look.before.exp() * (look.before - logits.log_softmax(0))).sum(0)
        return (pull + LINEAR_STAY * (moved * look.keep).sum()) / weight


class ClassBias(AtLogits):
    """The threshold retuned: one number a label, fitted as if it acted around the tissue too, and applied in it."""

    def answer(self, click):
        looks = self.looks(click)
        weight = max(sum(float(look.weight.sum()) for look in looks), 1e-6)
        if not looks:
            return

        def term(look: Look, bias: torch.Tensor) -> torch.Tensor:
            logits = self.now(look.sample)[(slice(None), *look.box)]
            return self.loss(logits + _padded(bias)[:, None, None], look, click.point, weight)

        count = self.session.replay.logits.shape[1]
        bias = descend(torch.zeros(count - 1), [partial(term, look) for look in looks], 10)
        self.write(click.tissue, lambda sample, logits: logits + _padded(bias)[:, None, None])


class LastLayer(AtLogits):
    """All weights behind the default tap refitted: a 1 x 1 convolution for SegFormer, two for the U-Net."""

    def __init__(self, session, settings, values: TapValues):
        super().__init__(session, settings)
        self.values = values
        known = dict(values.reader.network.named_parameters())
        self.own = {name: known[name].detach() for name in values.reader.learnable}

    def answer(self, click):
        looks = self.looks(click)
        if not looks:
            return
        weight = max(sum(float(look.weight.sum()) for look in looks), 1e-6)
        self.values.read([look.sample for look in looks])
        flat = torch.cat([w.flatten() for w in self.own.values()])
        tails = {}
        for look in looks:
            tail, x = self.values.behind(look.sample, look.box)
            tails[look.sample] = tail, x, tail(x)[0].detach()

        def term(look: Look, vector: torch.Tensor) -> torch.Tensor:
            tail, x, own = tails[look.sample]
            logits = self.now(look.sample)[(slice(None), *look.box)] + tail(x, self._weights(vector))[0] - own
            return self.loss(logits, look, click.point, weight)

        new = self._weights(descend(flat, [partial(term, look) for look in looks], 10))
        whole = tuple(slice(0, n) for n in self.session.sampling.sample_shape)
        self.values.read(np.flatnonzero(click.tissue.any((1, 2))).tolist())

        @torch.no_grad()
        def changed(sample: int, logits: torch.Tensor) -> torch.Tensor:
            tail, x = self.values.behind(sample, whole)
            return logits + tail(x, new)[0] - tail(x)[0]

        self.write(click.tissue, changed)

    def _weights(self, vector: torch.Tensor) -> dict[str, torch.Tensor]:
        parts = vector.split([w.numel() for w in self.own.values()])
        return {name: part.view_as(w) for part, (name, w) in zip(parts, self.own.items(), strict=True)}


class Painted:
    """The tissue itself called what the point says: what the mask does without any fit."""

    def __init__(self, session: Session):
        self.session, self.labels = session, session.labels

    def answer(self, click):
        self.labels = painted(self.session, self.labels, click.tissue, click.point)


class BestSphere(Painted):
    """A sphere painted at the click, of the radius that the truth likes best: no reader has that choice made so well."""

    def __init__(self, session: Session, truth: np.ndarray):
        super().__init__(session)
        self.truth = truth

    def answer(self, click):
        spacing = self.session.conformed.grid.spacing[::-1]
        apart = np.ones(self.labels.shape, bool)
        apart[click.voxel] = False
        far = ndimage.distance_transform_edt(apart, sampling=spacing)
        drawn = [
            painted(self.session, self.labels, (far <= radius) & self.session.conformed.brain, click.point)
            for radius in RADII_MM
        ]
        self.labels = max(drawn, key=lambda labels: dice(labels, self.truth, click.point.region) or 0.0)


def painted(session: Session, labels: np.ndarray, mask: np.ndarray, point: Point) -> np.ndarray:
    """Labels with the likeliest label that agrees with the point, in a mask (bool, Z, Y, X), where they disagree."""
    wrong = mask & (region_mask(labels, point.region) != point.inside)
    box = box_of(wrong)
    if box is None:
        return labels
    logits = session.sampling.merge(session.replay.logits, box)
    fits = torch.tensor([(k in REGIONS[point.region]) == point.inside for k in range(len(logits))])
    best = best_label(logits.masked_fill(~fits.view(-1, 1, 1, 1), -torch.inf).float())
    labels = labels.copy()
    labels[wrong] = best[wrong[box]]
    return labels


def tokens_by_sample(session: Session, tap: str, tissue: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """(sample, bool (*tap grid)) of the brain's tokens in a tissue, as `places.tokens_of` has it."""
    samples = session.sampling.samples_of(box_of(tissue))
    share = share_inside(tissue, session.sampling, session.replay.tap_shapes[tap][1:], samples)
    tokens = share >= 0.5 if (share >= 0.5).any() else share > 0
    tokens &= session.brain_tokens[tap][samples]
    return [(sample, here) for sample, here in zip(samples, tokens, strict=True) if here.any()]


def _padded(bias: torch.Tensor) -> torch.Tensor:
    return torch.cat([bias.new_zeros(1), bias])


@dataclass
class Learned:
    """What controls need of a pack's training cases: a random dictionary and each region's difference in means."""

    random_lens: Lens
    means: dict[str, torch.Tensor] = field(default_factory=dict)


def controls_of(
    session: Session, truth: np.ndarray, settings: Settings, learned: Learned, seed: int
) -> dict[str, Callable[[], object]]:
    """Makers of every control by name, for one case; the tap's values are read once for all."""
    tap = session.pack.default_tap
    values = TapValues(session, tap)
    latents = LatentUnits(session, tap)
    decoder = latents.directions
    shuffled = decoder[torch.randperm(len(decoder), generator=torch.Generator().manual_seed(seed))]
    raw = RawChannels(values, torch.eye(decoder.shape[1]))
    random = CodesOf(values, learned.random_lens)

    def push(point: Point) -> Constant:
        direction = learned.means[point.region]
        return Constant(torch.stack([direction, -direction]))

    return {
        "class bias": lambda: ClassBias(session, settings),
        "difference in means": lambda: AtTap(session, push, replace(settings, sparse=0.0)),
        "last layer refitted": lambda: LastLayer(session, settings, values),
        "raw channels": lambda: AtTap(session, lambda point: raw, settings),
        "random dictionary": lambda: AtTap(session, lambda point: random, settings),
        "random latents of equal norm": lambda: AtTap(session, lambda point: latents, settings, shuffled),
        "best of three spheres": lambda: BestSphere(session, truth),
        "tissue painted": lambda: Painted(session),
    }
