"""Workers for the cases of a cohort, by Dask: processes of this machine, or those of any scheduler by its address.

with Cluster.local() as cluster:                      # or Cluster.at("tls://head:8786", Tls(ca, cert, key))
    for i, outcome in cluster.outcomes(function, items, names): ...

A function and an item travel to a worker as a pickle, so a scheduler and its workers can run anything as their user:
connect only to those that are yours, and protect them by TLS (docs/cluster.md). Imports dask inside functions only.
"""

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.cohorts.local_keys import local_keys
from MedSegLensLib.cohorts.versions import ASK, check_versions, versions
from MedSegLensLib.errors import UsageError, WorkerError

if TYPE_CHECKING:
    from distributed import Client, Future

CASE_BYTES = 3 * 2**30
"""What a real case takes in a session (`worker.memory` measures it); a worker has one at a time."""
CONNECT_SECONDS = 8
"""A scheduler that does not answer within these is given up."""
WORKER_SECONDS = 60
"""How long a scheduler may have no worker at the start: a queue of jobs takes its time."""
ALONE_SECONDS = 300
"""How long, once the work has begun, all workers may be gone."""
RETRIES = 2
"""How often a case is tried again that failed in a way that nobody foresaw (a network disk, a full memory)."""
KILLS = 2
"""How many workers of this machine a case may end before it is set aside, and again when it then runs alone."""


@dataclass(frozen=True)
class Tls:
    """PEM files: of the authority that signed all certificates, and of this client's certificate and its key."""

    ca: Path
    cert: Path
    key: Path


