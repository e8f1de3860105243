"""What the commands share: a case and a pack as arguments, the progress bar, and what a command gives back."""

import argparse
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.cases.case import MODALITIES, MODALITY_NAMES, REGIONS, Case
from MedSegLensLib.errors import OutputError, UsageError

if TYPE_CHECKING:
    from MedSegLensLib.editing.session import Session
    from MedSegLensLib.packs.pack import LensPack

DEFAULT_PACK = "glioma-unet"


@dataclass(frozen=True)
class Result:
    """data: what --json prints; text: the lines a person reads."""

    data: dict
    text: list[str] = field(default_factory=list)
    exit_code: int = 0


def add_command(commands, name: str, help: str, run, description: str | None = None) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name, help=help, description=description or help, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.set_defaults(run=run)
    command.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    command.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    command.add_argument(
        "--trust-module",
        action="append",
        default=[],
        metavar="MODULE",
        help="let a pack's segmenter be made by this Python module of yours (docs/your-segmenter.md)",
    )
    return command


def add_case(command: argparse.ArgumentParser) -> None:
    command.add_argument("case", nargs="?", type=Path, help="folder with the volumes of one case")
    volumes = command.add_argument_group("volumes, instead of a folder")
    for modality in MODALITIES:
        volumes.add_argument(f"--{modality}", type=Path, metavar="FILE", help=MODALITY_NAMES[modality])
    volumes.add_argument("--seg", type=Path, metavar="FILE", help="reference segmentation that comes with them")


def add_pack(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--pack", default=DEFAULT_PACK, help=f"lens pack: a name, a folder or a .zip (default {DEFAULT_PACK})"
    )
    command.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")


def add_labels(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--labels",
        choices=("brats2023", "brats2021"),
        default="brats2023",
        help="label values to write: enhancing tumour is 3 in brats2023 (default) and 4 in brats2021",
    )


def case_of(options: argparse.Namespace) -> Case:
    from MedSegLensLib.cases.reading import read_case, read_volumes

    volumes = {m: getattr(options, m) for m in MODALITIES if getattr(options, m)}
    if options.case and volumes:
        raise UsageError(options.case, "a folder and single volumes were both given.", "Give one or the other.")
    if options.seg and not volumes:
        cause = "a reference segmentation was given without single volumes."
        raise UsageError(options.seg, cause, "Give --t1n, --t1c, --t2w, --t2f with it, or put it in the case's folder.")
    if volumes:
        return read_volumes(volumes, options.seg)
    if not options.case:
        raise UsageError("case", "no case was given.", "Give a case folder, or --t1n, --t1c, --t2w, --t2f.")
    return read_case(options.case)


@contextmanager
def progress_bar(quiet: bool = False) -> Iterator:
    """A `progress(stage, share)` callback that draws one bar a stage on stderr, once the stage has lasted a second,
    also where the stage says nothing in between."""
    from tqdm import tqdm

    bar: tqdm | None = None
    lock, over = threading.Lock(), threading.Event()

    def close() -> None:
        nonlocal bar
        if bar is not None:
            bar.close()
        bar = None

    def progress(stage: str, share: float) -> None:
        nonlocal bar
        key = stage.split(",")[0]  # "training unet, loss 0.31" stays one bar
        with lock:
            if bar is None or bar.desc != key or 100 * share < bar.n:
                close()
                bar = tqdm(
                    total=100,
                    desc=key,
                    bar_format="{desc:<44} {percentage:3.0f}% |{bar:24}| {elapsed}<{remaining}{postfix}",
                    file=sys.stderr,
                    delay=1.0,
                    leave=False,
                )
            if stage != key:
                bar.set_postfix_str(stage[len(key) + 2 :], refresh=False)
            bar.update(100 * share - bar.n)

    def draw() -> None:
        drawn = None
        while not over.wait(0.5):
            with lock:
                # On a terminal its clock goes on; in a log one line is enough.
                if bar and time.time() - bar.start_t >= 1.0 and (sys.stderr.isatty() or drawn is not bar):
                    bar.refresh()
                    bar.last_print_t = time.time()  # by this `close` knows that there is something to wipe away
                    drawn = bar

    if quiet:
        yield lambda stage, share: None
        return
    drawing = threading.Thread(target=draw, daemon=True)
    drawing.start()
    try:
        yield progress
    finally:
        over.set()
        drawing.join()
        close()


def open_session(options: argparse.Namespace, progress, pack: "LensPack | None" = None) -> "Session":
    progress("opening the pack and the case", 0.0)
    from MedSegLensLib.editing.session import Session
    from MedSegLensLib.packs.pack import load_pack

    pack = pack or load_pack(options.pack)  # first: it is the quicker of the two to be wrong
    return Session(case_of(options), pack, options.device, progress=progress)


def check_region(region: str) -> None:
    """Raise UsageError for a name that is no region, before the minutes that a case may take."""
    if region not in REGIONS:
        raise UsageError(region, "is not a region.", f"Regions are {', '.join(REGIONS)}.")


def check_volume_file(path: Path) -> None:
    """Raise OutputError where a volume could not be written to `path`, before the minutes that a case may take."""
    from MedSegLensLib.cases.writing import check_file, check_format

    check_format(path)
    check_file(path)


def output_folder(path: Path) -> Path:
    """The folder, made if need be. Raises OutputError where it cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise OutputError(
            path, f"the folder cannot be made ({problem.strerror}).", "Choose another with --out."
        ) from None
    return path


def region_volumes(session: "Session", labels) -> dict[str, float]:
    """mL by region."""
    return {region: round(session.region_ml(labels, region), 3) for region in REGIONS}


def volume_lines(volumes: dict[str, float]) -> list[str]:
    words = {"WT": "whole tumour", "TC": "tumour core", "ET": "enhancing tumour", "NCR": "necrosis", "ED": "edema"}
    return [f"  {words[region]:<18} {f'{ml:8.1f} mL' if ml else '  absent'}" for region, ml in volumes.items()]


def note_lines(notes) -> list[str]:
    return [f"  note: {note}" for note in notes]
