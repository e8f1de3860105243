"""How far a case drives a network from what its reference cases do: no labels, no look at the segmentation.

Two distances, after the two sides of Inside-Out (arXiv 2604.08192): what latents do by themselves, and how those of an
earlier tap go with those of a later one (`circuit.py`, which says what is the paper's). Each is divided by what is
usual among the reference cases, of which each is held against the others; the score is their geometric mean. So 1 is
an ordinary case, and 2 one that is twice as far as an ordinary case.

Ours: the distance of usage. Latents are held against the median of the reference, in units of a robust spread that no
latent may have smaller than the middle one of its tap: seven cases say little about a single latent's spread.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from MedSegLensLib.cases.case import MODALITY_NAMES
from MedSegLensLib.failures.circuit import circuit_shift
from MedSegLensLib.failures.findings import Shift
from MedSegLensLib.failures.reference import Reference, Workings, workings_of

if TYPE_CHECKING:
    from MedSegLensLib.editing.session import Session

FEWEST = 3
"""Reference cases for a rank."""
ENOUGH_FOR_PERCENT = 50
FARTHEST = 10.0
"""Robust deviations that one latent counts for at most."""
UNUSUAL = 0.1
"""A case is told of as unusual where at most this share of the reference cases is as far."""
MAD_TO_SD = 1.4826


def shift(session: "Session", reference: Reference) -> Shift:
    """The session's case against the reference; one that is in it is held against the others only."""
    return shift_of(workings_of(session), reference, session.case.name)


def shift_of(case: Workings, reference: Reference, name: str = "") -> Shift:
    """The same of a case whose workings are known."""
    if name in reference.cases and len(reference.cases) > 1:
        reference = reference.without(name)
    usual = _usual(reference)
    raw = distances(case, reference)
    distance = {what: value / usual.distance[what] for what, value in raw.items() if what in usual.distance}
    score = _pooled(distance)
    far = input_distances(case, reference) / usual.inputs
    rank = None
    if len(reference.cases) >= FEWEST:
        rank = float(np.mean([other >= score for other in usual.scores]))
    return Shift(
        score, rank, distance, _modality(case, far, usual, reference), _words(case, rank, far, usual, reference)
    )


# -- distances ------------------------------------------------------------------------------------------------------


def distances(case: Workings, reference: Reference) -> dict[str, float]:
    """How far a case is from the reference, not yet in proportion: "usage" and, for a pack with two taps, "circuit"."""
    found = {"usage": usage_distance(case, reference.workings)}
    edges = circuit_shift(case.graph, reference.workings.graph.mean(0)) if case.graph.size else math.nan
    return found | ({"circuit": edges} if math.isfinite(edges) else {})


def usage_distance(case: Workings, reference: Workings) -> float:
    """The mean over latents of all taps of the robust deviation of rate and magnitude from the reference cases'."""
    far = []
    for tap in case.rate:
        # Square roots: the spread of a share grows with the share.
        far.append(deviation(np.sqrt(case.rate[tap]), np.sqrt(reference.rate[tap])))
        fires = (case.rate[tap] > 0) & (np.median(reference.rate[tap], 0) > 0)
        far.append(deviation(case.magnitude[tap], reference.magnitude[tap])[fires])
    return float(np.concatenate(far).mean())


def input_distances(case: Workings, reference: Reference) -> np.ndarray:
    """Mean robust deviation of each modality's numbers from the reference, float64 (modalities,); infinite for one that
    the case lacks and the reference has."""
    found = []
    for m in range(len(reference.modalities)):
        there = reference.workings.present[:, m]
        if not case.present[m] or not there.any():
            found.append(0.0 if case.present[m] or not there.any() else math.inf)
            continue
        inputs = reference.workings.inputs[there, m]
        found.append(float(deviation(case.inputs[m], inputs, floor=0.05).mean()))
    return np.array(found)


