"""How well the shift score tells, without labels, how well a pack does: Spearman's correlation with true Dice.

Real cases as they were acquired and under each simulated acquisition (`failure_cohorts.py`). The reference is the
seven cases that a pack was trained on; a case is held against those of other patients only. Every fifth slice is read
(`shift_readings.py`); --journal keeps the readings.

    python shift.py --json --journal FOLDER

- `spearman` by pack and method, over all cases and over the means of acquisitions: of the score with 1 - Dice of WT,
  so that 1 is best. `low`, `high`: 95 %, bootstrap over patients. `held_out_...`: the two patients apart that no weight
  learned from.
- methods: `shift` (usage and circuit), its parts `usage` and `co_firing`, and `influence`, another circuit; baselines:
  `entropy` and `1 - confidence` (over the brain, over the segmentation), `mahalanobis` (each slice's mean activation at
  the default tap, as its lens gives it back, to the reference's slices), `inputs` (statistics of the volumes).
- `phantoms`: scores of invented anatomy; 1 is an ordinary case.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import machine, packs
from failure_cohorts import phantoms, real_cases, simulated
from scipy.stats import spearmanr
from shift_readings import ReadPack, ShiftReading
from sklearn.covariance import LedoitWolf

from MedSegLensLib.cohorts.cohort import CohortCase
from MedSegLensLib.cohorts.mapping import map_cases
from MedSegLensLib.failures.circuit import circuit_shift
from MedSegLensLib.failures.reference import Reference, Workings
from MedSegLensLib.failures.shift import input_distances, shift_of, usage_distance

TARGETS = 8
"""Latents of the last tap that `influence` is taken on: those that the regions rest on most, by the catalogue."""
RESAMPLES = 2000
PHANTOMS = 4


def targets_of(pack) -> list[int]:
    last = pack.default_tap
    rows = [row for row in pack.catalogue().to_pylist() if row["tap"] == last]
    effect = [max(abs(row[f"influence_{r}"] or 0.0) for r in ("wt", "tc", "et")) for row in rows]
    order = sorted(zip(effect, (row["latent"] for row in rows), strict=True), reverse=True)
    return [int(latent) for _, latent in order[:TARGETS]]


class Read:
    """One case's readings with one pack."""

    def __init__(self, case: CohortCase, group: str, arrays: dict[str, np.ndarray], p: int, taps: tuple[str, ...]):
        self.name, self.patient, self.group = case.name, case.subject, group
        self.arrays = {name[2:]: array for name, array in arrays.items() if name.startswith(f"{p}.")}
        self.dice = self.arrays["dice"]
        count = [self.arrays[f"{t}.count"] for t in range(len(taps))]
        total = [self.arrays[f"{t}.total"] for t in range(len(taps))]
        rate = {tap: count[t] / self.arrays["tokens"][t] for t, tap in enumerate(taps)}
        magnitude = {tap: total[t] / np.maximum(count[t], 1) for t, tap in enumerate(taps)}
        inputs = self.arrays["inputs"]
        graph = self.arrays["co_firing"].ravel()
        self.workings = Workings(rate, magnitude, graph, np.nan_to_num(inputs), np.isfinite(inputs).all(1))


def reference_of(reads: list[Read], modalities: tuple[str, ...]) -> Reference:
    rows = [read.workings.to_arrays() for read in reads]
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    workings = Workings.from_arrays(stacked, list(reads[0].workings.rate))
    return Reference(tuple(read.patient for read in reads), workings, modalities)


def scores(read: Read, base: list[Read], reference: Reference, tap: int, lens) -> dict[str, float]:
    """Every method's score of a case; larger is worse."""
    others = [one for one in base if one.patient != read.patient]
    without = reference.without(read.patient) if len(others) < len(base) else reference
    found = shift_of(read.workings, reference, read.patient)
    influences = np.mean([_order(one.arrays["influence"]) for one in others], 0)
    entropy_brain, entropy_tumour, sure_brain, sure_tumour = read.arrays["confidence"]
    return {
        "shift": found.score,
        "usage": usage_distance(read.workings, without.workings),
        "co_firing": circuit_shift(read.workings.graph, without.workings.graph.mean(0)),
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


def table_of(reads: list[Read], base: list[Read], reference: Reference, pack) -> dict[str, np.ndarray]:
    tap = pack.taps.index(pack.default_tap)
    rows = [scores(read, base, reference, tap, pack.lens(pack.default_tap)) for read in reads]
    return {method: np.array([row[method] for row in rows]) for method in rows[0]}


def results(reads: list[Read], pack, held_out: set[str]) -> dict:
    base = [read for read in reads if read.group == "as acquired" and read.patient not in held_out]
    reference = reference_of(base, tuple(pack.info.input["modalities"]))
    real = [read for read in reads if read.group != "phantoms"]
    table = table_of(real, base, reference, pack)
    dice, patients = np.array([read.dice[0] for read in real]), np.array([read.patient for read in real])
    groups, unseen = np.array([read.group for read in real]), np.isin(patients, list(held_out))
    found: dict = {"cases": len(real), "acquisitions": sorted(set(groups)), "spearman": {}}
    for method, score in table.items():
        found["spearman"][method] = {
            "cases": with_interval(lambda r, s=score: correlation(s[r], dice[r]), patients),
            "acquisitions": with_interval(lambda r, s=score: over_acquisitions(s[r], dice[r], groups[r]), patients),
            "held_out_cases": correlation(score[unseen], dice[unseen]),
            "held_out_acquisitions": over_acquisitions(score[unseen], dice[unseen], groups[unseen]),
            "training_cases": correlation(score[~unseen], dice[~unseen]),
        }
    found["by_acquisition"] = {
        str(g): {"dice": float(np.nanmean(dice[groups == g])), "shift": float(table["shift"][groups == g].mean())}
        for g in sorted(set(groups))
    }
    far = [shift_of(read.workings, reference).score for read in reads if read.group == "phantoms"]
    found["phantoms"] = far
    found["rows"] = [
        {"case": read.name, "group": read.group, "dice": read.dice.tolist()}
        | {method: float(score[i]) for method, score in table.items()}
        for i, read in enumerate(real)
    ]
    return found


def read_all(opened: dict, journal: Path | None) -> dict[str, list[Read]]:
    work = ShiftReading(tuple(ReadPack.of(pack, targets_of(pack)) for pack in opened.values()))
    groups = {"as acquired": real_cases(), **{cohort.name: list(cohort.cases) for cohort in simulated()}}
    groups["phantoms"] = phantoms(PHANTOMS)
    reads: dict[str, list[Read]] = {name: [] for name in opened}
    for group, cases in groups.items():
        for case, arrays in map_cases(work, cases, journal):
            for p, (name, pack) in enumerate(opened.items()):
                reads[name].append(Read(case, group, arrays, p, pack.taps))
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
    for name, pack in opened.items():
        one = results(reads[name], pack, set(pack.info.trained_on.held_out))
        if not options.rows:
            one.pop("rows")
        found["packs"][name] = one
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
