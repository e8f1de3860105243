"""The check of one case: where its segmentation is likely wrong and which latents say so, how good it likely is, and
how far the case is from what the pack's reference cohort was like.

found, risk = check(session)
found.suspects[0].words      # the worst place, in a sentence
session.to_case(risk)        # the risk map on the case's own grid
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from MedSegLensLib.editing.places import ras_point
from MedSegLensLib.failures.detector import Detector
from MedSegLensLib.failures.explaining import Explainer
from MedSegLensLib.failures.findings import FALSE_POSITIVE, Check, Quality, Suspect
from MedSegLensLib.failures.place_readings import read_places
from MedSegLensLib.failures.reference import reference_of
from MedSegLensLib.failures.suspects import JUDGED, KINDS, Places, risk_map

if TYPE_CHECKING:
    from MedSegLensLib.editing.session import Session
    from MedSegLensLib.failures.place_readings import Readings
    from MedSegLensLib.failures.reference import Reference

LISTED = 0.25
"""Risk from which on a place is listed; the risk map has all of them."""
FEWEST_LISTED, LEAST = 5, 0.05
"""Where fewer are, the next ones down to the risk `LEAST`: tumour far from what is segmented is seldom missed, so that
no place has a high risk, and a reader should look at some all the same."""
LIKELY = 0.5
MOST_LISTED = 30
SAME = 0.5
"""A place of which more than this share lies in one that is listed already, and is wrong in the same way, is not listed
again: a false piece is often one of WT, TC and ET at once."""

REGION_WORDS = {"WT": "tumour", "TC": "tumour core", "ET": "enhancing tumour"}
ADD_REFERENCE = "add one with `medseglens pack add-reference`"

Progress = Callable[[str, float], None]


def check(
    session: "Session", reference: "Reference | None" = None, progress: Progress | None = None
) -> tuple[Check, np.ndarray]:
    """What is found, and the risk map: probability of being wrong, float32 (Z, Y, X) 0..1 on the network's grid.

    reference: None takes the pack's own. Where it has none nothing can be said, and one note says so; where it has one
    of cases without labels, there is a shift and nothing else. `progress` may raise Cancelled. The segmentation is
    never changed. Raises PackError for a detector that is damaged or of another version.
    """
    from MedSegLensLib.failures.shift import shift

    started, say = time.perf_counter(), progress or (lambda stage, share: None)
    reference = reference or reference_of(session.pack)
    names = session.case.name, session.pack.info.name
    nowhere = np.zeros(session.labels.shape, np.float32)
    if reference is None:
        note = f"The pack {names[1]} has no reference cohort, so that nothing can be said: {ADD_REFERENCE}."
        return Check(*names, (), None, (), (note,), time.perf_counter() - started), nowhere
    say("comparing with the reference", 0.0)
    moved = shift(session, reference)
    if reference.detector is None:
        note = f"The reference of {names[1]} has no labels, so that only the shift can be told: {ADD_REFERENCE}"
        note += " of labelled cases."
        return Check(*names, (), moved, (), (note,), time.perf_counter() - started), nowhere
    detector = detector_of(reference)
    say("looking for what is likely wrong", 0.4)
    places, readings = read_places(session)
    risks = detector.risks(readings)
    say("saying why", 0.9)
    suspects = suspects_of(session, places, readings, risks, detector)
    quality = quality_of(session, readings, risks, detector)
    notes = _notes(session)
    found = Check(*names, quality, moved, suspects, notes, time.perf_counter() - started)
    return found, risk_map(places, risks)


def detector_of(reference: "Reference") -> Detector:
    """The reference's detector, read once. Raises PackError, see `Detector.from_json`."""
    if "read detector" not in reference.__dict__:
        reference.__dict__["read detector"] = Detector.from_json(reference.detector)
    return reference.__dict__["read detector"]


def suspects_of(
    session: "Session", places: Places, readings: "Readings", risks: np.ndarray, detector: Detector
) -> tuple[Suspect, ...]:
    """Those of at least the risk `LISTED`, those first that are likely wrong in most mL; few of less, see `LEAST`."""
    explainer = Explainer(session.pack, readings, detector)
    likely = risks * readings["ml"]
    taken = {True: np.zeros(int(np.prod(places.shape)), bool), False: np.zeros(int(np.prod(places.shape)), bool)}
    suspects = []
    for place in _in_order(risks, likely):
        if len(suspects) >= (FEWEST_LISTED if risks[place] < LISTED else MOST_LISTED):
            break
        kind, form = KINDS[places.kind[place]]
        voxels, known = places.of(place), taken[kind == FALSE_POSITIVE]
        if known[voxels].mean() > SAME:
            continue
        known[voxels] = True
        region, ml = JUDGED[places.region[place]], float(readings["ml"][place])
        reasons, why = explainer.reasons(place)
        suspects.append(
            Suspect(
                kind,
                form,
                region,
                float(risks[place]),
                ras_point(session.conformed, tuple(int(v) for v in readings["middle"][place])),
                round(ml, 3),
                reasons,
                _sentence(kind, form, region, ml, float(risks[place]), why),
            )
        )
    return tuple(suspects)


def _in_order(risks: np.ndarray, likely: np.ndarray) -> list[int]:
    """Places of at least the risk `LISTED`, most mL likely wrong first, and then those of at least `LEAST`."""
    listed, rest = np.flatnonzero(risks >= LISTED), np.flatnonzero((risks >= LEAST) & (risks < LISTED))
    return [int(i) for some in (listed, rest) for i in some[np.argsort(-likely[some], kind="stable")]]


def quality_of(session: "Session", readings: "Readings", risks: np.ndarray, detector: Detector) -> tuple[Quality, ...]:
    """Of each region that is segmented, and of which the reference had enough cases."""
    segmented = [region for region in JUDGED if session.region_ml(session.labels, region) > 0]
    likely = [detector.likely(readings, risks, region) for region in segmented]
    return tuple(one for one in likely if one is not None)


def _sentence(kind: str, form: str, region: str, ml: float, risk: float, why: str) -> str:
    what = REGION_WORDS[region]
    if kind == FALSE_POSITIVE:
        said = f"This piece of {what}" if form == "component" else f"This stretch of the {what}'s border"
        said += f" ({ml:.1f} mL) {'is likely not' if risk >= LIKELY else 'may not be'} {what}"
    else:
        where = "Here" if form == "component" else "Just outside what was found,"
        said = f"{where} {what} {'is likely' if risk >= LIKELY else 'may be'} missed (in {ml:.1f} mL)"
    return f"{said}: {why}." if why else f"{said}."


def _notes(session: "Session") -> tuple[str, ...]:
    notes = list(session.notes)
    absent = [region for region in JUDGED if session.region_ml(session.labels, region) == 0]
    if "WT" in absent:
        notes.append("No tumour was segmented; only missed tumour can be looked for.")
    elif absent:
        said = " and no ".join(REGION_WORDS[region] for region in absent)
        notes.append(f"No {said} was segmented, so that no Dice is given for it.")
    return tuple(notes)
