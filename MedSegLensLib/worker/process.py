"""The local worker as a child process: started, looked at, ended. Imports no torch."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path

from MedSegLensLib.errors import WorkerError
from MedSegLensLib.worker.connection import Lost
from MedSegLensLib.worker.protocol import error_of

LIBRARY = Path(__file__).resolve().parents[2]
START_SECONDS = 180.0
"""torch from a cold disk takes a minute."""
END_SECONDS = 3.0
LOG_LINES = 60
IDLE = 10
"""Exit code of a worker that ended for want of work (running.py)."""
INSTALL = "Install MedSegLens's dependencies into this Python (the panel's doctor says which), then try again."


class WorkerProcess:
    """A running worker. port: where it listens on loopback, once it is ready.

    settings: what is written to its standard input: key, shared, warm, device, memory_gb, idle_seconds, lease_seconds.
    Raises WorkerError where it cannot be started. `wait_until_ready` before anything else.
    """

    def __init__(self, python: str | None, environment: dict[str, str] | None, settings: dict):
        python = python or sys.executable
        variables = os.environ | (environment or {})
        path = variables.get("PYTHONPATH", "")
        variables["PYTHONPATH"] = os.pathsep.join([str(LIBRARY), *([path] if path else [])])
        try:
            self._process = subprocess.Popen(
                [python, "-m", "MedSegLensLib.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=variables,
                cwd=str(LIBRARY),
                start_new_session=os.name != "nt",  # an interrupt from a terminal is for the client alone
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as problem:
            remedy = "Name a Python interpreter (in Slicer: PythonSlicer)."
            raise WorkerError(python, f"it cannot be started ({problem.strerror}).", remedy) from problem
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._answer: list[str] = []
        self._answered = threading.Event()
        for read in (self._read_log, self._read_answer):
            threading.Thread(target=read, daemon=True).start()
        with contextlib.suppress(OSError):  # it has died already; its answer says of what
            self._process.stdin.write(json.dumps(settings).encode() + b"\n")
            self._process.stdin.flush()
        self._python, self.port = python, 0

    def wait_until_ready(self) -> None:
        """Raises WorkerError where it fails to start, with what it said; it is gone then."""
        try:
            self.port = self._said_port()
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def ended_idle(self) -> bool:
        """Whether it has ended because nobody asked anything for long."""
        return self._process.poll() == IDLE

    @property
    def fate(self) -> str:
        """How it ended, in words."""
        code = self._process.poll()
        if code is None:
            return "it did not answer"
        if code >= 0:
            return f"exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = str(-code)
        return f"signal {name}{', as when memory runs out' if name == 'SIGKILL' else ''}"

    @property
    def log(self) -> str:
        """The last lines it wrote."""
        return "\n".join(self._log)

    def kill(self) -> None:
        """End it at once, with all that it may have started."""
        if self.alive:
            if os.name == "nt":
                self._process.kill()
            else:
                try:
                    os.killpg(self._process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    self._process.kill()
        self._process.wait()
        self._close_pipes()

    def end(self) -> None:
        """Wait for an end that it was told of, then see to it. Closing its standard input tells it again."""
        self._close(self._process.stdin)
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._close_pipes()

    def _said_port(self) -> int:
        if not self._answered.wait(START_SECONDS):
            raise WorkerError("worker", f"it did not start within {START_SECONDS:.0f} s.", "Try again.")
        if not self._answer:
            self._process.wait()
            if self._process.returncode < 0:  # not its own doing
                raise Lost("worker", f"it was stopped while starting ({self.fate}).", "Try again.")
            last = self._log[-1] if self._log else "it wrote nothing"
            raise WorkerError("worker", f"it ended while starting ({self.fate}; {last}).", INSTALL)
        word, _, told = self._answer[0].partition(" ")
        fields = json.loads(told)
        if word == "READY":
            return int(fields["port"])
        if "import" in fields:
            raise WorkerError("worker", f"{self._python} cannot run it ({fields['import']}).", INSTALL)
        raise error_of(fields)

    def _read_answer(self) -> None:
        for line in self._process.stdout:
            text = line.decode(errors="replace").strip()
            if text.startswith(("READY ", "FAILED ")) and not self._answer:
                self._answer.append(text)
                self._answered.set()
        self._answered.set()

    def _read_log(self) -> None:
        for line in self._process.stderr:
            self._log.append(line.decode(errors="replace").rstrip())

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            self._close(pipe)

    @staticmethod
    def _close(pipe) -> None:
        with contextlib.suppress(OSError, ValueError):  # it broke with the worker's end
            pipe.close()
