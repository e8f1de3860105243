"""Cases worked on by a scheduler and two workers that are processes of their own, over TLS, as on several hosts."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from case_works import LabelCounts, phantom_cases, starts
from hosts import HERE, Hosts, hosts
from serving import ROOT, free_port, make_certificate

from MedSegLensLib.cohorts.cluster import Cluster, Tls
from MedSegLensLib.cohorts.mapping import map_cases
from MedSegLensLib.errors import Cancelled, PackError, UsageError, WorkerError


@pytest.fixture(scope="module")
def two_hosts(tmp_path_factory) -> Hosts:
    with hosts(tmp_path_factory.mktemp("hosts"), 2) as here:
        yield here


@pytest.fixture(scope="module")
def cluster(two_hosts):
    with two_hosts.cluster() as cluster:
        yield cluster


@pytest.fixture
def log(tmp_path):
    (tmp_path / "log").mkdir()
    return tmp_path / "log"


def results_of(mapped) -> tuple[dict[str, list[int]], set[int]]:
    """Counts by case in the order they came in, and the processes that counted."""
    counts, processes = {}, set()
    for case, arrays in mapped:
        counts[case.name] = arrays["voxels by label"].tolist()
        processes.add(int(arrays["process"]))
    return counts, processes


def test_two_hosts_give_what_this_process_gives_in_the_order_of_the_cases(cluster):
    cases, said = phantom_cases(8), []
    counts, processes = results_of(
        map_cases(LabelCounts(seconds=0.1), cases, cluster=cluster, progress=lambda stage, share: said.append(stage))
    )
    here, _ = results_of(map_cases(LabelCounts(), cases))
    assert list(counts) == [case.name for case in cases] and counts == here
    assert len(processes) == 2 and os.getpid() not in processes
    assert said[0] == "cases, 0 of 8" and said[-1] == "cases, 8 of 8"


def test_a_case_that_fails_there_is_reported_as_it_is_here(cluster):
    work = LabelCounts(broken=("phantom-1",), odd=("phantom-3",))
    there, here = map_cases(work, phantom_cases(5), cluster=cluster), map_cases(work, phantom_cases(5))
    assert results_of(there)[0] == results_of(here)[0]
    assert there.failures == here.failures and [failure.case for failure in there.failures] == [
        "phantom-1",
        "phantom-3",
    ]


def test_a_failure_that_nobody_foresaw_is_tried_again_before_it_is_given_up(cluster, log):
    list(map_cases(LabelCounts(log, odd=("phantom-1",)), phantom_cases(3), cluster=cluster))
    assert sorted(starts(log)) == ["phantom-0", "phantom-1", "phantom-1", "phantom-1", "phantom-2"]


def test_what_is_wrong_with_the_work_itself_stops_it(cluster):
    with pytest.raises(PackError, match="some-pack: it is damaged. Fetch it again."):
        list(map_cases(LabelCounts(bad_pack=True), phantom_cases(5), cluster=cluster))


def test_a_worker_killed_in_the_middle_costs_only_its_case(cluster, log):
    killed = threading.Event()

    def kill_one(stage: str, share: float) -> None:
        running = [file for file in log.iterdir() if file.name.startswith("phantom-2 ")]
        # A result that still lay on the worker would be lost with it, and its case begun again.
        if running and share >= 2 / len(cases) and not killed.is_set():
            os.kill(int(running[0].name.split()[1]), signal.SIGKILL)
            killed.set()

    cases = phantom_cases(6)
    mapped = map_cases(LabelCounts(log, seconds=1.5), cases, cluster=cluster, progress=kill_one)
    counts, _ = results_of(mapped)
    assert killed.is_set() and list(counts) == [case.name for case in cases] and mapped.failures == []
    assert sorted(starts(log)) == sorted([*(case.name for case in cases), "phantom-2"])


@pytest.mark.slow
def test_a_case_that_ends_its_worker_again_and_again_is_given_up_and_the_others_are_done(cluster, log):
    mapped = map_cases(LabelCounts(log, poison=("phantom-2",)), phantom_cases(8), cluster=cluster)
    counts, _ = results_of(mapped)
    assert list(counts) == [f"phantom-{i}" for i in (0, 1, 3, 4, 5, 6, 7)]
    (failure,) = mapped.failures
    assert failure.case == "phantom-2" and "each worker that took it ended (4 times)" in failure.cause
    assert "memory did not suffice" in failure.remedy
    assert starts(log).count("phantom-2") == 4


def test_a_run_that_is_cancelled_stops_and_a_rerun_goes_on_from_the_journal(cluster, log, tmp_path):
    def stop(stage: str, share: float) -> None:
        if share >= 0.3:
            raise Cancelled

    cases, work, journal = phantom_cases(10), LabelCounts(log, seconds=0.2), tmp_path / "journal"
    with pytest.raises(Cancelled):
        list(map_cases(work, cases, journal, cluster, stop))
    kept = len(list(journal.rglob("*.npz")))
    time.sleep(1.0)  # what runs there is ended by no one, but what waits is taken back
    begun = starts(log)
    assert 3 <= kept < len(begun) <= 7
    mapped = map_cases(work, cases, journal, cluster)
    counts, _ = results_of(mapped)
    assert len(counts) == 10 and mapped.reused == kept and len(starts(log)) == len(begun) + 10 - kept


def test_no_more_cases_are_under_way_than_workers_have_threads_and_one(cluster, log):
    with contextlib.closing(iter(map_cases(LabelCounts(log), phantom_cases(30), cluster=cluster))) as results:
        next(results)
        time.sleep(1.0)
        # Those that were done by then were replaced one by one; since, nobody asked for more.
        assert len(starts(log)) <= 6


@pytest.mark.slow
def test_the_client_needs_no_torch_where_the_work_does(two_hosts):
    script = f"""
