"""The worker from the side of Slicer: started, watched, asked, and started again when it dies. Imports no torch.

    client = WorkerClient()
    hello = client.start().result()                       # the panel polls task.done with a timer instead
    session = client.open_case({"t1n": Volume(...), ...}, "patient 7", "glioma-unet").result()
    show(session.opened.labels)
    edited = session.edit(recipe, near_ras=[crosshair]).result()
    labels[edited.box.slices] = edited.box.labels
    client.close()

Every request returns a Task at once and is worked on by a background thread. What the user did lives in the recipe,
which comes along with every request, and the volumes stay with the client: so a worker that dies is started again,
given the case again and asked again, and the user reads one line in `messages()`.
"""

import atexit
import contextlib
import secrets
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

import numpy as np

from MedSegLensLib.errors import Cancelled, MedSegLensError, UsageError, WorkerError
from MedSegLensLib.worker.answers import Edited, Handshake, LabelBox, LatentRow, Opened, Overlay, Volume
from MedSegLensLib.worker.case_session import CaseSession, Held, closed_error
from MedSegLensLib.worker.connection import QUICK_SECONDS, Connection, Lost, UnknownCase
from MedSegLensLib.worker.process import WorkerProcess
from MedSegLensLib.worker.protocol import DTYPES, Message, Segment
from MedSegLensLib.worker.segments import SharedFolder
from MedSegLensLib.worker.task import Task, run_task

__all__ = [
    "CaseSession", "Edited", "Handshake", "LabelBox", "LatentRow", "Opened", "Overlay", "Task", "Volume",
    "WorkerClient",
]  # fmt: skip

HEARTBEAT_SECONDS = 2.0
REMOTE_RETRY_SECONDS = 1.0
HELLO_SECONDS = 60.0
"""For the first answer of a worker that has just started: it imports torch and MONAI meanwhile, on a busy machine for
more than the ten seconds of other small requests."""
RESTARTED = "The worker stopped ({fate}) and was started again; nothing was lost."
RESTED = "The worker had ended after a long time without work and was started again."


