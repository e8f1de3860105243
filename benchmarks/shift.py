"""How well the shift score tells, without labels, how well a pack does: Spearman's correlation with true Dice.

Real cases as they were acquired and under each simulated acquisition (`failure_cohorts.py`). The reference is the
seven cases that a pack was trained on; a case is held against those of other patients only. Every fifth slice is read
(`shift_readings.py`); --journal keeps the readings.

    python shift.py --json --journal FOLDER

- `spearman` at the top: by method, over acquisitions, of the pack where it is least.
- `spearman` by pack and method, over all cases (`cases`) and over the means of acquisitions (`acquisitions`): of the
  score with 1 - Dice, the mean over the regions WT, TC and ET that a patient has, so that 1 is best; `wt_...`: of WT
  alone. `low`, `high`: 95 %, bootstrap over patients. `held_out_...`: the two patients apart that no weight learned
  from. `within_patients`: over the acquisitions of each patient, mean over patients.
- methods: `shift` (usage and circuit), its parts `usage` and `co_firing`; ablations of them, where latents that
  no region rests on count as much as others, and `influence`, another circuit; baselines:
  `entropy` and `1 - confidence` (over the brain, over the segmentation), `mahalanobis` (each slice's mean activation at
  the default tap, as its lens gives it back, to the reference's slices), `inputs` (statistics of the volumes).
- `cohorts`: the paper's setting, one score for a whole acquisition: four of the seven patients are the reference as
  they were acquired, the cohort is the other three and the held-out two under the acquisition; mean over draws. `low`,
  `high`: over draws of the split and resamples of the cohort's patients.
- `phantoms`: scores of invented anatomy; 1 is an ordinary case.
- `modality`: one modality of a case takes the statistics that it has under a simulated acquisition, the others keep
  those that they were acquired with; how often the one that is said to differ most is that one. `clean_named`: how
  often one is named where nothing was spoilt.
- `choice`: of the two packs the one that does better, without labels; see shift_choice.py.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import machine, packs
from failure_cohorts import phantoms, real_cases, simulated
from scipy.stats import spearmanr
from shift_choice import choice
from shift_readings import ReadPack, ShiftReading
from sklearn.covariance import LedoitWolf

from MedSegLensLib.cohorts.cohort import CohortCase
from MedSegLensLib.cohorts.mapping import map_cases
from MedSegLensLib.failures.circuit import Weights, circuit_shift, targets_of, weights_of
from MedSegLensLib.failures.reference import Reference, Workings
from MedSegLensLib.failures.shift import cohort_shift, differing_modality, input_distances, shift_of, usage_distance

TARGETS = 8
"""Latents of the last tap that `influence` is taken on: those that the regions rest on most, by the catalogue."""
RESAMPLES = 1000
PHANTOMS, DRAWS = 4, 40


def influence_targets(pack) -> list[int]:
    last = pack.default_tap
    rows = [row for row in pack.catalogue().to_pylist() if row["tap"] == last]
    effect = [max(abs(row[f"influence_{r}"] or 0.0) for r in ("wt", "tc", "et")) for row in rows]
    order = sorted(zip(effect, (row["latent"] for row in rows), strict=True), reverse=True)
    return [int(latent) for _, latent in order[:TARGETS]]


class Read:
    """One case's readings with one pack."""

    def __init__(self, case: CohortCase, group: str, arrays: dict[str, np.ndarray], p: int, weights: Weights):
        self.case, self.name, self.patient, self.group = case, case.name, case.subject, group
        self.arrays = {name[2:]: array for name, array in arrays.items() if name.startswith(f"{p}.")}
        self.dice = self.arrays["dice"]
        self.mean_dice = float(np.nanmean(self.dice))
        taps = list(weights)
        count = [self.arrays[f"{t}.count"] for t in range(len(taps))]
        total = [self.arrays[f"{t}.total"] for t in range(len(taps))]
        rate = {tap: count[t] / self.arrays["tokens"][t] for t, tap in enumerate(taps)}
        magnitude = {tap: total[t] / np.maximum(count[t], 1) for t, tap in enumerate(taps)}
        inputs = self.arrays["inputs"]
        # The last tap of either shipped pack is its first lens.
        graph = self.arrays["co_firing"][:, targets_of(weights[taps[0]])].ravel()
        self.workings = Workings(rate, magnitude, graph, np.nan_to_num(inputs), np.isfinite(inputs).all(1))


