"""`medseglens pack add-reference`: ship a pack with the cohort that `check` and `audit` hold a case against."""

from pathlib import Path

from MedSegLensLib.cohorts.origin import origin_notes
from MedSegLensLib.commands.cohort_cases import add_cases, cohort_given, failure_notes
from MedSegLensLib.commands.common import Result, add_command, progress_bar
from MedSegLensLib.errors import UsageError

LONG = """ship a pack with its reference cohort, as a new pack: what is usual for it, what was learned of its failures

  medseglens pack add-reference glioma-unet --cohort training --out glioma-unet-checked

Give cases that the pack's segmenter was trained on or is trusted with; those that it is judged by (held out in its
pack.json, whatever their acquisition) are left out. Of a case some hundred sums are kept, no voxels. Where the cases
have labels, a detector of failures is learned from them and from simulated acquisitions of them; without labels a pack
tells how unusual a case is, not where it is likely wrong."""


def add_reference_parser(actions) -> None:
    command = add_command(
        actions, "add-reference", "ship a pack with the cohort that cases are held against, as a new pack", run, LONG
    )
    command.add_argument("pack", help="name, folder or .zip")
    add_cases(command, "the reference cases")
    command.add_argument(
        "--journal", type=Path, metavar="FOLDER", help="keep what is read of each case, to go on later"
    )
    command.add_argument("--no-detector", action="store_true", help="learn nothing of failures from the labels")
    command.add_argument("--out", type=Path, required=True, help="folder to write")
    command.add_argument("--zip", type=Path, help="also as one file (.mslp)")
    command.add_argument("--replace", action="store_true", help="replace a pack that is already there")


def run(options) -> Result:
    from MedSegLensLib.cases.writing import check_file, check_folder
    from MedSegLensLib.failures.reference import build_reference
    from MedSegLensLib.packs.build import zip_pack
    from MedSegLensLib.packs.pack import load_pack
    from MedSegLensLib.packs.shipped_reference import with_reference

    check_folder(options.out)
    if options.zip:
        check_file(options.zip)
    pack, cohort = load_pack(options.pack), cohort_given(options)
    notes = origin_notes(cohort)
    kept, judged = [], []
    for case in cohort.cases:
        (judged if case.seen_in(pack.info.trained_on.held_out) else kept).append(case)
    if judged:
        notes.append(f"Left out, since the pack is judged by them: {', '.join(case.name for case in judged)}.")
    if not kept:
        raise UsageError(cohort.name, "the pack holds all of its cases out.", "Give cases that it is not judged by.")
    with progress_bar(options.json) as progress:
        reference, failures = build_reference(
            pack, kept, progress, options.journal, cohort.name, notes, not options.no_detector
        )
    info = with_reference(pack, reference.shipped(pack.info), options.out, options.replace)
    if options.zip:
        zip_pack(options.out, options.zip)
    new = load_pack(options.out)
    size = sum(file.bytes for name, file in info.files.items() if name.startswith("reference/"))
    data = {
        "name": info.name,
        "folder": str(options.out),
        "hash": new.hash,
        "cases": list(reference.cases),
        "detector": reference.detector is not None,
        "bytes": size,
        "failures": [vars(failure) for failure in failures],
        "notes": notes,
    }
    text = [f"{options.out}: {info.name} with {len(reference.cases)} reference cases ({size / 1e3:.0f} kB)."]
    if reference.detector is None:
        text.append("No detector was learned: it tells how unusual a case is, not where it is likely wrong.")
    text += [
        "Recipes made with the former pack stay good.",
        *notes,
        *failure_notes(failures),
    ]
    return Result(data, text)