import sys
from pathlib import Path
from case_works import NeedsTorch, phantom_cases
from MedSegLensLib.cohorts.cluster import Cluster, Tls
from MedSegLensLib.cohorts.mapping import map_cases
tls = Tls(*map(Path, {[str(two_hosts.tls.ca), str(two_hosts.tls.cert), str(two_hosts.tls.key)]!r}))
with Cluster.at({two_hosts.address!r}, tls) as cluster:
    threads = [int(arrays["threads"]) for _, arrays in map_cases(NeedsTorch(), phantom_cases(2), cluster=cluster)]
print(threads, [name for name in ("torch", "monai", "transformers") if name in sys.modules])
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])}
    out = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert out.stdout.strip() == "[1, 1] []", out.stderr


@pytest.mark.slow
def test_a_scheduler_that_dies_in_the_middle_is_said_and_a_rerun_goes_on(tmp_path, log, two_hosts):
    (tmp_path / "own").mkdir()
    work, cases, journal = LabelCounts(log, seconds=0.2), phantom_cases(8), tmp_path / "journal"
    with hosts(tmp_path / "own", 1) as mortal, mortal.cluster() as cluster:
        results = iter(map_cases(work, cases, journal, cluster))
        next(results), next(results)
        mortal.scheduler.kill()
        with pytest.raises(WorkerError, match="--journal it goes on"):
            list(results)
    kept = len(list(journal.rglob("*.npz")))
    with two_hosts.cluster() as other:
        mapped = map_cases(work, cases, journal, other)
        assert len(results_of(mapped)[0]) == 8 and mapped.reused == kept >= 2


# -- what does not go together --------------------------------------------------------------------------------------


def test_a_worker_of_another_version_of_this_library_is_refused_with_both(two_hosts, tmp_path):
    (tmp_path / "MedSegLensLib").mkdir()
    (tmp_path / "MedSegLensLib" / "__init__.py").write_text('__version__ = "0.0.9"\n', encoding="utf-8")
    from MedSegLensLib import __version__

    said = rf"medseglens 0\.0\.9 \(here {__version__}\)\. Install the same versions"
    with (
        two_hosts.worker("older", path=tmp_path),
        pytest.raises(WorkerError, match=said),
        two_hosts.cluster(),
    ):
        pass


