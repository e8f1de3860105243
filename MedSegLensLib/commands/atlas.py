"""`medseglens atlas`: a page on which every latent of a pack is looked up and seen on real slices."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from MedSegLensLib.cohorts.origin import origin_notes
from MedSegLensLib.commands.cohort_cases import add_cases, cohort_given
from MedSegLensLib.commands.common import Result, add_command, add_pack, note_lines, progress_bar
from MedSegLensLib.errors import OutputError, UsageError


def add_parser(commands) -> None:
    command = add_command(
        commands,
        "atlas",
        "a page to look up every latent of a pack",
        run,
        "Write a page of a pack's latents: search, filter and sort them, and see each on the slices on which it fires "
        "most strongly. It opens from the disk, offline. The pictures show the patients of the cases that you give: "
        "they are written into --out and nowhere else.",
    )
    add_pack(command)
    add_cases(command, "cases to show")
    command.add_argument("--out", type=Path, required=True, help="folder to write")
    command.add_argument("--tap", action="append", help="only this lens (may be given more than once; default: all)")
    command.add_argument("--examples", type=int, default=5, help="slices shown of each latent, 1 to 12 (default 5)")
    command.add_argument(
        "--citation", action="append", default=[], help="what to cite for the cases (may be given more than once)"
    )
    command.add_argument("--notes", type=Path, help="file of your notes (default: those of this pack, if there are)")
    command.add_argument("--no-notes", action="store_true", help="leave your names, comments and favourites out")
    command.add_argument("--replace", action="store_true", help="replace an atlas that is already there")


def run(options) -> Result:
    from MedSegLensLib.cases.writing import check_folder
    from MedSegLensLib.packs.pack import load_pack

    if not 1 <= options.examples <= 12:
        raise UsageError(f"--examples {options.examples}", "is not 1 to 12.", "Give a number in that range.")
    check_replaceable(options.out, options.replace)
    check_folder(options.out)
    cohort = cohort_given(options)
    pack = load_pack(options.pack)
    taps = tuple(pack.lens_info(tap).tap for tap in options.tap) if options.tap else pack.taps
    if not taps:
        raise UsageError(pack.info.name, "this pack has no lens.", "Train one with `medseglens train lens`.")
    with progress_bar(options.json) as progress:
        progress("opening the pack", 0.0)
        from MedSegLensLib.reports.atlas import PAGE, AtlasRequest, write_atlas

        request = AtlasRequest(
            pack,
            {case.name: case.read for case in cohort.cases},
            tuple(dict.fromkeys(taps)),
            options.examples,
            {} if options.no_notes else notes_of(pack, options.notes),
            tuple(options.citation),
            options.device,
        )
        with replaced_folder(options.out) as folder:
            made = write_atlas(request, folder, progress)
    data = {"page": str(options.out / PAGE), "pack": pack.info.name, "taps": list(request.taps), **made}
    text = [
        f"{made['latents_with_examples']} of {made['latents']} latents fire in {_cases(len(made['cases']))}; "
        f"{made['bytes'] / 1e6:.0f} MB.",
        *(f"  left out: {name}: {why}" for name, why in made["left_out"].items()),
        *note_lines(origin_notes(cohort)),
        f"Look at {options.out / PAGE} (open it in a browser; it needs no network).",
        "Its pictures show the patients of these cases: pass it on only as you may pass them on.",
    ]
    return Result(data, text)


def _cases(count: int) -> str:
    return f"{count} case{'s' * (count != 1)}"


def notes_of(pack, path: Path | None) -> dict[tuple[str, int], dict]:
    """The user's notes on this pack by (tap, latent), as plain values; those of `path` where it is given.

    Raises PackError for a file of notes that cannot be read, UsageError for one that is not there.
    """
    from MedSegLensLib.packs import notes

    found = notes.notes_of(pack)
    if path is not None:
        if not path.is_file():
            raise UsageError(path, "there is no such file.", "Give a file of notes with --notes.")
        found = notes.Notes.load(path, found.pack, found.lens_hashes)
    return {key: vars(note) for key, note in found.all().items()}


def check_replaceable(out: Path, replace: bool) -> None:
    """Raise OutputError where writing the folder would destroy something else than an atlas, or one unasked."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not is_atlas(out):
        raise OutputError(out, "it is there and is no atlas.", "Choose a new folder with --out.")
    if not replace:
        raise OutputError(out, "an atlas is already there.", "Choose another folder, or replace it with --replace.")


def is_atlas(folder: Path) -> bool:
    from MedSegLensLib.reports.atlas import DATA, DATA_BEGINS, PAGE

    data = folder / DATA
    if not (folder / PAGE).is_file() or not data.is_file():
        return False
    with open(data, "rb") as file:
        return file.read(len(DATA_BEGINS)) == DATA_BEGINS.encode()


@contextmanager
def replaced_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its place when the block ends without error; else it is removed, and
    what `out` held is untouched. Raises OutputError where it cannot be made, written or moved."""
    out = Path(out).absolute()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=out.parent))
    except OSError as problem:
        raise OutputError(out, f"it cannot be made ({problem.strerror}).", "Choose another with --out.") from None
    try:
        new = work / "new"
        new.mkdir()
        yield new
        if out.exists():
            out.rename(work / "old")
        try:
            new.rename(out)
        except OSError:
            if (work / "old").exists():
                (work / "old").rename(out)
            raise
    except OSError as problem:
        raise OutputError(
            out, f"it cannot be written ({problem.strerror}).", "Free some space or choose another folder with --out."
        ) from problem
    finally:
        shutil.rmtree(work, ignore_errors=True)
