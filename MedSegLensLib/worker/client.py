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

from MedSegLensLib.editing.recipe import Recipe
from MedSegLensLib.errors import Cancelled, MedSegLensError, UsageError, WorkerError
from MedSegLensLib.worker.answers import Edited, Handshake, LabelBox, LatentRow, Opened, Overlay, Point, Volume
from MedSegLensLib.worker.connection import Connection, Lost, UnknownCase
from MedSegLensLib.worker.process import WorkerProcess
from MedSegLensLib.worker.protocol import DTYPES, Message, Segment
from MedSegLensLib.worker.segments import SharedFolder
from MedSegLensLib.worker.task import Task

__all__ = [
    "CaseSession", "Edited", "Handshake", "LabelBox", "LatentRow", "Opened", "Overlay", "Task", "Volume",
    "WorkerClient",
]  # fmt: skip

HEARTBEAT_SECONDS = 2.0
ATTEMPTS = 5
"""At one request, before it is given up: a request that kills the worker each time would do so for ever."""
REMOTE_RETRY_SECONDS = 1.0
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
                raise _closed_error()
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
            task._fail(_closed_error())
            return task
        self._tasks.add(task)
        threading.Thread(target=_run, args=(task, work), name=task.what, daemon=True).start()
        return task

    # -- the worker ---------------------------------------------------------------------------------------------------

    def _reach(self) -> Connection:
        """The way to a running worker, started where there is none. Raises WorkerError."""
        with self._starting:
            if self._closed.is_set():
                raise _closed_error()
            if self._address is not None:
                if self._connection is None:
                    connection = Connection(self._address, _plain(self._key), self.name, None, self._tls_ca)
                    self._welcome(connection)
            elif self._process is None or self._connection is None or not self._process.alive:
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
        settings = {"key": key, "shared": str(shared.path), **self._limits}
        self._process = WorkerProcess(self._python, self._environment, settings)
        if self._closed.is_set():
            self._process.kill()
            raise _closed_error()
        self._process.wait_until_ready()
        self._welcome(Connection(f"http://127.0.0.1:{self._process.port}", key, self.name, shared))
        if said:
            self._messages.append(said)

    def _welcome(self, connection: Connection) -> None:
        self._handshake = connection.hello()
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
                    for session in list(self._sessions):
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

    def _held(self, key: str, volume: Volume) -> "_Held":
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
                return _Held(key, volume, Segment(segment, array.dtype, array.shape))
            except WorkerError as problem:
                self._messages.append(f"{problem.cause} The volume goes through the connection instead, more slowly.")
        return _Held(key, volume, array.copy())


class _Held:
    """A volume kept for the worker."""

    def __init__(self, modality: str, volume: Volume, array: np.ndarray | Segment):
        affine = np.asarray(volume.ijk_to_ras, float)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            cause = "its place in space is not a 4 x 4 matrix of finite numbers."
            raise UsageError(volume.name or modality, cause, "Give ijk_to_ras as Slicer has it.")
        self.array = array
        self.fields = {
            "modality": modality,
            "array": modality,
            "ijk_to_ras": affine.tolist(),
            "name": (volume.name or modality)[:200],
        }