def deviation(value: np.ndarray, reference: np.ndarray, floor: float | None = None) -> np.ndarray:
    """|value - median| in robust standard deviations of the reference (cases, n), at most `FARTHEST`, (n,).

    floor: of the spread; None: the median spread over the n.
    """
    centre = np.median(reference, 0)
    spread = MAD_TO_SD * np.median(np.abs(reference - centre), 0)
    least = max(float(np.median(spread)) if floor is None else floor, 1e-6)
    return np.minimum(np.abs(value - centre) / np.maximum(spread, least), FARTHEST)


# -- what is usual among the reference cases ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Usual:
    """Of the reference cases, each against the others: the median of each distance, scores, and of inputs the median
    (modalities,) and the largest (modalities,) in proportion to it."""

    distance: dict[str, float]
    scores: tuple[float, ...]
    inputs: np.ndarray
    largest_input: np.ndarray


def _usual(reference: Reference) -> _Usual:
    known = reference.__dict__.get("_usual")
    if known is None:
        known = _leave_one_out(reference) if len(reference.cases) > 1 else _alone(reference)
        reference.__dict__["_usual"] = known  # a frozen dataclass of arrays that nobody changes
    return known


def _leave_one_out(reference: Reference) -> _Usual:
    pairs = [(reference.case(i), reference.without(name)) for i, name in enumerate(reference.cases)]
    found = [distances(case, others) for case, others in pairs]
    middle = {
        what: max(float(np.median([row[what] for row in found if what in row])), 1e-9)
        for what in ("usage", "circuit")
        if any(what in row for row in found)
    }
    inputs = np.stack([input_distances(case, others) for case, others in pairs])
    inputs = np.ma.masked_invalid(inputs)  # a reference case may lack a modality
    usual_inputs = np.maximum(np.ma.median(inputs, 0).filled(1.0), 1e-9)
    scores = tuple(_pooled({what: value / middle[what] for what, value in row.items()}) for row in found)
    return _Usual(middle, scores, usual_inputs, inputs.max(0).filled(0.0) / usual_inputs)


def _alone(reference: Reference) -> _Usual:
    """A reference of one case says nothing about what is usual."""
    ones = np.ones(len(reference.modalities))
    return _Usual({"usage": 1.0, "circuit": 1.0}, (), ones, np.full(len(ones), np.inf))


def _pooled(distance: dict[str, float]) -> float:
    return float(np.exp(np.mean([math.log(max(value, 1e-9)) for value in distance.values()])))


# -- words ----------------------------------------------------------------------------------------------------------


def _modality(case: Workings, far: np.ndarray, usual: _Usual, reference: Reference) -> str | None:
    """The modality that is farthest in proportion, where it is farther than in every reference case."""
    m = int(np.argmax(far))
    return reference.modalities[m] if far[m] > usual.largest_input[m] else None


def _words(case: Workings, rank: float | None, far: np.ndarray, usual: _Usual, reference: Reference) -> str:
    n, modality = len(reference.cases), _modality(case, far, usual, reference)
    lacking = [m for m, there in zip(reference.modalities, case.present, strict=True) if not there]
    if lacking and modality in lacking:
        which = f"{_listed([MODALITY_NAMES[m] for m in lacking])} {'is' if len(lacking) == 1 else 'are'} missing"
    elif modality:
        which = f"{MODALITY_NAMES[modality]} differs most"
    else:
        which = "no modality stands out"
    if rank is None:
        return f"Too few reference studies ({n}) to say how unusual this one is; {which}."
    if rank > UNUSUAL or rank * n >= 1 and n < ENOUGH_FOR_PERCENT:
        return f"This study drives latents as the reference studies do ({round(rank * n)} of {n} are as far); {which}."
    if n >= ENOUGH_FOR_PERCENT and rank > 0:
        return f"This study drives latents as only {rank:.0%} of the reference studies do: {which}.".replace("%", " %")
    return f"This study drives latents as none of the {n} reference studies does: {which}."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
