"""Where a command's work on cases is done: in this process, in more processes of this machine, or by a scheduler."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.errors import UsageError

if TYPE_CHECKING:
    from MedSegLensLib.cohorts.cluster import Cluster

CASES_A_WORKER = 2
"""A worker process takes about as long to start as a case takes: with fewer cases it is not worth its start."""


def add_cluster(command: argparse.ArgumentParser) -> None:
    """--workers, --scheduler, the TLS files and --journal."""
    group = command.add_argument_group("where the cases are worked on (docs/cluster.md)")
    group.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="N processes of this machine; 0: this process alone (default: as many as cores, memory and cases allow)",
    )
    group.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler's workers, such as tls://head:8786")
    group.add_argument("--tls-ca", type=Path, metavar="FILE", help="who signed the scheduler's certificate (PEM)")
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate of this client (PEM)")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key (PEM)")
    group.add_argument(
        "--journal", type=Path, metavar="FOLDER", help="keep each case's result there, and go on from what is there"
    )


def check_cluster(options: argparse.Namespace) -> None:
    """Raise UsageError for options that do not go together, before anything is read."""
    files = (options.tls_ca, options.tls_cert, options.tls_key)
    if options.workers is not None and options.workers < 0:
        raise UsageError(f"--workers {options.workers}", "is negative.", "Give 0 or more.")
    if options.scheduler and options.workers is not None:
        cause = "it was given together with --workers, whose number is the scheduler's own."
        raise UsageError("--scheduler", cause, "Give one or the other.")
    if any(files) and not options.scheduler:
        raise UsageError("TLS", "its files were given without a --scheduler.", "Give its address, or leave them out.")
    if any(files) and not all(files):
        raise UsageError("TLS", "not all of its files were given.", "Give --tls-ca, --tls-cert and --tls-key.")


@contextmanager
def cluster_of(options: argparse.Namespace, cases: int | None = None, progress=None) -> "Iterator[Cluster | None]":
    """The workers asked for, until the block ends; None for this process alone. cases: how many there are to do,
    where that is known: few are not worth the start of workers.

    Raises UsageError for options that do not go together, and as entering a `Cluster` does.
    """
    from MedSegLensLib.cohorts.cluster import Cluster, Tls

    check_cluster(options)
    if options.scheduler:
        tls = Tls(options.tls_ca, options.tls_cert, options.tls_key) if options.tls_ca else None
        cluster, words = Cluster.at(options.scheduler, tls), f"connecting to {options.scheduler}"
    else:
        count = processes(options.workers, cases)
        if not count:
            yield None
            return
        cluster, words = Cluster.local(count), f"starting {count} workers"
    if progress:
        progress(words, 0.0)
    with cluster:
        yield cluster


def processes(asked: int | None, cases: int | None) -> int:
    """How many worker processes to start; 0 where this process does the work itself."""
    if asked is not None:
        return asked if cases is None else min(asked, cases)
    try:
        from MedSegLensLib.cohorts.cluster import sensible_workers

        count = sensible_workers()
    except ImportError:  # Dask comes with an extra; without it, and unasked, work is done here
        return 0
    if cases is not None:
        count = min(count, cases // CASES_A_WORKER)
    return count if count > 1 else 0