class CaseSession:
    """One case opened with one pack. Survives the worker's restarts.

    opened: what was found on opening.
    """

    opened: Opened

    def __init__(self, client: WorkerClient, name: str, pack: str, held: dict[str, _Held]):
        self._client, self._name, self._pack, self._held = client, name[:200], pack, held
        self._id = secrets.token_hex(8)
        self._opening = threading.Lock()
        self._open_on = 0  # the client's generation that has the case
        self._engine: dict | None = None
        self._touched: tuple | None = None  # the box where the labels shown may differ from the unedited ones
        self._editing: Task | None = None
        self._dragging = threading.Lock()
        self._drag_next: tuple[Task, Recipe, Point] | None = None
        self._drag_busy = False

    def edit(self, recipe: Recipe, near_ras: list[Point] = ()) -> Task[Edited]:
        """The segmentation under a recipe. The axial slices through `near_ras` come first, as `Task.partial()` (a
        LabelBox, or None). A newer edit of the case cancels an older one still under way."""
        task = Task(f"editing {self._name}")
        task._on_fetch = self._fetched
        older, self._editing = self._editing, task
        if older is not None:
            older.cancel()
        fields = {"recipe": recipe.to_json(), "near_ras": [_triple(p) for p in near_ras]}

        def work(task: Task) -> Edited:
            said = self._ask(task, "edit", Message("edit", fields))
            box = _label_box(said) if said.arrays else None
            return Edited(box, said.fields["regions_ml"], said.fields["dice"], said.fields["seconds"])

        return self._client._begin(task, work)

    def preview(self, recipe: Recipe, ras: Point) -> Task[LabelBox]:
        """The one axial sample (slice) through a point under a recipe, whole, for dragging. The newest wins: of
        requests that wait, all but the newest are cancelled. Raises UsageError for a point outside the volume."""
        task = Task(f"previewing {self._name}")
        task._on_fetch = self._fetched
        with self._dragging:
            waiting, self._drag_next = self._drag_next, (task, recipe, _triple(ras))
            begin, self._drag_busy = not self._drag_busy, True
        if waiting is not None:
            waiting[0].cancel()
        if self._client._closed.is_set():
            task._fail(_closed_error())
        elif begin:
            threading.Thread(target=self._drag, name="previews", daemon=True).start()
        return task

    def latents(
        self,
        tap: str,
        rank: str = "activity",
        region: str | None = None,
        ras: Point | None = None,
        mask: Volume | None = None,
        measure: int = 0,
    ) -> Task[list[LatentRow]]:
        """The latents of the case, best first.

        rank: 'activity' (most activation first, dense ones last), 'influence' (on `region`; of the `measure` first ones
        the suppression is measured), 'point' (those that fire at `ras`, strongest first), 'mask' (those that fire
        inside `mask` != 0, strongest mean first).
        """
        fields = {"tap": tap, "rank": rank, "region": region, "measure": int(measure)}
        arrays = {}
        if ras is not None:
            fields["ras"] = _triple(ras)
        if mask is not None:
            fields["mask_ijk_to_ras"] = np.asarray(mask.ijk_to_ras, float).tolist()
            arrays["mask"] = (np.asarray(mask.array) != 0).astype(np.uint8)

        def work(task: Task) -> list[LatentRow]:
            return _latent_rows(self._ask(task, "latents", Message("latents", fields, arrays)))

        return self._client._begin(Task(f"ranking the latents at {tap}"), work)

    def detail(self, tap: str, latent: int) -> Task[dict]:
        """All about one latent in the case: histogram {counts, edges}; extent_mm [R, A, S] or None; volume_ml;
        region_share {NCR, ED, ET, brain}: shares of its activation; peak_ras or None; slice_profile {s_mm, total}: sum
        of its code per axial slice; catalogue: its row as a dictionary, or None."""
        fields = {"tap": tap, "latent": int(latent)}

        def work(task: Task) -> dict:
            return self._ask(task, "detail", Message("detail", fields)).fields

        return self._client._begin(Task(f"looking at latent {latent}"), work)

    def activation(self, tap: str, latent: int) -> Task[Overlay]:
        """Where a latent fires, on the tap's grid."""
        fields = {"tap": tap, "latent": int(latent)}

        def work(task: Task) -> Overlay:
            return _overlay(self._ask(task, "activation", Message("activation", fields)))

        return self._client._begin(Task(f"the activation of latent {latent}"), work)

    def probability(self, region: str, recipe: Recipe | None = None) -> Task[Overlay]:
        """Probability (0..1) of WT, TC, ET, NCR or ED on the case's grid; under a recipe where one is given."""
        fields = {"region": region, "recipe": None if recipe is None else recipe.to_json()}

        def work(task: Task) -> Overlay:
            return _overlay(self._ask(task, "probability", Message("probability", fields)))

        return self._client._begin(Task(f"the probability of {region}"), work)

    def close(self) -> Task[None]:
        """Let the worker forget the case and free its shared memory."""

        def work(task: Task) -> None:
            with self._client._small:
                if self in self._client._sessions:
                    self._client._sessions.remove(self)
            if self._open_on == self._client._generation:
                with contextlib.suppress(Lost):  # then it has forgotten the case already
                    connection = self._client._connection
                    connection.ask("DELETE", f"/cases/{self._id}", Message("close"), "", lambda said: None)
            self._free()

        return self._client._begin(Task(f"closing {self._name}"), work)

    # -- asking -----------------------------------------------------------------------------------------------------

    def _ask(self, task: Task, asked: str, message: Message) -> Message:
        """The worker's answer, however often it has to be started again for it."""
        number = secrets.token_hex(8)

        def heard(said: Message) -> None:
            if said.kind == "progress":
                task._say(str(said.fields["stage"]), float(said.fields["share"]))
            elif said.kind == "partial":
                task._offer(_label_box(said))

        def ask(connection: Connection) -> Message:
            self._ensure_open(connection, task)
            _tell_when_cancelled(task, connection, number)
            return connection.ask("POST", f"/cases/{self._id}/{asked}", message, number, heard)

        return self._insist(task, ask)

    def _insist(self, task: Task, ask: Callable[[Connection], object]):
        for attempt in range(1, ATTEMPTS + 1):
            if task.cancelled:
                raise Cancelled(task.what)
            connection = None
            try:
                connection = self._client._reach()
                return ask(connection)
            except UnknownCase as problem:
                self._open_on, last = 0, problem
            except Lost as problem:
                last = problem
                if connection is not None:
                    self._client._gone(connection)
            if attempt == ATTEMPTS or (self._client._address is not None and attempt == 3):
                break
        if self._client._address is not None:
            raise last
        process = self._client._process
        raise WorkerError(
            task.what,
            f"the worker stopped {ATTEMPTS} times while doing this ({process.fate if process else last.cause}).",
            "If memory is short, close other programs or choose a smaller pack; else report it with the worker's log.",
        )

    def _ensure_open(self, connection: Connection, task: Task) -> None:
        """Open the case where this worker does not have it, with the pack and the engine of the first time."""
        with self._opening:
            if self._open_on == self._client._generation:
                return
            number = secrets.token_hex(8)
            fields = {
                "case": self._id,
                "name": self._name,
                "pack": self._pack,
                "volumes": [held.fields for held in self._held.values()],
            }
            first = self._engine is None
            if not first:
                fields |= {"expected_hash": self.opened.pack["hash"], "engine": self._engine}
            arrays = {key: held.array for key, held in self._held.items()}
            generation = self._client._generation

            def heard(said: Message) -> None:
                if said.kind == "progress":
                    task._say(str(said.fields["stage"]), float(said.fields["share"]))

            _tell_when_cancelled(task, connection, number)
            said = connection.ask("POST", "/cases", Message("open", fields, arrays), number, heard)
            engine = said.fields.pop("engine_fields")
            opened = _opened(said)
            if first:
                self.opened, self._engine = opened, engine
            elif not np.array_equal(opened.labels, self.opened.labels):
                # Another number of threads may round a tie the other way: what is shown is brought into line.
                self._touched = _union(self._touched, _box_of(opened.labels != self.opened.labels))
                self.opened = opened
            self._open_on = generation

    def _drag(self) -> None:
        """Previews, one after another, always the newest."""
        while True:
            with self._dragging:
                if self._drag_next is None:
                    self._drag_busy = False
                    return
                (task, recipe, ras), self._drag_next = self._drag_next, None
            fields = {"recipe": recipe.to_json(), "ras": ras}
            message = Message("preview", fields)
            self._client._tasks.add(task)
            _run(task, lambda task, message=message: _label_box(self._ask(task, "preview", message)))

    # -- results ----------------------------------------------------------------------------------------------------

    def _fetched(self, found: Edited | LabelBox) -> Edited | LabelBox:
        """Note what the caller will now show; a whole result is widened to all that was shown before.

        The worker says where the new labels differ from the *unedited* ones. Between two recipes more changes: what
        the older had changed and the newer does not goes back. Outside its box a result equals the unedited labels,
        which this side has, so no result is ever missed by being cancelled, late or dropped.
        """
        if isinstance(found, LabelBox):
            self._touched = _union(self._touched, found.slices)
            return found
        own = found.box.slices if found.box is not None else None
        wide = _union(self._touched, own)
        self._touched = own
        if wide is None or wide == own:
            return found
        labels = self.opened.labels[wide].copy()
        if own is not None:
            labels[tuple(slice(o.start - w.start, o.stop - w.start) for o, w in zip(own, wide, strict=True))] = (
                found.box.labels
            )
        box = LabelBox(tuple(b.start for b in wide), tuple(b.stop for b in wide), labels)
        return Edited(box, found.regions_ml, found.dice, found.seconds)

    def _free(self) -> None:
        shared = self._client._shared
        for held in self._held.values():
            if isinstance(held.array, Segment) and shared is not None:
                shared.remove(held.array.name)


