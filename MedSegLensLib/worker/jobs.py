"""One thread that computes, and what it is asked to do: in order, but for previews, which slip in between."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

from MedSegLensLib.errors import Cancelled, MedSegLensError, MemoryShortage, WorkerError
from MedSegLensLib.worker.protocol import Message, encode, error_fields
from MedSegLensLib.worker.segments import SharedFolder

ALIVE_SECONDS = 1.0
"""A job that has nothing to say says that it is alive this often."""
PROGRESS_SECONDS = 0.05


class Job:
    """One request being worked on. Its messages are encoded on the computing thread and sent by the event loop.

    work(job): returns the message that ends it. urgent: slips in between two samples of a job that gives way.
    """

    def __init__(self, what: str, work: Callable[["Job"], Message], shared: SharedFolder | None, urgent: bool = False):
        self.what, self.work, self.urgent = what, work, urgent
        self.desk: Desk | None = None
        self._shared, self._segments = shared, []
        self._cancelled = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._outbox: asyncio.Queue[tuple[bytes, bool]] = asyncio.Queue()
        self._told = ("", 0.0)

    # -- on the computing thread ------------------------------------------------------------------------------------

    def say(self, stage: str, share: float) -> None:
        """Progress; here a job is cancelled, and gives way to urgent ones. Raises Cancelled."""
        if self._cancelled.is_set():
            raise Cancelled(self.what)
        if self.desk and not self.urgent:
            self.desk.give_way()
        now = time.monotonic()
        if stage != self._told[0] or now - self._told[1] > PROGRESS_SECONDS:
            self._told = (stage, now)
            self._send(Message("progress", {"stage": stage, "share": float(share)}))

    def offer(self, message: Message) -> None:
        """A part of the result."""
        self._send(message)

    def run(self) -> None:
        try:
            if self._cancelled.is_set():
                raise Cancelled(self.what)
            self._send(self.work(self), last=True)
        except MedSegLensError as problem:
            self._send(Message("error", error_fields(problem)), last=True)
        except Exception as problem:  # what torch raises when memory ends, and bugs: said as such
            self._send(Message("error", error_fields(_in_words(self.what, problem))), last=True)

    def _send(self, message: Message, last: bool = False) -> None:
        data = encode(message, self._shared, compress=self._shared is None, made=self._segments)
        try:
            self._loop.call_soon_threadsafe(self._outbox.put_nowait, (data, last))
        except RuntimeError:
            return  # the loop is closed: the worker is ending

    # -- on the event loop ------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        self._cancelled.set()

    async def messages(self) -> AsyncIterator[bytes]:
        """Encoded messages until the last. Left early (the client is gone), the job is cancelled and its shared memory
        removed."""
        alive, ended = encode(Message("alive")), False
        try:
            while not ended:
                try:
                    data, ended = await asyncio.wait_for(self._outbox.get(), ALIVE_SECONDS)
                except TimeoutError:
                    data = alive
                yield data
        finally:
            if not ended:
                self.cancel()
                if self._shared:
                    for name in self._segments:
                        self._shared.remove(name)


class Desk:
    """The computing thread. `first` is what it does before any job."""

    def __init__(self, first: Callable[[], None] | None = None):
        self._first = first
        self._jobs: deque[Job] = deque()
        self._urgent: deque[Job] = deque()
        self._wake = threading.Condition()
        self._working = True
        self._touched = time.monotonic()
        threading.Thread(target=self._work, name="computing", daemon=True).start()

    def add(self, job: Job) -> None:
        job.desk = self
        with self._wake:
            (self._urgent if job.urgent else self._jobs).append(job)
            self._touched = time.monotonic()
            self._wake.notify()

    @property
    def idle_seconds(self) -> float:
        """How long there has been nothing to do."""
        return 0.0 if self._working or self._jobs or self._urgent else time.monotonic() - self._touched

    def cancel_all(self) -> None:
        with self._wake:
            for job in (*self._jobs, *self._urgent):
                job.cancel()

    def give_way(self) -> None:
        """Run what is urgent; called by a job between two samples."""
        while self._urgent:
            self._urgent.popleft().run()

    def _work(self) -> None:
        if self._first:
            self._first()
        self._working, self._touched = False, time.monotonic()
        while True:
            with self._wake:
                while not (self._jobs or self._urgent):
                    self._wake.wait()
                job = (self._urgent or self._jobs).popleft()
                self._working = True
            job.run()
            self._working, self._touched = False, time.monotonic()


def _in_words(what: str, problem: Exception) -> MedSegLensError:
    said = str(problem).strip().splitlines()[0][:200] if str(problem).strip() else type(problem).__name__
    if MemoryShortage.said_by(problem):
        return WorkerError(
            "memory", f"it did not suffice for: {what} ({said}).", "Close other cases or programs, then try again."
        )
    return WorkerError(
        what,
        f"the worker failed unexpectedly ({type(problem).__name__}: {said}).",
        "Try again; if it happens again, report it with the worker's log.",
    )
