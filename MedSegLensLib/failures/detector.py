"""The detection as a whole: a classifier for each kind of place, and a regression of the Dice for each region.

detector = fit_detector(pack, cohort.cases, progress)     # a dict of plain JSON, which a pack's reference keeps
judge = Detector.from_json(detector)
risks = judge.risks(readings)                             # of the places of a case

Everything that is fitted is judged out of fold by patient: a patient's simulated acquisitions stay together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from MedSegLensLib.cohorts.mapping import key_of, map_cases
from MedSegLensLib.diffing.dictionaries import TapDictionaries, at_work, opened
from MedSegLensLib.editing.pack_at_work import PackAtWork
from MedSegLensLib.errors import CaseError, PackError
from MedSegLensLib.failures.features import WRONG, Basis, Readings, case_features, columns, place_features
from MedSegLensLib.failures.findings import Quality
from MedSegLensLib.failures.place_model import (
    PENALTIES,
    Penalty,
    PlaceModel,
    calibrate,
    calibrated_losses,
    fit_place_model,
    simplest,
)
from MedSegLensLib.failures.place_readings import LAYOUT, read_places
from MedSegLensLib.failures.quality import FAMILIES, FEWEST, MANY, STIFFNESS, QualityModel, fit_quality, interval_of
from MedSegLensLib.failures.suspects import JUDGED, KINDS

if TYPE_CHECKING:
    from MedSegLensLib.cases.case import Case
    from MedSegLensLib.cohorts.cohort import CohortCase
    from MedSegLensLib.editing.session import Session
    from MedSegLensLib.packs.pack import LensPack

FORMAT = 1
PATIENTS = 3
"""Below this many, nothing can be judged out of fold."""

THIN_MM = 2.0

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Detector:
    """basis: what is usual. places: by kind of place (`suspects.KINDS`). quality: by region; a region of which the
    reference had too few cases is not there. facts: what it was fitted on and how well it does out of fold."""

    basis: Basis
    places: tuple[PlaceModel, ...]
    quality: dict[str, QualityModel]
    facts: dict

    def risks(self, readings: Readings) -> np.ndarray:
        """Of each place, float64 (places,)."""
        names, features = place_features(readings, self.basis)
        risks, kinds = np.zeros(len(features)), readings["places"][:, 0]
        for kind, model in enumerate(self.places):
            own = kinds == kind
            risks[own] = model.risks(names, features[own])
        return risks

    def likely(self, readings: Readings, risks: np.ndarray, region: str) -> Quality | None:
        """Of a region, segmented or not; None where the reference had too few cases with it. risks: see `risks`."""
        if region not in self.quality:
            return None
        model, (names, features) = self.quality[region], case_features(readings, risks, self.basis, region)
        return model.quality(columns(names, model.names, features))

    def to_json(self) -> dict:
        return {
            "format": FORMAT,
            "layout": LAYOUT,
            "basis": self.basis.to_json(),
            "places": [
                {"kind": kind, "form": form} | model.to_json()
                for (kind, form), model in zip(KINDS, self.places, strict=True)
            ],
            "quality": [model.to_json() for model in self.quality.values()],
            "facts": self.facts,
        }

    @staticmethod
    def from_json(document: dict) -> "Detector":
        """Raises PackError for a document that is no detector of this version, or holds numbers that are not finite."""
        remedy = "Add the reference again with `medseglens pack add-reference`."
        if not isinstance(document, dict) or (document.get("format"), document.get("layout")) != (FORMAT, LAYOUT):
            raise PackError("detector", "it was written by another version of MedSegLens.", remedy)
        try:
            if [(one["kind"], one["form"]) for one in document["places"]] != list(KINDS):
                raise ValueError("its kinds of places are others")
            detector = Detector(
                Basis.from_json(document["basis"]),
                tuple(PlaceModel.from_json(one) for one in document["places"]),
                {str(one["region"]): QualityModel.from_json(one) for one in document["quality"]},
                dict(document["facts"]),
            )
            detector.check()
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as problem:
            raise PackError("detector", f"it is damaged ({problem!r:.80}).", remedy) from None
        return detector

    def check(self) -> None:
        """Raise ValueError where a number is not finite, or sizes do not fit."""
        for model in (*self.places, *self.quality.values()):
            arrays = (model.mean, model.scale, model.coefficients, np.array([model.intercept]))
            if not all(np.isfinite(array).all() for array in arrays) or (model.scale <= 0).any():
                raise ValueError("a number is not finite, or a scale not above 0")
        for tap in self.basis.taps:
            scale, usual, spread = self.basis.scale[tap], self.basis.usual[tap], self.basis.spread[tap]
            if not usual.shape == spread.shape or usual.shape[1:] != scale.shape:
                raise ValueError(f"the sizes at {tap} do not fit")
            if not all(np.isfinite(array).all() for array in (scale, usual, spread)):
                raise ValueError(f"a number at {tap} is not finite")


@dataclass(frozen=True)
class PlaceReading:
    """A work for `map_cases`: the readings of a labelled case's places, with the truth."""

    pack: PackAtWork

    def key(self) -> str:
        return key_of(self, LAYOUT)

    def __call__(self, case: "CohortCase") -> Readings:
        volumes = case.read()
        if volumes.labels is None:
            cause = "it has no labels, and where a segmentation is wrong cannot be learned without."
            raise CaseError(case.name, cause, "Leave it out, or add its labels.")
        session = reading_session(self.pack, volumes)
        return read_places(session, session.conformed.labels(volumes.labels))[1]


