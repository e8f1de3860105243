"""`medseglens catalogue`: what each latent of a pack does over cases, in tested names; and the user's notes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.cohorts.origin import origin_notes
from MedSegLensLib.commands.cohort_cases import add_cases, cohort_given, failure_notes
from MedSegLensLib.commands.common import DEFAULT_PACK, Result, add_command, note_lines, progress_bar
from MedSegLensLib.errors import CaseError, OutputError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from MedSegLensLib.cases.case import Case
    from MedSegLensLib.cohorts.cohort import Cohort, CohortCase
    from MedSegLensLib.cohorts.mapping import Failure
    from MedSegLensLib.editing.cataloguing import Summary
    from MedSegLensLib.packs.notes import Notes
    from MedSegLensLib.packs.pack import LensPack

SHOWN = 10


def add_parser(commands) -> None:
    command = add_command(
        commands,
        "catalogue",
        "name a pack's latents by evidence over cases, and keep notes on them",
        run,
        "Tell what each latent of a pack does over labelled cases: how often and where it fires, on which tissue and\n"
        "brightness, what hangs on it; name those that are stable; and test the names on unseen cases.\n\n"
        "  medseglens catalogue --pack glioma-unet --cases CASES --write NEW-PACK-FOLDER\n"
        "  medseglens catalogue --pack glioma-unet --rename 17 'rim' --favourite 17 --export-notes notes.csv",
    )
    command.add_argument(
        "--pack", default=DEFAULT_PACK, help=f"lens pack: a name, a folder or a .zip (default {DEFAULT_PACK})"
    )
    command.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
    add_cases(command, "labelled cases", required=False)
    command.add_argument(
        "--only", nargs="+", metavar="NAME", help="of these cases only (default: those that the pack was trained on)"
    )
    command.add_argument(
        "--unseen",
        nargs="*",
        metavar="NAME",
        help="cases that names are tested on (default: those that the pack held out, where they are there)",
    )
    command.add_argument("--out", type=Path, help="parquet file to write")
    command.add_argument("--csv", type=Path, help="the same as a CSV file, lists as JSON")
    command.add_argument("--write", type=Path, metavar="FOLDER", help="write a copy of the pack with this catalogue")
    command.add_argument("--replace", action="store_true", help="let --write replace a pack that is already there")
    command.add_argument(
        "--tissue-atlas", type=Path, metavar="FILE", help="labels CSF 1, grey 2, white matter 3 in the cases' space"
    )
    command.add_argument(
        "--interventions", type=int, default=24, help="how many named latents a lens to suppress as a test (default 24)"
    )
    notes = command.add_argument_group("your notes on latents, kept apart from the pack")
    notes.add_argument("--tap", help="tap of the latents noted (default: the pack's default)")
    notes.add_argument("--rename", nargs=2, action="append", default=[], metavar=("LATENT", "NAME"))
    notes.add_argument("--comment", nargs=2, action="append", default=[], metavar=("LATENT", "TEXT"))
    notes.add_argument("--favourite", type=int, action="append", default=[], metavar="LATENT")
    notes.add_argument("--not-favourite", type=int, action="append", default=[], metavar="LATENT")
    notes.add_argument("--import-notes", type=Path, metavar="FILE", help="take over notes that were exported as JSON")
    notes.add_argument("--export-notes", type=Path, metavar="FILE", help="write all notes on the pack, .csv or .json")


def run(options) -> Result:
    from MedSegLensLib.packs.pack import load_pack

    noting = bool(options.rename or options.comment or options.favourite or options.not_favourite)
    noting = noting or bool(options.import_notes or options.export_notes)
    cataloguing = bool(options.cases or options.cohort)
    if not cataloguing and not noting:
        remedy = "Give --cases or --cohort, or a note such as --rename 17 'rim'."
        raise UsageError("catalogue", "nothing was asked for.", remedy)
    if not cataloguing and (options.out or options.csv or options.write):
        raise UsageError("--cases", "it is needed to make a catalogue.", "Give the folder of the cases, or --cohort.")
    if options.interventions < 0:
        raise UsageError(f"--interventions {options.interventions}", "is negative.", "Give 0 or more.")
    pack = load_pack(options.pack)
    data: dict = {"pack": pack.info.name}
    text: list[str] = []
    if noting:
        result = take_notes(options, pack)
        data, text = data | result.data, text + result.text
    if cataloguing:
        result = make_catalogue(options, pack)
        data, text = data | result.data, text + result.text
    return Result(data, text)


def make_catalogue(options, pack: "LensPack") -> Result:
    """Compute, write and tell."""
    from MedSegLensLib.cases.volume import read_labels
    from MedSegLensLib.cases.writing import atomic_path, check_file, check_folder
    from MedSegLensLib.editing.cataloguing import Cataloguing, summary_of
    from MedSegLensLib.packs.catalogue import write_catalogue
    from MedSegLensLib.packs.container import PACK_FILE
    from MedSegLensLib.packs.naming import LEAST_CASES
    from MedSegLensLib.packs.recatalogue import with_catalogue

    for path in (options.out, options.csv):
        if path:
            check_file(path)
    if options.write:
        check_folder(options.write)
        if (options.write / PACK_FILE).exists() and not options.replace:  # said before the minutes, not after them
            raise OutputError(options.write, "there is a pack already.", "Choose another folder, or give --replace.")
    cohort = cohort_given(options)
    made, unseen = chosen_cases(options, pack, cohort)
    failures: list[Failure] = []
    atlas = read_labels(options.tissue_atlas)[0] if options.tissue_atlas else None
    with progress_bar(options.json) as progress:
        work = Cataloguing(pack, options.device, progress, interventions=options.interventions, atlas=atlas)
        asked, made = made, [case.name for case in each_done(made, work.add, failures)]
        if len(failures) == len(asked):
            raise CaseError(failures[0].case, failures[0].cause, failures[0].remedy)
        work.name()
        unseen = [case.name for case in each_done(unseen, work.test, failures)]
        table = work.table()
    files = []
    if options.out:
        with atomic_path(options.out) as temporary:
            write_catalogue(table, temporary)
        files.append(str(options.out))
    if options.csv:
        write_csv(table, options.csv)
        files.append(str(options.csv))
    if options.write:
        with_catalogue(pack, table, options.write, options.replace)
        files.append(str(options.write))
    steps = {step for seconds in work.seconds for step in seconds}
    seconds = {
        step: round(sum(s.get(step, 0.0) for s in work.seconds) / len(work.seconds), 2) for step in sorted(steps)
    }
    summaries = summary_of(table)
    data = {
        "cases": made,
        "unseen": unseen,
        "latents": table.num_rows,
        "taps": [vars(summary) for summary in summaries],
        "seconds_a_case": seconds,
        "files": files,
        "failures": [vars(failure) for failure in failures],
        "notes": work.notes,
    }
    work.notes += [*origin_notes(cohort), *failure_notes(failures)]
    if len(made) < LEAST_CASES:
        work.notes.append(f"No latent was named: a name needs {LEAST_CASES} labelled cases on which the latent fires.")
    cases = f"{len(made)} case{'s' * (len(made) != 1)}"
    text = [f"Catalogue of {pack.info.name} from {cases}, names tested on {len(unseen)} unseen."]
    for summary in summaries:
        text += ["", *summary_lines(summary), *influential_lines(table, summary.tap)]
    text += ["", "Seconds a case: " + ", ".join(f"{step} {value:.1f}" for step, value in seconds.items())]
    text += note_lines(work.notes)
    text += [f"Written: {path}" for path in files] or ["Nothing was written: give --out, --csv or --write."]
    return Result(data, text)


def each_done(cases: "list[CohortCase]", do: "Callable[[Case], None]", failures: "list[Failure]") -> "list[CohortCase]":
    """The cases with which it was done; one that cannot be read or used is told of in `failures`, and left out."""
    from MedSegLensLib.cohorts.mapping import failure_of

    done = []
    for case in cases:
        try:
            do(case.read())
        except CaseError as problem:
            failures.append(failure_of(case.name, problem))
        else:
            done.append(case)
    return done


def chosen_cases(options, pack: "LensPack", cohort: "Cohort") -> "tuple[list[CohortCase], list[CohortCase]]":
    """The cases that the catalogue is made from, and those that names are tested on.

    Raises CaseError for one that is not there, UsageError for an unseen case that the pack has learned from.
    """
    there = {case.name: case for case in cohort.cases}
    trained = pack.info.trained_on
    unseen = options.unseen
    if unseen is None:
        unseen = [name for name in trained.held_out if name in there]
    made = options.only or [name for name in trained.cases if name in there] or [n for n in there if n not in unseen]
    for name in [*made, *unseen]:
        if name not in there:
            where = options.cases / name if options.cases else f"{name} of the cohort {cohort.name}"
            raise CaseError(where, "there is no such case.", "Correct its name, --cases or --cohort.")
    learned = {name for tap in pack.taps for name in pack.lens(tap).metadata.get("cases") or []} | set(trained.cases)
    patients = {there[name].subject for name in made}
    for name in unseen:
        if there[name].seen_in(learned) or there[name].subject in patients:
            cause = "the pack has learned from this case, or the names are made from it: it is not unseen."
            raise UsageError(name, cause, "Leave it out of --unseen.")
    if not made:
        remedy = "Give other cases, or --only."
        raise CaseError(options.cases or cohort.name, "it holds no case to make a catalogue from.", remedy)
    return [there[name] for name in dict.fromkeys(made)], [there[name] for name in dict.fromkeys(unseen)]


def summary_lines(summary: "Summary") -> list[str]:
    """What was found at one tap, in words."""
    lines = [f"{summary.tap}: {summary.latents} latents, {summary.fires} fire, {summary.named} have a name."]
    if summary.stable is None:
        lines.append("  Their stability is not known, so none is named: see `medseglens evaluate lens --record`.")
    else:
        lines.append(f"  {summary.stable} are stable across seeds; only these can have a name.")
    if summary.accuracy is not None:
        null = "" if summary.null_accuracy is None else f"; of shuffled names {summary.null_accuracy:.2f}"
        lines.append(
            f"  Names predict firing on unseen cases with a balanced accuracy of {summary.accuracy:.2f}{null} "
            f"({summary.predicting} of {summary.predicted} at 0.75 or more"
            + (f", shuffled {summary.null_predicting})." if summary.null_predicting is not None else ").")
        )
    elif summary.named:
        lines.append("  The names were not tested on unseen cases.")
    if summary.intervention is not None:
        lines.append(
            f"  Suppressed, {summary.intervened} of them act where their name says more than "
            f"{summary.intervention:.0%} of the others do (50% by chance)."
        )
    return lines


def influential_lines(table: "pa.Table", tap: str) -> list[str]:
    """The latents with the largest influence on a region, with their names."""
    from MedSegLensLib.packs.catalogue import shown_name

    rows = [row for row in table.to_pylist() if row["tap"] == tap]

    def size(row: dict) -> float:
        return max(abs(row[f"influence_{region}"] or 0.0) for region in ("wt", "tc", "et"))

    rows = [row for row in sorted(rows, key=size, reverse=True) if size(row) > 0][:SHOWN]
    if not rows:
        return []
    lines = [f"  {'latent':>6} {'WT':>7} {'TC':>7} {'ET':>7}  name (influence: change of log odds if suppressed)"]
    for row in rows:
        values = [row[f"influence_{region}"] for region in ("wt", "tc", "et")]
        cells = " ".join(f"{'':>7}" if v is None else f"{v:>+7.2f}" for v in values)
        lines.append(f"  {row['latent']:>6} {cells}  {shown_name(row)}")
    return lines


def write_csv(table: "pa.Table", path: Path) -> None:
    """The catalogue as CSV; lists and examples as JSON in their cell, null as an empty one."""
    import csv

    from MedSegLensLib.cases.writing import atomic_path

    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table.column_names)
        for row in table.to_pylist():
            writer.writerow(
                "" if v is None else json.dumps(v, ensure_ascii=False) if isinstance(v, list) else v
                for v in row.values()
            )


# -- the user's notes -----------------------------------------------------------------------------------------------


def take_notes(options, pack: "LensPack") -> Result:
    """Import, change, save and export notes."""
    from MedSegLensLib.packs.notes import notes_of

    if options.export_notes and options.export_notes.suffix.lower() not in (".csv", ".json"):
        raise UsageError(options.export_notes, "notes are not exported in this format.", "Use .csv or .json.")
    notes = notes_of(pack)
    info = pack.lens_info(options.tap)
    imported = notes.import_from(options.import_notes) if options.import_notes else None
    changed: list[int] = []

    def latent(given) -> int:
        try:
            number = int(given)
        except ValueError:
            number = -1
        if not 0 <= number < info.d_sae:
            remedy = f"Give a number from 0 to {info.d_sae - 1}."
            raise UsageError(str(given), f"there is no such latent at {info.tap}.", remedy)
        changed.append(number)
        return number

    for given, name in options.rename:
        notes.set(info.tap, latent(given), name=name)
    for given, comment in options.comment:
        notes.set(info.tap, latent(given), comment=comment)
    for given in options.favourite:
        notes.set(info.tap, latent(given), favourite=True)
    for given in options.not_favourite:
        notes.set(info.tap, latent(given), favourite=False)
    text = []
    if changed or imported is not None:
        notes.save()
        if imported is not None:
            text.append(f"{imported} notes were taken over.")
        text += [_note_line(notes, info.tap, number) for number in dict.fromkeys(changed)]
        text.append(f"Saved: {notes.path}")
    if options.export_notes:
        notes.export_to(options.export_notes)
        text.append(f"{len(notes.all())} notes written: {options.export_notes}")
    data = {
        "notes_file": str(notes.path),
        "notes_count": len(notes.all()),
        "imported": imported,
        "exported": str(options.export_notes) if options.export_notes else None,
    }
    return Result(data, text)


def _note_line(notes: "Notes", tap: str, latent: int) -> str:
    note = notes.get(tap, latent)
    star = " (favourite)" if note.favourite else ""
    comment = f": {note.comment}" if note.comment else ""
    return f"  {latent}  {note.name or 'no name of yours'}{star}{comment}"
