"""Does it help to leave a modality out? Of cases as they were acquired, of cases with one modality spoilt, and before a
reader points.

`left_out`: each real case without each of its modalities: the change of the whole tumour's Dice, and what a choice by a
label-free sign (the check's likely Dice, the entropy over the segmentation, the shift score) would change on average;
the shipped detectors and references were learned from seven of these nine, which favours the signs.
`spoilt`: one modality alone under a simulated acquisition at its greatest strength, as it is and left out, and how
often the shift names it. `pointed_at`: Dice of a failure after each point of the simulated reader, with all modalities
and without one.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from common import PACKS, VALIDATION, machine, packs, show
from failure_cohorts import real_cases, simulated
from repair import FAILED, episode

from MedSegLensLib.cases.case import Case
from MedSegLensLib.cohorts.acquisitions import Acquisition
from MedSegLensLib.editing.session import Session
from MedSegLensLib.editing.splice import dice_by_region
from MedSegLensLib.failures.check import check
from MedSegLensLib.failures.pack_choice import entropy_of_segmentation
from MedSegLensLib.failures.reference import reference_of
from MedSegLensLib.failures.shift import shift

SPOILT = tuple(Acquisition(kind, 3.0) for kind in ("noise", "motion", "other-contrast"))
POINTS = 5
NOTABLE = 0.02
"""Of Dice: what a reader would hardly notice is no help."""


def without(case: Case, modality: str | None) -> Case:
    return replace(case, images={m: image for m, image in case.images.items() if m != modality})


class Opener:
    """Sessions of one pack, whose engine is chosen once."""

    def __init__(self, pack):
        self.pack, self._engine = pack, None

    def __call__(self, case: Case) -> Session:
        session = Session(case, self.pack, engine=self._engine)
        self._engine = session.engine
        return session


def whole_tumour(session: Session) -> float:
    return dice_by_region(session.labels, session.conformed.labels(session.case.labels))["WT"]


def left_out(opened: Opener, cases: list) -> Iterator[dict]:
    for entry in cases:
        case = entry.read()
        for modality in (None, *case.images):
            session = opened(without(case, modality))
            found, _ = check(session)
            likely = next((one.dice for one in found.quality if one.region == "WT"), 0.0)
            entropy = entropy_of_segmentation(session)  # nan where nothing is segmented
            signs = {"likely Dice": -likely, "entropy": np.nan_to_num(entropy, nan=np.inf), "shift": found.shift.score}
            dice = whole_tumour(session)
            say(f"{entry.name} without {modality}: {dice:.2f}")
            yield {"case": entry.name, "without": modality, "dice": dice, "signs": signs}


def chosen_by(sign: str, rows: list[dict]) -> dict:
    """What comes of leaving out, case by case, what the sign is lowest for (nothing left out is a choice too)."""
    changes, dropped = [], 0
    for name in dict.fromkeys(row["case"] for row in rows):
        own = [row for row in rows if row["case"] == name]
        best = min(own, key=lambda row: row["signs"][sign])
        dropped += best["without"] is not None
        changes.append(best["dice"] - own[0]["dice"])
    return {"left out in": dropped, "mean_change": float(np.mean(changes)), "worst_change": float(min(changes))}


def spoilt(opened: Opener, cases: list, rows: list[dict]) -> Iterator[dict]:
    known = {(row["case"], row["without"]): row["dice"] for row in rows}
    reference, names = reference_of(opened.pack), [entry.name for entry in cases]
    for cohort in simulated(SPOILT):
        for entry in (one for one in cohort.cases if one.name in names):
            real, made = cases[names.index(entry.name)].read(), entry.read()
            for modality in real.images:
                session = opened(replace(real, images=real.images | {modality: made.images[modality]}))
                yield {
                    "kind": cohort.name,
                    "change": whole_tumour(session) - known[entry.name, None],
                    "change_left_out": known[entry.name, modality] - known[entry.name, None],
                    "named": shift(session, reference).modality == modality,
                }


def pointed_at(opened: Opener, cases: list) -> Iterator[dict]:
    for entry in cases:
        case = entry.read()
        before = dice_by_region((full := opened(case)).labels, full.conformed.labels(case.labels))
        for region in (r for r, dice in before.items() if dice is not None and dice < FAILED):
            for modality in (None, *case.images):
                session = opened(without(case, modality))
                truth = session.conformed.labels(case.labels)
                scores = [dice_by_region(session.labels, truth)]
                scores += episode(session, truth, region, POINTS, rejects=True)[0]
                said = [round(one[region], 3) for one in scores]
                yield {"case": entry.name, "region": region, "without": modality, "dice": said}
                say(f"{entry.name} {region} without {modality}: {said}")


def of_pack(pack, few: int) -> dict:
    opened, cases = Opener(pack), real_cases()
    rows = list(left_out(opened, cases))
    full = {row["case"]: row["dice"] for row in rows if row["without"] is None}
    changes = {}
    for modality in dict.fromkeys(row["without"] for row in rows if row["without"]):
        change = [row["dice"] - full[row["case"]] for row in rows if row["without"] == modality]
        changes[modality] = {"mean": float(np.mean(change)), "min": min(change), "max": max(change)}
    made = list(spoilt(opened, cases[:few], rows))
    kinds = {}
    for kind in dict.fromkeys(one["kind"] for one in made):
        own = [one for one in made if one["kind"] == kind]
        kinds[kind] = {key: float(np.mean([one[key] for one in own])) for key in ("change", "change_left_out", "named")}
        kinds[kind]["better left out"] = sum(one["change_left_out"] > one["change"] + NOTABLE for one in own)
        kinds[kind]["n"] = len(own)
    held_out = [entry for entry in cases if entry.name in VALIDATION]
    return {
        "left_out": changes,
        "chosen_by": {sign: chosen_by(sign, rows) for sign in rows[0]["signs"]},
        "spoilt": kinds,
        "pointed_at": list(pointed_at(opened, held_out)),
    }


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--packs", nargs="+", choices=list(PACKS), default=list(PACKS))
    parser.add_argument("--spoilt-cases", type=int, default=3, help="cases of which a modality is spoilt (default 3)")
    chosen = parser.parse_args()
    if not real_cases():
        raise SystemExit("Nothing to measure on: the real cases (../shared/data) are not there.")
    result = {name: of_pack(pack, chosen.spoilt_cases) for name, pack in packs(chosen.packs).items()}
    lines = []
    for name, of in result.items():
        for what in ("left_out", "chosen_by", "spoilt"):
            lines += [f"{name}, {what}, {key}: {value}" for key, value in of[what].items()]
        lines += [f"{name}, pointed at: {one}" for one in of["pointed_at"]]
    show(result | {"machine": machine()}, chosen.json, lines)


if __name__ == "__main__":
    main()