def reference_of(reads: list[Read], pack) -> Reference:
    rows = [read.workings.to_arrays() for read in reads]
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    workings = Workings.from_arrays(stacked, list(reads[0].workings.rate))
    modalities = tuple(pack.info.input["modalities"])
    return Reference(tuple(read.patient for read in reads), workings, modalities, weights=weights_of(pack))


def scores(read: Read, others: list[Read], without: Reference, tap: int, lens) -> dict[str, float]:
    """Every method's score of a case; larger is worse. others, without: the reference without the case's patient."""
    found = shift_of(read.workings, without)
    influences = np.mean([_order(one.arrays["influence"]) for one in others], 0)
    entropy_brain, entropy_tumour, sure_brain, sure_tumour = read.arrays["confidence"]
    return {
        "shift": found.score,
        "usage": found.distance["usage"],
        "co_firing": found.distance["circuit"],
        "usage, all latents alike": usage_distance(read.workings, replace(without, weights=None)),
        "co_firing, all edges": circuit_shift(
            read.arrays["co_firing"].ravel(), np.mean([one.arrays["co_firing"].ravel() for one in others], 0)
        ),
        "influence": circuit_shift(read.arrays["influence"].ravel(), influences.ravel()),
        "inputs": float(np.max(np.minimum(input_distances(read.workings, without), 1e3))),
        "entropy": entropy_brain,
        "entropy of the segmentation": entropy_tumour,
        "1 - confidence": 1 - sure_brain,
        "1 - confidence of the segmentation": 1 - sure_tumour,
        "mahalanobis": mahalanobis(read, others, tap, lens),
    }


def _order(edges: np.ndarray) -> np.ndarray:
    return edges / max(np.abs(edges).sum(), 1e-9)  # sums over a case grow with its brain


def mahalanobis(read: Read, others: list[Read], tap: int, lens) -> float:
    """Mean over slices of the distance to the reference's slices, covariance shrunk after Ledoit and Wolf."""
    decoder = lens.W_dec.numpy()
    fitted = LedoitWolf().fit(np.concatenate([one.arrays[f"slices.{tap}"] for one in others]) @ decoder)
    return float(np.sqrt(fitted.mahalanobis(read.arrays[f"slices.{tap}"] @ decoder)).mean())


def correlation(score: np.ndarray, dice: np.ndarray) -> float:
    known = np.isfinite(score) & np.isfinite(dice)
    if known.sum() < 4 or np.ptp(score[known]) == 0 or np.ptp(dice[known]) == 0:
        return float("nan")
    return float(spearmanr(score[known], 1 - dice[known]).statistic)


def over_acquisitions(score: np.ndarray, dice: np.ndarray, groups: np.ndarray) -> float:
    names = sorted(set(groups))
    means = [(np.nanmean(score[groups == g]), np.nanmean(dice[groups == g])) for g in names]
    return correlation(*np.array(means).reshape(-1, 2).T)


def with_interval(measure: Callable[[np.ndarray], float], patients: np.ndarray, seed: int = 0) -> dict:
    """measure(rows) over all rows, and its 95 % interval over resampled patients."""
    rng, names = np.random.default_rng(seed), np.unique(patients)
    rows = {name: np.flatnonzero(patients == name) for name in names}
    drawn = [measure(np.concatenate([rows[name] for name in rng.choice(names, len(names))])) for _ in range(RESAMPLES)]
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    return {"value": measure(np.arange(len(patients))), "low": float(low), "high": float(high)}


