"""What this process may use of the machine's memory: asked before something large is begun, not found out after."""

import os
from pathlib import Path

from MedSegLensLib.doctor import memory_gb
from MedSegLensLib.errors import WorkerError

SHARE_OF_FREE = 0.9
FREE_LEFT_GB = 0.3
"""Always left to the machine, or the system itself would stall before anything is refused."""
GB = 1e9


def used_gb() -> float | None:
    """Memory of this process that is really there (resident), None where not known."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / GB
    except (OSError, ValueError, AttributeError):
        pass
    if os.name == "nt":
        return _used_gb_on_windows()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GB  # macOS: bytes, the most there ever was


class Ceiling:
    """limit_gb: of this process; None takes `SHARE_OF_FREE` of what is free now, on top of what it has already."""

    def __init__(self, limit_gb: float | None = None):
        free = memory_gb()[1]
        if limit_gb is None and free is not None:
            limit_gb = (used_gb() or 0.0) + SHARE_OF_FREE * free
        self.limit_gb = limit_gb

    def admit(self, needed: int, what: str) -> None:
        """Raise WorkerError, naming the numbers, where `needed` bytes for `what` would go beyond the ceiling or beyond
        what the machine has free."""
        needed_gb, used, free = needed / GB, used_gb() or 0.0, memory_gb()[1]
        if self.limit_gb is not None and used + needed_gb > self.limit_gb:
            there = f"the worker may use {self.limit_gb:.1f} GB and has {used:.1f} GB in use"
        elif free is not None and needed_gb + FREE_LEFT_GB > free:
            there = f"{free:.1f} GB of the machine's memory are free"
        else:
            return
        raise WorkerError(
            "memory",
            f"{what} would take {needed_gb:.1f} GB more, and {there}.",
            "Close other cases or programs, raise the worker's memory limit, or choose a smaller pack.",
        )


def _used_gb_on_windows() -> float | None:
    import ctypes
    from ctypes import wintypes

    class Counters(ctypes.Structure):
        _fields_ = [("cb", wintypes.DWORD), ("faults", wintypes.DWORD)] + [
            (name, ctypes.c_size_t) for name in ("peak", "now", "a", "b", "c", "d", "e", "f")
        ]

    counters = Counters()
    counters.cb = ctypes.sizeof(counters)
    process = ctypes.windll.kernel32.GetCurrentProcess
    process.restype = wintypes.HANDLE
    read = ctypes.windll.psapi.GetProcessMemoryInfo
    read.argtypes = [wintypes.HANDLE, ctypes.c_void_p, wintypes.DWORD]
    return counters.now / GB if read(process(), ctypes.byref(counters), counters.cb) else None
