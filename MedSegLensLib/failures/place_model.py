"""A small classifier of places: logistic regression with an L1 penalty over few features, calibrated out of fold.

Kept as plain numbers and applied by numpy, so that a pack that carries one runs no code of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from MedSegLensLib.failures.features import LATENT, columns
from MedSegLensLib.failures.model_json import features_from_json, features_to_json, short

BASE = ("log odds", "entropy", "volume, log mL")
"""What a place is judged by before any latent is asked, with what region it is about: the segmenter's own doubt."""
CANDIDATES = 60
"""Latents that the penalty chooses among, besides all that is no latent: those that correlate most with being wrong,
within the same fold."""


@dataclass(frozen=True)
class Penalty:
    """strength: inverse, scikit-learn's C. others: weight of all features but `BASE` before the penalty; below 1 they
    have to say more to be taken, 0 leaves them out."""

    strength: float
    others: float


PENALTIES = (
    Penalty(0.1, 0.0),
    *(Penalty(strength, others) for others in (0.1, 0.3, 1.0) for strength in (0.01, 0.03, 0.1, 0.3)),
)
"""Tried with one fold a patient, the simplest first. With seven patients hundreds of latents can tell the patients
apart, and something has to keep them from it; how much, is for the data to say."""
UNPENALISED = 10.0
"""Weight of the score of `BASE` among the features: large, so that the penalty hardly touches it."""
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

        names, features: as `features.place_features` gives them. Raises as `features.columns`.
        """
        chosen = columns(names, self.names, features)
        return np.clip((chosen - self.mean) / self.scale, -10, 10) * self.coefficients

    def risks(self, names: Sequence[str], features: np.ndarray) -> np.ndarray:
        """Calibrated probability that a place is wrong, float64 (places,)."""
        return self.calibrated(self.scores(names, features))

    def scores(self, names: Sequence[str], features: np.ndarray) -> np.ndarray:
        """Log odds before calibration, float64 (places,)."""
        return self.contributions(names, features).sum(1) + self.intercept

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-np.clip(self.slope * scores + self.shift, -30, 30)))

    def to_json(self) -> dict:
        return {
            "features": features_to_json(self.names, self.mean, self.scale, self.coefficients),
            "intercept": short(self.intercept),
            "calibration": {"slope": short(self.slope), "shift": short(self.shift)},
        }

    @staticmethod
    def from_json(document: dict) -> "PlaceModel":
        return PlaceModel(
            *features_from_json(document["features"]),
            float(document["intercept"]),
            float(document["calibration"]["slope"]),
            float(document["calibration"]["shift"]),
        )


def fit_place_model(names: Sequence[str], features: np.ndarray, wrong: np.ndarray, penalty: Penalty) -> PlaceModel:
    """Uncalibrated. features (places, F); wrong: bool (places,).

    In two steps: a score of `BASE` alone, and then what the penalty takes of the others besides that score. All at once
    the penalty traded the segmenter's own doubt for latents that told the seven patients apart: on the two held-out
    ones the AUROC for missed pieces was 0.54, and that of the log odds alone 0.69.
    """
    features = np.asarray(features, np.float64)
    if min(np.count_nonzero(wrong), np.count_nonzero(~wrong)) < FEWEST:
        share = (np.count_nonzero(wrong) + 1) / (len(wrong) + 2)
        return PlaceModel((), np.zeros(0), np.zeros(0), np.zeros(0), float(np.log(share / (1 - share))))
    base = np.array([name in BASE or name.startswith("about ") for name in names])
    mean, scale = features.mean(0), np.maximum(features.std(0), 1e-3)
    table = np.clip((features - mean) / scale, -10, 10)
    coefficients = np.zeros(len(names))
    coefficients[base], intercept = _logistic(table[:, base], wrong, 1.0, lasso=False)
    if penalty.others:
        latent = np.array([name.startswith(LATENT) for name in names])
        apart = np.where(latent, np.abs(_correlation(table, wrong)), -1.0)
        likely = np.argsort(-apart, kind="stable")[: min(CANDIDATES, latent.sum())]
        others = np.concatenate([np.flatnonzero(~base & ~latent), likely])
        score = table[:, base] @ coefficients[base]
        both = np.column_stack([UNPENALISED * score / max(score.std(), 1e-9), penalty.others * table[:, others]])
        found, intercept = _logistic(both, wrong, penalty.strength, lasso=True)
        coefficients[base] *= found[0] * UNPENALISED / max(score.std(), 1e-9)
        coefficients[others] = found[1:] * penalty.others
    used = np.flatnonzero(coefficients)
    return PlaceModel(tuple(names[i] for i in used), mean[used], scale[used], coefficients[used], intercept)


def _logistic(table: np.ndarray, wrong: np.ndarray, strength: float, lasso: bool) -> tuple[np.ndarray, float]:
    from sklearn.linear_model import LogisticRegression

    if not table.shape[1]:
        return np.zeros(0), float(np.log(wrong.mean() / (1 - wrong.mean())))
    # scikit-learn 1.8 asks for it by l1_ratio, and warns of the way that older ones ask for
    l1_ratio = LogisticRegression().penalty == "deprecated"
    kind = ({"l1_ratio": 1.0} if l1_ratio else {"penalty": "l1"}) if lasso else {}
    fitted = LogisticRegression(**kind, C=strength, solver="liblinear", random_state=0, max_iter=300).fit(table, wrong)
    return fitted.coef_[0].astype(np.float64), float(fitted.intercept_[0])


def calibrate(model: PlaceModel, scores: np.ndarray, wrong: np.ndarray) -> PlaceModel:
    """The model with Platt's calibration from scores of places that the models behind them were not fitted on. Where
    these say nothing, what is left is how frequent wrong places are."""
    slope, shift = platt(scores, wrong)
    if slope == 0:
        return PlaceModel((), np.zeros(0), np.zeros(0), np.zeros(0), 0.0, 0.0, shift)
    return replace(model, slope=slope, shift=shift)


def platt(scores: np.ndarray, wrong: np.ndarray) -> tuple[float, float]:
    """Slope and shift of the calibration; slope 0 where the scores do not rise with being wrong, and 1 and 0 where too
    few places are wrong, or right, for any."""
    from sklearn.linear_model import LogisticRegression

    if min(np.count_nonzero(wrong), np.count_nonzero(~wrong)) < FEWEST:
        return 1.0, 0.0
    fitted = LogisticRegression(C=1.0).fit(scores[:, None], wrong)
    if fitted.coef_[0, 0] <= 0:
        return 0.0, float(np.log(wrong.mean() / (1 - wrong.mean())))
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def calibrated_losses(scores: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Log loss (nat) of each place by scores out of fold once they are calibrated."""
    slope, shift = platt(scores, wrong)
    risk = np.clip(1 / (1 + np.exp(-np.clip(slope * scores + shift, -30, 30))), 1e-6, 1 - 1e-6)
    return -np.log(np.where(wrong, risk, 1 - risk))


def simplest(losses: Sequence[np.ndarray], patients: np.ndarray) -> int:
    """Which of several models to take by their losses (places,), the simplest first: the first that is no worse than
    the best by more than one standard error of their difference over patients."""
    by_patient = np.array([[loss[patients == one].sum() for one in sorted(set(patients))] for loss in losses])
    best = by_patient[by_patient.sum(1).argmin()]
    over = by_patient - best
    error = over.std(1, ddof=1) * np.sqrt(by_patient.shape[1]) if by_patient.shape[1] > 1 else np.zeros(len(losses))
    return int(np.flatnonzero(over.sum(1) <= error)[0])


def _correlation(features: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Pearson's, of each feature with being wrong, float64 (F,); 0 for one that is constant."""
    centred, target = features - features.mean(0), wrong - wrong.mean()
    norms = np.sqrt(np.square(centred).sum(0) * np.square(target).sum())
    return np.divide(target @ centred, norms, out=np.zeros(len(norms)), where=norms > 1e-9)
