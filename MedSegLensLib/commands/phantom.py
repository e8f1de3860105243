"""`medseglens phantom`: an invented case with exact labels."""

from pathlib import Path

from MedSegLensLib.commands.common import Result, add_command, progress_bar
from MedSegLensLib.errors import UsageError


def add_parser(commands) -> None:
    command = add_command(commands, "phantom", "make an invented case (4 modalities, exact labels)", run)
    command.add_argument("--seed", type=int, default=7, help="which one (default 7)")
    command.add_argument("--healthy", action="store_true", help="without a tumour")
    command.add_argument("--out", type=Path, required=True, help="folder to write")


def run(options) -> Result:
    from MedSegLensLib.cases.phantom import phantom
    from MedSegLensLib.cases.writing import check_folder, write_case

    if options.seed < 0:
        raise UsageError(f"--seed {options.seed}", "is negative.", "Give 0 or more.")
    check_folder(options.out)
    with progress_bar(options.json) as progress:
        progress("making the phantom", 0.0)
        case = phantom(options.seed, tumour=not options.healthy)
        progress("making the phantom", 0.9)
        write_case(case, options.out)
    files = sorted(str(p) for p in options.out.iterdir())
    return Result(
        {"case": case.name, "folder": str(options.out), "files": files}, [f"Written: {options.out} ({case.name})"]
    )
