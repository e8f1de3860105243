"""Does the check find the cases that failed, and the places that are wrong? Beside the usual baselines, in one run.

Cases: real ones as they were acquired and under simulated acquisitions, and phantoms, each apart. Whatever is learned
is learned without the patient that it is judged on, whose simulated acquisitions stay together; the two patients that
no pack was trained on teach nothing at all. A case fails where its Dice is below 0.7: the mean over WT, TC and ET, or
that of WT.

Keys by pack, group and target ("mean", "WT"): `aurc`, `e_aurc`, `auroc`, `spearman` by method, `aurc_minus_pair_dice`
(below 0: better than the Dice between the two packs), each with a 95 % interval by bootstrap over patients where there
are more than two; by pack and group: `places` (AUROC by kind of place and method), `intervals` (share of true Dice
within the 80 % interval); and `cost`.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import detection_baselines as baselines
import numpy as np
from common import PACKS, VALIDATION, machine, packs, show
from detection_work import DetectionWork
from failure_cohorts import phantoms, real_cases, simulated

from MedSegLensLib.cohorts.cohort import CohortCase
from MedSegLensLib.cohorts.journal import Journal
from MedSegLensLib.cohorts.mapping import map_cases
from MedSegLensLib.diffing.dictionaries import at_work
from MedSegLensLib.failures.detector import Detector, PlaceReading, auroc, fit_and_leave_out
from MedSegLensLib.failures.features import LATENT, WRONG, expected_dice
from MedSegLensLib.failures.risk_coverage import aurc, e_aurc, failure_auroc, rank_correlation
from MedSegLensLib.failures.suspects import JUDGED, KINDS

OURS, PAIR, EXPECTED = "ours", "pair Dice", "Dice by the probabilities"
TARGETS = (baselines.MEAN, "WT")
DRAWS = 1000
FAILED = 0.3
MEASURES = {
    "aurc": aurc,
    "e_aurc": e_aurc,
    "auroc": lambda risk, sure: failure_auroc(risk, sure, FAILED),
    "spearman": rank_correlation,
}


def read(journal: Path, together: dict) -> list[tuple[CohortCase, dict[str, np.ndarray]]]:
    """Every case with the arrays of `DetectionWork`; what a pack's own detector reads is put into its journal too."""
    cases = [*real_cases(), *(case for cohort in simulated() for case in cohort.cases), *phantoms()]
    work = DetectionWork(tuple(at_work(pack) for pack in together.values()))
    found = []
    own = {pack.info.name: Journal(journal, PlaceReading(at_work(pack)).key()) for pack in together.values()}
    mapped = map_cases(work, cases, journal, progress=lambda stage, share: None)
    for case, arrays in mapped:
        found.append((case, arrays))
        for name, kept in own.items():
            if not kept.file(case).is_file():
                kept.write(kept.file(case), readings_of(arrays, name))
    for failure in mapped.failures:
        print(f"not used: {failure}")
    return found


def readings_of(arrays: dict[str, np.ndarray], pack: str) -> dict[str, np.ndarray]:
    """Those of a pack; without what only the baselines read, see `of_baselines`."""
    own = {name.removeprefix(f"{pack}: "): array for name, array in arrays.items() if name.startswith(f"{pack}: ")}
    return {name: array for name, array in own.items() if not name.startswith(("mean ", "moments ", "seconds"))}


def of_baselines(arrays: dict[str, np.ndarray], pack: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(f"{pack}: "): array for name, array in arrays.items() if name.startswith(f"{pack}: ")}


def judge(found: list, pack: str) -> tuple[dict, Detector]:
    """All measures of one pack, by group, and the detector that all patients teach who may."""
    cases, readings = [case for case, _ in found], [readings_of(arrays, pack) for _, arrays in found]
    teach = [i for i, case in enumerate(cases) if not case.invented and case.name not in VALIDATION]
    patients = [cases[i].subject for i in teach]
    everything, by_patient = fit_and_leave_out([readings[i] for i in teach], patients)
    risks, inside = [], []
    sure = {target: [] for target in TARGETS}
    for i, case in enumerate(cases):
        detector = by_patient.get(case.subject, everything)
        risks.append(detector.risks(readings[i]))
        likely, within = _likely(detector, readings[i], risks[i])
        inside.append(within)
        for target in TARGETS:
            sure[target].append({OURS: likely[target], EXPECTED: _expected(readings[i], target)})
    _baselines(found, pack, teach, sure)
    groups = {
        "real": [i for i, case in enumerate(cases) if not case.invented],
        "real, training patients, each left out": teach,
        "real, held-out patients": [i for i, case in enumerate(cases) if case.name in VALIDATION],
        "phantoms": [i for i, case in enumerate(cases) if case.invented],
    }
    subjects, said = np.array([case.subject for case in cases]), {}
    for group, members in groups.items():
        if not members:
            continue
        said[group] = {}
        for target in TARGETS:
            risk = np.array([1 - baselines.dice_of(readings[i]["dice"], target) for i in members])
            methods = {name: np.array([sure[target][i][name] for i in members]) for name in sure[target][0]}
            said[group][target] = _measured(risk, methods, subjects[members])
        said[group]["places"] = _places([readings[i] for i in members], [risks[i] for i in members], subjects[members])
        within = np.concatenate([inside[i] for i in members])
        said[group]["intervals"] = {"n": len(within), "inside": round(float(within.mean()), 3)}
    said["detector"] = everything.facts | {
        "latents used": {
            f"{kind}, {form}": sum(name.startswith(LATENT) for name in model.names)
            for (kind, form), model in zip(KINDS, everything.places, strict=True)
        }
    }
    return said, everything