def reading_session(work: PackAtWork, case: "Case") -> "Session":
    """A session that reads and edits nothing. A pack that takes slice by slice is given every third slice of a case
    whose slices are thin: what is seen in a slice stays what it was, and a cohort is read in a third of the time."""
    pack = work.open()
    if pack.info.segmenter.sampling == "slices":
        case = every_third_slice(case)
    return opened(work, tuple(TapDictionaries(tap) for tap in pack.taps)).session(case, edits=False)


def every_third_slice(case: "Case") -> "Case":
    """The case with every third slice from foot to head; as it is where its slices are thicker than `THIN_MM`."""
    direction = np.abs(np.reshape(case.reference.GetDirection(), (3, 3))[2])
    axis = int(direction.argmax())
    if case.reference.GetSpacing()[axis] > THIN_MM:
        return case
    step = tuple(slice(None, None, 3 if i == axis else 1) for i in range(3))
    images = {modality: image[step] for modality, image in case.images.items()}
    return replace(case, images=images, labels=None if case.labels is None else case.labels[step])


def fit_detector(
    pack: "LensPack", cases: "Sequence[CohortCase]", progress: Progress, journal: Path | None = None
) -> dict:
    """The detector of a pack from labelled cases, among them some that fail (simulated acquisitions), as plain JSON.

    Raises CaseError where no case can be used, or those that can are of fewer than `PATIENTS` patients.
    """
    work = PlaceReading(at_work(pack))
    readings, patients = [], []
    for case, arrays in map_cases(work, cases, journal, progress=progress):
        readings.append(arrays)
        patients.append(case.subject)
    return fit(readings, patients).to_json()


def fit(readings: Sequence[Readings], patients: Sequence[str]) -> Detector:
    """The detector of readings with the truth, a patient's name for each. Raises CaseError as `fit_detector` does."""
    fits = _Fits(list(readings), np.array(patients))
    return fits.detector(frozenset(fits.names), facts=True)


def fit_and_leave_out(
    readings: Sequence[Readings], patients: Sequence[str]
) -> tuple[Detector, dict[str, Detector]]:
    """`fit`, and by patient the detector that all the others teach, for judging the detection itself. What both need
    is fitted once."""
    fits = _Fits(list(readings), np.array(patients))
    without = {one: fits.detector(frozenset(fits.names) - {one}) for one in fits.names}
    return fits.detector(frozenset(fits.names), facts=True), without


