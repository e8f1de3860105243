"""The baselines of detection.py: how sure each says that a case's segmentation is right, larger is surer.

All are read off the readings of `detection_work`; whatever one learns, it learns from the same cases as the detector.
"""

from collections.abc import Sequence

import numpy as np

from MedSegLensLib.failures.place_readings import CASE
from MedSegLensLib.failures.suspects import JUDGED

SHRINKAGE = 0.01
"""Of the tap's covariance towards a multiple of the identity."""

MEAN = "mean"
"""The target that is the mean over the regions that a case or its segmentation has."""

Readings = dict[str, np.ndarray]


def entropies(readings: Readings) -> dict[str, float]:
    """Mean entropy of the brain and of the segmented tumour, and the mean largest probability of either. A case with
    nothing segmented has the entropy of ignorance there."""
    case = dict(zip(CASE, readings["case"], strict=True))
    none = np.log(4)
    return {
        "mean entropy": -case["entropy brain, mean"],
        "foreground entropy": -float(np.nan_to_num(case["entropy WT, mean"], nan=none)),
        "border entropy": -float(np.nan_to_num(case["entropy border, mean"], nan=none)),
        "maximum softmax": case["surest brain"],
        "foreground maximum softmax": float(np.nan_to_num(case["surest WT"], nan=0.25)),
    }


class Mahalanobis:
    """Mean squared distance of a case's tokens to the reference's, in its covariance, at each tap; the mean over taps,
    each in proportion to the reference's own (which is the number of channels)."""

    def __init__(self, reference: Sequence[Readings]):
        self.taps = [name.removeprefix("mean ") for name in reference[0] if name.startswith("mean ")]
        self.means, self.inverses = {}, {}
        for tap in self.taps:
            mean = np.mean([one[f"mean {tap}"] for one in reference], 0)
            covariance = np.mean([one[f"moments {tap}"] for one in reference], 0) - np.outer(mean, mean)
            covariance += SHRINKAGE * np.trace(covariance) / len(mean) * np.eye(len(mean))
            self.means[tap], self.inverses[tap] = mean, np.linalg.inv(covariance)

    def confidence(self, readings: Readings) -> float:
        far = []
        for tap in self.taps:
            mean, away = readings[f"mean {tap}"], readings[f"mean {tap}"] - self.means[tap]
            spread = readings[f"moments {tap}"] - np.outer(mean, mean) + np.outer(away, away)
            far.append(np.sum(spread * self.inverses[tap]) / len(mean))
        return -float(np.mean(far))


class EntropyForest:
    """A random forest that tells a Dice from entropies, largest probabilities and volumes: all of `CASE`."""

    def __init__(self, readings: Sequence[Readings], dice: np.ndarray):
        from sklearn.ensemble import RandomForestRegressor

        self.forest = RandomForestRegressor(300, min_samples_leaf=2, random_state=0, n_jobs=1)
        self.forest.fit(np.stack([self._features(one) for one in readings]), dice)

    def confidence(self, readings: Readings) -> float:
        return float(self.forest.predict(self._features(readings)[None])[0])

    @staticmethod
    def _features(readings: Readings) -> np.ndarray:
        return np.nan_to_num(readings["case"], nan=-1.0)


def dice_of(values: np.ndarray, target: str, otherwise: float = float("nan")) -> float:
    """A target's Dice from those of `JUDGED`: of a region, or the mean of those that are there (nan: in neither)."""
    chosen = values if target == MEAN else values[[JUDGED.index(target)]]
    return float(np.nanmean(chosen)) if np.isfinite(chosen).any() else otherwise
