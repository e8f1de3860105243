"""Controls of a repair that act on the logits or the labels: a retuned threshold, a refitted last layer, and paint."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from repair_taps import Click, TapValues
from scipy import ndimage

from MedSegLensLib.cases.boxes import box_of
from MedSegLensLib.cases.case import REGIONS, region_mask
from MedSegLensLib.diffing.fitting import descend
from MedSegLensLib.editing.session import Session, best_label
from MedSegLensLib.editing.splice import dice
from MedSegLensLib.failures.gain_fit import Look, log_odds_of, looks_at
from MedSegLensLib.failures.points import Point
from MedSegLensLib.failures.repair import Settings
from MedSegLensLib.segmenters.sampling import whole

RADII_MM = (5.0, 10.0, 20.0)


class AtLogits:
    """What is fitted or drawn at the logits: the current ones of every sample, changed in the tissue alone."""

    def __init__(self, session: Session, settings: Settings):
        self.session, self.settings, self.labels = session, settings, session.labels
        self.logits: dict[int, torch.Tensor] = {}  # of the samples changed so far

    def now(self, sample: int) -> torch.Tensor:
        return self.logits.get(sample, self.session.replay.logits[sample].float())

    def looks(self, click: Click) -> list[Look]:
        session, tap = self.session, self.session.pack.default_tap
        return looks_at(session, tap, click.tissue, click.like, click.voxel, self.settings.samples, {})

    def write(self, tissue: np.ndarray, changed: Callable[[int, torch.Tensor], torch.Tensor]) -> None:
        """changed(sample, logits) -> the logits (K, *sample_shape) that the tissue gets."""
        self.labels = self.labels.copy()
        sampling = self.session.sampling
        for sample in np.flatnonzero(tissue.any((1, 2))).tolist():
            inside = torch.from_numpy(tissue[sample])
            self.logits[sample] = torch.where(inside, changed(sample, self.now(sample)), self.now(sample))
            everywhere = whole(sampling.sample_shape)
            self.labels[sampling.place(sample, everywhere)] = best_label(self.logits[sample])[None]

    def loss(self, logits: torch.Tensor, look: Look, point: Point, weight: float) -> torch.Tensor:
        in_region, outside = log_odds_of(logits, REGIONS[point.region])
        return -((in_region if point.inside else outside) * look.weight).sum() / weight


class ClassBias(AtLogits):
    """The threshold retuned: one number a label, fitted and applied in the tissue."""

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
        everywhere = whole(self.session.sampling.sample_shape)
        self.values.read(np.flatnonzero(click.tissue.any((1, 2))).tolist())

        @torch.no_grad()
        def changed(sample: int, logits: torch.Tensor) -> torch.Tensor:
            tail, x = self.values.behind(sample, everywhere)
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
    """A sphere painted at the click, of the radius that the truth likes best: no reader chooses it so well."""

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


def _padded(bias: torch.Tensor) -> torch.Tensor:
    return torch.cat([bias.new_zeros(1), bias])
