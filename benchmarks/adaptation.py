"""Dice gained on unseen cases of a shifted cohort, by method and number of labelled cases.

Two kinds of cohort, and neither is a scanner's: phantoms (invented) and the real cases (simulated acquisitions of
them). Each method is fitted on n labelled cases with `diffing.adaptation.adapt`, given up where it makes these
worse as a whole, and applied to cases that were fitted on by none; all methods have the same cases. "oracle" is the
same fit of latents on the very case that it is judged on, with its reference: a bound, nothing that a user has.

Of the real cases, the two held-out patients (BraTS2021_00006, BraTS2021_01480) are never fitted on, and gains on them
stand apart: the segmenters were trained on the other seven, before their acquisition was changed.
"""

import argparse
import statistics
import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from common import PACKS, REAL, VALIDATION, machine, packs, show, training_cases

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cases.reading import read_case
from MedSegLensLib.cohorts.acquisitions import Acquisition
from MedSegLensLib.diffing.adaptation import Latents, adapt, no_worse
from MedSegLensLib.diffing.adaptation_baselines import baselines
from MedSegLensLib.diffing.adaptation_loss import dice_of
from MedSegLensLib.diffing.applying import mean_gain
from MedSegLensLib.diffing.excerpts import ExcerptReader

COUNTS = (1, 3, 5)
PHANTOM_SHIFTS = (Acquisition("low-field", 2.0), Acquisition("missing-t1c"), Acquisition("bias-field", 2.0))
"""Two that are alike in all cases of a cohort, and one that is different in each."""
REAL_SHIFTS = (Acquisition("low-field", 2.0),)
UNSEEN_PHANTOMS = 8
GRID = {"size": (80, 100, 24), "spacing": (2.0, 2.0, 6.0)}
"""Coarse through the plane, so that a phantom takes a second: the packs work on slices."""
ORACLE = "oracle (fitted on the case itself)"


@dataclass(frozen=True)
class Source:
    """One shifted case: made or read when it is asked for, and not kept."""

    name: str
    acquisition: Acquisition
    seed: int | None = None

    def read(self):
        case = phantom(self.seed, **GRID) if self.seed is not None else read_case(REAL / self.name)
        return self.acquisition.apply(case)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--packs", nargs="+", choices=list(PACKS), default=list(PACKS))
    parser.add_argument("--cases", nargs="+", choices=("phantoms", "real"), default=["phantoms", "real"])
    parser.add_argument("--draws", type=int, default=1, help="sets of labelled phantoms; gains are means over them")
    parser.add_argument("--shifts", nargs="+", metavar="KIND", help="only these acquisitions, such as low-field")
    return parser.parse_args()


def cohorts(chosen: argparse.Namespace, trained: list[str]) -> list[dict]:
    """Each with the sets of cases to fit on, in order (the first n are taken), and the cases to judge on."""
    found = []
    wanted = [[s for s in of if not chosen.shifts or s.kind in chosen.shifts] for of in (PHANTOM_SHIFTS, REAL_SHIFTS)]
    for shift in wanted[0] if "phantoms" in chosen.cases else ():
        seeds = iter(range(300, 400))
        draws = [[next(seeds) for _ in range(max(COUNTS))] for _ in range(chosen.draws)]
        unseen = [next(seeds) for _ in range(UNSEEN_PHANTOMS)]
        made = lambda seed, shift=shift: Source(f"phantom-{seed}", shift, seed)  # noqa: E731
        found.append(
            {
                "name": f"phantoms, {shift.kind} x{shift.strength:g}",
                "what": f"invented; {shift.note}",
                "draws": [[made(seed) for seed in draw] for draw in draws],
                "judged": [made(seed) for seed in unseen],
                "unseen": [f"phantom-{seed}" for seed in unseen],
            }
        )
    for shift in wanted[1] if "real" in chosen.cases and REAL.is_dir() else ():
        rest = [name for name in trained if name not in VALIDATION]
        found.append(
            {
                "name": f"real cases, {shift.kind} x{shift.strength:g}",
                "what": f"BraTS 2021 cases; {shift.note}",
                "draws": [[Source(name, shift) for name in rest[: max(COUNTS)]]],
                "judged": [Source(name, shift) for name in (*VALIDATION, *rest[max(COUNTS) :])],
                "unseen": list(VALIDATION),
            }
        )
    return found


