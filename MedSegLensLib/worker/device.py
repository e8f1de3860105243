"""What computes, chosen once when the worker starts, and said in a line for the reader."""

import torch

from MedSegLensLib.doctor import memory_gb, runs_on
from MedSegLensLib.errors import UsageError
from MedSegLensLib.segmenters.engine import best_device

GB = 1e9


def choose_device(asked: str | None) -> tuple[str, str]:
    """The device and its line. Where none is asked for and the GPU does not work, it is the CPU, and the line says why.

    Raises UsageError for a device asked for that is not there or does not work.
    """
    device = asked or best_device()
    trouble = _trouble(device)
    if not trouble:
        return device, _line(device)
    if asked:
        raise UsageError(device, f"it cannot be used: {trouble}.", "Choose another device, or run `medseglens doctor`.")
    return "cpu", f"{_line('cpu')} (not the GPU: {trouble})"


def _trouble(device: str) -> str:
    """Why a device cannot compute; empty where a small run on it gives the right sum."""
    kind = device.split(":")[0]
    if kind == "cpu":
        return ""
    if kind not in ("cuda", "mps"):
        return "it is neither cpu nor cuda nor mps"
    available = torch.cuda.is_available() if kind == "cuda" else torch.backends.mps.is_available()
    if not available:
        return "this machine has none that torch can see"
    try:
        if kind == "cuda" and torch.version.cuda:
            capability = torch.cuda.get_device_capability(device)
            builds = torch.cuda.get_arch_list()
            if not runs_on(builds, capability):
                version = ".".join(map(str, capability))
                return f"its compute capability {version} is not one this torch is built for ({', '.join(builds)})"
        if torch.ones(64, device=device).sum().item() != 64:
            return "it computes wrongly"
    except (RuntimeError, AssertionError) as problem:  # what drivers and builds raise
        return str(problem).strip().splitlines()[0][:160]
    return ""


def _line(device: str) -> str:
    if device.startswith("cuda"):
        gpu = torch.cuda.get_device_properties(device)
        capability = f"compute capability {gpu.major}.{gpu.minor}"
        return f"{gpu.name} {gpu.total_memory / GB:.0f} GB, torch {torch.__version__}, {capability}"
    if device == "mps":
        return f"Apple GPU, torch {torch.__version__}"
    total = memory_gb()[0]
    parts = [
        "CPU",
        f"torch {torch.__version__}",
        torch.backends.cpu.get_cpu_capability(),
        f"{torch.get_num_threads()} threads",
    ]
    return ", ".join(parts + ([f"{total:.0f} GB"] if total else []))