def _likely(detector: Detector, readings: dict, risks: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """Likely Dice by target, the mean over WT and what else is segmented; and by region whether the interval held."""
    values, inside = {}, []
    for r, region in enumerate(JUDGED):
        one = detector.likely(readings, risks, region)
        segmented = float(readings["case"][r]) > 0  # CASE begins with the mL of WT, TC, ET
        if one is not None and (segmented or region == "WT"):
            values[region] = one.dice
        if one is not None and segmented and np.isfinite(readings["dice"][r]):
            inside.append(one.low - 1e-9 <= readings["dice"][r] <= one.high + 1e-9)
    return {"WT": values["WT"], baselines.MEAN: float(np.mean(list(values.values())))}, np.array(inside, bool)


def _expected(readings: dict, target: str) -> float:
    """What the segmenter's own probabilities expect, nothing learned: the first feature of ours, by itself."""
    regions = [region for r, region in enumerate(JUDGED) if region == "WT" or float(readings["case"][r]) > 0]
    return float(np.mean([expected_dice(readings, region) for region in regions if target in (region, baselines.MEAN)]))


def _baselines(found: list, pack: str, teach: list[int], sure: dict[str, list[dict]]) -> None:
    arrays = [of_baselines(one, pack) for _, one in found]
    known: dict[str | None, tuple] = {}
    for i, (case, both) in enumerate(found):
        left_out = case.subject if i in teach else None
        if left_out not in known:
            rest = [j for j in teach if found[j][0].subject != left_out]
            usual = [j for j in rest if found[j][0].acquisition is None]
            forests = {}
            for target in TARGETS:
                dice = np.array([baselines.dice_of(arrays[j]["dice"], target) for j in rest])
                forests[target] = baselines.EntropyForest([arrays[j] for j in rest], dice)
            known[left_out] = baselines.Mahalanobis([arrays[j] for j in usual]), forests
        far, forests = known[left_out]
        same = baselines.entropies(arrays[i]) | {"Mahalanobis": far.confidence(arrays[i])}
        for target in TARGETS:
            sure[target][i] |= same | {
                PAIR: baselines.dice_of(both["pair dice"], target, 1.0),
                "random forest on entropies": forests[target].confidence(arrays[i]),
            }


def _measured(risk: np.ndarray, methods: dict[str, np.ndarray], subjects: np.ndarray) -> dict:
    failed = int(np.count_nonzero(risk > FAILED))
    said = {"n": len(risk), "patients": len(set(subjects)), "failed": failed, "mean_dice": round(1 - risk.mean(), 4)}
    for measure, of in MEASURES.items():
        said[measure] = {name: _rounded(of(risk, sure)) for name, sure in methods.items()}
        said[f"{measure}_interval"] = {
            name: bootstrap(lambda at, s=sure, f=of: f(risk[at], s[at]), subjects) for name, sure in methods.items()
        }
    for name in (PAIR, *(name for name in methods if name not in (OURS, PAIR))):
        key = f"aurc_minus_{name.replace(' ', '_').lower()}"

        def difference(at, other=methods[name]):
            return aurc(risk[at], methods[OURS][at]) - aurc(risk[at], other[at])

        said[key] = {
            "value": _rounded(difference(np.arange(len(risk)))),
            "interval": bootstrap(difference, subjects),
        }
    return said


def _places(readings: list[dict], risks: list[np.ndarray], subjects: np.ndarray) -> dict:
    """AUROC for places of which most is wrong, by kind and method."""
    owner = np.concatenate([np.full(len(risk), subject) for risk, subject in zip(risks, subjects, strict=True)])
    kind = np.concatenate([one["places"][:, 0] for one in readings])
    wrong = np.concatenate([one["wrong"] for one in readings]) > WRONG
    belief, score = np.concatenate([one["belief"] for one in readings]), np.concatenate(risks)
    size = np.concatenate([one["ml"] for one in readings])
    said = {}
    for k, (name, form) in enumerate(KINDS):
        own = kind == k
        odds = belief[own, 5] if name == "missed" else -belief[own, 5]
        methods = {OURS: score[own], "entropy": belief[own, 0], "log odds": odds, "small volume": -size[own]}
        expected, calibrated = score[own].mean(), wrong[own].mean()
        said[f"{name}, {form}"] = {
            "n": int(own.sum()),
            "wrong": int(wrong[own].sum()),
            "mean_risk": round(float(expected), 4),
            "share_wrong": round(float(calibrated), 4),
            "auroc": {method: _rounded(auroc(values, wrong[own])) for method, values in methods.items()},
            "auroc_interval": {
                method: bootstrap(lambda at, v=values, w=wrong[own]: auroc(v[at], w[at]), owner[own])
                for method, values in methods.items()
            },
        }
    return said


def bootstrap(measure: Callable[[np.ndarray], float | None], subjects: np.ndarray) -> list[float] | None:
    """The middle 95 % of a measure over draws of patients with replacement; None for two patients or fewer, of whom
    there are three draws."""
    names = sorted(set(subjects))
    if len(names) < 3:
        return None
    rows = {name: np.flatnonzero(subjects == name) for name in names}
    rng, values = np.random.default_rng(0), []
    draws = DRAWS if len(subjects) < 1000 else DRAWS // 5  # places: thousands of rows a draw
    for _ in range(draws):
        drawn = measure(np.concatenate([rows[name] for name in rng.choice(names, len(names))]))
        if drawn is not None:
            values.append(drawn)
    if len(values) < 0.8 * draws:
        return None
    return [_rounded(v) for v in np.quantile(values, [0.025, 0.975])]


def cost(found: list, together: dict, detectors: dict[str, Detector]) -> dict:
    """What the check takes, but for the shift, against one full pass of the segmenter: of the first real held-out case
    at full resolution, both timed here, the best of three."""
    import torch

    from MedSegLensLib.editing.session import Session
    from MedSegLensLib.failures.check import suspects_of
    from MedSegLensLib.failures.place_readings import read_places

    case, said = next((case for case, _ in found if case.name in VALIDATION), found[0][0]).read(), {}
    for name, pack in together.items():
        session, detector = Session(case, pack, "cpu"), detectors[name]

        def whole(session=session, detector=detector):
            places, readings = read_places(session)
            suspects_of(session, places, readings, detector.risks(readings), detector)

        @torch.no_grad()
        def forward(session=session):
            volume, batch = torch.from_numpy(session.conformed.array), session.engine.batch
            for first in range(0, session.sampling.count, batch):
                samples = list(range(first, min(first + batch, session.sampling.count)))
                session.network(session.engine.place(session.sampling.inputs(volume, samples)))

        times = {"check": _best(whole), "full_pass": _best(forward)}
        said[name] = {f"{what}_s": round(t, 3) for what, t in times.items()} | {
            "ratio": round(times["check"] / times["full_pass"], 3)
        }
    return {"case": case.name} | said


def _best(call: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)


def lines_of(result: dict) -> list[str]:
    text = []
    for name in result["packs"]:
        for group, said in result[name].items():
            if group == "detector":
                continue
            for target in TARGETS:
                of = said[target]
                text.append(
                    f"{name}, {group}, {target} Dice: n = {of['n']} of {of['patients']} patients, "
                    f"{of['failed']} failed, mean {of['mean_dice']:.2f}"
                )
                for method in of["aurc"]:
                    numbers = "  ".join(f"{m} {_shown(of[m][method])}" for m in MEASURES)
                    text.append(f"  {method:<28} {numbers}")
                difference = of["aurc_minus_pair_dice"]
                text.append(f"  AURC minus pair Dice: {difference['value']} {difference['interval'] or ''}")
            for kind, one in said["places"].items():
                numbers = ", ".join(f"{m} {_shown(v)}" for m, v in one["auroc"].items())
                text.append(f"  {kind}: {one['wrong']} wrong of {one['n']}; AUROC {numbers}")
            text.append(f"  true Dice within the 80 % interval: {said['intervals']['inside']:.0%}")
    return [*text, f"cost: {result['cost']}"]


def _shown(value: float | None) -> str:
    return "  -  " if value is None else f"{value:.3f}"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--packs", nargs="+", choices=list(PACKS), default=list(PACKS), help="packs that are judged")
    parser.add_argument("--journal", type=Path, required=True, help="folder of what is read of each case, kept")
    parser.add_argument("--no-cost", action="store_true", help="leave out the timing")
    return parser.parse_args()


def main() -> None:
    asked = options()
    together = packs(list(PACKS))  # both are read: either is the other's pair
    found = read(asked.journal, together)
    result = {"machine": machine(), "packs": asked.packs}
    detectors = {}
    for name in asked.packs:
        result[name], detectors[name] = judge(found, PACKS[name])
    chosen = {name: together[name] for name in asked.packs}
    result["cost"] = None if asked.no_cost else cost(found, chosen, detectors)
    show(result, asked.json, lines_of(result))


if __name__ == "__main__":
    main()