class Cluster:
    """Workers, from `with` to its end. Made by `local` or `at`.

    Entering raises UsageError where Dask is not installed, an address is none or a TLS file is not there, WorkerError
    where the scheduler does not answer, has no worker, or works with other versions.
    """

    def __init__(self, workers: int | None, address: str | None, tls: Tls | None):
        self._workers, self._address, self._tls = workers, address, tls
        self._closing = contextlib.ExitStack()
        self._client: Client | None = None
        self._threads, self._counted = 0, 0.0

    @staticmethod
    def local(workers: int | None = None) -> "Cluster":
        """Processes of this machine, one thread each; `workers` None: as many as its cores and free memory allow."""
        if workers is not None and workers < 1:
            raise UsageError(f"{workers} workers", "cannot do anything.", "Give 1 or more.")
        return Cluster(workers, None, None)

    @staticmethod
    def at(address: str, tls: Tls | None = None) -> "Cluster":
        """The workers of a scheduler, as 'host:8786', 'tcp://host:8786' or 'tls://host:8786'."""
        scheme, found, host = address.rpartition("://")
        scheme = scheme if found else "tls" if tls else "tcp"
        if scheme not in ("tcp", "tls") or not host.rpartition(":")[0] or not host.rpartition(":")[2].isdecimal():
            remedy = "Give host and port, such as tls://head-node:8786."
            raise UsageError(address, "it is no address of a scheduler.", remedy)
        if (scheme == "tls") != (tls is not None):
            if tls:
                raise UsageError(address, "TLS files were given for an address without TLS.", "Write it with tls://.")
            raise UsageError(address, "it needs TLS files.", "Give --tls-ca, --tls-cert and --tls-key.")
        for file in (tls.ca, tls.cert, tls.key) if tls else ():
            if not Path(file).is_file():
                raise UsageError(file, "there is no such TLS file.", "Give a PEM file.")
        return Cluster(None, f"{scheme}://{host}", tls)

    @property
    def where(self) -> str:
        """In words, for messages."""
        return self._address or "this machine"

    def __enter__(self) -> "Cluster":
        try:
            import distributed
        except ImportError:
            remedy = 'Install it with: pip install "medseglens[cohort]", or give --workers 0.'
            raise UsageError("workers", "Dask, which runs them, is not installed.", remedy) from None
        with contextlib.ExitStack() as stack:
            stack.enter_context(_silent("distributed"))
            if self._address is None:
                address, security = stack.enter_context(_processes(self._workers or sensible_workers()))
            else:
                address, security = self._address, self._security()
            self._client = stack.enter_context(self._connected(distributed, address, security))
            self._wait_for_workers()
            self._check_versions()
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *problem) -> None:
        self._closing.close()
        self._client = None

    def outcomes(
        self,
        function: Callable,
        items: Sequence,
        names: Sequence[str],
        beat: Callable[[], None] = lambda: None,
    ) -> Iterator[tuple[int, object]]:
        """(i, function(items[i])) as they are done, in any order; an exception it raised in place of its value.

        names: what the items are called in messages. beat: called about once a second; may raise. A few more items are
        under way than the workers have threads, so that neither this process nor the scheduler grows with their
        number. An item whose worker ends is given to another; one that ends worker after worker is set aside, tried
        alone at the end, and then given up with a WorkerError as its outcome. Closing the iterator cancels the rest.

        Raises WorkerError where the scheduler is lost, or all its workers are for `ALONE_SECONDS`.
        """
        from distributed import KilledWorker
        from distributed.protocol.pickle import dumps

        waiting, suspects = deque(range(len(items))), deque()
        under_way: dict[str, tuple[Future, int]] = {}
        done: queue.SimpleQueue[Future] = queue.SimpleQueue()
        alone, last_alive = None, time.monotonic()

        def start(i: int) -> None:
            # As bytes: the scheduler opens what it passes on, and need not know the work's own module.
            order = dumps((function, items[i]))
            future = self._client.submit(_at_worker, order, versions(), pure=False, retries=RETRIES)
            under_way[future.key] = future, i
            future.add_done_callback(done.put)

        try:
            while waiting or suspects or under_way:
                while waiting and len(under_way) < self._room():
                    start(waiting.popleft())
                if suspects and not under_way:
                    alone = suspects.popleft()
                    start(alone)
                beat()
                try:
                    key = done.get(timeout=1.0).key
                except queue.Empty:
                    if self._room() > 1:
                        last_alive = time.monotonic()
                    if time.monotonic() - last_alive > ALONE_SECONDS:
                        raise self._lost("all its workers are gone") from None
                    continue
                last_alive = time.monotonic()
                future, i = under_way.pop(key)
                if future.cancelled():
                    raise self._lost("the connection to its scheduler broke off")
                outcome = future.exception() if future.status == "error" else future.result()
                del future  # by which the scheduler forgets it
                if isinstance(outcome, _Refused):
                    raise WorkerError(f"{self.where}: {outcome.subject}", outcome.cause, outcome.remedy)
                if isinstance(outcome, KilledWorker):
                    if i != alone:
                        suspects.append(i)  # it may only have waited at a worker that another item ended
                        continue
                    outcome = WorkerError(
                        names[i],
                        f"each worker that took it ended ({2 * (outcome.allowed_failures + 1)} times).",
                        "Most likely memory did not suffice: try it with fewer workers, or look at the workers' logs.",
                    )
                yield i, outcome
        finally:
            if under_way:
                with contextlib.suppress(Exception):
                    self._client.cancel([future for future, _ in under_way.values()], force=True)

    # -- parts ------------------------------------------------------------------------------------------------------

    def _security(self):
        from distributed import Security

        if self._tls is None:
            return None
        ca, cert, key = str(self._tls.ca), str(self._tls.cert), str(self._tls.key)
        return Security(tls_ca_file=ca, tls_client_cert=cert, tls_client_key=key, require_encryption=True)

    @contextlib.contextmanager
    def _connected(self, distributed, address: str, security):
        try:
            kind = _who_answers(address, security)
            if kind != "Scheduler":
                raise UsageError(self.where, f"what answers there is a Dask {kind}.", "Give its scheduler's address.")
            client = distributed.Client(address, timeout=CONNECT_SECONDS, security=security, set_as_default=False)
        except (OSError, TimeoutError, ValueError, TypeError, AttributeError) as problem:
            said = next(iter(str(problem).splitlines()), "")[:200]
            cause = f"no Dask scheduler answers there within {CONNECT_SECONDS} seconds{said and f' ({said})'}."
            remedy = "Check that it runs, its port, a firewall between, and whether it wants TLS (docs/cluster.md)."
            raise WorkerError(self.where, cause, remedy) from problem
        try:
            yield client
        finally:
            with contextlib.suppress(Exception):
                client.close(timeout=5)

    def _wait_for_workers(self) -> None:
        try:
            self._client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except TimeoutError:
            cause = f"its scheduler answers, but has had no worker for {WORKER_SECONDS} seconds."
            raise WorkerError(self.where, cause, "Start workers: `dask worker ADDRESS --nthreads 1`.") from None

    def _check_versions(self) -> None:
        """Text is evaluated rather than a function sent: that would need this very module there."""
        found = {"the scheduler": self._client.run_on_scheduler(eval, ASK)}
        found |= {f"the worker {name}": said for name, said in self._client.run(eval, ASK, on_error="return").items()}
        for who, said in found.items():
            if isinstance(said, dict):  # else it has ended meanwhile; whoever comes later is asked with its first item
                check_versions(versions(), said, f"{self.where}: {who}")

    def _room(self) -> int:
        """How many items may be under way: one a thread, and some that wait at the workers meanwhile."""
        if time.monotonic() - self._counted > 2.0:
            try:
                self._threads = sum(self._client.nthreads().values())
            except OSError:
                raise self._lost("its scheduler does not answer any more") from None
            self._counted = time.monotonic()
        return self._threads + max(1, self._threads // 8)

    def _lost(self, what: str) -> WorkerError:
        return WorkerError(
            self.where, f"{what}.", "Start it again, then the same command: with --journal it goes on where it was."
        )


def sensible_workers() -> int:
    """As many as this machine has cores for, and free memory for a real case each; at least one."""
    import psutil
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    memory = min(MEMORY_LIMIT, psutil.virtual_memory().available)
    return max(1, min(CPU_COUNT, memory // CASE_BYTES))


def _who_answers(address: str, security) -> str:
    """'Scheduler', or another kind of Dask's servers. Raises OSError, TimeoutError, or what an answer in another
    protocol leads to. Asked first, since Dask's Client waits for ever at a port that listens and says nothing.
    """
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    from distributed.core import connect, send_recv

    async def ask() -> str:
        arguments = security.get_connection_args("client") if security else {}
        comm = await connect(address, timeout=CONNECT_SECONDS, **arguments)
        try:
            return (await send_recv(comm, op="identity"))["type"]
        finally:
            comm.abort()

    async def in_time() -> str:
        return await asyncio.wait_for(ask(), CONNECT_SECONDS)

    with ThreadPoolExecutor(1) as thread:  # the caller may itself run in an event loop
        return thread.submit(asyncio.run, in_time()).result()


@contextlib.contextmanager
def _processes(workers: int):
    """Worker processes of this machine: their scheduler's address and the keys to it."""
    import dask
    from distributed import LocalCluster

    # Results are small and a case is held by torch, not by Dask: to spill would free nothing, and to pause a worker
    # that stays above a mark would stop it for good. A worker that outgrows its share is ended, and its case retried.
    settings = {f"distributed.worker.memory.{what}": False for what in ("target", "spill", "pause")}
    # Dask's statistical profiler keeps the call stacks of the last 1,000 s, and torch's are deep: 13 MB a case of 4 s,
    # which took a worker from 1.0 to 1.7 GB within 50 cases.
    settings["distributed.worker.profile.enabled"] = False
    # Its pages ask no key of who reads them: there are none, at any port that is free.
    settings |= {f"distributed.{who}.http.routes": [] for who in ("scheduler", "worker", "nanny")}
    with local_keys() as security, dask.config.set(settings):
        try:
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
                security=security,
                preload=["MedSegLensLib.cohorts.local_worker"],
                scheduler_kwargs={"allowed_failures": KILLS - 1, "dashboard_address": "127.0.0.1:0"},
            )
        except (OSError, RuntimeError, TimeoutError) as problem:
            cause = f"the worker processes did not start ({type(problem).__name__}: {problem})."
            raise WorkerError("workers", cause, "Give --workers 0 to do without.") from problem
        try:
            yield cluster.scheduler_address, security
        finally:
            with contextlib.suppress(Exception):
                cluster.close(timeout=5)


@contextlib.contextmanager
def _silent(name: str):
    """What Dask logs of workers that come and go is said in our own words."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class _Refused:
    """What is wrong with a worker, as a value: our errors do not pickle."""

    subject: str
    cause: str
    remedy: str


def _at_worker(order: bytes, expected: dict[str, str | None]) -> object:
    """Where the worker is. One item at a time in a process, whatever its threads: memory is for one case."""
    from distributed import get_worker
    from distributed.protocol.pickle import loads

    try:
        check_versions(expected, versions(), f"the worker {get_worker().address}")
    except WorkerError as problem:
        return _Refused(problem.subject, problem.cause, problem.remedy)
    with _ONE_AT_A_TIME:
        function, item = loads(order)
        return function(item)
