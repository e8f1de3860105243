"""Two cohorts read with one pack: which latents are used alike, which are specific to one, and what rests on them.

>>> comparison = diff_cohorts(load_pack("glioma-unet"), find_cohort("brats"), find_cohort("brats-low-field"))
>>> comparison.summary["says"]

The rule and its nulls are in `cohort_categories`; what latents are read beside the pack's own in `dictionaries`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from MedSegLensLib.cohorts.checks import require_cases, shared_modalities
from MedSegLensLib.cohorts.cohort import Cohort
from MedSegLensLib.diffing import suppression as edits
from MedSegLensLib.diffing.cohort_categories import (
    FIRES,
    MEASURES,
    NULL_QUANTILE,
    PRESENT,
    RANDOM_QUANTILE,
    REPEATED,
    SIGNIFICANT,
)
from MedSegLensLib.diffing.cohort_findings import findings_of_tap
from MedSegLensLib.diffing.cohort_nulls import TapResult, read_tap
from MedSegLensLib.diffing.cohort_pairs import Pairing, pair_up
from MedSegLensLib.diffing.comparison import CohortSide, Comparison, LatentFinding, PackSide, Share
from MedSegLensLib.diffing.dictionaries import TapDictionaries, at_work, stack, thresholds_of_equal_rate
from MedSegLensLib.diffing.effects import LEAST_PAIRS, LEAST_UNPAIRED, compare, mean_interval
from MedSegLensLib.diffing.seeds import SeedLens, check_seeds, seeds_of
from MedSegLensLib.diffing.token_samples import TokenSample, TokenWork, sample_tokens
from MedSegLensLib.diffing.usage import REGIONS, CohortUsage, UsageWork, cohort_usage
from MedSegLensLib.errors import CaseError, UsageError
from MedSegLensLib.packs.notes import lens_hash
from MedSegLensLib.packs.pack import LensPack

if TYPE_CHECKING:
    from MedSegLensLib.cohorts.cluster import Cluster

CALIBRATION_CASES, CALIBRATION_TOKENS = 4, 6000
"""Of cohort X, for the thresholds of the random latents. Of X alone, so that its usage is read once (from the journal)
when it is compared with several others."""
LENS_TOKENS, LENS_NATURAL = 12_000, 3000
"""Of each case, for lenses of the cohorts' own."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class _Run:
    """How cases are worked on."""

    journal: Path | None
    cluster: "Cluster | None"
    progress: Progress

    def told(self, what: str) -> Progress:
        return lambda stage, share: self.progress(f"{what}: {stage}", share)


