"""The memory of `medseglens train lens`, from a few cases to many: phantoms, harvested and trained on in one command.

Each number of cases is a process of its own; its peak resident memory is what the operating system counted. `growth_mb`
is the most cases' peak less the fewest cases'. Phantoms are small (40 x 50 x 42 voxels), so that what grows with the
number of cases would show beside the fixed part (torch, the network, one window of tokens). As in the command's own
default, the tokens to train on are a number in all, of which each case gives its share: with so many *a case* memory
grows by what the tokens take until the command's budget (1 GB for all taps) is full; from there on windows are read.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from common import machine, show

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cases.writing import write_case

TAP, STEPS, TOKENS = "model.1", 200, 8000


def train(cases: Path, out: Path) -> tuple[float, float]:
    """(peak MB, seconds) of one training in a process of its own."""
    command = [
        sys.executable, "-m", "MedSegLensLib.cli", "train", "lens", "--pack", "glioma-unet", "--tap", TAP,
        "--cases", str(cases), "--out", str(out), "--steps", str(STEPS), "--tokens", str(TOKENS), "--width", "512",
        "--k", "16", "--json",
    ]  # fmt: skip
    started = time.perf_counter()
    with open(out.parent / f"{out.name}.log", "wb") as log:
        pid = os.posix_spawn(
            sys.executable, command, os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, log.fileno(), 1), (os.POSIX_SPAWN_DUP2, log.fileno(), 2)],
        )  # fmt: skip
        _, status, used = os.wait4(pid, 0)
    if status:
        raise SystemExit((out.parent / f"{out.name}.log").read_text())
    return used.ru_maxrss / 1024, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--cases", nargs="+", type=int, default=[2, 20, 200])
    chosen = parser.parse_args()
    peaks, times = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        made = 0
        for n in sorted(chosen.cases):
            for i in range(made, n):
                write_case(
                    phantom(i, size=(40, 50, 42), spacing=(4.0, 4.0, 4.0)), folder / "cases" / f"phantom-{i:04d}"
                )
            made = n
            peaks[n], times[n] = train(folder / "cases", folder / f"out-{n}")
            print(f"{n} cases: {peaks[n]:.0f} MB, {times[n]:.0f} s", file=sys.stderr)
    few, many = min(peaks), max(peaks)
    result = {
        "peak_mb": {str(n): round(mb, 1) for n, mb in peaks.items()},
        "seconds": {str(n): round(s, 1) for n, s in times.items()},
        "growth_mb": round(peaks[many] - peaks[few], 1),
        "growth_ratio": round(peaks[many] / peaks[few], 3),
        "machine": machine(),
    }
    lines = [f"{n:5} phantom cases: peak {mb:.0f} MB" for n, mb in peaks.items()]
    show(result, chosen.json, [*lines, f"from {few} to {many} cases: {result['growth_mb']:+.0f} MB"])


if __name__ == "__main__":
    main()
