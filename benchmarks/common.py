"""What the benchmarks share: cases (real where they are, else the phantom, and which is said), packs, JSON output."""

import argparse
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch

from MedSegLensLib.cases.case import Case
from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cases.reading import read_case
from MedSegLensLib.packs.pack import LensPack, load_pack

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "brats2021"
PACKS = {"unet": "glioma-unet", "segformer": "glioma-segformer"}
VALIDATION = ("BraTS2021_00006", "BraTS2021_01480")

warnings.filterwarnings("ignore")


def options(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--packs", nargs="+", choices=list(PACKS), default=list(PACKS))
    return parser.parse_args()


def validation_cases() -> tuple[list[Case], str]:
    """Cases that no shipped weight was trained on, and what they are in words."""
    if REAL.is_dir():
        return [read_case(REAL / name) for name in VALIDATION], f"real: {', '.join(VALIDATION)}"
    return [phantom(101), phantom(102)], "phantoms 101 and 102 (no real case found)"


def training_cases(pack: LensPack) -> list[str]:
    return list(pack.info.trained_on.cases)


def packs(names: list[str]) -> dict[str, LensPack]:
    return {name: load_pack(PACKS[name]) for name in names}


def machine() -> dict:
    return {
        "date": date.today().isoformat(),
        "processor": _processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class PeakMemory:
    """The most memory that this process held since `start`, over what it held then, in MB; Linux only."""

    def start(self) -> None:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the high-water mark falls to what is held now
        self.before = self._status("VmRSS")

    def mb(self) -> float:
        return (self._status("VmHWM") - self.before) / 1024

    @staticmethod
    def _status(field: str) -> int:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field))


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def median_seconds(call: Callable[[], object], times: int) -> float:
    return statistics.median(seconds(call) for _ in range(times))


def show(result: dict, as_json: bool, lines: list[str]) -> None:
    print(json.dumps(result, indent=2) if as_json else "\n".join(lines))