def diff_cohorts(
    pack: LensPack,
    x: Cohort,
    y: Cohort,
    seeds: Iterable[SeedLens] | None = None,
    *,
    taps: Sequence[str] | None = None,
    suppression: bool = True,
    train_lenses: bool = False,
    journal: Path | None = None,
    cluster: "Cluster | None" = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare how cohorts X and Y use the latents of a pack.

    seeds: other seeds of the pack's lenses; None takes the shipped ones. Without any, nothing is called specific or
    backbone. taps: those to look at; None is the default tap. suppression: measure what the specific latents do to the
    Dice, where cases have labels. train_lenses: train lenses of the cohorts' own as well, which takes minutes.

    Cases of the same patients in both cohorts are paired. Findings are of side "a", Hedges' g is of Y against X.

    Raises CaseError for one patient in a cohort, for cohorts without a modality in common, and where fewer than two
    patients could be read; UsageError for cohorts of the same cases and a tap without a lens; else as `map_cases` does.
    """
    taps = tuple(dict.fromkeys(taps or (pack.default_tap,)))
    for tap in taps:
        pack.lens_info(tap)
    notes = _check(pack, x, y)
    seeds = seeds_of(pack) if seeds is None else check_seeds(pack, seeds)
    run = _Run(journal, cluster, progress or (lambda stage, share: None))

    dictionaries = _dictionaries(pack, taps, seeds, x, run)
    work = UsageWork.of(pack, dictionaries)
    usage_x = cohort_usage(work, x, journal, cluster, run.told(x.name))
    usage_y = cohort_usage(work, y, journal, cluster, run.told(y.name))
    notes += [f"Left out of {c.name}: {f}" for c, u in ((x, usage_x), (y, usage_y)) for f in u.failures]
    pairing = pair_up(usage_x.subjects, usage_y.subjects)
    usage_x, usage_y = usage_x.rows(pairing.x), usage_y.rows(pairing.y)
    for cohort, usage in ((x, usage_x), (y, usage_y)):
        if len(usage.subjects) < 2:
            cause = f"{len(usage.subjects)} of its patients could be read, and a comparison needs two at least."
            raise CaseError(f"cohort {cohort.name}", cause, "Mend its cases, or add some.")
    notes += pairing.notes(x.name, y.name)

    results = {}
    for i, one in enumerate(dictionaries):
        run.progress(f"nulls of {one.tap}", i / len(dictionaries))
        own = pack.lens(one.tap)
        results[one.tap] = read_tap(
            own,
            [seed.lens() for seed in one.seeds],
            stack(own, one),
            usage_x.taps[one.tap],
            usage_y.taps[one.tap],
            pairing.paired,
            run.progress,
        )
        if not one.seeds:
            notes.append(
                f"No other seed of the lens at {one.tap} was given: what would be called specific or backbone is not "
                "told from seed noise. Train it again with another seed (`medseglens train lens --seed`)."
            )
    findings = tuple(f for tap, result in results.items() for f in findings_of_tap(tap, result, x.name, y.name))
    summary = _summary(results, findings, x, y, usage_x, usage_y, pairing)
    if suppression:
        summary["suppression"] = _suppressed(pack, results, x, y, usage_x, usage_y, run)
        summary["says"] += [row["says"] for row in summary["suppression"] if row["region"] == "WT"]
        if not summary["suppression"]:
            specific = any(f.category == "specific" for f in findings)
            why = "no case has labels" if specific else "no latent is specific to either cohort"
            notes.append(f"Nothing was suppressed: {why}.")
    if train_lenses:
        summary["cohort_lenses"] = _own_lenses(pack, taps, x, y, run)
        summary["says"] += [row["says"] for row in summary["cohort_lenses"]]
    return Comparison(
        kind="cohorts",
        a=_side(x),
        b=_side(y),
        findings=findings,
        pack=PackSide(pack.info.name, pack.info.version, pack.hash, {tap: lens_hash(pack.info, tap) for tap in taps}),
        thresholds=_thresholds(),
        summary=summary,
        notes=tuple(notes),
    )


def _check(pack: LensPack, x: Cohort, y: Cohort) -> list[str]:
    for cohort in (x, y):
        require_cases(cohort, 2, "to tell what differs from one patient to the next")
    if sorted(case.key() for case in x.cases) == sorted(case.key() for case in y.cases):
        raise UsageError(f"{x.name} and {y.name}", "they are the same cases.", "Name two cohorts that differ.")
    read = pack.info.input["modalities"]
    needed = [m for m in read if m not in pack.info.input["may_be_missing"]]
    if not set(shared_modalities(x, y, needed=needed)) & set(read):
        cause = f"they share no modality that {pack.info.name} reads."
        raise UsageError(f"{x.name} and {y.name}", cause, f"It reads {', '.join(read)}.")
    notes = []
    for one, other in ((x, y), (y, x)):
        lacking = [m for m in read if m in other.modalities and m not in one.modalities]
        if lacking:
            notes.append(f"Not every case of {one.name} has {', '.join(lacking)}: a difference may be that alone.")
    for cohort in (x, y):
        seen = sum(case.seen_in(pack.info.trained_on.cases) for case in cohort.cases)
        if seen:
            notes.append(f"{seen} of the {len(cohort.cases)} cases of {cohort.name} are of the pack's training.")
        if cohort.simulated:
            notes.append(f"{cohort.name} is simulated from other acquisitions of its patients; see its cases' notes.")
        if cohort.invented:
            notes.append(f"{cohort.name} holds phantoms: invented anatomy, which says nothing of patients.")
    return notes


def _dictionaries(pack, taps, seeds, x: Cohort, run: _Run) -> tuple[TapDictionaries, ...]:
    """With random latents that fire as often as the pack's own on some tokens of cohort X."""
    work = TokenWork(at_work(pack), taps, 1, CALIBRATION_TOKENS)
    samples, _ = sample_tokens(work, x.cases[:CALIBRATION_CASES], run.journal, run.cluster, run.told("tokens"))
    made = []
    for tap in taps:
        thresholds = thresholds_of_equal_rate(pack.lens(tap), torch.cat(list(samples[tap].natural.values())))
        made.append(TapDictionaries(tap, tuple(s for s in seeds if s.tap == tap), thresholds))
    return tuple(made)


def _summary(
    results: dict[str, TapResult],
    findings: Sequence[LatentFinding],
    x: Cohort,
    y: Cohort,
    usage_x: CohortUsage,
    usage_y: CohortUsage,
    pairing: Pairing,
) -> dict:
    shares = [share for tap, result in results.items() for share in result.shares(tap)]
    summary = {
        "shares": [vars(share) for share in shares],
        "says": [
            _headline(tap, result, [f for f in findings if f.tap == tap], x, y) for tap, result in results.items()
        ],
        "paired": pairing.paired,
        "cases": [len(usage_x.subjects), len(usage_y.subjects)],
        "nulls": [{"tap": tap, **row} for tap, result in results.items() for row in result.null_rows()],
        "bounds": {tap: result.bound_rows() for tap, result in results.items()},
        "dice": _dice(usage_x, usage_y, pairing.paired),
        "suppression": None,
        "cohort_lenses": None,
    }
    summary["says"] += [row["says"] for row in summary["nulls"]]
    summary["says"] += [_dice_says(row, x.name, y.name) for row in summary["dice"] if row["difference"] is not None]
    return summary


def _headline(tap: str, result: TapResult, findings: Sequence[LatentFinding], x: Cohort, y: Cohort) -> str:
    share = {s.category: s for s in result.shares(tap) if s.tap == tap}

    def said(category: str) -> str:
        found: Share = share[category]
        text = f"{found.n} of {found.total} ({found.share:.0%}"
        if found.interval:
            text += f", 95 % {found.interval[0]:.0%} to {found.interval[1]:.0%}"
        return f"{text}; {found.null:.0%} {found.null_is})" if found.null is not None else f"{text})"

    to_x, to_y = result.specific_to()
    text = f"Of the latents at {tap} that fire, {said('backbone')} are backbone of {x.name} and {y.name}, and "
    text += f"{said('specific')} specific: {len(to_x)} to {x.name}, {len(to_y)} to {y.name}."
    for category, words in (("backbone", "backbone"), ("specific", "specific latents")):
        found = share[category]
        if found.n and found.null is not None and found.share <= found.null:
            text += f" As a share, the {words} are no more than the null."
    backbone = [f.numbers for f in findings if f.category == "backbone"]
    measured = sum(min(n.get("p_rate", 1.0), n.get("p_magnitude", 1.0)) <= SIGNIFICANT for n in backbone)
    if measured:
        text += f" {measured} of the backbone differ measurably, by less than the margins."
    return text


def _dice(x: CohortUsage, y: CohortUsage, paired: bool) -> list[dict]:
    rows = []
    for r, region in enumerate(REGIONS):
        a, b = x.dice[:, r : r + 1], y.dice[:, r : r + 1]
        row = {"region": region, "x": mean_interval(a[:, 0])[0], "y": mean_interval(b[:, 0])[0]}
        effect = compare(a, b, paired)
        low, high = effect.interval[:, 0]
        row |= {"difference": float(effect.difference[0]), "n": [int(effect.n_x[0]), int(effect.n_y[0])]}
        row |= {name: None for name in ("x", "y", "difference") if not np.isfinite(row[name])}
        rows.append(row | {"interval": [float(low), float(high)] if np.isfinite(low) else None})
    return rows


def _dice_says(row: dict, x: str, y: str) -> str:
    low, high = row["interval"]
    text = f"Dice of {row['region']}: {row['x']:.3f} in {x} and {row['y']:.3f} in {y}"
    return f"{text}, {row['difference']:+.3f} (95 % {low:+.3f} to {high:+.3f})."


def _suppressed(pack, results: dict[str, TapResult], x, y, usage_x: CohortUsage, usage_y: CohortUsage, run: _Run):
    rows = []
    for tap, result in results.items():
        of_x, of_y = result.specific_to()
        own_x, own_y = (u.taps[tap].of(result.own) for u in (usage_x, usage_y))
        asked = edits.questions(x, y, of_x, of_y, own_x, own_y)
        for cohort, usage in ((x, own_x), (y, own_y)):
            here = [question for question in asked if question.cohort is cohort]
            rows += edits.measure(
                at_work(pack),
                tap,
                here,
                [*of_x, *of_y],
                usage.rate.mean(0),
                journal=run.journal,
                cluster=run.cluster,
                progress=run.told(f"edits in {cohort.name}"),
            )
    return rows


def _own_lenses(pack: LensPack, taps: tuple[str, ...], x: Cohort, y: Cohort, run: _Run) -> list[dict]:
    from MedSegLensLib.diffing.cohort_lenses import cohort_lenses

    work = TokenWork(at_work(pack), taps, LENS_TOKENS, LENS_NATURAL)
    samples: list[dict[str, TokenSample]] = []
    for cohort in (x, y):
        samples.append(
            sample_tokens(work, cohort.cases, run.journal, run.cluster, run.told(f"tokens, {cohort.name}"))[0]
        )
    return [
        row for tap in taps for row in cohort_lenses(pack.lens(tap), *(s[tap] for s in samples), progress=run.progress)
    ]


def _side(cohort: Cohort) -> CohortSide:
    return CohortSide(cohort.name, cohort.source, len(cohort.cases), cohort.simulated, cohort.invented)


def _thresholds() -> dict[str, float]:
    margins = {f"margin of {measure.in_words}": measure.margin for measure in MEASURES}
    return {
        "adjusted p at most": SIGNIFICANT,
        "quantile of random splits that is beyond them": NULL_QUANTILE,
        "quantile of random latents that is beyond them": RANDOM_QUANTILE,
        "least share of a difference that another seed repeats": REPEATED,
        "fires on at least this share of the brain": FIRES,
        "backbone fires in at least this share of the cases": PRESENT,
        "least pairs": LEAST_PAIRS,
        "least cases each": LEAST_UNPAIRED,
        **margins,
    }
