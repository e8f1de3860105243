"""`medseglens diff`: what two segmenters, or two populations, share, and what only one has."""

from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.commands.cluster import add_cluster, check_cluster, cluster_of
from MedSegLensLib.commands.common import DEFAULT_PACK, Result, add_command, note_lines, progress_bar
from MedSegLensLib.errors import UsageError

if TYPE_CHECKING:
    from MedSegLensLib.diffing.comparison import Comparison
    from MedSegLensLib.diffing.seeds import SeedLens
    from MedSegLensLib.packs.pack import LensPack

CASES_OF_PICTURES = 2


def add_parser(commands) -> None:
    group = commands.add_parser("diff", help="what two segmenters, or two cohorts, share, and what only one has")
    actions = group.add_subparsers(dest="action", metavar="WHAT", required=True)
    models = add_command(
        actions,
        "models",
        "compare the latents of two packs on the same cases",
        run_models,
        "Compare the latents of two packs on the same cases: which are shared, partly shared, specific to one, or not\n"
        "distinguishable from seed noise. Two packs of other grids, spacings and dimensions meet on each case's grid.\n"
        "Writes index.html and comparison.csv, .parquet and .json, and marks the latents in the panel.\n\n"
        "  medseglens diff models glioma-unet glioma-segformer --cohort COHORT --out unet-segformer",
    )
    models.add_argument("a", help="a lens pack: a name, a folder or a .zip")
    models.add_argument("b", help="the other one")
    models.add_argument("--cohort", required=True, help="the cases: a cohort's name, or a folder, table or file")
    _add_shared(models, "taps whose latents are compared, of either pack (default: all)")
    models.add_argument(
        "--crosscoder",
        action="store_true",
        help="train a crosscoder on both default taps as a second opinion (some minutes more)",
    )
    models.add_argument("--no-influence", action="store_true", help="do not ask how the regions hang on each latent")

    cohorts = add_command(
        actions,
        "cohorts",
        "compare how two cohorts use the latents of a pack",
        run_cohorts,
        "Compare how two cohorts use the latents of a pack: which behave alike in both (backbone), which differ by\n"
        "more than chance and seed noise, and how much Dice rests on these. Writes what `diff models` writes.\n\n"
        "  medseglens diff cohorts africa brats2021 --pack glioma-unet --out africa-brats",
    )
    cohorts.add_argument("x", help="a cohort's name, or a folder, table or file")
    cohorts.add_argument("y", help="the other one")
    cohorts.add_argument("--pack", default=DEFAULT_PACK, help=f"lens pack (default {DEFAULT_PACK})")
    _add_shared(cohorts, "taps whose latents are compared (default: the pack's default tap)")
    cohorts.add_argument("--train-lenses", action="store_true", help="also train a lens for each cohort (minutes)")
    cohorts.add_argument("--no-suppression", action="store_true", help="do not measure what the specific latents carry")


def _add_shared(command, taps: str) -> None:
    command.add_argument("--taps", nargs="+", default=[], metavar="TAP", help=taps)
    command.add_argument(
        "--seeds",
        type=Path,
        metavar="FOLDER",
        help="lenses of other seeds, as <pack>/<tap>/seed-<n> (default: those shipped). Without, nothing is specific",
    )
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write to")
    command.add_argument(
        "--pictures",
        type=int,
        default=CASES_OF_PICTURES,
        metavar="N",
        help=f"cases opened for pictures in the page (default {CASES_OF_PICTURES}; 0: none)",
    )
    command.add_argument("--no-panel", action="store_true", help="do not mark the latents in the panel")
    add_cluster(command)


def run_models(options) -> Result:
    from MedSegLensLib.cohorts.cohort import find_cohort
    from MedSegLensLib.diffing.model_diff import check_meeting, diff_models
    from MedSegLensLib.packs.pack import load_pack

    _check(options)
    packs = load_pack(options.a), load_pack(options.b)
    cohort = find_cohort(options.cohort)
    check_meeting(*packs, cohort)
    taps = _taps_of(packs, options.taps)
    seeds = _seeds_of(packs, options.seeds)
    with progress_bar(options.json) as progress:
        with cluster_of(options, len(cohort.cases), progress) as cluster:
            comparison = diff_models(
                *packs,
                cohort,
                *seeds,
                taps_a=taps[0],
                taps_b=taps[1],
                influence=not options.no_influence,
                crosscoder=options.crosscoder,
                journal=options.journal,
                cluster=cluster,
                progress=progress,
            )
        return _written(options, comparison, packs, (cohort,), progress)


