"""One request under way: looked at from the caller's thread, worked on by another."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from MedSegLensLib.errors import Cancelled, MedSegLensError, WorkerError

T = TypeVar("T")

YIELD_SECONDS = 0.0005
"""Given to the other threads whenever somebody asks whether a task is done. Where the asking thread holds Python's
lock between its questions, as the main thread of an application that embeds Python may, this is when they run."""


class Task(Generic[T]):
    """A result to come. All of it may be called from any thread; only `result` waits.

    stage, share: what is being done, in words, and how much of it (0..1).
    """

    def __init__(self, what: str):
        self.what, self.stage, self.share = what, "waiting", 0.0
        self._started, self._ended = time.monotonic(), None
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._cancelled = False
        self._result, self._error, self._partial = None, None, None
        self._on_cancel: Callable[[], None] | None = None
        self._on_fetch: Callable[[object], object] | None = None
        self._fetched = False

    # -- for the caller ---------------------------------------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """Seconds since it was asked for; stands still once it is done."""
        return (self._ended or time.monotonic()) - self._started

    @property
    def done(self) -> bool:
        """Whether there is a result or an error; never waits for one."""
        if not self._over.is_set():
            time.sleep(YIELD_SECONDS)
        return self._over.is_set()

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled: by `cancel`, or because a newer request took its place."""
        return self._cancelled

    def result(self, timeout: float | None = None) -> T:
        """What was asked for; waits where it is not there yet.

        Raises the MedSegLensError that happened (Cancelled included), TimeoutError after `timeout` seconds.
        """
        if not self._over.wait(timeout):
            raise TimeoutError(f"{self.what}: no result after {timeout} s")
        if self._error is not None:
            raise self._error
        with self._lock:
            if not self._fetched:
                self._fetched = True
                if self._on_fetch:
                    self._result = self._on_fetch(self._result)
            return self._result

    def cancel(self) -> None:
        """Give it up. It is done at once; the worker stops between two slices or windows."""
        with self._lock:
            if self._over.is_set():
                return
            self._cancelled = True
            self._end(error=Cancelled(self.what))
            tell = self._on_cancel
        if tell:
            tell()

    def partial(self) -> object | None:
        """The newest part of the result that has come and was not fetched before (an edit: a LabelBox of the visible
        slices), or None."""
        with self._lock:
            part, self._partial = self._partial, None
            if part is None or self._error is not None:
                return None
            return self._on_fetch(part) if self._on_fetch else part

    # -- for the thread that works on it ----------------------------------------------------------------------------

    def _say(self, stage: str, share: float) -> None:
        self.stage, self.share = stage, share

    def _offer(self, part: object) -> None:
        with self._lock:
            self._partial = part

    def _finish(self, result: T) -> None:
        with self._lock:
            self.stage, self.share = "done", 1.0
            self._end(result=result)

    def _fail(self, error: MedSegLensError) -> None:
        with self._lock:
            if isinstance(error, Cancelled):
                self._cancelled = True
            self._end(error=error)

    def _end(self, result: object = None, error: Exception | None = None) -> None:
        if self._over.is_set():  # cancelled meanwhile: what comes later is dropped
            return
        self._result, self._error, self._ended = result, error, time.monotonic()
        self._over.set()


def run_task(task: Task, work: Callable[[Task], object]) -> None:
    """Work on a task to its end. Nothing but a MedSegLensError comes out of a task."""
    try:
        task._finish(work(task))
    except MedSegLensError as problem:
        task._fail(problem)
    except Exception as problem:
        cause = f"failed unexpectedly ({type(problem).__name__}: {problem})."
        told = WorkerError(task.what, cause, "Try again; if it happens again, report it.")
        told.__cause__ = problem
        task._fail(told)