class _Fits:
    """Fits on some of the patients, each made once."""

    def __init__(self, readings: list[Readings], patients: np.ndarray):
        self.readings, self.patients = readings, patients
        self.names = sorted(set(patients.tolist()))
        if len(self.names) < PATIENTS:
            cause = f"its cases are of {len(self.names)} patients, and each has to be judged by what others taught."
            raise CaseError("reference", cause, f"Give labelled cases of {PATIENTS} patients or more.")
        self._kinds = [one["places"][:, 0] for one in readings]
        self._wrong = [one["wrong"] > WRONG for one in readings]
        self._penalties: list[Penalty] | None = None
        self._last: dict = {}
        self._models: dict = {}

    def detector(self, among: frozenset, facts: bool = False) -> Detector:
        basis, models = self._table(among)[0], self.models(among)
        regressions = {region: self.quality(among, region) for region in JUDGED}
        quality = {region: model for region, model in regressions.items() if model is not None}
        return Detector(basis, models, quality, self._facts(among) if facts else {})

    def _facts(self, among: frozenset) -> dict:
        risks, models, said = self.risks_within(among), self.models(among), {}
        for k, (kind, form) in enumerate(KINDS):
            score = np.concatenate([risk[self._kinds[i] == k] for i, risk in risks.items()])
            wrong = np.concatenate([self._wrong[i][self._kinds[i] == k] for i in risks])
            said[f"{kind}, {form}"] = {
                "places": len(wrong),
                "wrong": int(wrong.sum()),
                "auroc": auroc(score, wrong),
                "features": len(models[k].names),
                "penalty": [self.penalties()[k].strength, self.penalties()[k].others],
            }
        return {"cases": len(risks), "patients": len(among), "out of fold": said}

    # -- places -----------------------------------------------------------------------------------------------------

    def _table(self, among: frozenset) -> tuple[Basis, list[str], list[np.ndarray]]:
        """The basis of some patients, and by it the features of all cases' places. The last one is kept: 63 cases' are
        30 MB."""
        if among not in self._last:
            basis = Basis.fit([r for r, p in zip(self.readings, self.patients, strict=True) if p in among])
            tables = [place_features(one, basis) for one in self.readings]
            self._last = {among: (basis, tables[0][0], [table.astype(np.float32) for _, table in tables])}
        return self._last[among]

    def _raw(self, among: frozenset) -> list[PlaceModel]:
        """Uncalibrated models of some patients, by kind."""
        if among not in self._models:
            penalties = self.penalties()
            _, names, tables = self._table(among)
            self._models[among] = [
                fit_place_model(names, *self._stacked(tables, among, k), penalties[k]) for k in range(len(KINDS))
            ]
        return self._models[among]

    def penalties(self) -> list[Penalty]:
        """By kind the penalty that losses out of fold speak for (`simplest`), one fold a patient: chosen once over all
        patients and used in every fold."""
        if self._penalties is None:
            scores = [[[] for _ in PENALTIES] for _ in KINDS]
            truth: list[list] = [[] for _ in KINDS]
            owner: list[list] = [[] for _ in KINDS]
            for one in self.names:
                rest = frozenset(self.names) - {one}
                _, names, tables = self._table(rest)
                for k in range(len(KINDS)):
                    train, (features, wrong) = self._stacked(tables, rest, k), self._stacked(tables, {one}, k)
                    truth[k].append(wrong)
                    owner[k].append(np.full(len(wrong), one))
                    for p, penalty in enumerate(PENALTIES):
                        scores[k][p].append(fit_place_model(names, *train, penalty).scores(names, features))
            self._penalties = []
            for k in range(len(KINDS)):
                wrong = np.concatenate(truth[k])
                losses = [calibrated_losses(np.concatenate(one), wrong) for one in scores[k]]
                self._penalties.append(PENALTIES[simplest(losses, np.concatenate(owner[k]))])
        return self._penalties

    def _stacked(self, tables: list[np.ndarray], among, kind: int) -> tuple[np.ndarray, np.ndarray]:
        own = [i for i, patient in enumerate(self.patients) if patient in among]
        features = [tables[i][self._kinds[i] == kind] for i in own]
        return np.concatenate(features), np.concatenate([self._wrong[i][self._kinds[i] == kind] for i in own])

    def models(self, among: frozenset) -> tuple[PlaceModel, ...]:
        """Models of some patients, by kind, calibrated by scores of those patients out of fold."""
        scores = self._scores_within(among)
        models = []
        for k, model in enumerate(self._raw(among)):
            score = np.concatenate([score[self._kinds[i] == k] for i, score in scores.items()])
            wrong = np.concatenate([self._wrong[i][self._kinds[i] == k] for i in scores])
            models.append(calibrate(model, score, wrong))
        return tuple(models)

    def _scores_within(self, among: frozenset) -> dict[int, np.ndarray]:
        """Scores of the places of some patients' cases, each by models of the others of them, by number of the case."""
        if ("scores", among) in self._models:
            return self._models["scores", among]
        scores = {}
        for one in sorted(among):
            rest = among - {one}
            models = self._raw(rest)
            _, names, tables = self._table(rest)
            for i in np.flatnonzero(self.patients == one):
                score = np.zeros(len(tables[i]))
                for k, model in enumerate(models):
                    own = self._kinds[i] == k
                    score[own] = model.scores(names, tables[i][own])
                scores[int(i)] = score
        self._models["scores", among] = scores
        return scores

    def risks_within(self, among: frozenset) -> dict[int, np.ndarray]:
        """Risks of the places of some patients' cases, each by models of the others of them, by number of the case.
        The calibration alone, two numbers a kind, has seen all of them."""
        models, risks = self.models(among), {}
        for i, score in self._scores_within(among).items():
            risk = np.zeros(len(score))
            for k, model in enumerate(models):
                own = self._kinds[i] == k
                risk[own] = model.calibrated(score[own])
            risks[i] = risk
        return risks

    # -- cases ------------------------------------------------------------------------------------------------------

    def case_table(self, among: frozenset, region: str) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
        """Names, features (cases, F), Dice and patients of the cases of some patients that have the region."""
        basis, risks = self._table(among)[0], self.risks_within(among)
        rows = [i for i in sorted(risks) if np.isfinite(self.readings[i]["dice"][JUDGED.index(region)])]
        tables = [case_features(self.readings[i], risks[i], basis, region) for i in rows]
        names = tables[0][0] if tables else []
        features = np.stack([values for _, values in tables]) if tables else np.zeros((0, 0))
        dice = np.array([self.readings[i]["dice"][JUDGED.index(region)] for i in rows])
        return names, features, dice, self.patients[rows]

    def quality(self, among: frozenset, region: str) -> QualityModel | None:
        """The regression of some patients; None where too few of their cases have the region."""
        names, features, dice, patients = self.case_table(among, region)
        if len(dice) < FEWEST or len(set(patients.tolist())) < 2:
            return None
        families = FAMILIES if len(set(patients.tolist())) >= MANY else FAMILIES[:1]
        tried = [(family, stiffness) for family in families for stiffness in (STIFFNESS if family else STIFFNESS[:1])]
        likely = np.zeros((len(tried), len(dice)))
        for one in sorted(set(patients.tolist())):
            out = patients == one
            for t, options in enumerate(tried):
                model = fit_quality(region, names, features[~out], dice[~out], *options)
                likely[t, out] = model.dice(columns(names, model.names, features[out]))
        best = simplest(list(np.square(likely - dice)), patients)
        low, high = interval_of(likely[best], dice)
        return replace(fit_quality(region, names, features, dice, *tried[best]), low=low, high=high)


def auroc(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """Area under the ROC curve; None where one class is absent."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, scores)) if positive.any() and not positive.all() else None