class WorkerClient:
    """One worker, local or remote.

    python: the interpreter that runs a local worker; None is this one (in Slicer: PythonSlicer).
    environment: variables on top of this process's own, for a local worker.
    address, key, tls_ca: of a worker started by `medseglens serve` ("https://host:8443"), its key, and the file of
        the certificate authority where the system does not know it.
    device: 'cpu', 'cuda', 'mps'; None is the best there is.
    memory_gb: what a local worker may use at most; None is 90 % of what is free when it starts.
    idle_seconds: a local worker without work ends after this long; the next request starts it again.
    lease_seconds: a local worker that hears nothing of this client for so long ends. (When this process dies it ends
        at once: its standard input closes.)
    """

    def __init__(
        self,
        python: str | None = None,
        address: str | None = None,
        key: str | None = None,
        tls_ca: str | None = None,
        device: str | None = None,
        environment: dict[str, str] | None = None,
        memory_gb: float | None = None,
        idle_seconds: float = 1800.0,
        lease_seconds: float = 600.0,
    ):
        self._python, self._address, self._key, self._tls_ca = python, address, key, tls_ca
        self._environment = environment
        self._limits = {
            "device": device,
            "memory_gb": memory_gb,
            "idle_seconds": idle_seconds,
            "lease_seconds": lease_seconds,
        }
        self.name = secrets.token_hex(8)
        self._starting = threading.RLock()
        self._small = threading.Lock()  # never held for long: the caller's thread takes it
        self._messages: deque[str] = deque(maxlen=100)
        self._tasks: weakref.WeakSet[Task] = weakref.WeakSet()
        self._sessions: list[CaseSession] = []
        self._process: WorkerProcess | None = None
        self._connection: Connection | None = None
        self._handshake: Handshake | None = None
        self._shared: SharedFolder | None = None
        self._generation = 0  # counts the workers that were reached
        self._memory_gb: float | None = None
        self._closed = threading.Event()
        self._watching = False
        atexit.register(_close_if_alive, weakref.ref(self))

    # -- for the caller ---------------------------------------------------------------------------------------------

    def start(self) -> Task[Handshake]:
        """Start the worker (or reach the remote one) and shake hands. A started worker answers at once.

        The task raises WorkerError: no such interpreter, dependencies missing, another version, wrong key, no answer.
        """

        def work(task: Task) -> Handshake:
            task._say("starting the worker" if self._address is None else "reaching the worker", 0.0)
            self._reach()
            return self._handshake

        return self._begin(Task("starting the worker"), work)

    def open_case(
        self, volumes: dict[str, Volume], name: str, pack: str, reference: Volume | None = None
    ) -> "Task[CaseSession]":
        """Open a case with a pack (a name or a path); starts the worker where needed. The voxels are copied before
        this returns, so the nodes may change or go.

        volumes: by modality (t1n, t1c, t2w, t2f), at least one; grids may differ. reference: a label volume, for Dice.
        The task raises CaseError, PackError, WorkerError (memory), Cancelled.
        """
        task = Task(f"opening {name}")
        try:
            if self._closed.is_set():
                raise closed_error()
            held = dict(volumes) | ({"reference": reference} if reference is not None else {})
            session = CaseSession(self, name, str(pack), {key: self._held(key, v) for key, v in held.items()})
        except MedSegLensError as problem:
            task._fail(problem)
            return task

        def work(task: Task) -> CaseSession:
            try:
                session._insist(task, lambda connection: session._ensure_open(connection, task))
            except BaseException:
                session._free()
                raise
            if task.cancelled:
                session.close()
                raise Cancelled(task.what)
            with self._small:
                self._sessions.append(session)
            return session

        return self._begin(task, work)

    def messages(self) -> list[str]:
        """New lines for the user since the last call, e.g. "The worker stopped and was started again; nothing was
        lost." """
        found = []
        with contextlib.suppress(IndexError):
            while True:
                found.append(self._messages.popleft())
        return found

    @property
    def worker_pid(self) -> int | None:
        """The local worker's process, None where none runs."""
        process = self._process
        return process.pid if process is not None and process.alive else None

    @property
    def worker_memory_gb(self) -> float | None:
        """What the worker had in use at the last heartbeat."""
        return self._memory_gb

    @property
    def worker_log(self) -> str:
        """The last lines that a local worker wrote: for a report."""
        process = self._process
        return process.log if process is not None else ""

    def close(self) -> None:
        """End the worker and remove all shared memory; tasks under way are cancelled. Waits 3 s at most."""
        if self._closed.is_set():
            return
        self._closed.set()
        for task in list(self._tasks):
            task.cancel()
        process, connection, shared = self._process, self._connection, self._shared
        if process is not None:
            process.end()
        elif connection is not None:
            leave = threading.Thread(target=self._leave, args=(connection,), daemon=True)
            leave.start()
            leave.join(3.0)
        if shared is not None:
            shared.destroy()
        atexit.unregister(_close_if_alive)

    # -- tasks --------------------------------------------------------------------------------------------------------

    def _begin(self, task: Task, work: Callable[[Task], object]) -> Task:
        """Work on a task in a thread of its own."""
        if self._closed.is_set():
            task._fail(closed_error())
            return task
        self._tasks.add(task)
        threading.Thread(target=run_task, args=(task, work), name=task.what, daemon=True).start()
        return task

    # -- the worker ---------------------------------------------------------------------------------------------------

    @property
    def _there(self) -> bool:
        """Whether a worker is ready, as far as is known."""
        return self._connection is not None and (self._process is None or self._process.alive)

    def _reach(self) -> Connection:
        """The way to a running worker, started where there is none. Raises WorkerError."""
        with self._starting:
            if self._closed.is_set():
                raise closed_error()
            if self._address is not None:
                if self._connection is None:
                    key = _plain(self._key, self._address)
                    connection = Connection(self._address, key, self.name, None, self._tls_ca)
                    self._welcome(connection)
            elif not self._there:
                self._start_process()
            return self._connection

    def _start_process(self) -> None:
        before = self._process if self._connection is not None else None
        said = None
        if before is not None:
            said = RESTED if before.ended_idle else RESTARTED.format(fate=before.fate)
            before.kill()  # it is dead: this closes its pipes
        shared = self._shared_folder()
        shared.remove_of("w")
        key = secrets.token_hex(32)
        # A worker that is started again has a case to open at once, and imports what that one needs and no more.
        settings = {"key": key, "shared": str(shared.path), "warm": before is None, **self._limits}
        self._process = WorkerProcess(self._python, self._environment, settings)
        if self._closed.is_set():
            self._process.kill()
            raise closed_error()
        self._process.wait_until_ready()
        try:
            connection = Connection(f"http://127.0.0.1:{self._process.port}", key, self.name, shared)
            self._welcome(connection, HELLO_SECONDS)
        except BaseException:  # it would be another beside the one that the next request starts
            self._process.kill()
            raise
        if said:
            self._messages.append(said)

    def _welcome(self, connection: Connection, patience: float = QUICK_SECONDS) -> None:
        self._handshake = connection.hello(patience)
        self._connection = connection
        self._generation += 1
        if not self._watching:
            self._watching = True
            threading.Thread(target=self._watch, name="watching the worker", daemon=True).start()

    def _gone(self, connection: Connection) -> None:
        """A request found the worker lost: one that lives and does not answer is ended."""
        with self._starting:
            if connection is not self._connection or self._closed.is_set():
                return  # another thread was here before
            if self._process is not None:
                deadline = time.monotonic() + 1.0
                while self._process.alive and time.monotonic() < deadline:
                    time.sleep(0.01)  # a dying process closes its sockets first
                if self._process.alive:
                    self._process.kill()
            else:
                self._connection = None
                self._closed.wait(REMOTE_RETRY_SECONDS)

    def _watch(self) -> None:
        """Signs of life to the worker; a local one that died is started again before somebody needs it."""
        tried = 0
        silent = False
        while not self._closed.wait(HEARTBEAT_SECONDS):
            process, connection = self._process, self._connection
            if process is not None and not process.alive:
                if process.ended_idle or not self._sessions or tried == self._generation:
                    continue
                tried = self._generation
                try:
                    reached = self._reach()
                    for session in [s for s in self._sessions if not s.is_partner]:
                        session._ensure_open(reached, Task("opening again"))
                except MedSegLensError as problem:
                    if not self._closed.is_set() and not isinstance(problem, Lost | UnknownCase):
                        self._messages.append(f"The worker stopped and could not go on: {problem}")
            elif connection is not None:
                try:
                    self._memory_gb = connection.heartbeat().get("memory_gb")
                    silent = False
                except MedSegLensError as problem:
                    if self._address is not None and not silent:
                        self._messages.append(f"The worker at {self._address} does not answer: {problem.cause}")
                    silent = True

    def _leave(self, connection: Connection) -> None:
        """Tell a remote worker that the cases are not needed any more."""
        with contextlib.suppress(MedSegLensError):
            for session in list(self._sessions):
                connection.ask("DELETE", f"/cases/{session._id}", Message("close"), "", lambda said: None)
        connection.close()

    # -- memory -------------------------------------------------------------------------------------------------------

    def _shared_folder(self) -> SharedFolder:
        with self._small:
            if self._shared is None:
                self._shared = SharedFolder.made()
            return self._shared

    def _held(self, key: str, volume: Volume) -> Held:
        """A copy of a volume that outlives its node: in shared memory, or, where it has no room, here."""
        array = np.asarray(volume.array)
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        if array.dtype.str not in DTYPES:
            cause = f"its voxels are of type {array.dtype}."
            raise UsageError(volume.name or key, cause, "Give a volume of plain numbers.")
        if self._address is None:
            folder = self._shared_folder()
            try:
                segment = folder.put(array)
                return Held(key, volume, Segment(segment, array.dtype, array.shape))
            except WorkerError as problem:
                self._messages.append(f"{problem.cause} The volume goes through the connection instead, more slowly.")
        return Held(key, volume, array.copy())


def _close_if_alive(client: "weakref.ref[WorkerClient]") -> None:
    """At the end of Python."""
    found = client()
    if found is not None:
        found.close()


def _plain(key: str | None, address: str) -> str:
    if not key:
        remedy = "Enter it where the computer is chosen; it is never kept on disk, so once in each session."
        raise UsageError(address, "there is no key for this worker.", remedy)
    if not key.isascii() or not key.isprintable():
        raise UsageError(address, "the key holds more than plain letters.", "Give the key that the worker was given.")
    return key
