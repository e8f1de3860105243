"""Memory that the client and its own worker share: files in a folder of their own, mapped by both.

Files in /dev/shm (elsewhere in the temporary folder), not `multiprocessing.shared_memory`, for three reasons. Its
resource tracker, on Python before 3.13, removes segments that another process still uses, and starts a further process
from inside Slicer. It sets a segment's size without reserving it, so a full /dev/shm kills the process at its first
use (SIGBUS) where writing a file raises. And a folder can be looked at: when it is gone, nothing was left behind.

The client makes the folder and holds a lock in it. Both remove it: the client when it closes, the worker when it sees
the client gone. Should both be killed at once, the next client that starts removes what nobody holds.
"""

import contextlib
import mmap
import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from MedSegLensLib.errors import WorkerError

PREFIX = "medseglens-"
LOCK = "owner.lock"
FOLDER_VARIABLE = "MEDSEGLENS_SHARED_MEMORY"
"""Names another folder to share memory in."""
YOUNG_SECONDS = 60.0
"""A folder without a lock that is younger may just be being made."""


def base_folder() -> Path:
    """Where the shared folders are made."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and os.access(memory, os.W_OK) else Path(tempfile.gettempdir())


class SharedFolder:
    """Arrays shared by name. `side` marks who made a segment: 'c' the client, 'w' the worker."""

    def __init__(self, path: Path, side: str):
        self.path, self.side, self._lock = Path(path), side, None

    @staticmethod
    def made() -> "SharedFolder":
        """A new folder that only this user can read, held by this process; what dead processes left is removed first.

        Raises WorkerError where it cannot be made.
        """
        base = base_folder()
        try:
            remove_abandoned(base)
            path = base / f"{PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
            path.mkdir(mode=0o700)
            shared = SharedFolder(path, "c")
            shared._lock = open(path / LOCK, "wb")  # noqa: SIM115 (held as long as this object)
            _lock(shared._lock)
        except OSError as problem:
            remedy = f"See that {base} can be written, or name another folder in {FOLDER_VARIABLE}."
            raise WorkerError(base, f"no shared memory can be made there ({problem.strerror}).", remedy) from problem
        return shared

    def put(self, array: np.ndarray) -> str:
        """Copy an array in; returns its name. Raises WorkerError, naming the numbers, where there is no room."""
        array = np.ascontiguousarray(array)
        name = f"{self.side}-{secrets.token_hex(12)}"
        path = self.path / name
        size = max(array.nbytes, 1)
        try:
            with open(path, "xb") as file:  # written, not mapped: a full folder is then an error, not a signal
                file.write(memoryview(array).cast("B") if array.nbytes else b"\0")
        except OSError as problem:
            path.unlink(missing_ok=True)
            raise self._no_room(size, problem) from problem
        return name

    def view(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        """The array of that name, read-only, without a copy; it stays good when the segment is removed.

        Raises WorkerError for a segment that is not there or of another size.
        """
        count = int(np.prod(shape, dtype=np.int64))
        try:
            with open(self.path / name, "rb") as file:
                memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as problem:
            raise WorkerError(name, f"this shared memory is gone ({problem}).", "Ask again.") from problem
        if len(memory) != max(count * dtype.itemsize, 1):
            raise WorkerError(name, f"this shared memory has {len(memory)} bytes, not those of {shape}.", "Ask again.")
        return np.frombuffer(memory, dtype, count).reshape(shape)

    def take(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        """The array of that name, and the segment's end: its memory is free when the array is."""
        array = self.view(name, dtype, shape)
        if os.name == "nt":  # a mapped file cannot be removed there
            array = array.copy()
        self.remove(name)
        return array

    def remove(self, name: str) -> None:
        with contextlib.suppress(PermissionError):  # Windows, still mapped by the other side: it goes with the folder
            (self.path / name).unlink(missing_ok=True)

    def remove_of(self, side: str) -> None:
        """Remove what one side made: after its end."""
        for path in self.path.glob(f"{side}-*"):
            self.remove(path.name)

    def destroy(self) -> None:
        """Remove the folder and all in it; may be called twice, by both sides."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        shutil.rmtree(self.path, ignore_errors=True)

    def _no_room(self, size: int, problem: OSError) -> WorkerError:
        try:
            free = f"{shutil.disk_usage(self.path).free / 1e6:.0f} MB are free"
        except OSError:
            free = "it is gone"
        return WorkerError(
            self.path.parent,
            f"no room for {size / 1e6:.0f} MB of shared memory ({problem.strerror}; {free}).",
            f"Free some memory there, or name a folder with room in {FOLDER_VARIABLE}.",
        )


def remove_abandoned(base: Path) -> None:
    """Remove the shared folders under `base` whose client is gone. By a lock, not by process numbers: two containers
    may share the folder and not the numbers."""
    for path in base.glob(f"{PREFIX}*"):
        try:
            if not path.is_dir() or (hasattr(os, "getuid") and path.stat().st_uid != os.getuid()):
                continue
            lock = path / LOCK
            if not lock.exists():
                abandoned = time.time() - path.stat().st_mtime > YOUNG_SECONDS
            else:
                with open(lock, "ab") as file:
                    abandoned = _lock(file)
        except OSError:
            continue  # going away just now, or held (Windows)
        if abandoned:
            shutil.rmtree(path, ignore_errors=True)


def _lock(file) -> bool:
    """Lock an open file until it is closed; False where another process holds it."""
    if os.name == "nt":
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
