"""--workers, --scheduler, the TLS files and --journal: what goes together, and how many processes are started."""

import argparse

import pytest

from MedSegLensLib.commands.cluster import add_cluster, cluster_of, processes
from MedSegLensLib.errors import UsageError, WorkerError


def options(*arguments: str) -> argparse.Namespace:
    command = argparse.ArgumentParser()
    add_cluster(command)
    return command.parse_args(arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--workers", "-1"), "is negative"),
        (("--workers", "2", "--scheduler", "head:8786"), "together with --workers"),
        (("--tls-ca", "ca.pem"), "without a --scheduler"),
        (("--scheduler", "tls://head:8786", "--tls-ca", "ca.pem"), "not all of its files"),
        (("--scheduler", "tls://head:8786"), "it needs TLS files"),
        (("--scheduler", "somewhere"), "no address of a scheduler"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments, said):
    with pytest.raises(UsageError, match=said), cluster_of(options(*arguments), 10):
        pass


def test_a_scheduler_that_does_not_answer_is_said_within_seconds(monkeypatch):
    from serving import free_port

    monkeypatch.setattr("MedSegLensLib.cohorts.cluster.CONNECT_SECONDS", 1)
    with (
        pytest.raises(WorkerError, match="no Dask scheduler answers"),
        cluster_of(options("--scheduler", f"127.0.0.1:{free_port()}"), 10),
    ):
        pass


def test_few_cases_or_no_workers_are_done_in_this_process():
    for arguments, cases in (((), 3), (("--workers", "0"), 100)):
        with cluster_of(options(*arguments), cases) as cluster:
            assert cluster is None


@pytest.mark.parametrize(
    ("asked", "cases", "started"),
    [(None, 100, 6), (None, 5, 2), (None, 3, 0), (None, None, 6), (4, 2, 2), (1, 10, 1), (0, 10, 0), (9, 100, 9)],
)
def test_processes_started(monkeypatch, asked, cases, started):
    monkeypatch.setattr("MedSegLensLib.cohorts.cluster.sensible_workers", lambda: 6)
    assert processes(asked, cases) == started