@pytest.mark.slow
def test_a_worker_with_another_torch_is_refused_and_a_patch_of_it_is_not(two_hosts, tmp_path):
    import importlib.metadata

    here = importlib.metadata.version("torch")
    first, second, *_ = here.split(".")
    for version in (f"{first}.{second}.99", f"{first}.{int(second) - 1}.0"):
        about = tmp_path / version / f"torch-{version}.dist-info" / "METADATA"
        about.parent.mkdir(parents=True)
        about.write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n", encoding="utf-8")
    with two_hosts.worker("patch", path=tmp_path / f"{first}.{second}.99"), two_hosts.cluster():
        pass
    with two_hosts.worker("other", path=tmp_path / f"{first}.{int(second) - 1}.0"):  # noqa: SIM117
        with pytest.raises(WorkerError, match=rf"torch {first}\.{int(second) - 1}\.0 \(here"), two_hosts.cluster():
            pass


@pytest.mark.slow
def test_a_worker_of_another_version_that_joins_later_is_refused_too(two_hosts, tmp_path):
    (tmp_path / "torch-1.0.0.dist-info").mkdir()
    about = tmp_path / "torch-1.0.0.dist-info" / "METADATA"
    about.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.0.0\n", encoding="utf-8")
    with two_hosts.cluster() as cluster:
        results = iter(map_cases(LabelCounts(seconds=0.3), phantom_cases(40), cluster=cluster))
        next(results)
        with two_hosts.worker("late", path=tmp_path), pytest.raises(WorkerError, match=r"torch 1\.0\.0 \(here"):
            list(results)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("MedSegLensLib.cohorts.cluster.CONNECT_SECONDS", 1)


def test_a_scheduler_that_is_not_there_is_said(impatient):
    with (
        pytest.raises(WorkerError, match="no Dask scheduler answers there within"),
        Cluster.at(f"127.0.0.1:{free_port()}"),
    ):
        pass


def test_a_port_that_listens_and_says_nothing_is_no_scheduler(impatient):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(WorkerError, match="no Dask scheduler answers there within"), Cluster.at(address):
            pass


def test_the_address_of_a_worker_is_not_that_of_a_scheduler(two_hosts, cluster):
    worker = next(iter(cluster._client.nthreads()))
    with pytest.raises(UsageError, match="what answers there is a Dask Worker"), Cluster.at(worker, two_hosts.tls):
        pass


def test_a_scheduler_with_tls_does_not_answer_without(two_hosts, impatient):
    address = two_hosts.address.removeprefix("tls://")
    with pytest.raises(WorkerError, match="whether it wants TLS"), Cluster.at(address):
        pass


def test_a_certificate_of_somebody_else_is_refused(two_hosts, tmp_path):
    make_certificate(tmp_path)
    theirs = Tls(two_hosts.tls.ca, tmp_path / "cert.pem", tmp_path / "key.pem")
    with pytest.raises(WorkerError, match="no Dask scheduler answers"), Cluster.at(two_hosts.address, theirs):
        pass


@pytest.mark.parametrize("address", ["", "head", "head:", "http://head:8786", "head:port", "tcp://:8786"])
def test_what_is_no_address_is_refused_before_anything_is_tried(address):
    with pytest.raises(UsageError, match="it is no address of a scheduler"):
        Cluster.at(address)


def test_tls_files_and_address_must_go_together(two_hosts, tmp_path):
    with pytest.raises(UsageError, match="it needs TLS files"):
        Cluster.at("tls://head:8786")
    with pytest.raises(UsageError, match="Write it with tls://"):
        Cluster.at("tcp://head:8786", two_hosts.tls)
    with pytest.raises(UsageError, match="there is no such TLS file"):
        Cluster.at("head:8786", Tls(tmp_path / "none.pem", two_hosts.tls.cert, two_hosts.tls.key))
