"""How good a segmentation likely is: the Dice of a region, from features of the case, with an interval.

Ridge regression of the Dice's log odds on few features, each of which may count in one direction only: what is more
unusual is not better. Left free, the seven patients of the shipped packs' reference gave some the wrong sign. The
interval is of out-of-fold residuals, in units that grow with what the Dice lacks to 1 (split conformal prediction with
a scale): a good case's Dice is surer than a poor one's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from MedSegLensLib.failures.findings import Quality
from MedSegLensLib.failures.model_json import features_from_json, features_to_json, short

COVERAGE = 0.8
BETTER = ("Dice by", "volume", "surest")
"""How the names of features begin that grow with the Dice; all others fall with it."""
FAMILIES = (("Dice by the probabilities",), ("Dice by the probabilities", "volume", "surest", "entropy"), ("",))
"""How the names of the features begin that are tried, the simplest first: what the probabilities alone expect, all of
the segmenter's own doubt, and everything."""
MANY = 20
"""Patients from which on more than the first family is tried. With the seven of the shipped packs, what was taken
besides was no better on patients left out: AURC of the mean Dice 0.132 against 0.127 (U-Net) and 0.277 against 0.272
(SegFormer), of the whole tumour's 0.061 against 0.057 and 0.093 against 0.087."""
STIFFNESS = (30.0, 3.0)
"""Weights of the squared coefficients that are tried, for each family."""
FEWEST = 8
"""Cases below which there is no regression."""
EDGE = 0.01
"""Dice nearer to 0 or 1 is taken as this far from it: log odds have no end."""
FLOOR = 0.05
"""Added to 1 - Dice for the unit of a residual."""


@dataclass(frozen=True)
class QualityModel:
    """names: of the features; value = (feature - mean) / scale; log odds of Dice = values @ coefficients + intercept.
    low, high: quantiles of (true - likely Dice) / (1 - likely + `FLOOR`), out of fold."""

    region: str
    names: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    coefficients: np.ndarray
    intercept: float
    low: float = 0.0
    high: float = 0.0

    def dice(self, features: np.ndarray) -> np.ndarray:
        """Likely Dice of cases, float64 (cases,); features (cases, F) in the order of `names` (`features.columns`)."""
        values = np.clip((features - self.mean) / self.scale, -5, 5)
        return 1 / (1 + np.exp(-np.clip(values @ self.coefficients + self.intercept, -30, 30)))

    def quality(self, features: np.ndarray) -> Quality:
        """Of one case: features (F,)."""
        dice = float(self.dice(features[None])[0])
        unit = 1 - dice + FLOOR
        low, high = (float(np.clip(dice + q * unit, 0, 1)) for q in (self.low, self.high))
        return Quality(self.region, dice, min(low, dice), max(high, dice))

    def to_json(self) -> dict:
        return {
            "region": self.region,
            "features": features_to_json(self.names, self.mean, self.scale, self.coefficients),
            "intercept": short(self.intercept),
            "interval": {"coverage": COVERAGE, "low": short(self.low), "high": short(self.high)},
        }

    @staticmethod
    def from_json(document: dict) -> "QualityModel":
        return QualityModel(
            str(document["region"]),
            *features_from_json(document["features"]),
            float(document["intercept"]),
            float(document["interval"]["low"]),
            float(document["interval"]["high"]),
        )


def fit_quality(
    region: str, names: Sequence[str], features: np.ndarray, dice: np.ndarray, family: Sequence[str], stiffness: float
) -> QualityModel:
    """Without an interval. features (cases, F); dice (cases,) 0..1; family: how the names begin that are used;
    stiffness: weight of the squared coefficients."""
    from scipy.optimize import nnls

    used = [i for i, name in enumerate(names) if name.startswith(tuple(family))]
    mean, scale = features[:, used].mean(0), np.maximum(features[:, used].std(0), 1e-6)
    direction = np.array([1.0 if names[i].startswith(BETTER) else -1.0 for i in used])
    values = np.clip((features[:, used] - mean) / scale, -5, 5) * direction
    target = np.clip(dice, EDGE, 1 - EDGE)
    odds = np.log(target / (1 - target))
    rows = np.vstack([values - values.mean(0), np.sqrt(stiffness) * np.eye(len(used))])
    coefficients, _ = nnls(rows, np.concatenate([odds - odds.mean(), np.zeros(len(used))]))
    intercept = float(odds.mean() - values.mean(0) @ coefficients)
    chosen = tuple(names[i] for i in used)
    return QualityModel(region, chosen, mean, scale, coefficients * direction, intercept)


def interval_of(likely: np.ndarray, dice: np.ndarray) -> tuple[float, float]:
    """`QualityModel.low` and `high` from out-of-fold predictions: the quantiles that leave out (1 - `COVERAGE`) / 2 on
    either side, with the correction for a finite sample."""
    residuals = np.sort((dice - likely) / (1 - likely + FLOOR))
    count = len(residuals)
    out = int((1 - COVERAGE) / 2 * (count + 1) + 1e-9)
    return float(residuals[max(out - 1, 0)]), float(residuals[min(count - out, count - 1)])
