"""How good a segmentation likely is: the Dice of a region, from features of the case, with an interval.

The Dice's log odds are those that the segmenter's own probabilities expect, moved by what the reference's cases were
better or worse on average; few cases move it little. With many patients a ridge regression on further features is
added, each of which may count in one direction only: what is more unusual is not better. Held back towards a constant
in place of what the probabilities expect, as in 0.4's first form, SegFormer's rare ET came out as its mean: AURC of the
mean Dice 0.275 (now 0.241), mean error of ET's Dice on patients left out 0.25 (0.13).

The interval is of out-of-fold residuals, in units that grow with what the Dice lacks to 1 (split conformal prediction
with a scale): a good case's Dice is surer than a poor one's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from MedSegLensLib.failures.features import EXPECTED
from MedSegLensLib.failures.findings import Quality
from MedSegLensLib.failures.model_json import features_from_json, features_to_json, short

COVERAGE = 0.8
BETTER = ("Dice by", "volume", "surest")
"""How the names of features begin that grow with the Dice; all others fall with it."""
FAMILIES = ((), ("volume", "surest", "entropy"), ("",))
"""How the names of the features begin that are tried besides what the probabilities expect, the simplest first: none,
all of the segmenter's own doubt, and everything."""
MANY = 20
"""Patients from which on more than the first family is tried. With the seven of the shipped packs, what was taken
besides was no better on patients left out (both in the first form, see above): AURC of the mean Dice 0.132 against
0.127 (U-Net) and 0.277 against 0.272 (SegFormer), of the whole tumour's 0.061 against 0.057 and 0.093 against 0.087."""
STIFFNESS = (30.0, 3.0)
"""Weights of the squared coefficients that are tried, for each family that has any."""
PRIOR_CASES = 30
"""As many cases, in which the probabilities were right, stand beside those of the reference. 10, 30 and 60 were tried:
they differ little (AURC of the mean Dice 0.249, 0.241 and 0.238 for SegFormer; 0.131, 0.131 and 0.132, U-Net)."""
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
    """Without an interval. features (cases, F), `EXPECTED` among their names; dice (cases,) 0..1; family: how the names
    begin that are used besides; stiffness: weight of the squared coefficients of these."""
    from scipy.optimize import nnls

    expected = list(names).index(EXPECTED)
    used = [i for i, name in enumerate(names) if name.startswith(tuple(family)) and i != expected]
    target = np.clip(dice, EDGE, 1 - EDGE)
    left = np.log(target / (1 - target)) - features[:, expected]
    mean, scale = features[:, used].mean(0), np.maximum(features[:, used].std(0), 1e-6)
    direction = np.array([1.0 if names[i].startswith(BETTER) else -1.0 for i in used])
    values = np.clip((features[:, used] - mean) / scale, -5, 5) * direction
    coefficients = np.zeros(0)
    if used:
        rows = np.vstack([values - values.mean(0), np.sqrt(stiffness) * np.eye(len(used))])
        coefficients, _ = nnls(rows, np.concatenate([left - left.mean(), np.zeros(len(used))]))
    moved = float(left.mean() - values.mean(0) @ coefficients) * len(dice) / (len(dice) + PRIOR_CASES)
    usual = float(features[:, expected].mean())
    reach = 2.0  # log odds end at +-4.6: none is then beyond 5 scales of another
    return QualityModel(
        region,
        (EXPECTED, *(names[i] for i in used)),
        np.concatenate([[usual], mean]),
        np.concatenate([[reach], scale]),
        np.concatenate([[reach], coefficients * direction]),
        usual + moved,
    )


def interval_of(likely: np.ndarray, dice: np.ndarray) -> tuple[float, float]:
    """`QualityModel.low` and `high` from out-of-fold predictions: the quantiles that leave out (1 - `COVERAGE`) / 2 on
    either side, with the correction for a finite sample."""
    residuals = np.sort((dice - likely) / (1 - likely + FLOOR))
    count = len(residuals)
    out = int((1 - COVERAGE) / 2 * (count + 1) + 1e-9)
    return float(residuals[max(out - 1, 0)]), float(residuals[min(count - out, count - 1)])
