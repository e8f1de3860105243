"""Requests to the worker that are under way, looked at by a timer: nothing in the panel waits."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from MedSegLensLib.errors import MedSegLensError

if TYPE_CHECKING:
    from MedSegLensLib.worker.client import Task


@dataclass(eq=False)
class _Watched:
    task: "Task"
    done: Callable
    failed: Callable
    progress: Callable | None
    partial: Callable | None
    lastPartial: object = field(default=None)


class TaskWatch:
    """Tells callers what became of their tasks. `poll` is called by the widget's timer, on the main thread.

    `failed` gets the MedSegLensError that ended a task; any other exception is a bug and is raised from `poll`.

    >>> watch = TaskWatch()
    >>> watch.add(client.start(), done=showDevice, failed=showProblem)
    >>> watch.poll()
    """

    def __init__(self):
        self._watched: list[_Watched] = []

    def __len__(self) -> int:
        return len(self._watched)

    def add(self, task: "Task", done: Callable, failed: Callable, progress=None, partial=None) -> "Task":
        """Watch a task: progress(task) at each look, partial(result) when a newer partial result is there."""
        self._watched.append(_Watched(task, done, failed, progress, partial))
        return task

    def forget(self, task: "Task | None") -> None:
        """Call nobody about this task any more."""
        self._watched = [w for w in self._watched if w.task is not task]

    def forgetAll(self) -> None:
        self._watched = []

    def poll(self) -> None:
        for watched in list(self._watched):
            if watched not in self._watched:
                continue  # forgotten by a callback of this very round
            if not watched.task.done:
                if watched.progress:
                    watched.progress(watched.task)
                self._tellPartial(watched)
                continue
            self._watched.remove(watched)
            try:
                result = watched.task.result()
            except MedSegLensError as problem:
                watched.failed(problem)
                continue
            watched.done(result)

    def _tellPartial(self, watched: _Watched) -> None:
        if watched.partial is None:
            return
        partial = watched.task.partial()
        if partial is not None and partial is not watched.lastPartial:
            watched.lastPartial = partial
            watched.partial(partial)
