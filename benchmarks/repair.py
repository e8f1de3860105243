"""How much of a failed segmentation a few points bring back: latents of the pack, beside what they must beat.

A failure is a case x region (WT, TC, ET; one that the reference does not have is left out) with Dice below 0.7, and as
a second definition below 0.5. A simulated reader (`failures.reader`) points at the middle of the largest mistake of the
region, then at the largest that is left, up to five times; of the reference nothing else is used, but for what is
called oracle. The controls get the very same points and are confined to the same tissue (--reader own: each control
has a reader of its own, with the same rule). Recovered: Dice at least 0.7 and at least 0.2 more than before.

Kinds, each apart: "unseen" (the two patients that no pack was trained on), "held-out" (these under simulated
acquisitions), "simulated" (the seven training cases under these), "phantoms" (invented). The method was developed on
the last two kinds alone.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
from common import PACKS, REAL, VALIDATION, machine, packs, show
from failure_cohorts import phantoms, simulated, unseen
from repair_controls import Learned, controls_of
from repair_oracle import ORACLES
from repair_summary import CLICKS, in_lines, summary
from repair_taps import Click
from safetensors.torch import load_file, save_file

from MedSegLensLib.cases.case import REGIONS, region_mask
from MedSegLensLib.cases.reading import read_case
from MedSegLensLib.editing.session import Session
from MedSegLensLib.editing.splice import dice_by_region
from MedSegLensLib.editing.token_sample import sample_tokens
from MedSegLensLib.failures.opinion import opinion_of
from MedSegLensLib.failures.reader import next_point
from MedSegLensLib.failures.repair import Settings, propose, tissue_of, voxel_at
from MedSegLensLib.lenses.files import load_lens, save_lens
from MedSegLensLib.lenses.nulls import random_decoder_lens
from MedSegLensLib.segmenters.engine import choose_engine
from MedSegLensLib.segmenters.sampling import trial_shape

KINDS = ("unseen", "held-out", "simulated", "phantoms")
FAILED, GOOD_CLICKS = 0.7, 3
LEARNED_FROM = 2
"""Training cases that the random dictionary is trained on and the differences in means are taken of."""
ASKED = "latents, other pack asked"
SHORT = ("class bias", "tissue painted")
"""Controls that are tried on good cases too."""


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--packs", nargs="+", choices=list(PACKS), default=list(PACKS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--limit", type=int, default=12, help="cases of each kind and pack (default 12)")
    parser.add_argument("--quick", action="store_true", help="one case of each kind, three points, no oracle")
    parser.add_argument("--reader", choices=("own", "same"), default="own", help="whose mistakes controls are shown")
    parser.add_argument("--other", action="store_true", help="also with the other pack's segmentation in hand")
    parser.add_argument("--controls", choices=("all", "none"), default="all")
    parser.add_argument("--partial", type=Path, help="folder for what is done so far; what is there is not done again")
    return parser.parse_args()


def cases_of(kind: str) -> list:
    """In an order of their own, the same in every run, so that the first few are of many acquisitions."""
    if kind == "unseen":
        return unseen()
    if kind == "phantoms":
        return phantoms(20)
    cases = [case for cohort in simulated() for case in cohort.cases]
    mine = [case for case in cases if (case.name in VALIDATION) == (kind == "held-out")]
    return sorted(mine, key=lambda case: hashlib.sha256(title(case).encode()).hexdigest())


def title(case) -> str:
    """A simulated case has the name of the case that it was made of."""
    return f"{case.name} {case.acquisition.kind}" if case.acquisition else case.name


class Latents:
    """The method itself: `failures.repair.propose`, point after point.

    rejects: whether the reader undoes what made the region worse to their eyes, which is judged by its Dice here.
    opinion: the other pack's segmentation, where it is asked.
    """

    def __init__(self, session: Session, truth: np.ndarray, rejects: bool, opinion: np.ndarray | None = None):
        self.session, self.truth, self.rejects, self.opinion = session, truth, rejects, opinion
        self.labels, self.recipe, self.seconds = session.labels, None, []
        self.told, self.earlier = [], []

    def answer(self, point) -> None:
        found = propose(
            self.session, point, self.recipe, labels=self.labels, earlier=self.earlier, opinion=self.opinion
        )
        self.seconds.append(found.seconds)
        if not found.gains or (self.rejects and self.worse(found.after, point.region)):
            self.told.append(point)
            return
        self.labels, self.recipe = found.after, found.recipe
        self.earlier.append(point)

    def worse(self, labels: np.ndarray, region: str) -> bool:
        return dice_by_region(labels, self.truth)[region] < dice_by_region(self.labels, self.truth)[region]


def episode(
    session, truth, region: str, clicks: int, rejects: bool, opinion: np.ndarray | None = None
) -> tuple[list[dict], list[Click], list[float]]:
    """Dice of all regions after each point, the clicks with their tissue, and the seconds of each proposal."""
    method, scores, made = Latents(session, truth, rejects, opinion), [], []
    for _ in range(clicks):
        point = next_point(session, method.labels, truth, region, method.told)
        if point is not None:
            made.append(click_of(session, point, method.labels, method.earlier))
            method.answer(point)
        scores.append(dice_by_region(method.labels, truth))
    return scores, made, method.seconds


def click_of(session: Session, point, labels: np.ndarray, earlier: list) -> Click:
    voxel = voxel_at(session, point)
    tissue, like = tissue_of(session, session.pack.default_tap, point, voxel, labels, Settings(), earlier)
    return Click(point, voxel, tissue, like)


def under(control, session, truth, region: str, clicks: list[Click], count: int, own: bool) -> list[dict]:
    """Dice of all regions after each of `count` points."""
    scores, told, earlier = [], [], []
    for number in range(count):
        click = clicks[number] if number < len(clicks) else None
        if own:
            point = next_point(session, control.labels, truth, region, told)
            click = click_of(session, point, control.labels, earlier) if point else None
        if click is not None:
            before = control.labels
            control.answer(click)
            (told if np.array_equal(before, control.labels) else earlier).append(click.point)
        scores.append(dice_by_region(control.labels, truth))
    return scores


def of_case(kind: str, case, number: int, session: Session, truth, learned: Learned, chosen, other) -> dict:
    """What every method makes of one case. other(): the other pack's labels of it."""
    before = dice_by_region(session.labels, truth)
    items = []
    failed = [r for r, d in before.items() if d is not None and d < FAILED]
    good = [r for r, d in before.items() if d is not None and d >= FAILED]
    makers = controls_of(session, truth, Settings(), learned, number) if chosen.controls == "all" else {}
    own = chosen.reader == "own"
    for region in failed + good[number % max(1, len(good)) :][:1]:
        failure = region in failed
        count = (3 if chosen.quick else max(CLICKS)) if failure else GOOD_CLICKS
        plain, clicks, seconds = episode(session, truth, region, count, rejects=False)
        methods = {"latents": plain, "latents, reader may reject": episode(session, truth, region, count, True)[0]}
        if other is not None:
            for rejects, name in ((False, ASKED), (True, f"{ASKED}, reader may reject")):
                methods[name] = episode(session, truth, region, count, rejects, other())[0]
        for name, make in makers.items():
            if failure or name in SHORT:
                methods[name] = under(make(), session, truth, region, clicks, count, own)
        if failure and not chosen.quick and makers:
            for name, oracle in ORACLES.items():
                methods[name] = [dice_by_region(oracle(session, truth, region), truth)]
        items.append(
            {
                "region": region,
                "failure": failure,
                "before": before,
                "methods": methods,
                "seconds": seconds,
                "points": [c.point.to_json() for c in clicks],
                "tissue_ml": [float(c.tissue.sum()) * session.conformed.voxel_ml for c in clicks],
            }
        )
        say(f"    {region} {before[region]:.2f}: " + ", ".join(f"{n} {s[-1][region]:.2f}" for n, s in methods.items()))
    return {
        "kind": kind,
        "case": title(case),
        "subject": case.subject,
        "full_pass": session.timings["segment"],
        "items": items,
    }