def of_cohorts(reads: list[Read], base: list[Read], reference: Reference) -> dict:
    """See `cohorts` above. The same draws for every acquisition; entropy beside."""
    rng, names = np.random.default_rng(0), sorted({read.patient for read in base})
    by = {(read.group, read.patient): read for read in reads}
    groups = sorted({read.group for read in reads})
    others = sorted({read.patient for read in reads} - set(names))
    found: dict[str, list[list[float]]] = {"shift": [], "entropy of the segmentation": []}
    dice: list[list[float]] = []
    for _ in range(DRAWS):
        kept = list(rng.permutation(names)[: len(names) - len(names) // 2])
        known = reference.without(*(name for name in names if name not in kept))
        drawn = rng.choice([*(name for name in names if name not in kept), *others], len(names) // 2 + len(others))
        cohorts = [[by[group, patient] for patient in drawn] for group in groups]
        found["shift"].append([cohort_shift([read.workings for read in cohort], known) for cohort in cohorts])
        found["entropy of the segmentation"].append(
            [float(np.nanmean([read.arrays["confidence"][1] for read in cohort])) for cohort in cohorts]
        )
        dice.append([float(np.mean([read.mean_dice for read in cohort])) for cohort in cohorts])
    true, result = np.array(dice), {}
    for method, rows in found.items():
        each = [correlation(np.array(row), d) for row, d in zip(rows, true, strict=True)]
        means = np.mean(rows, 0)
        result[method] = {
            "value": correlation(means, true.mean(0)),
            "low": float(np.nanpercentile(each, 2.5)),
            "high": float(np.nanpercentile(each, 97.5)),
            "by_acquisition": dict(zip(groups, means.tolist(), strict=True)),
        }
    return result


def modality_named(reads: list[Read], apart: dict[str, Reference]) -> dict:
    """By acquisition, the shares (right, another, none named) over cases and modalities; see `modality` above."""
    clean = {read.name: read for read in reads if read.group == "as acquired"}
    counts: dict[str, list[int]] = {}
    for read in reads:
        if read.group == "as acquired" or read.name not in clean:
            continue
        before = clean[read.name].workings
        for m, modality in enumerate(apart[read.patient].modalities):
            lacks = not read.workings.present[m]
            if read.group.startswith("missing") and not lacks:
                continue
            inputs, present = before.inputs.copy(), before.present.copy()
            inputs[m], present[m] = read.workings.inputs[m], not lacks
            changed = replace(before, inputs=inputs, present=present)
            named = differing_modality(changed, apart[read.patient])
            count = counts.setdefault(read.group, [0, 0, 0])
            count[0 if named == modality else 2 if named is None else 1] += 1
    shares = {
        group: dict(zip(("right", "another", "none"), (np.array(count) / sum(count)).tolist(), strict=True))
        for group, count in counts.items()
    }
    named = [differing_modality(read.workings, apart[read.patient]) is not None for read in clean.values()]
    return {"by_acquisition": shares, "clean_named": float(np.mean(named))}


def table_of(reads: list[Read], base: list[Read], apart: dict[str, Reference], pack) -> dict[str, np.ndarray]:
    tap, lens = pack.taps.index(pack.default_tap), pack.lens(pack.default_tap)
    rows = [
        scores(read, [one for one in base if one.patient != read.patient], apart[read.patient], tap, lens)
        for read in reads
    ]
    return {method: np.array([row[method] for row in rows]) for method in rows[0]}


def results(reads: list[Read], pack, held_out: set[str]) -> dict:
    base = [read for read in reads if read.group == "as acquired" and not read.case.seen_in(held_out)]
    reference = reference_of(base, pack)
    real = [read for read in reads if read.group != "phantoms"]
    apart = {
        read.patient: reference.without(read.patient) if read.patient in reference.cases else reference for read in real
    }
    table = table_of(real, base, apart, pack)
    dice, patients = np.array([read.mean_dice for read in real]), np.array([read.patient for read in real])
    whole = np.array([read.dice[0] for read in real])
    groups = np.array([read.group for read in real])
    unseen = np.array([read.case.seen_in(held_out) for read in real])
    found: dict = {"cases": len(real), "acquisitions": sorted(set(groups)), "spearman": {}}
    for method, score in table.items():
        found["spearman"][method] = {
            "cases": with_interval(lambda r, s=score: correlation(s[r], dice[r]), patients),
            "acquisitions": with_interval(lambda r, s=score: over_acquisitions(s[r], dice[r], groups[r]), patients),
            "held_out_cases": correlation(score[unseen], dice[unseen]),
            "held_out_acquisitions": over_acquisitions(score[unseen], dice[unseen], groups[unseen]),
            "training_cases": correlation(score[~unseen], dice[~unseen]),
            "wt_cases": correlation(score, whole),
            "wt_acquisitions": over_acquisitions(score, whole, groups),
            "within_patients": float(
                np.nanmean([correlation(score[patients == p], dice[patients == p]) for p in sorted(set(patients))])
            ),
        }
    found["by_acquisition"] = {
        str(g): {"dice": float(np.nanmean(dice[groups == g])), "shift": float(table["shift"][groups == g].mean())}
        for g in sorted(set(groups))
    }
    far = [shift_of(read.workings, reference).score for read in reads if read.group == "phantoms"]
    found["phantoms"] = far
    found["cohorts"] = of_cohorts(real, base, reference)
    found["modality"] = modality_named(real, apart)
    found["rows"] = [
        {"case": read.name, "group": read.group, "dice": read.dice.tolist()}
        | {method: float(score[i]) for method, score in table.items()}
        for i, read in enumerate(real)
    ]
    return found


def read_all(opened: dict, journal: Path | None) -> dict[str, list[Read]]:
    work = ShiftReading(tuple(ReadPack.of(pack, influence_targets(pack)) for pack in opened.values()))
    groups = {"as acquired": real_cases(), **{cohort.name: list(cohort.cases) for cohort in simulated()}}
    groups["phantoms"] = phantoms(PHANTOMS)
    reads: dict[str, list[Read]] = {name: [] for name in opened}
    weights = {name: weights_of(pack) for name, pack in opened.items()}
    for group, cases in groups.items():
        for case, arrays in map_cases(work, cases, journal):
            for p, name in enumerate(opened):
                reads[name].append(Read(case, group, arrays, p, weights[name]))
    return reads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--journal", type=Path, metavar="FOLDER", help="where readings are kept")
    parser.add_argument("--rows", action="store_true", help="with every case's scores")
    options = parser.parse_args()
    opened = packs(["unet", "segformer"])
    reads = read_all(opened, options.journal)
    found: dict = {"machine": machine(), "packs": {}}
    shifts, taps = {}, {}
    for name, pack in opened.items():
        one = results(reads[name], pack, set(pack.info.trained_on.held_out))
        shifts[name] = {(row["group"], row["case"]): row["shift"] for row in one["rows"]}
        last = pack.taps.index(pack.default_tap)
        taps[name] = (1 - last, last)
        if not options.rows:
            one.pop("rows")
        found["packs"][name] = one
    real = {name: [read for read in reads[name] if read.group != "phantoms"] for name in opened}
    found["choice"] = choice(real, shifts, taps)
    by_pack = [one["spearman"] for one in found["packs"].values()]
    found["spearman"] = {m: min(one[m]["acquisitions"]["value"] for one in by_pack) for m in by_pack[0]}
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for name, one in found["packs"].items():
        print(f"{name}: {one['cases']} cases, {len(one['acquisitions'])} acquisitions")
        for method, value in one["spearman"].items():
            c, a = value["cases"], value["acquisitions"]
            print(
                f"  {method:<36} cases {c['value']:5.2f} ({c['low']:5.2f} to {c['high']:5.2f})  acquisitions"
                f" {a['value']:5.2f} ({a['low']:5.2f} to {a['high']:5.2f})  held out {value['held_out_cases']:5.2f}"
            )


if __name__ == "__main__":
    main()
