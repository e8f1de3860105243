"""`medseglens check`: where a case's segmentation is likely wrong, which latents say so, and how good it likely is."""

from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.commands.common import (
    Result,
    add_case,
    add_command,
    add_pack,
    check_volume_file,
    note_lines,
    open_session,
    progress_bar,
)

if TYPE_CHECKING:
    from MedSegLensLib.failures.findings import Check

LONG = """check one case: likely Dice of each region with an 80 % interval, how unusual the case is for the pack, and
the places that are likely wrong, the worst first, each with the latents that say so

The segmentation is not changed, and labels that lie beside the case are not used. A pack without a reference cohort
can say nothing, and says so (exit code 0)."""


def add_parser(commands) -> None:
    command = add_command(
        commands, "check", "where is a segmentation likely wrong, and which latents say so", run, LONG
    )
    add_case(command)
    add_pack(command)
    command.add_argument(
        "--risk", type=Path, metavar="FILE", help="write the risk map, 0 to 1 on the case's grid (.nii.gz, .nrrd)"
    )
    command.add_argument("--out", type=Path, metavar="FILE", help="also write what --json prints to this file")
    command.add_argument("--most", type=int, default=10, help="places to print (default 10; --json has all)")


def run(options) -> Result:
    from MedSegLensLib.cases.writing import check_file, write_image
    from MedSegLensLib.packs.pack import load_pack

    if options.risk:
        check_volume_file(options.risk)
    if options.out:
        check_file(options.out)
    pack = load_pack(options.pack)
    with progress_bar(options.json) as progress:
        session = open_session(options, progress, pack)
        from MedSegLensLib.failures.check import check

        found, risk = check(session, progress=progress)
    data, written = found.to_json(), []
    if options.risk:
        write_image(session.to_case(risk, "linear"), options.risk)
        written.append(options.risk)
    if options.out:
        _write(data, options.out)
        written.append(options.out)
    data["files"] = [str(path) for path in written]
    text = [*check_lines(found, options.most), *(f"Written: {path}" for path in written)]
    return Result(data, text)


def check_lines(found: "Check", most: int) -> list[str]:
    """What a reader is told of a case, the `most` worst places of it."""
    text = [f"{found.case}, checked with {found.pack}:"]
    if found.quality:
        text.append("  likely Dice (and where it lies in 80 % of cases):")
        text += [f"    {one.region:<3} {one.dice:.2f} ({one.low:.2f} to {one.high:.2f})" for one in found.quality]
    if found.shift:
        text.append(f"  {found.shift.words}")
    if found.suspects:
        listed = min(most, len(found.suspects))
        text.append(f"  most likely wrong, the worst {listed} of {len(found.suspects)} places (R, A, S in mm):")
        for suspect in found.suspects[:listed]:
            at = ", ".join(f"{v:.0f}" for v in suspect.ras)
            text.append(f"    {suspect.risk:4.0%} at ({at}): {suspect.words}")
    elif found.quality:
        text.append("  no place is likely wrong.")
    return text + note_lines(found.notes)


def _write(data: dict, path: Path) -> None:
    import json

    from MedSegLensLib.cases.writing import atomic_path

    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=2)
