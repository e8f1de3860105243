"""One work on every case of a cohort: here, one case after the other, or spread over workers (`cluster.Cluster`).

mapped = map_cases(work, cohort.cases, journal=folder, cluster=cluster)
for case, sums in mapped:            # in the order of the cases, one result in memory at a time
    total += sums["count"]
for failure in mapped.failures: ...  # the cases that could not be used, each with its cause

A work gives back sums, counts and scores, never volumes, so that what a cohort is merged from stays small however many
cases it has. A case that fails is reported and does not stop the others; what is wrong with the work itself (a damaged
pack, an unknown latent) does. Imports neither torch nor dask.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from MedSegLensLib import __version__, errors
from MedSegLensLib.cohorts.journal import Journal
from MedSegLensLib.errors import CaseError, MedSegLensError, MemoryShortage, WorkerError

if TYPE_CHECKING:
    from MedSegLensLib.cohorts.cluster import Cluster
    from MedSegLensLib.cohorts.cohort import CohortCase

Progress = Callable[[str, float], None]
Arrays = dict[str, np.ndarray]


class CaseWork(Protocol):
    """What is done with one case. A small picklable dataclass of a module of this library: it travels to workers."""

    def key(self) -> str:
        """A hash of everything that decides the result: `key_of(self)` where the fields say it all."""

    def __call__(self, case: "CohortCase") -> Arrays:
        """Small arrays by name; none of Python objects. Raises CaseError for a case that cannot be used."""


@dataclass(frozen=True)
class Failure:
    """A case without a result, and why. `cause` and `remedy` are sentences."""

    case: str
    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.case}: {self.cause} {self.remedy}".strip()


def map_cases(
    work: CaseWork,
    cases: "Iterable[CohortCase]",
    journal: Path | None = None,
    cluster: "Cluster | None" = None,
    progress: Progress | None = None,
) -> "Mapped":
    """The work on each of the cases, done while the result is iterated over.

    journal: a folder. A result found there is not computed again; what is computed is written there at once.
    cluster: who does the work; None is this process, one case after the other.
    progress: told "cases, n of m" and the share; may raise Cancelled.
    """
    return Mapped(work, tuple(cases), journal, cluster, progress or (lambda stage, share: None))


class Mapped:
    """Iterates, once, over (case, arrays) in the order of the cases; a case that failed is left out.

    failures: the cases left out, in the same order; complete when the iteration has ended.
    reused: how many results were found in the journal.

    The iteration raises CaseError where no case at all could be used, the work's own error where it is wrong for every
    case (PackError, UsageError, RecipeError, OutputError), WorkerError where the cluster is lost, OutputError where
    the journal cannot be written, and what `progress` raises.
    """

    def __init__(self, work: CaseWork, cases: tuple, journal: Path | None, cluster: "Cluster | None", progress):
        self._work, self._cases, self._journal, self._cluster = work, cases, journal, cluster
        self._progress, self._begun = progress, False
        self._missing: set[int] = set()
        self._failed: dict[int, Failure] = {}
        self.failures: list[Failure] = []
        self.reused = 0

    def __len__(self) -> int:
        """The number of cases asked for."""
        return len(self._cases)

    def __iter__(self) -> "Iterator[tuple[CohortCase, Arrays]]":
        if self._begun:
            raise RuntimeError("a Mapped is iterated over once; map the cases again, with a journal to keep results")
        self._begun = True
        with self._kept() as journal:
            yield from self._results(journal)

    @contextmanager
    def _kept(self) -> Iterator[Journal | None]:
        """Workers end in any order and results are asked for in that of the cases: those that wait lie on the disk."""
        if self._journal is not None:
            yield Journal(self._journal, self._work.key())
        elif self._cluster is None:
            yield None
        else:
            with tempfile.TemporaryDirectory(prefix="medseglens-results-") as folder:
                yield Journal(Path(folder), self._work.key())

    def _results(self, journal: Journal | None) -> "Iterator[tuple[CohortCase, Arrays]]":
        files = [journal.file(case) for case in self._cases] if journal else []
        pending = [i for i in range(len(self._cases)) if not (journal and journal.read(files[i]) is not None)]
        self.reused = len(self._cases) - len(pending)
        missing, failed = self._missing, self._failed = set(pending), {}
        held, given = {}, 0
        with closing(self._outcomes(pending)) as outcomes:
            self._say()
            for i, case in enumerate(self._cases):
                while i in missing:
                    j, outcome = next(outcomes)
                    missing.discard(j)
                    if isinstance(outcome, _Stop):
                        raise outcome.error()
                    if isinstance(outcome, Exception):
                        failed[j] = failure_of(self._cases[j].name, outcome)
                    elif isinstance(outcome, Failure):
                        failed[j] = outcome
                    elif journal:
                        journal.write(files[j], outcome)
                    else:
                        held[j] = outcome
                    self._say()
                if i in failed:
                    self.failures.append(failed.pop(i))
                    continue
                arrays = held.pop(i) if i in held else journal.read(files[i])
                if arrays is None:
                    raise errors.OutputError(files[i], "it is gone or was damaged meanwhile.", "Run it again.")
                given += 1
                yield case, arrays
        if self._cases and not given:
            first = self.failures[0]
            cause = f"none of {len(self._cases)} could be used; the first, {first.case}: {first.cause}"
            raise CaseError("cases", cause, first.remedy)

    def _outcomes(self, pending: Sequence[int]) -> Iterator[tuple[int, object]]:
        if self._cluster is None:
            for i in pending:
                yield i, self._here(self._cases[i])
        elif pending:
            names = [self._cases[i].name for i in pending]
            cases = [self._cases[i] for i in pending]
            with closing(self._cluster.outcomes(partial(attempt, self._work), cases, names, self._say)) as run:
                for at, outcome in run:
                    yield pending[at], outcome

    def _here(self, case: "CohortCase") -> "Arrays | Failure | _Stop":
        try:
            return attempt(self._work, case)
        except errors.Cancelled:
            raise
        except Exception as problem:
            return failure_of(case.name, problem)  # and not the exception, whose frames hold the case's volumes

    def _say(self) -> None:
        total, lost = len(self._cases), len(self.failures) + len(self._failed)
        done = total - len(self._missing)
        words = f"cases, {done} of {total}" + (f" ({lost} failed)" if lost else "")
        self._progress(words, done / total if total else 1.0)


@dataclass(frozen=True)
class _Stop:
    """An error of the work, which would be the same for every case, on its way back from a worker."""

    kind: str
    subject: str
    cause: str
    remedy: str

    def error(self) -> MedSegLensError:
        return getattr(errors, self.kind)(self.subject, self.cause, self.remedy)


OF_THE_WORK = (errors.PackError, errors.UsageError, errors.RecipeError, errors.OutputError)


def attempt(work: CaseWork, case: "CohortCase") -> "Arrays | Failure | _Stop":
    """The work on one case, where it is done. Errors with a cause come back as values, since these pickle; what is
    unexpected is raised, and may be tried again elsewhere."""
    try:
        arrays = work(case)
    except OF_THE_WORK as problem:
        return _Stop(type(problem).__name__, problem.subject, problem.cause, problem.remedy)
    except errors.Cancelled:
        raise
    except MemoryShortage as problem:  # another worker may have more
        raise MemoryError(str(problem)) from None
    except MedSegLensError as problem:
        return failure_of(case.name, problem)
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"{type(work).__name__} gave Python objects as {name!r}; arrays of numbers or text travel")
    return arrays


def failure_of(case: str, problem: Exception) -> Failure:
    """What kept a case from being used, in words."""
    if isinstance(problem, MedSegLensError):
        own = case == problem.subject or isinstance(problem, WorkerError)
        return Failure(case, problem.cause if own else f"{problem.subject}: {problem.cause}", problem.remedy)
    if MemoryShortage.said_by(problem):
        return Failure(case, "memory did not suffice for it.", "Take fewer workers, or machines with more memory.")
    cause = f"it failed unexpectedly ({type(problem).__name__}: {problem})."
    return Failure(case, cause, "Try it alone with --workers 0 --debug, and report what it prints.")


def key_of(work: object, *more: object) -> str:
    """SHA-256 over the class, the fields of a dataclass (numbers, text, paths, and dataclasses, lists and mappings of
    these), this library's version and whatever else decides the result. Raises TypeError for another kind of value."""
    document = [type(work).__module__, type(work).__qualname__, __version__, _plain(work), _plain(list(more))]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "__dataclass_fields__"):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, set | frozenset):
        value = sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    raise TypeError(f"a {type(value).__name__} has no key: keep arrays and networks out of a work's fields")
