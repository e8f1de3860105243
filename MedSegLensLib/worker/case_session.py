"""One case opened with one pack, from the side of Slicer; `client.py` says how it is used. Imports no torch."""

import contextlib
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from MedSegLensLib.cases.boxes import box_of
from MedSegLensLib.editing.recipe import Recipe
from MedSegLensLib.errors import Cancelled, UsageError, WorkerError
from MedSegLensLib.failures.points import Point as ReaderPoint
from MedSegLensLib.worker.answers import (
    CheckAnswer,
    Edited,
    LabelBox,
    LatentRow,
    Opened,
    Overlay,
    Point,
    ProposalAnswer,
    Volume,
)
from MedSegLensLib.worker.connection import Connection, Lost, UnknownCase
from MedSegLensLib.worker.protocol import Message, Segment
from MedSegLensLib.worker.reading import check_of, label_box, latent_rows, opened_of, overlay_of, proposal_of
from MedSegLensLib.worker.task import Task, run_task

if TYPE_CHECKING:
    from MedSegLensLib.worker.client import WorkerClient

ATTEMPTS = 5
"""At one request of a local worker, before it is given up: one that kills the worker each time would do so for ever."""
ATTEMPTS_TO_OPEN_AGAIN = 50
"""Of a case that was open before: if the worker dies at that, then not of the case."""
REMOTE_ATTEMPTS = 3


