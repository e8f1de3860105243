"""How far a case drives a network from what its reference cases do: no labels, no look at the segmentation.

Two distances, after the two sides of Inside-Out (arXiv 2604.08192): what latents do by themselves, and how those of an
earlier tap go with those of a later one (`circuit.py`, which says what is the paper's). Each is divided by what is
usual among the reference cases, of which each is held against the others; the score is their geometric mean. So 1 is
an ordinary case, and 2 one that is twice as far as an ordinary case.

Ours: the distance of usage, and that latents count by how much the regions rest on them (`circuit.weights_of`). A
change of latents that nothing rests on does no harm: with all alike the score did not follow Dice (docs/evidence.md).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from MedSegLensLib.cases.case import MODALITY_NAMES
from MedSegLensLib.errors import UsageError
from MedSegLensLib.failures.circuit import circuit_shift
from MedSegLensLib.failures.findings import Shift
from MedSegLensLib.failures.input_statistics import TELLING
from MedSegLensLib.failures.reference import Reference, Workings, workings_of

if TYPE_CHECKING:
    from MedSegLensLib.editing.session import Session

FEWEST, FEWEST_HALVED = 3, 4
"""Reference cases for a rank; for a cohort's shift."""
HALVINGS = 10
ENOUGH_FOR_PERCENT = 50
FARTHEST = 10.0
"""Robust deviations that a number counts for at most."""
LEAST_USE = 0.01
"""A latent that falls silent counts as one that is used a hundredth as much as usual."""
UNUSUAL = 0.1
"""A case is told of as unusual where at most this share of the reference cases is as far."""
CLEAREST, LEAST_SPREAD = 3, 0.1
"""Of a modality's numbers, how many are looked at, and the least spread that one may have (standard deviations of the
brain, or of logarithms)."""
MAD_TO_SD = 1.4826


def shift(session: "Session", reference: Reference) -> Shift:
    """The session's case against the reference; one that is in it is held against the others only."""
    return shift_of(workings_of(session, reference.weights), reference, session.case.name)


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
    modality = _modality(far, usual, reference)
    return Shift(score, rank, distance, modality, _words(case, rank, modality, reference))


def cohort_shift(cases: Sequence[Workings], reference: Reference) -> float:
    """How far a cohort as a whole is from the reference: the same distances of the mean of its cases, divided by what
    is usual between halves of the reference. The paper's setting: what differs from patient to patient cancels.

    Raises UsageError for a reference of fewer than four cases, or no case.
    """
    if not cases or len(reference.cases) < FEWEST_HALVED:
        cause = f"it has {len(reference.cases)} cases." if cases else "no case was given to compare with it."
        raise UsageError("reference", cause, f"Give at least {FEWEST_HALVED} reference cases, and a cohort.")
    usual = _between_halves(reference)
    found = distances(mean_workings(cases), reference)
    return _pooled({what: value / usual[what] for what, value in found.items() if what in usual})


def mean_workings(cases: Sequence[Workings]) -> Workings:
    """The mean of cases, number by number; a modality that any lacks counts as lacking."""
    rows = [case.to_arrays() for case in cases]
    mean = {name: np.mean([row[name] for row in rows], 0) for name in rows[0]}
    return Workings.from_arrays(mean | {"present": np.min([row["present"] for row in rows], 0)}, list(cases[0].rate))


# -- distances ------------------------------------------------------------------------------------------------------


def distances(case: Workings, reference: Reference) -> dict[str, float]:
    """How far a case is from the reference, not yet in proportion: "usage" and, for a pack with two taps, "circuit"."""
    found = {"usage": usage_distance(case, reference)}
    edges = circuit_shift(case.graph, reference.workings.graph.mean(0)) if case.graph.size else math.nan
    return found | ({"circuit": edges} if math.isfinite(edges) else {})


def usage_distance(case: Workings, reference: Reference) -> float:
    """By what factor the case uses latents more or less than the reference does on average: the mean of |ln(ratio)| of
    the mean code over the brain, over latents as they weigh, summed over taps."""
    found = 0.0
    for tap in case.rate:
        use = case.rate[tap] * case.magnitude[tap]
        usual = (reference.workings.rate[tap] * reference.workings.magnitude[tap]).mean(0)
        least = LEAST_USE * usual + 1e-4 * usual.sum() + 1e-12
        found += float((reference.weight(tap) * np.abs(np.log((use + least) / (usual + least)))).sum())
    return found


def input_distances(case: Workings, reference: Reference) -> np.ndarray:
    """Robust deviation of each modality's numbers from the reference, mean of the `CLEAREST`, float64 (modalities,);
    infinite for one that the case lacks and the reference has."""
    found = []
    for m in range(len(reference.modalities)):
        there = reference.workings.present[:, m]
        if not case.present[m] or not there.any():
            found.append(0.0 if case.present[m] or not there.any() else math.inf)
            continue
        inputs = reference.workings.inputs[there, m][:, list(TELLING)]
        far = np.sort(deviation(case.inputs[m][list(TELLING)], inputs, LEAST_SPREAD))
        found.append(float(far[-CLEAREST:].mean()))
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


def _between_halves(reference: Reference) -> dict[str, float]:
    """The median of each distance of the mean of one half of the reference from the other half."""
    rng, n = np.random.default_rng(0), len(reference.cases)
    found = []
    for _ in range(HALVINGS):
        order = rng.permutation(n)
        mean = mean_workings([reference.case(i) for i in order[: n // 2]])
        found.append(distances(mean, reference.without(*(reference.cases[i] for i in order[: n // 2]))))
    return {what: max(float(np.median([row[what] for row in found])), 1e-9) for what in found[0]}


def _alone(reference: Reference) -> _Usual:
    """A reference of one case says nothing about what is usual."""
    ones = np.ones(len(reference.modalities))
    return _Usual({"usage": 1.0, "circuit": 1.0}, (), ones, np.full(len(ones), np.inf))


def _pooled(distance: dict[str, float]) -> float:
    return float(np.exp(np.mean([math.log(max(value, 1e-9)) for value in distance.values()])))


def differing_modality(case: Workings, reference: Reference) -> str | None:
    """The modality that is farthest in proportion to what is usual, if farther than in every reference case."""
    usual = _usual(reference)
    return _modality(input_distances(case, reference) / usual.inputs, usual, reference)


# -- words ----------------------------------------------------------------------------------------------------------


def _modality(far: np.ndarray, usual: _Usual, reference: Reference) -> str | None:
    m = int(np.argmax(far))
    return reference.modalities[m] if far[m] > usual.largest_input[m] else None


def _words(case: Workings, rank: float | None, modality: str | None, reference: Reference) -> str:
    n = len(reference.cases)
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
        as_far = round(rank * n)
        are = "is" if as_far == 1 else "are"
        return f"This study drives latents as the reference studies do ({as_far} of {n} {are} as far); {which}."
    if n >= ENOUGH_FOR_PERCENT and rank > 0:
        return f"This study drives latents as only {rank:.0%} of the reference studies do: {which}.".replace("%", " %")
    return f"This study drives latents as none of the {n} reference studies does: {which}."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