def _run(task: Task, work: Callable[[Task], object]) -> None:
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


def _tell_when_cancelled(task: Task, connection: Connection, number: str) -> None:
    """From now on cancelling the task cancels the request of this number. Raises Cancelled where it is too late."""

    def tell() -> None:
        threading.Thread(target=connection.cancel, args=(number,), daemon=True).start()

    task._on_cancel = tell
    if task.cancelled:
        raise Cancelled(task.what)


def _close_if_alive(client: "weakref.ref[WorkerClient]") -> None:
    """At the end of Python."""
    found = client()
    if found is not None:
        found.close()


def _closed_error() -> WorkerError:
    return WorkerError("worker", "its client was closed.", "Press Apply to start it again.")


def _plain(key: str | None) -> str:
    if not key or not key.isascii() or not key.isprintable():
        raise UsageError("key", "there is none, or it holds more than plain letters.", "Give the worker's key.")
    return key


def _triple(point: Point) -> list[float]:
    return [float(c) for c in point]


def _box_of(mask: np.ndarray) -> tuple | None:
    if not mask.any():
        return None
    where = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    return tuple(slice(int(w[0]), int(w[-1]) + 1) for w in where)


def _union(a: tuple | None, b: tuple | None) -> tuple | None:
    if a is None or b is None:
        return a or b
    return tuple(slice(min(x.start, y.start), max(x.stop, y.stop)) for x, y in zip(a, b, strict=True))


def _label_box(said: Message) -> LabelBox:
    return LabelBox(tuple(said.fields["lower"]), tuple(said.fields["upper"]), said.arrays["labels"])


def _overlay(said: Message) -> Overlay:
    return Overlay(said.arrays["array"], np.array(said.fields["ijk_to_ras"]), said.fields["maximum"])


def _opened(said: Message) -> Opened:
    fields = dict(said.fields)
    fields["ijk_to_ras"] = np.array(fields["ijk_to_ras"])
    return Opened(labels=said.arrays["labels"], **fields)


def _latent_rows(said: Message) -> list[LatentRow]:
    def numbers(name: str) -> list[float | None]:
        return [None if value != value else value for value in said.arrays[name].tolist()]  # nan: not asked for

    columns = {name: numbers(name) for name in ("active_ml", "brain_share", "maximum", "mean")}
    columns |= {name: numbers(name) for name in ("here", "attribution_ml", "suppressed_ml")}
    rows = zip(
        said.arrays["latent"].tolist(),
        said.fields["names"],
        *columns.values(),
        said.arrays["dense"].tolist(),
        map(tuple, said.arrays["peak_ras"].tolist()),
        strict=True,
    )
    return [LatentRow(said.fields["tap"], *row) for row in rows]
