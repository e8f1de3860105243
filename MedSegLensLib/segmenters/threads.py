"""Runs of a tail side by side: one thread each, instead of all threads in every operation.

An edit is some hundred short operations. Split over two threads, each of them waits for the slower half: on two busy
cores an edit took 0.84 s that took 0.38 s on one thread, and at rest two threads gained a fifth.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch

Result = TypeVar("Result")


def in_order(jobs: Iterator[Callable[[], Result]], at_once: int) -> Iterator[Result]:
    """What the jobs give, in their order; `at_once` of them run at a time, and few ahead of what was asked for.

    Closing the iterator, as an exception in what reads it does, drops the jobs that have not begun and waits for those
    that have. A job runs without gradients. A single job runs here, with all threads.
    """
    first, second = next(jobs, None), next(jobs, None)
    if at_once < 2 or second is None:
        for job in (first, second):
            if job:
                yield job()
        for job in jobs:
            yield job()
        return
    pool, pending = _pool(at_once), deque()
    try:
        pending.extend((pool.submit(_quietly, first), pool.submit(_quietly, second)))
        for job in jobs:
            pending.append(pool.submit(_quietly, job))
            if len(pending) > at_once:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        wait([job for job in pending if not job.cancel()])


def alone(job: Callable[[], Result], at_once: int) -> Result:
    """One job as `in_order` would run it among others: for timing it."""
    return _pool(at_once).submit(_quietly, job).result() if at_once > 1 else job()


def _quietly(job: Callable[[], Result]) -> Result:
    with torch.no_grad():  # which is a thread's own setting
        return job()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, "tail", initializer=_take_one_thread)
    ready = threading.Barrier(threads + 1)
    for _ in range(threads):
        pool.submit(ready.wait)
    ready.wait()
    # What a thread sets holds for it alone, and for all threads that are made later: those are to have what this has.
    torch.set_num_threads(before)
    return pool


def _take_one_thread() -> None:
    torch.get_num_threads()  # a thread takes the number of all at its first question: what was set before is forgotten
    torch.set_num_threads(1)
