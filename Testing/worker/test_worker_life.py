"""The worker's life, with real processes: started, watched, killed, left alone; and what is left of it afterwards."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import SECONDS, processes_of, recipe_for

from MedSegLensLib.errors import Cancelled, PackError, WorkerError
from MedSegLensLib.worker import segments
from MedSegLensLib.worker.client import WorkerClient
from MedSegLensLib.worker.connection import Connection
from MedSegLensLib.worker.memory import Ceiling

ROOT = Path(__file__).resolve().parents[2]


def wait_until(condition, seconds: float = SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


@pytest.fixture
def marked(monkeypatch):
    """A word in the environment of what a test starts, to look for afterwards."""
    marker = f"MARK{os.getpid()}x{time.time_ns()}"
    return marker, {"MEDSEGLENS_TEST_MARK": marker}


@pytest.fixture
def own_shared(tmp_path, monkeypatch):
    monkeypatch.setenv(segments.FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


def test_the_client_imports_no_network_library():
    code = "import sys, MedSegLensLib.worker.client as _; print({'torch','monai','fastapi','httpx'} & {*sys.modules})"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"


def test_a_killed_worker_is_started_again_and_the_edit_comes_all_the_same(marked, own_shared, volumes, pack):
    marker, environment = marked
    client = WorkerClient(environment=environment)
    session = client.open_case(volumes, "killed", str(pack)).result(SECONDS)
    recipe = recipe_for(session.opened, (0, 3.0))
    expected = session.edit(recipe).result(SECONDS)
    session._touched = None
    first = client.worker_pid
    task = session.edit(recipe)
    os.kill(first, signal.SIGKILL)
    again = task.result(SECONDS)
    assert again.box.lower == expected.box.lower and np.array_equal(again.box.labels, expected.box.labels)
    session._touched = None
    assert session.edit(recipe).result(SECONDS).box.upper == expected.box.upper
    assert client.worker_pid != first
    told = client.messages()
    assert len(told) == 1 and "was started again; nothing was lost" in told[0] and not client.messages()
    # Killed while nobody asks: it is there again by itself, with the case.
    os.kill(client.worker_pid, signal.SIGKILL)
    assert wait_until(lambda: session._open_on == 3)
    assert processes_of(marker) == [client.worker_pid]
    client.close()
    assert wait_until(lambda: not processes_of(marker), 5) and not list(own_shared.iterdir())


def test_when_the_client_is_killed_the_worker_ends_and_leaves_nothing(marked, own_shared, pack):
    marker, environment = marked
    script = textwrap.dedent(
        """
        import sys, time
        sys.path[:0] = ["Testing/worker", "Testing/editing", "Testing"]
        from conftest import phantom, volume_of, WorkerClient
        client = WorkerClient()
        case = phantom(1, size=(48, 60, 20), spacing=(3.5, 3.5, 7.0))
        client.start().result()
        print("started", flush=True)
        client.open_case({m: volume_of(i, m) for m, i in case.images.items()}, "x", sys.argv[1])
        time.sleep(600)
        """
    )
    command = [sys.executable, "-c", script, str(pack)]
    host = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE)
    assert host.stdout.readline() == b"started\n"
    assert wait_until(lambda: list(own_shared.glob("*/c-*"))), "the volumes are in shared memory"
    assert len(processes_of(marker)) == 1
    time.sleep(1.0)  # somewhere in the opening
    host.kill()
    host.wait()
    assert wait_until(lambda: not processes_of(marker), 10)
    assert not list(own_shared.iterdir())


@pytest.mark.slow
def test_a_worker_without_work_ends_and_the_next_request_starts_it_again(own_shared, volumes, pack):
    client = WorkerClient(idle_seconds=1.0)
    session = client.open_case(volumes, "idle", str(pack)).result(SECONDS)
    assert wait_until(lambda: client.worker_pid is None)
    time.sleep(2.5)  # it is not started for nothing
    assert client.worker_pid is None and not client.messages()
    assert session.edit(recipe_for(session.opened, (0, 2.0))).result(SECONDS).box is not None
    assert "long time without work" in client.messages()[0]
    client.close()


def test_a_worker_that_hears_nothing_of_its_client_ends(own_shared, monkeypatch):
    from MedSegLensLib.worker import client as module

    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 3600)
    client = WorkerClient(lease_seconds=1.0)
    client.start().result(SECONDS)
    assert wait_until(lambda: client.worker_pid is None, 20)
    assert not list(own_shared.iterdir()), "nobody else would remove it"
    client.close()


def test_closing_cancels_what_is_under_way_and_is_quick(own_shared, marked, volumes, pack):
    marker, environment = marked
    client = WorkerClient(environment=environment)
    client.start().result(SECONDS)
    task = client.open_case(volumes, "closing", str(pack))
    started = time.monotonic()
    client.close()
    assert time.monotonic() - started < 4 and task.done
    with pytest.raises(Cancelled):
        task.result()
    assert not processes_of(marker) and not list(own_shared.iterdir())
    with pytest.raises(WorkerError, match="closed"):
        client.start().result(SECONDS)


def test_the_memory_ceiling_is_reported_before_it_is_reached(own_shared, volumes, pack):
    client = WorkerClient(memory_gb=0.1)
    with pytest.raises(WorkerError, match=r"the worker may use 0\.1 GB and has \d\.\d GB in use"):
        client.open_case(volumes, "large", str(pack)).result(SECONDS)
    assert client.worker_pid is not None, "the worker itself is well"
    client.close()


def test_a_ceiling_admits_what_fits_and_names_what_does_not():
    ceiling = Ceiling()
    ceiling.admit(10_000_000, "a little")
    with pytest.raises(WorkerError, match="the sky would take 10000.0 GB more"):
        ceiling.admit(10_000 * 10**9, "the sky")


@pytest.mark.slow
def test_without_room_for_shared_memory_the_volumes_go_through_the_connection(tmp_path, monkeypatch, volumes, pack):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        monkeypatch.setenv(segments.FOLDER_VARIABLE, str(small))
        client = WorkerClient()
        session = client.open_case(volumes, "no room", str(pack)).result(SECONDS)
        told = client.messages()
        assert told and "no room for" in told[0] and "MB are free" in told[0]
        assert session.opened.labels.any()
        client.close()
        assert not list(small.iterdir())
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_what_killed_clients_left_is_removed_by_the_next(own_shared):
    script = (
        "import os; from MedSegLensLib.worker.segments import SharedFolder; import numpy as np;"
        "SharedFolder.made().put(np.ones(9)); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT)
    living = segments.SharedFolder.made()
    assert [path for path in own_shared.iterdir()] == [living.path], "the dead one's is gone"
    other = segments.SharedFolder.made()
    assert living.path.exists(), "the living one's stays"
    living.destroy()
    other.destroy()


def test_no_interpreter_and_one_without_torch_are_told_apart(own_shared, tmp_path):
    for python, words in ((tmp_path / "nothing", "cannot be started"), (Path("/bin/false"), "ended while starting")):
        client = WorkerClient(python=str(python))
        with pytest.raises(WorkerError, match=words):
            client.start().result(SECONDS)
        client.close()
    blocked = tmp_path / "sitecustomize.py"
    blocked.write_text("import sys\nsys.modules['torch'] = None\n")
    client = WorkerClient(environment={"PYTHONPATH": str(tmp_path)})
    with pytest.raises(WorkerError, match="torch"):
        client.start().result(SECONDS)
    client.close()


@pytest.mark.slow
def test_a_pack_that_changed_or_went_is_said_when_the_case_is_opened_again(own_shared, volumes, pack, tmp_path):
    import shutil

    copy = tmp_path / "packs" / "copy"
    shutil.copytree(pack, copy)
    client = WorkerClient()
    session = client.open_case(volumes, "x", str(copy)).result(SECONDS)
    document = (copy / "pack.json").read_text(encoding="utf-8")
    (copy / "pack.json").write_text(document.replace('"name": "ED"', '"name": "SNFH"'))
    os.kill(client.worker_pid, signal.SIGKILL)
    with pytest.raises(PackError, match="has changed since the case was opened"):
        session.edit(recipe_for(session.opened, (0, 2.0))).result(SECONDS)
    shutil.rmtree(copy)
    with pytest.raises(PackError):
        session.edit(recipe_for(session.opened, (0, 2.0))).result(SECONDS)
    client.close()


def test_cancelling_stops_between_two_samples_and_the_worker_goes_on(session):
    tap = session.opened.default_tap
    task = session.latents(tap, "influence", region="WT", measure=1000)
    assert wait_until(lambda: task.stage.startswith(("influence", "suppressing")) or task.done)
    task.cancel()
    with pytest.raises(Cancelled):
        task.result()
    started = time.monotonic()
    session.edit(recipe_for(session.opened, (0, 1.5))).result(SECONDS)
    assert time.monotonic() - started < 20


def test_a_worker_that_does_not_greet_is_ended_before_another_is_started(marked, own_shared, monkeypatch):
    marker, environment = marked
    client = WorkerClient(environment=environment)
    greet = Connection.hello

    def mute(*_):
        raise WorkerError("worker", "it is mute.", "")

    monkeypatch.setattr(Connection, "hello", mute)
    with pytest.raises(WorkerError, match="mute"):
        client.start().result(SECONDS)
    assert wait_until(lambda: not processes_of(marker))
    monkeypatch.setattr(Connection, "hello", greet)
    client.start().result(SECONDS)
    assert len(processes_of(marker)) == 1
    client.close()
    assert wait_until(lambda: not processes_of(marker))
