"""What a repair by latents is held against, each under the same clicks and confined to the same tissue.

A control answers clicks one after another (`answer`), each over what the earlier ones did, and holds `labels`. Fitted
ones have the loss of `failures.gain_fit`: what the point says, weighted by likeness.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from repair_logit_controls import BestSphere, ClassBias, LastLayer, Painted
from repair_taps import Click, CodesOf, Constant, RawChannels, TapValues

from MedSegLensLib.cases.boxes import box_of
from MedSegLensLib.cases.case import REGIONS
from MedSegLensLib.editing.places import share_inside
from MedSegLensLib.editing.session import Session, best_label
from MedSegLensLib.failures.gain_fit import GainFit, LatentUnits, Units, looks_at
from MedSegLensLib.failures.points import Point
from MedSegLensLib.failures.repair import Settings, fitted_gains
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.segmenters.sampling import whole


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
            self.session, self.tap, units, looks, REGIONS[point.region], point.inside, chosen.sparse
        )
        gains = fitted_gains(fit, chosen)
        if gains:
            self.write(units, gains, click.tissue)

    @torch.no_grad()
    def write(self, units: Units, gains: list[tuple[int, float]], tissue: np.ndarray) -> None:
        """The gains on all tokens that the tissue touches, and the labels that the tissue has under them."""
        session, shape = self.session, self.session.replay.tap_shapes[self.tap]
        chosen, factors = [j for j, _ in gains], np.array([g - 1 for _, g in gains], np.float32)
        directions = units.directions[chosen] if self.along is None else self.along[chosen]
        labels = self.labels.copy()
        for sample, tokens in tokens_by_sample(session, self.tap, tissue):
            cells = np.flatnonzero(tokens)
            values = torch.from_numpy(factors[:, None] * units.at(sample, cells)[chosen])
            change = self.added.get(sample, torch.zeros(shape)).flatten(1).clone()
            change[:, torch.from_numpy(cells)] += directions.T @ values
            self.added[sample] = change.unflatten(1, shape[1:])
            everywhere = whole(session.sampling.sample_shape)
            logits = session.replay.logits_near(self.tap, sample, self.added[sample], everywhere)
            labels[session.sampling.place(sample, everywhere)] = best_label(logits)
        self.labels = np.where(tissue, labels, self.labels)


def tokens_by_sample(session: Session, tap: str, tissue: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """(sample, bool (*tap grid)) of the brain's tokens that a tissue touches."""
    samples = session.sampling.samples_of(box_of(tissue))
    tokens = share_inside(tissue, session.sampling, session.replay.tap_shapes[tap][1:], samples) > 0
    tokens &= session.brain_tokens[tap][samples]
    return [(sample, here) for sample, here in zip(samples, tokens, strict=True) if here.any()]


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
