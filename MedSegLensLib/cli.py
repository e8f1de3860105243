"""The command line `medseglens`.

Exit codes: 0 done; 1 a fault of the program; 2 wrong use (an unknown latent, tap or region, a gain that is no number);
3 a case that cannot be used; 4 a bad pack; 5 a bad recipe; 6 output that cannot be written; 7 the doctor found
something to mend; 8 a worker that cannot be started or reached; 9 not enough memory; 130 cancelled.
"""

import argparse
import json
import math
import os
import sys
import traceback
import warnings

from MedSegLensLib import __version__
from MedSegLensLib.errors import Cancelled, MedSegLensError, MemoryShortage, UsageError
from MedSegLensLib.segmenters.trust import trust

EPILOG = """\
first steps:
  medseglens doctor                                   is everything in place?
  medseglens phantom --out phantom-7 --seed 7         an invented case to play with
  medseglens demo phantom-7                           segment it, rank the latents, suppress one, write a report
  medseglens latents CASE --region ET                 which latents hold the enhancing tumour up?
  medseglens edit CASE --latent 123 --scale 0         suppress one and segment again

A CASE is a folder with the four volumes of one patient (BraTS names such as *_t1ce.nii.gz or *-t1c.nii.gz; NIfTI,
NRRD or MetaImage), or with DICOM series; or give --t1n, --t1c, --t2w and --t2f instead. Every command takes --json.
Exit codes: 0 done, 1 a fault of the program, 2 wrong use, 3 unusable case, 4 bad pack, 5 bad recipe, 6 output cannot
be written, 7 doctor found something to mend, 8 worker trouble, 9 not enough memory, 130 cancelled.
Research software, not a medical device.
"""


class _Misused(UsageError):
    """Arguments that argparse does not understand; usage: what it prints about them."""

    def __init__(self, command: argparse.ArgumentParser, message: str):
        super().__init__(command.prog, message + ".", f"Run `{command.prog} --help`.")
        self.usage = command.format_usage()


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise _Misused(self, message)


def parser() -> argparse.ArgumentParser:
    """Its `parse_args` raises UsageError for what it does not understand."""
    from MedSegLensLib.commands import (
        adapt,
        atlas,
        audit,
        catalogue,
        check,
        cohort,
        demo,
        diff,
        doctor,
        edit,
        evaluate,
        latents,
        pack,
        phantom,
        recipe,
        repair,
        segment,
        serve,
        train,
    )

    top = _Parser(
        prog="medseglens",
        description="Open a brain tumour segmenter: see its hidden layer as latents on the anatomy, suppress or "
        "amplify one, and see the segmentation change.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"medseglens {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (
        demo,
        segment,
        latents,
        atlas,
        catalogue,
        cohort,
        edit,
        check,
        repair,
        audit,
        recipe,
        train,
        evaluate,
        diff,
        adapt,
        pack,
        phantom,
        serve,
        doctor,
    ):
        command.add_parser(commands)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        options = parser().parse_args(arguments)
    except _Misused as problem:
        unread = argparse.Namespace(debug=False, json="--json" in arguments)
        if not unread.json:
            print(problem.usage, end="", file=sys.stderr)
        return _report(problem, unread)
    _quiet()
    try:
        trust(options.trust_module)
        result = options.run(options)
        print(json.dumps(_finite(result.data), indent=2) if options.json else "\n".join(result.text), flush=True)
        return result.exit_code
    except BrokenPipeError:  # who was reading (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _report(Cancelled(options.command), options)
    except MedSegLensError as problem:
        return _report(problem, options)
    except Exception as problem:
        if MemoryShortage.said_by(problem):
            return _report(_shortage(options, problem), options)
        return _report(  # a bug, said as one; --debug shows where
            MedSegLensError(
                options.command,
                f"failed unexpectedly ({type(problem).__name__}: {problem}).",
                "Run it again with --debug and report what it prints.",
            ),
            options,
        )


def _shortage(options: argparse.Namespace, problem: Exception) -> MemoryShortage:
    said = next(iter(str(problem).strip().splitlines()), "")[:160]
    return MemoryShortage(
        options.command,
        "memory did not suffice" + (f" ({said})." if said else "."),
        "Close other programs, or run it on a machine with more memory (a case takes about 3 GB)"
        + ("; --device cpu uses the machine's own." if getattr(options, "device", None) else "."),
    )


def _report(problem: MedSegLensError, options: argparse.Namespace) -> int:
    if options.debug:
        traceback.print_exc()
    if options.json:
        error = {"subject": problem.subject, "cause": problem.cause, "remedy": problem.remedy}
        print(json.dumps({"error": error, "exit_code": problem.exit_code}, indent=2))
    print(f"medseglens: {problem}", file=sys.stderr)
    return problem.exit_code


def _finite(value):
    """JSON has no nan: a region that is absent, or a quotient by nothing, is null."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _quiet() -> None:
    """Keep other libraries' notices from between our lines."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="monai|transformers|torch")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is ever looked up in a hub


if __name__ == "__main__":
    sys.exit(main())