def learn(pack, kept: Path | None) -> Learned:
    """The random dictionary, and each region's mean less that of the brain around it, of training cases.

    kept: a folder where they are looked for first, and kept.
    """
    tap = pack.default_tap
    folder = kept and kept / f"learned-{pack.info.name}"
    if folder and (folder / "means.safetensors").exists():
        return Learned(load_lens(folder), load_file(folder / "means.safetensors"))
    names = [name for name in pack.info.trained_on.cases if name not in VALIDATION][:LEARNED_FROM]
    cases = [read_case(REAL / name) for name in names] if REAL.is_dir() else [c.read() for c in phantoms(2, 301)]
    network, config = pack.network(), pack.info.segmenter
    engine = choose_engine(network, (len(pack.input_spec().modalities), *trial_shape(config, pack.input_spec())))[0]
    prepared = engine.prepare(network, config.spatial_dims)
    sample = sample_tokens(cases, prepared, config, pack.input_spec(), [tap], engine)[tap]
    means = {}
    for region in REGIONS:
        inside = torch.from_numpy(region_mask(sample.labels, region))
        means[region] = sample.tokens[inside].mean(0) - sample.tokens[~inside].mean(0)
    random = random_decoder_lens(sample.tokens, pack.lens(tap), sample.tokens)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        save_lens(random, folder)
        save_file(means, folder / "means.safetensors")
    return Learned(random, means)


class Second:
    """The pack that is not worked on, and what it says of a case."""

    def __init__(self, name: str):
        (self.name,) = (other for other in PACKS if other != name)
        self.pack = None

    def of(self, session: Session) -> Callable[[], np.ndarray]:
        """Its labels on the session's grid, segmented when they are first asked for."""

        @cache
        def labels() -> np.ndarray:
            self.pack = self.pack or packs([self.name])[self.name]
            return opinion_of(self.pack, session)

        return labels


def records(chosen) -> Iterator[dict]:
    """One a pack and case, as it is done or was found."""
    for name, pack in packs(chosen.packs).items():
        learned = engine = None
        second = Second(name) if chosen.other else None
        for kind in chosen.kinds:
            for number, case in enumerate(cases_of(kind)[: 1 if chosen.quick else chosen.limit]):
                file = chosen.partial and chosen.partial / f"{name}-{kind}-{title(case)}.json".replace(" ", "-")
                if file and file.exists():
                    yield json.loads(file.read_text(encoding="utf-8"))
                    continue
                learned = learned or (learn(pack, chosen.partial) if chosen.controls == "all" else Learned(None))
                started = time.perf_counter()
                read = case.read()
                session = Session(read, pack, engine=engine)
                engine = session.engine
                truth = session.conformed.labels(read.labels)
                say(f"{name}, {kind}, {title(case)} ({time.perf_counter() - started:.0f} s)")
                other = second and second.of(session)
                record = {"pack": name} | of_case(kind, case, number, session, truth, learned, chosen, other)
                record["took"] = round(time.perf_counter() - started, 1)
                if file:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(json.dumps(record), encoding="utf-8")
                yield record


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    chosen = options()
    done = list(records(chosen))
    result = summary(done) | {"reader": chosen.reader, "limit": chosen.limit, "machine": machine()}
    show(result, chosen.json, in_lines(result))


if __name__ == "__main__":
    main()
