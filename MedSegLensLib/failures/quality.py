"""How good a segmentation likely is: the Dice of a region, from features of the case, with an interval.

Ridge regression of the Dice's log odds on few features; the interval is of out-of-fold residuals, in units that grow
with what the Dice lacks to 1 (split conformal prediction with a scale): a good case's Dice is surer than a poor one's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from MedSegLensLib.failures.findings import Quality

COVERAGE = 0.8
STIFFNESS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
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
        """Likely Dice of cases, float64 (cases,); features (cases, F) in the order of `names`."""
        values = np.clip((features - self.mean) / self.scale, -5, 5)
        return 1 / (1 + np.exp(-np.clip(values @ self.coefficients + self.intercept, -30, 30)))

    def quality(self, features: np.ndarray) -> Quality:
        """Of one case: features (F,)."""
        dice = float(self.dice(features[None])[0])
        unit = 1 - dice + FLOOR
        low, high = (float(np.clip(dice + q * unit, 0, 1)) for q in (self.low, self.high))
        return Quality(self.region, dice, min(low, dice), max(high, dice))

    def to_json(self) -> dict:
        numbers = zip(self.names, self.mean, self.scale, self.coefficients, strict=True)
        return {
            "region": self.region,
            "features": [
                {"name": name, "mean": _short(mean), "scale": _short(scale), "coefficient": _short(coefficient)}
                for name, mean, scale, coefficient in numbers
            ],
            "intercept": _short(self.intercept),
            "interval": {"coverage": COVERAGE, "low": _short(self.low), "high": _short(self.high)},
        }

    @staticmethod
    def from_json(document: dict) -> "QualityModel":
        features = document["features"]
        return QualityModel(
            str(document["region"]),
            tuple(str(one["name"]) for one in features),
            *(np.array([one[key] for one in features], np.float64) for key in ("mean", "scale", "coefficient")),
            float(document["intercept"]),
            float(document["interval"]["low"]),
            float(document["interval"]["high"]),
        )


def fit_quality(
    region: str, names: Sequence[str], features: np.ndarray, dice: np.ndarray, stiffness: float
) -> QualityModel:
    """Without an interval. features (cases, F); dice (cases,) 0..1; stiffness: weight of the squared coefficients."""
    mean, scale = features.mean(0), np.maximum(features.std(0), 1e-6)
    values = np.clip((features - mean) / scale, -5, 5)
    target = np.clip(dice, EDGE, 1 - EDGE)
    odds = np.log(target / (1 - target))
    centred = values - values.mean(0)
    gram = centred.T @ centred + stiffness * np.eye(len(names))
    coefficients = np.linalg.solve(gram, centred.T @ (odds - odds.mean()))
    intercept = float(odds.mean() - values.mean(0) @ coefficients)
    return QualityModel(region, tuple(names), mean, scale, coefficients, intercept)


def interval_of(likely: np.ndarray, dice: np.ndarray) -> tuple[float, float]:
    """`QualityModel.low` and `high` from out-of-fold predictions: the quantiles that leave out (1 - `COVERAGE`) / 2 on
    either side, with the correction for a finite sample."""
    residuals = np.sort((dice - likely) / (1 - likely + FLOOR))
    count = len(residuals)
    out = int((1 - COVERAGE) / 2 * (count + 1) + 1e-9)
    return float(residuals[max(out - 1, 0)]), float(residuals[min(count - out, count - 1)])


def _short(value: float) -> float:
    return float(f"{value:.6g}")
