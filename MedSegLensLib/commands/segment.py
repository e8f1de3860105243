"""`medseglens segment`: a case -> its segmentation on its own grid."""

from pathlib import Path

from MedSegLensLib.commands.common import (
    Result,
    add_case,
    add_command,
    add_labels,
    add_pack,
    check_region,
    check_volume_file,
    note_lines,
    open_session,
    progress_bar,
    region_volumes,
    volume_lines,
)


def add_parser(commands) -> None:
    command = add_command(commands, "segment", "segment a case; writes NIfTI on the case's own grid", run)
    add_case(command)
    add_pack(command)
    add_labels(command)
    command.add_argument("--out", type=Path, default=Path("segmentation.nii.gz"), help="file to write (.nii.gz, .nrrd)")
    command.add_argument("--probability", metavar="REGION", help="also write <out>-probability-REGION (WT, TC, ET...)")


def run(options) -> Result:
    from MedSegLensLib.cases.writing import write_image, write_labels

    if options.probability:
        check_region(options.probability)
    check_volume_file(options.out)
    with progress_bar(options.json) as progress:
        session = open_session(options, progress)
    write_labels(session.to_case(session.labels), options.out, options.labels)
    written = [str(options.out)]
    if options.probability:
        stem = options.out.name.split(".")[0]
        path = options.out.with_name(f"{stem}-probability-{options.probability}.nii.gz")
        write_image(session.to_case(session.probability(options.probability), "linear"), path)
        written.append(str(path))
    volumes = region_volumes(session, session.labels)
    data = {
        "case": session.case.name,
        "pack": session.pack.info.name,
        "files": written,
        "volumes_ml": volumes,
        "notes": session.notes,
        "engine": str(session.engine),
        "seconds": {k: round(v, 3) for k, v in session.timings.items()},
    }
    text = [f"{session.case.name}, segmented by {session.pack.info.name} ({session.engine}):"]
    return Result(data, [*text, *volume_lines(volumes), *note_lines(session.notes), f"Written: {', '.join(written)}"])
