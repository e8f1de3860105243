"""Worker processes of this machine: started for a run, closed to other users, ended with it."""

import os
import subprocess
import sys

import pytest
from case_works import LabelCounts, phantom_cases, starts
from hosts import HERE
from serving import ROOT

from MedSegLensLib.cohorts.cluster import CASE_BYTES, Cluster, sensible_workers
from MedSegLensLib.cohorts.local_keys import local_keys
from MedSegLensLib.cohorts.mapping import map_cases
from MedSegLensLib.errors import UsageError, WorkerError


@pytest.fixture(scope="module")
def cluster():
    with Cluster.local(2) as cluster:
        yield cluster


def test_the_cases_are_done_by_processes_of_this_machine(cluster):
    results = list(map_cases(LabelCounts(seconds=0.1), phantom_cases(6), cluster=cluster))
    processes = {int(arrays["process"]) for _, arrays in results}
    assert [case.name for case, _ in results] == [f"phantom-{i}" for i in range(6)]
    assert len(processes) == 2 and os.getpid() not in processes


def test_a_case_that_ends_every_worker_is_given_up_after_two_and_two(cluster, tmp_path):
    mapped = map_cases(LabelCounts(tmp_path, poison=("phantom-1",)), phantom_cases(4), cluster=cluster)
    assert [case.name for case, _ in mapped] == ["phantom-0", "phantom-2", "phantom-3"]
    assert [failure.case for failure in mapped.failures] == ["phantom-1"]
    assert starts(tmp_path).count("phantom-1") == 4


def test_who_has_no_certificate_of_this_run_is_not_heard(cluster):
    address = cluster._client.scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    with local_keys() as others:
        from distributed import Client

        with pytest.raises((OSError, TimeoutError)):
            Client(address, security=others, timeout=3, set_as_default=False)


def test_its_pages_tell_nothing_to_who_has_no_certificate(cluster):
    import httpx

    port = cluster._client.scheduler_info()["services"]["dashboard"]
    assert httpx.get(f"http://127.0.0.1:{port}/info/main/workers.html", trust_env=False).status_code == 404


def test_a_worker_keeps_no_call_stacks(cluster):
    list(map_cases(LabelCounts(seconds=1.5), phantom_cases(2), cluster=cluster))
    kept = cluster._client.run(lambda dask_worker: len(dask_worker.profile_history))
    assert len(kept) == 2 and set(kept.values()) == {0}


def test_the_keys_are_gone_after_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with local_keys() as security:
        assert security.require_encryption
    assert list(tmp_path.iterdir()) == []


def test_as_many_workers_as_cores_and_memory_allow(monkeypatch):
    import psutil
    from dask import system

    def with_memory(free: int) -> int:
        monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": free})())
        return sensible_workers()

    monkeypatch.setattr(system, "CPU_COUNT", 8)
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 10**15)
    assert with_memory(100 * CASE_BYTES) == 8 and with_memory(3 * CASE_BYTES + 1) == 3 and with_memory(0) == 1
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 2 * CASE_BYTES)  # what a container is allowed
    assert with_memory(100 * CASE_BYTES) == 2


def test_without_dask_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r'pip install "medseglens\[cohort\]"'), Cluster.local(2):
        pass


def test_no_worker_at_all_is_wrong_use():
    with pytest.raises(UsageError, match="0 workers"):
        Cluster.local(0)


def test_workers_that_do_not_start_are_said(monkeypatch):
    def broken(**_):
        raise RuntimeError("no more processes")

    monkeypatch.setattr("distributed.LocalCluster", broken)
    with pytest.raises(WorkerError, match="the worker processes did not start .*no more processes"), Cluster.local(1):
        pass


@pytest.mark.slow
def test_ctrl_c_ends_the_run_and_its_workers_and_keeps_what_is_done(tmp_path):
    import signal
    import time

    (tmp_path / "log").mkdir()
    script = f"""
from pathlib import Path
from case_works import LabelCounts, phantom_cases
from MedSegLensLib.cohorts.cluster import Cluster
from MedSegLensLib.cohorts.mapping import map_cases
if __name__ == "__main__":
    with Cluster.local(2) as cluster:
        work = LabelCounts(Path({str(tmp_path / "log")!r}), seconds=1.0)
        list(map_cases(work, phantom_cases(40), Path({str(tmp_path / "journal")!r}), cluster))
"""
    (tmp_path / "run.py").write_text(script, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])}
    command = [sys.executable, str(tmp_path / "run.py")]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, start_new_session=True) as run:
        deadline = time.monotonic() + 120
        while len(list((tmp_path / "journal").rglob("*.npz"))) < 2:
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to the workers too
        _, said = run.communicate(timeout=60)
    assert run.returncode != 0 and said.count(b"Traceback") == 1 and said.endswith(b"KeyboardInterrupt\n"), said
    workers = {int(file.name.split()[1]) for file in (tmp_path / "log").iterdir()}
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}") for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its run"
        time.sleep(0.2)
    assert all(file.stat().st_size for file in (tmp_path / "journal").rglob("*.npz"))
