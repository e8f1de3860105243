"""A small classifier of places: logistic regression with an L1 penalty over few features, calibrated out of fold.

Kept as plain numbers and applied by numpy, so that a pack that carries one runs no code of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from MedSegLensLib.failures.features import LATENT

CANDIDATES = 60
"""Latents that the penalty chooses among, besides all that is no latent: those that correlate most with being wrong,
within the same fold."""


@dataclass(frozen=True)
class Penalty:
    """strength: inverse, scikit-learn's C. latents: weight of a latent's feature before the penalty; below 1 it has to
    say more than what is no latent to be taken, 0 leaves latents out."""

    strength: float
    latents: float


PENALTIES = tuple(Penalty(strength, latents) for latents in (1.0, 0.3, 0.0) for strength in (0.01, 0.03, 0.1, 0.3))
"""Tried with one fold a patient. With seven patients hundreds of latents can tell the patients apart, and some weight
has to keep them from it; how much, is for the data to say."""
FEWEST = 8
"""Wrong places, and right ones, below which nothing is learned but how frequent wrong ones are."""


@dataclass(frozen=True)
class PlaceModel:
    """names: of the features used. A feature is (value - mean) / scale; score = features @ coefficients + intercept;
    risk = 1 / (1 + exp(-(slope * score + shift))), Platt's calibration on out-of-fold scores."""

    names: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    coefficients: np.ndarray
    intercept: float
    slope: float = 1.0
    shift: float = 0.0

    def contributions(self, names: Sequence[str], features: np.ndarray) -> np.ndarray:
        """What each of the model's features adds to a place's score, float64 (places, len(self.names)).

        names, features: as `features.place_features` gives them. Raises KeyError for a feature that is not there.
        """
        at = {name: i for i, name in enumerate(names)}
        chosen = features[:, [at[name] for name in self.names]]
        return np.clip((chosen - self.mean) / self.scale, -10, 10) * self.coefficients

    def risks(self, names: Sequence[str], features: np.ndarray) -> np.ndarray:
        """Calibrated probability that a place is wrong, float64 (places,)."""
        return self.calibrated(self.contributions(names, features).sum(1) + self.intercept)

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-np.clip(self.slope * scores + self.shift, -30, 30)))

    def to_json(self) -> dict:
        numbers = zip(self.names, self.mean, self.scale, self.coefficients, strict=True)
        return {
            "features": [
                {"name": name, "mean": _short(mean), "scale": _short(scale), "coefficient": _short(coefficient)}
                for name, mean, scale, coefficient in numbers
            ],
            "intercept": _short(self.intercept),
            "calibration": {"slope": _short(self.slope), "shift": _short(self.shift)},
        }

    @staticmethod
    def from_json(document: dict) -> "PlaceModel":
        features = document["features"]
        return PlaceModel(
            tuple(str(one["name"]) for one in features),
            *(np.array([one[key] for one in features], np.float64) for key in ("mean", "scale", "coefficient")),
            float(document["intercept"]),
            float(document["calibration"]["slope"]),
            float(document["calibration"]["shift"]),
        )


def fit_place_model(names: Sequence[str], features: np.ndarray, wrong: np.ndarray, penalty: Penalty) -> PlaceModel:
    """Uncalibrated. features (places, F); wrong: bool (places,)."""
    from sklearn.linear_model import LogisticRegression

    features = np.asarray(features, np.float64)
    if min(np.count_nonzero(wrong), np.count_nonzero(~wrong)) < FEWEST:
        share = (np.count_nonzero(wrong) + 1) / (len(wrong) + 2)
        return PlaceModel((), np.zeros(0), np.zeros(0), np.zeros(0), float(np.log(share / (1 - share))))
    latent = np.array([name.startswith(LATENT) for name in names])
    chosen = np.flatnonzero(~latent)
    if penalty.latents:
        apart = np.where(latent, np.abs(_correlation(features, wrong)), -1.0)
        chosen = np.concatenate([chosen, np.argsort(-apart, kind="stable")[: min(CANDIDATES, latent.sum())]])
    mean, scale = features[:, chosen].mean(0), np.maximum(features[:, chosen].std(0), 1e-3)
    scale = np.where(latent[chosen], scale / (penalty.latents or 1.0), scale)
    table = np.clip((features[:, chosen] - mean) / scale, -10, 10)
    # scikit-learn 1.8 says so by l1_ratio, and warns of the way that older ones ask for
    lasso = {"l1_ratio": 1.0} if LogisticRegression().penalty == "deprecated" else {"penalty": "l1"}
    fitted = LogisticRegression(**lasso, C=penalty.strength, solver="liblinear", random_state=0, max_iter=300)
    fitted.fit(table, wrong)
    used = np.flatnonzero(fitted.coef_[0])
    return PlaceModel(
        tuple(names[chosen[i]] for i in used),
        mean[used],
        scale[used],
        fitted.coef_[0][used].astype(np.float64),
        float(fitted.intercept_[0]),
    )


def calibrate(model: PlaceModel, scores: np.ndarray, wrong: np.ndarray) -> PlaceModel:
    """The model with Platt's calibration from scores of places that the models behind them were not fitted on."""
    from sklearn.linear_model import LogisticRegression

    if min(np.count_nonzero(wrong), np.count_nonzero(~wrong)) < FEWEST or np.ptp(scores) < 1e-9:
        return model
    fitted = LogisticRegression(C=1.0).fit(scores[:, None], wrong)
    slope = float(fitted.coef_[0, 0])
    if slope <= 0:  # out of fold the score says nothing: what is left is how frequent wrong places are
        share = wrong.mean()
        return PlaceModel((), np.zeros(0), np.zeros(0), np.zeros(0), float(np.log(share / (1 - share))))
    return PlaceModel(
        model.names, model.mean, model.scale, model.coefficients, model.intercept, slope, float(fitted.intercept_[0])
    )


def _correlation(features: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Pearson's, of each feature with being wrong, float64 (F,); 0 for one that is constant."""
    centred, target = features - features.mean(0), wrong - wrong.mean()
    norms = np.sqrt(np.square(centred).sum(0) * np.square(target).sum())
    return np.divide(target @ centred, norms, out=np.zeros(len(norms)), where=norms > 1e-9)


def _short(value: float) -> float:
    return float(f"{value:.6g}")