def run_cohorts(options) -> Result:
    from MedSegLensLib.cohorts.cohort import find_cohort
    from MedSegLensLib.diffing.cohort_diff import diff_cohorts
    from MedSegLensLib.packs.pack import load_pack

    _check(options)
    pack = load_pack(options.pack)
    x, y = find_cohort(options.x), find_cohort(options.y)
    (seeds,) = _seeds_of((pack,), options.seeds)
    with progress_bar(options.json) as progress:
        with cluster_of(options, len(x.cases) + len(y.cases), progress) as cluster:
            comparison = diff_cohorts(
                pack,
                x,
                y,
                seeds,
                taps=options.taps or None,
                suppression=not options.no_suppression,
                train_lenses=options.train_lenses,
                journal=options.journal,
                cluster=cluster,
                progress=progress,
            )
        return _written(options, comparison, (pack,), (x, y), progress)


def _check(options) -> None:
    """What can be wrong is told before the minutes that cases take."""
    from MedSegLensLib.cases.writing import check_folder

    check_cluster(options)
    check_folder(options.out)
    if options.pictures < 0:
        raise UsageError(f"--pictures {options.pictures}", "is negative.", "Give 0 or more.")


def _taps_of(packs: "tuple[LensPack, LensPack]", asked: list[str]) -> list[list[str]]:
    """Which of the taps asked for are of which pack; all of a pack's where none of them is."""
    known = [tap for pack in packs for tap in pack.taps]
    for tap in asked:
        if tap not in known:
            names = " and ".join(f"{pack.info.name}: {', '.join(pack.taps)}" for pack in packs)
            raise UsageError(tap, "neither pack has a lens at this tap.", f"Taps of {names}.")
    return [[tap for tap in pack.taps if tap in asked] for pack in packs]


def _seeds_of(packs: "tuple[LensPack, ...]", folder: Path | None) -> "list[tuple[SeedLens, ...]]":
    """Other seeds of each pack's lenses: those in `folder`, and the shipped ones of a pack that it has none for.

    Raises UsageError for a folder that has none for any of them.
    """
    from MedSegLensLib.diffing.seeds import seeds_of

    if folder is None:
        return [seeds_of(pack) for pack in packs]
    if not folder.is_dir():
        raise UsageError(folder, "there is no such folder.", "Give the folder that holds <pack>/<tap>/seed-<n>.")
    if len(packs) == 1:
        return [seeds_of(packs[0], folder)]
    named = [pack for pack in packs if (folder / pack.info.name).is_dir()]
    if not named:
        wanted = " or ".join(pack.info.name for pack in packs)
        raise UsageError(folder, f"it holds no folder {wanted}.", "Lay it out as <pack>/<tap>/seed-<n>.")
    return [seeds_of(pack, folder if pack in named else None) for pack in packs]


def _written(options, comparison: "Comparison", packs, cohorts, progress) -> Result:
    from MedSegLensLib.diffing.kept import keep_findings
    from MedSegLensLib.reports.diff_page import write_diff_page

    files = write_diff_page(comparison, options.out, packs, cohorts, progress, options.pictures)
    kept = [] if options.no_panel else keep_findings(comparison)
    data = {
        "kind": comparison.kind,
        "a": comparison.a.name,
        "b": comparison.b.name,
        "thresholds": comparison.thresholds,
        "summary": comparison.summary,
        "notes": list(comparison.notes),
        "files": [str(path) for path in files],
        "panel": [str(path) for path in kept],
    }
    text = [*comparison.summary.get("says", []), "", *_table(comparison), *note_lines(comparison.notes)]
    text.append(f"Written: {', '.join(str(path) for path in files)}")
    if kept:
        text.append("The panel shows these findings beside each latent.")
    return Result(data, text)


def _table(comparison: "Comparison") -> list[str]:
    """Shares over all taps, a line a side and category that there is."""
    rows = [share for share in comparison.shares if share.tap is None and (share.n or share.category == "specific")]
    if not rows:
        return []
    own = comparison.kind == "models"
    lines = [f"  {'latents of':<20} {'category':<38} {'n':>5} {'share':>6} {'95 %':>11} {'null':>6}"]
    for share in rows:
        side = comparison.side_name(share.side) if own else comparison.pack.name
        span = "" if share.interval is None else "{:.0f} to {:.0f}".format(*(100 * x for x in share.interval))
        null = "" if share.null is None else f"{100 * share.null:.0f} %"
        percent = f"{100 * share.share:.0f} %" if share.total else ""
        lines.append(f"  {side:<20} {share.category:<38} {share.n:>5} {percent:>6} {span:>11} {null:>6}")
    return lines
