"""A Dask scheduler and workers as processes of their own, over TLS, as on several hosts."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from serving import ROOT, free_port, make_certificate

from MedSegLensLib.cohorts.cluster import Cluster, Tls

HERE = Path(__file__).parent
START_SECONDS = 120


@dataclass(frozen=True)
class Hosts:
    """A running scheduler. folder: certificates, logs."""

    address: str
    tls: Tls
    folder: Path
    scheduler: subprocess.Popen

    def cluster(self) -> Cluster:
        return Cluster.at(self.address, self.tls)

    @contextlib.contextmanager
    def worker(self, name: str, *arguments: str, path: Path | None = None) -> Iterator[subprocess.Popen]:
        """One more worker; `path` comes before everything else that it imports from."""
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(str(p) for p in (path, ROOT, HERE) if p),
            "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "False",
            "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
        }
        command = ["dask_worker", self.address, "--nthreads", "1", "--no-dashboard", "--name", name]
        command += ["--local-directory", str(self.folder), *arguments]
        with _process(command, self.tls, self.folder / f"{name}.log", environment) as process:
            _wait_for(self.folder / f"{name}.log", "Registered to", process)
            yield process


@contextlib.contextmanager
def hosts(folder: Path, workers: int) -> Iterator[Hosts]:
    """A scheduler and as many workers."""
    make_certificate(folder)
    tls = Tls(folder / "cert.pem", folder / "cert.pem", folder / "key.pem")
    port = free_port()
    command = ["dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--protocol", "tls", "--no-dashboard"]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        # A case that ends its workers is then given up after two and two, in place of four and four.
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
    }
    with contextlib.ExitStack() as stack:
        scheduler = stack.enter_context(_process(command, tls, folder / "scheduler.log", environment))
        _wait_for(folder / "scheduler.log", "Scheduler at", scheduler)
        here = Hosts(f"tls://127.0.0.1:{port}", tls, folder, scheduler)
        for i in range(workers):
            stack.enter_context(here.worker(f"host-{i}"))
        yield here


@contextlib.contextmanager
def _process(command: list[str], tls: Tls, log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen]:
    files = ["--tls-ca-file", str(tls.ca), "--tls-cert", str(tls.cert), "--tls-key", str(tls.key)]
    command = [sys.executable, "-m", f"distributed.cli.{command[0]}", *command[1:], *files]
    with (
        open(log, "wb") as out,
        subprocess.Popen(command, cwd=log.parent, env=environment, stdout=out, stderr=out) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(log: Path, words: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while words not in log.read_text(encoding="utf-8", errors="replace"):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.1)