class Bench:
    """One pack on one cohort: fits first, then every case once under everything that was fitted."""

    def __init__(self, reader: ExcerptReader, cohort: dict):
        self.reader, self.cohort, self.tap = reader, cohort, reader.tap
        self.fitted: dict[tuple[str, int, int], object] = {}  # by method, n and draw
        self.why: dict[str, list[str]] = {}

    def run(self) -> dict:
        labelled = self._fit()
        self._give_up(labelled)
        before, after = {}, {}
        for source in self.cohort["judged"]:
            before[source.name], after[source.name] = self._judge(source)
            say(f"  {source.name}: Dice {before[source.name]:.3f}")
        return self._summary(before, after)

    def _fit(self) -> list[list]:
        for draw, sources in enumerate(self.cohort["draws"]):
            excerpts = [self.reader.read(source.read()) for source in sources]
            for n in COUNTS:
                for method in (Latents(self.tap), *baselines(self.reader.network, self.tap, seed=draw)):
                    started = time.perf_counter()
                    found = adapt(method, excerpts[:n])
                    self.fitted[method.name, n, draw] = found.adjustment
                    if found.why:
                        self.why.setdefault(f"{method.name}, n = {n}", []).append(found.why)
                    setting = tuple(found.setting) if found.setting else None
                    took = time.perf_counter() - started
                    say(f"  draw {draw}, n = {n}: {method.name} {setting} x{found.share:g} in {took:.0f} s")
        return self.cohort["draws"]

    @torch.no_grad()
    def _give_up(self, draws: list[list]) -> None:
        """What makes the labelled cases worse as a whole is not applied, as in `medseglens adapt`."""
        dices: dict[tuple[str, int, int], tuple[dict, dict]] = {}
        for draw, sources in enumerate(draws):
            for i, source in enumerate(sources):
                excerpt = self.reader.read(source.read(), everything=True)
                plain = dice_of(excerpt.logits, excerpt)
                for key, adjustment in self.fitted.items():
                    if key[2] == draw and i < key[1] and adjustment:
                        before, after = dices.setdefault(key, ({}, {}))
                        before[source.name], after[source.name] = plain, dice_of(adjustment.on(excerpt), excerpt)
        for key, (before, after) in dices.items():
            if not no_worse(before, after):
                self.fitted[key] = None
                self.why.setdefault(f"{key[0]}, n = {key[1]}", []).append(
                    "It made the labelled cases worse as a whole."
                )

    def _judge(self, source: Source) -> tuple[float, dict]:
        case = source.read()
        excerpt = self.reader.read(case, everything=True)
        before, after = dice_of(excerpt.logits, excerpt), {}
        with torch.no_grad():
            for key, adjustment in self.fitted.items():
                after[key] = dice_of(adjustment.on(excerpt), excerpt) if adjustment else before
        own = adapt(Latents(self.tap), [self.reader.read(case)]).adjustment
        with torch.no_grad():
            after[ORACLE, 0, 0] = dice_of(own.on(excerpt), excerpt) if own else before
        return before, after

    def _summary(self, before: dict, after: dict) -> dict:
        names = list(before)
        methods = dict.fromkeys(key[0] for key in self.fitted)
        gains = {}
        for method in (*methods, ORACLE):
            by_n = {}
            for n in (0,) if method == ORACLE else COUNTS:
                keys = [key for key in after[names[0]] if key[:2] == (method, n)]
                of_case = {c: float(np.mean([after[c][key] - before[c] for key in keys])) for c in names}
                nothing = sum(self.fitted.get(key, True) is None for key in keys)
                by_n["" if method == ORACLE else str(n)] = {
                    "all": mean_gain(list(of_case.values())),
                    "unseen": mean_gain([of_case[c] for c in self.cohort["unseen"]]),
                    "by_case": of_case,
                    "fits": len(keys),
                    "changed_nothing": nothing,
                }
            gains[method] = by_n
        for method in methods:  # paired by case: what the intervals of two means do not say
            for n, gain in gains[method].items():
                ours = gains[Latents.name][n]["by_case"]
                gain["latents_less_this"] = mean_gain([ours[c] - gain["by_case"][c] for c in names])
        return {
            "cohort": self.cohort["what"],
            "fitted_on": [[s.name for s in draw] for draw in self.cohort["draws"]],
            "dice_before": before,
            "mean_dice_before": statistics.mean(before.values()),
            "gain": {"no change": 0.0, **gains},
            "why_nothing": self.why,
        }


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def lines_of(name: str, pack: str, found: dict) -> list[str]:
    lines = [f"{pack} on {name} ({found['cohort']})", f"  mean Dice without a change: {found['mean_dice_before']:.3f}"]
    for method, by_n in found["gain"].items():
        if method == "no change":
            continue
        for n, gain in by_n.items():
            mean, interval = gain["all"]["mean"], gain["all"]["interval"]
            said = f"{mean:+.3f}" + (f" (95 % {interval[0]:+.3f} to {interval[1]:+.3f})" if interval else "")
            unseen = gain["unseen"]
            apart = "" if unseen["cases"] == gain["all"]["cases"] else f"; unseen patients {unseen['mean']:+.3f}"
            count = f"n = {n}" if n else ""
            nothing = f"; nothing changed in {gain['changed_nothing']} of {gain['fits']}" * bool(
                gain["changed_nothing"]
            )
            lines.append(f"  {method:<36} {count:<6} {said}{apart}{nothing}")
    return lines


def main() -> None:
    chosen = options()
    result, lines = {"machine": machine()}, []
    for name, pack in packs(chosen.packs).items():
        result[name] = {"trained_on": training_cases(pack)}
        reader = ExcerptReader(pack)
        for cohort in cohorts(chosen, training_cases(pack)):
            started = time.perf_counter()
            say(f"{name}, {cohort['name']}")
            found = Bench(reader, cohort).run()
            found["seconds"] = time.perf_counter() - started
            result[name][cohort["name"]] = found
            lines += lines_of(cohort["name"], name, found)
            say("\n".join(lines_of(cohort["name"], name, found)))
    show(result, chosen.json, lines)


if __name__ == "__main__":
    main()
