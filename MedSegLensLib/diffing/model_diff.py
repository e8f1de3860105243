"""What two packs have in common: each latent of either is held against all of the other's on the same cases.

comparison = diff_models(load_pack("glioma-unet"), load_pack("glioma-segformer"), find_cohort("brats2021"))
comparison.shares, comparison.findings_of("a")

The method is the correlation of activations over places (Li et al. 2015, arXiv 1511.07543; Lan et al. 2024,
arXiv 2410.06981, for sparse autoencoders), here over the voxels of the case's own grid, so that networks of other
grids, spacings and dimensions meet. What is new are the nulls, see `matching.categories`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.cohorts.cohort import Cohort
from MedSegLensLib.cohorts.mapping import map_cases
from MedSegLensLib.diffing.comparison import CohortSide, Comparison, PackSide
from MedSegLensLib.diffing.dictionaries import at_work
from MedSegLensLib.diffing.judging import Judgement, Layout, judge
from MedSegLensLib.diffing.matching import thresholds
from MedSegLensLib.diffing.meeting import Meeting, SideWork
from MedSegLensLib.diffing.model_findings import findings_of, summary_of
from MedSegLensLib.diffing.pooling import Pool
from MedSegLensLib.diffing.seeds import SeedLens, check_seeds, seeds_of
from MedSegLensLib.errors import CaseError, UsageError
from MedSegLensLib.packs.notes import lens_hash

if TYPE_CHECKING:
    from MedSegLensLib.cases.conform import InputSpec
    from MedSegLensLib.cohorts.cluster import Cluster
    from MedSegLensLib.cohorts.cohort import CohortCase
    from MedSegLensLib.packs.pack import LensPack

Progress = Callable[[str, float], None]
FEW = 5
"""Below this number of cases an interval over cases is too narrow, and the notes say so."""


def diff_models(
    pack_a: "LensPack",
    pack_b: "LensPack",
    cohort: Cohort,
    seeds_a: Sequence[SeedLens] | None = None,
    seeds_b: Sequence[SeedLens] | None = None,
    *,
    taps_a: Sequence[str] = (),
    taps_b: Sequence[str] = (),
    randoms: int = 120,
    draws: int = 300,
    seed: int = 0,
    influence: bool = True,
    crosscoder: bool = False,
    device: str | None = None,
    journal: Path | None = None,
    cluster: "Cluster | None" = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare the latents of two packs on a cohort.

    seeds_a, seeds_b: lenses of other seeds; None takes the shipped ones. taps_a, taps_b: default all. randoms: random
    directions a tap. draws: of the cases, for intervals. influence: also how the regions hang on each latent, which
    takes a third of a case's time. crosscoder: a second opinion on the two default taps (`crosscoder`), in the summary.
    journal, cluster: see `map_cases`. `progress` may raise Cancelled.

    Raises UsageError for packs that cannot meet on these cases, unknown taps and seeds that are none; CaseError for a
    cohort of one case, or where none could be used.
    """
    check_meeting(pack_a, pack_b, cohort)
    sides = {}
    given = {"a": (pack_a, taps_a, seeds_a), "b": (pack_b, taps_b, seeds_b)}
    for side, (pack, taps, seeds) in given.items():
        taps = tuple(dict.fromkeys(pack.lens_info(tap).tap for tap in taps)) or pack.taps
        seeds = seeds_of(pack) if seeds is None else check_seeds(pack, seeds)
        seeds = tuple(s for tap in taps for s in seeds if s.tap == tap)
        sides[side] = SideWork(at_work(pack), taps, seeds)
    work = Meeting(sides["a"], sides["b"], randoms, seed, influence, device)
    mapped = map_cases(work, cohort.cases, journal, cluster, progress)
    pool = Pool()
    for case, arrays in mapped:
        pool.add(case.name, arrays)
    if len(pool.cases) < 2:
        raise _one_case(cohort, [str(failure) for failure in mapped.failures])
    packs = {"a": pack_a, "b": pack_b}
    layouts = {side: layout_of(packs[side], sides[side], randoms) for side in packs}
    judgement = judge(pool, layouts, draws, seed=seed, progress=progress)
    comparison = _comparison(packs, sides, cohort, pool, judgement, [str(f) for f in mapped.failures])
    if not crosscoder:
        return comparison
    from MedSegLensLib.diffing.crosscoder import VOXELS, said, second_opinion
    from MedSegLensLib.diffing.paired_tokens import PairedTokens

    taps = [p.default_tap if p.default_tap in sides[s].taps else sides[s].taps[0] for s, p in packs.items()]
    voxels = max(200, VOXELS // len(pool.cases))
    pairing = PairedTokens(sides["a"].pack, sides["b"].pack, *taps, voxels, seed, device)
    used = cohort.of(pool.cases)
    opinion = second_opinion(pairing, used, comparison.findings, journal=journal, cluster=cluster, progress=progress)
    names = {"a": comparison.a.name, "b": comparison.b.name}
    says = [*comparison.summary["says"], said(opinion, names)]
    return replace(comparison, summary={**comparison.summary, "says": says, "crosscoder": opinion})


def check_meeting(pack_a: "LensPack", pack_b: "LensPack", cohort: Cohort) -> None:
    """Raise UsageError, before the minutes of work, where two packs cannot meet on a cohort's cases; CaseError for a
    cohort of one case. Grids, spacings and dimensions need not agree: latents meet on each case's own grid."""
    if pack_a.hash == pack_b.hash:
        remedy = "Give two packs; other seeds of a pack's own lenses are compared in any case."
        raise UsageError(pack_b.info.name, "it is the same pack twice.", remedy)
    if len(cohort.cases) < 2:
        raise _one_case(cohort, [])
    for pack in (pack_a, pack_b):
        if not pack.taps:
            raise UsageError(pack.info.name, "this pack has no lens.", "Train one with `medseglens train lens`.")
        spec = pack.input_spec()
        needed = [m for m in spec.modalities if m not in spec.may_be_missing]
        if not any(_can_read(spec, case) for case in cohort.cases):
            lacking = [m for m in needed if m not in cohort.modalities] or needed
            takes = f"needs {', '.join(lacking)}" if needed else f"takes one of {', '.join(spec.modalities)}"
            has = ", ".join(cohort.modalities) or "no modality in all of its cases"
            cause = f"it {takes}; the cohort {cohort.name} has {has}: the two packs cannot meet on its cases."
            raise UsageError(pack.info.name, cause, "Choose a cohort that has what both packs need, or another pack.")
    specs = pack_a.input_spec(), pack_b.input_spec()
    if not any(all(_can_read(spec, case) for spec in specs) for case in cohort.cases):
        cause = f"no case of the cohort {cohort.name} has what both packs need."
        raise UsageError(f"{pack_a.info.name} and {pack_b.info.name}", cause, "Choose another cohort or pack.")


def _can_read(spec: "InputSpec", case: "CohortCase") -> bool:
    """Whether a case has what a pack needs; so is one whose modalities are known only once it is read."""
    if not case.modalities:
        return True
    there = [m in case.modalities for m in spec.modalities]
    return any(there) and all(t or m in spec.may_be_missing for t, m in zip(there, spec.modalities, strict=True))


def _one_case(cohort: Cohort, failures: list[str]) -> CaseError:
    cause = "one case says nothing of others: nothing can be called shared or specific by it."
    if failures:
        cause = f"fewer than two of {len(cohort.cases)} cases could be used ({failures[0]})."
    return CaseError(f"cohort {cohort.name}", cause, "Give a cohort of at least two cases; five or more say something.")


def layout_of(pack: "LensPack", work: SideWork, randoms: int) -> Layout:
    """How the latents of a side are numbered in what its work gives back."""
    seeds = tuple(tuple(s.lens().d_sae for s in work.seeds if s.tap == tap) for tap in work.taps)
    return Layout(work.taps, tuple(pack.lens_info(tap).d_sae for tap in work.taps), seeds, randoms)


def _comparison(
    packs: dict[str, "LensPack"],
    sides: dict[str, SideWork],
    cohort: Cohort,
    pool: Pool,
    judgement: Judgement,
    failures: list[str],
) -> Comparison:
    names = {side: pack.info.name for side, pack in packs.items()}
    if names["a"] == names["b"]:  # two versions of one pack
        names = {side: f"{pack.info.name} {pack.info.version}" for side, pack in packs.items()}
    if names["a"] == names["b"]:
        names = {side: f"{pack.info.name} ({pack.hash[:8]})" for side, pack in packs.items()}
    pack_sides = {
        side: PackSide(names[side], pack.info.version, pack.hash, {tap: lens_hash(pack.info, tap) for tap in pack.taps})
        for side, pack in packs.items()
    }
    used = cohort.of(pool.cases)
    return Comparison(
        "models",
        pack_sides["a"],
        pack_sides["b"],
        tuple(finding for side in "ab" for finding in findings_of(side, judgement, pool, names)),
        CohortSide(cohort.name, cohort.source, len(pool.cases), used.simulated, used.invented),
        None,
        thresholds(),
        summary_of(judgement, pool, names),
        tuple(_notes(packs, sides, names, used, pool, failures)),
    )


def _notes(packs, sides, names, cohort: Cohort, pool: Pool, failures: list[str]) -> list[str]:
    notes = []
    if len(pool.cases) < FEW:
        notes.append(f"{len(pool.cases)} cases are few: intervals over them are too narrow.")
    for side, work in sides.items():
        seen = sum(case.seen_in(packs[side].info.trained_on.cases) for case in cohort.cases)
        if seen:
            notes.append(f"{names[side]} was trained on {seen} of these {len(pool.cases)} cases.")
        bare = [tap for tap in work.taps if not any(s.tap == tap for s in work.seeds)]
        if bare:
            notes.append(
                f"No other seed of the lens at {', '.join(bare)} of {names[side]} was given: none of its latents can "
                "be called specific."
            )
    if not pool.labelled:
        notes.append("No case has labels: likeness within the lesion is not known.")
    elif pool.labelled < len(pool.cases):
        notes.append(f"{pool.labelled} of {len(pool.cases)} cases have labels: the lesion's figures are of these.")
    spacings = {side: packs[side].info.input["spacing"] for side in packs}
    if spacings["a"] != spacings["b"]:
        notes.append("The two packs work on other spacings; their latents were compared on each case's own grid.")
    return [*notes, *(f"Left out: {failure}" for failure in failures)]