class Held:
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

    def __init__(
        self, client: "WorkerClient", name: str, pack: str, held: dict[str, Held], partner: dict | None = None
    ):
        """partner: of a session made by `with_partner`, which borrows its volumes; what the worker is told of it."""
        self._client, self._name, self._pack, self._held = client, name[:200], pack, held
        self._partner = partner
        self._borrowing: list[tuple[Task, CaseSession]] = []
        self._id = secrets.token_hex(8)
        self._opening = threading.Lock()
        self._open_on = 0  # the client's generation that has the case
        self._engine: dict | None = None
        self._touched: tuple | None = None  # the box where the labels shown may differ from the unedited ones
        self._editing: Task | None = None
        self._trying: Task | None = None
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

        return self._client._begin(task, lambda task: self._edited(task, fields))

    def _edited(self, task: Task, fields: dict) -> Edited:
        said = self._ask(task, "edit", Message("edit", fields))
        box = label_box(said) if said.arrays else None
        return Edited(box, said.fields["regions_ml"], said.fields["dice"], said.fields["seconds"])

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
            task._fail(closed_error())
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
            return latent_rows(self._ask(task, "latents", Message("latents", fields, arrays)))

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
            return overlay_of(self._ask(task, "activation", Message("activation", fields)))

        return self._client._begin(Task(f"the activation of latent {latent}"), work)

    def probability(self, region: str, recipe: Recipe | None = None) -> Task[Overlay]:
        """Probability (0..1) of WT, TC, ET, NCR or ED on the case's grid; under a recipe where one is given."""
        fields = {"region": region, "recipe": None if recipe is None else recipe.to_json()}

        def work(task: Task) -> Overlay:
            return overlay_of(self._ask(task, "probability", Message("probability", fields)))

        return self._client._begin(Task(f"the probability of {region}"), work)

    def check(self, recipe: Recipe | None = None) -> Task[CheckAnswer]:
        """Where the segmentation is likely wrong, and how good it likely is; under a recipe where one is given.

        A pack without a reference cohort can say nothing, and one note says so. Raises PackError for a reference that
        is damaged."""
        fields = {"recipe": None if recipe is None else recipe.to_json()}

        def work(task: Task) -> CheckAnswer:
            return check_of(self._ask(task, "check", Message("check", fields)))

        return self._client._begin(Task(f"checking {self._name}"), work)

    def propose(self, point: ReaderPoint, recipe: Recipe, earlier: Sequence[ReaderPoint] = ()) -> Task[ProposalAnswer]:
        """What few latents can do for a point, over the edits of `recipe`; `earlier` are the points in force.

        Nothing is applied: what is shown stays as it is. Raises UsageError for a point outside the volume or the brain,
        one that contradicts an earlier one, or a region that the pack does not tell apart.
        """
        fields = {
            "point": point.to_json(),
            "recipe": recipe.to_json(),
            "earlier": [one.to_json() for one in earlier],
        }

        def work(task: Task) -> ProposalAnswer:
            return proposal_of(self._ask(task, "propose", Message("propose", fields)), point, recipe)

        return self._client._begin(Task(f"asking what can be done at a point of {self._name}"), work)

    def trial(self, recipe: Recipe) -> Task[Edited]:
        """The segmentation under a recipe that is only looked at: its box holds all that the recipe changes of the
        *unedited* labels, and what `edit` is to write over stays as it is. A newer trial cancels an older one."""
        task = Task(f"trying edits of {self._name}")
        older, self._trying = self._trying, task
        if older is not None:
            older.cancel()
        return self._client._begin(task, lambda task: self._edited(task, {"recipe": recipe.to_json()}))

    def with_partner(self, pack: str, tap: str, lens: str) -> "Task[CaseSession]":
        """The same case opened with another pack too, by its name, for a latent that a comparison found at `tap` of its
        lens with the hash `lens`. No voxel is copied; it is closed with this session at the latest.

        The task raises PackError where that pack is not installed or its lens is another one now, CaseError where it
        cannot take the case, WorkerError where memory would not suffice for both, Cancelled.
        """
        task = Task(f"opening {self._name} with {pack} too")
        told = {"beside": str(self.opened.pack["path"]), "tap": tap, "lens": lens}
        other = CaseSession(self._client, self._name, pack, self._held, told)
        self._borrowing = [(t, s) for t, s in self._borrowing if not (t.done and s not in self._client._sessions)]
        self._borrowing.append((task, other))

        def work(task: Task) -> CaseSession:
            other._insist(task, lambda connection: other._ensure_open(connection, task))
            if task.cancelled:
                other.close()
                raise Cancelled(task.what)
            with self._client._small:
                self._client._sessions.append(other)
            return other

        return self._client._begin(task, work)

    @property
    def is_partner(self) -> bool:
        """Whether it was made by `with_partner`; such a one is opened again when it is next asked, not before."""
        return self._partner is not None

    def close(self) -> Task[None]:
        """Let the worker forget the case and free its shared memory. Those that borrow its volumes close too."""
        for opening, other in self._borrowing:
            opening.cancel()
            other.close()
        self._borrowing = []

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
                task._offer(label_box(said))

        def ask(connection: Connection) -> Message:
            self._ensure_open(connection, task)
            _tell_when_cancelled(task, connection, number)
            return connection.ask("POST", f"/cases/{self._id}/{asked}", message, number, heard)

        return self._insist(task, ask)

    def _insist(self, task: Task, ask: Callable[[Connection], object]):
        asked = opened_again = 0
        while True:
            if task.cancelled:
                raise Cancelled(task.what)
            connection = None
            try:
                if not self._client._there:
                    task._say("starting the worker", 0.0)
                connection = self._client._reach()
                return ask(connection)
            except UnknownCase as problem:
                self._open_on, last = 0, problem
                asked += 1
            except Lost as problem:
                last = problem
                if self._engine is not None and self._open_on != self._client._generation:
                    opened_again += 1
                else:
                    asked += 1
                if connection is not None:
                    self._client._gone(connection)
            if self._client._address is not None:
                if asked + opened_again >= REMOTE_ATTEMPTS:
                    raise last
            elif asked >= ATTEMPTS or opened_again >= ATTEMPTS_TO_OPEN_AGAIN:
                break
        process = self._client._process
        raise WorkerError(
            task.what,
            f"the worker stopped {asked + opened_again} times while doing this "
            f"({process.fate if process else last.cause}).",
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
            if self._partner is not None:
                fields["partner"] = self._partner
            first = self._engine is None
            if not first:
                fields |= {"expected_hash": self.opened.pack["hash"], "engine": self._engine}
            arrays = {key: held.array for key, held in self._held.items()}
            generation = self._client._generation

            def heard(said: Message) -> None:
                if said.kind == "progress":
                    task._say(str(said.fields["stage"]), float(said.fields["share"]))

            _tell_when_cancelled(task, connection, number)
            task._say("waiting for the worker", 0.0)  # which may still import what a network needs
            said = connection.ask("POST", "/cases", Message("open", fields, arrays), number, heard)
            engine = said.fields.pop("engine_fields")
            opened = opened_of(said)
            if first:
                self.opened, self._engine = opened, engine
            elif not np.array_equal(opened.labels, self.opened.labels):
                # Another number of threads may round a tie the other way: what is shown is brought into line.
                self._touched = _union(self._touched, box_of(opened.labels != self.opened.labels))
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
            run_task(task, lambda task, message=message: label_box(self._ask(task, "preview", message)))

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
        if self._partner is not None:
            return  # the volumes are another session's
        shared = self._client._shared
        for held in self._held.values():
            if isinstance(held.array, Segment) and shared is not None:
                shared.remove(held.array.name)


def closed_error() -> WorkerError:
    return WorkerError("worker", "its client was closed.", "Press Apply to start it again.")


def _tell_when_cancelled(task: Task, connection: Connection, number: str) -> None:
    """From now on cancelling the task cancels the request of this number. Raises Cancelled where it is too late."""

    def tell() -> None:
        threading.Thread(target=connection.cancel, args=(number,), daemon=True).start()

    task._on_cancel = tell
    if task.cancelled:
        raise Cancelled(task.what)


def _triple(point: Point) -> list[float]:
    return [float(c) for c in point]


def _union(a: tuple | None, b: tuple | None) -> tuple | None:
    if a is None or b is None:
        return a or b
    return tuple(slice(min(x.start, y.start), max(x.stop, y.stop)) for x, y in zip(a, b, strict=True))
