"""`medseglens audit`: a whole cohort checked, ranked by risk, its failures in groups, as one page."""

from pathlib import Path

from MedSegLensLib.commands.cohort_cases import add_cases, cohort_given, failure_notes
from MedSegLensLib.commands.common import Result, add_command, add_pack, output_folder, progress_bar

LONG = """check every case of a cohort: which to look at first, and what kinds of failure there are

  medseglens audit --cohort hospital-b --pack glioma-unet --out audit

Needs no labels; where cases have them, true Dice stands beside. Writes index.html (one file, nothing is loaded),
audit.csv (a row a case) and audit.json. A case that cannot be read is told of and stops nothing."""


def add_parser(commands) -> None:
    command = add_command(commands, "audit", "check a whole cohort and rank its cases by risk", run, LONG)
    add_cases(command, "the cases to check")
    add_pack(command)
    command.add_argument(
        "--beside",
        metavar="PACK",
        help="another pack: which of the two is likely better on these cases, without labels",
    )
    command.add_argument("--journal", type=Path, metavar="FOLDER", help="keep each case's result, to go on later")
    command.add_argument("--out", type=Path, default=Path("audit"), help="folder to write (default: audit)")


def run(options) -> Result:
    from MedSegLensLib.failures.audit import audit
    from MedSegLensLib.failures.pack_choice import choose
    from MedSegLensLib.packs.pack import load_pack
    from MedSegLensLib.reports.audit_page import headline, write_audit_page

    folder = output_folder(options.out)
    pack, cohort = load_pack(options.pack), cohort_given(options)
    other = load_pack(options.beside) if options.beside else None
    with progress_bar(options.json) as progress:
        found = audit(pack, cohort, progress, options.journal, device=options.device)
        choice = choose([pack, other], cohort, progress, options.journal, options.device) if other else None
    files = [str(path) for path in write_audit_page(found, folder)]
    text = [headline(found) + "."]
    width = max(len(one.name) for one in found.cases)
    for number, one in enumerate(found.cases[:20], 1):
        text.append(f"{number:>4}  {one.name:<{width}}  risk {one.risk:.2f}  {one.why}")
    if len(found.cases) > 20:
        text.append(f"      and {len(found.cases) - 20} more")
    text += [f"- {group.words}" for group in found.groups]
    text += [f"note: {note}" for note in (*found.notes, *failure_notes(found.failures))]
    data = found.to_json() | {"files": files}
    if choice is not None:
        outlooks = [one.to_json() for one in choice.outlooks]
        data["choice"] = {"better": choice.better, "words": choice.words, "packs": outlooks}
        text.append(choice.words)
    return Result(data, [*text, f"Written: {', '.join(files)}"])
