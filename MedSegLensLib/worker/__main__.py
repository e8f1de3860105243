"""`python -m MedSegLensLib.worker`: a worker for the client that starts it, and for no other.

The client writes one line of JSON to its standard input (key, shared folder, limits) and keeps that pipe open: when it
closes, the client is gone. The worker writes one line back, `READY {"port": ...}` or `FAILED {"cause": ...}`.
"""

import json
import os
import sys
import threading
import warnings
from pathlib import Path

READY, FAILED = "READY ", "FAILED "


def main() -> int:
    if sys.stdin is None or sys.stdin.isatty():
        print("This is started by MedSegLens's client. To serve other machines: medseglens serve", file=sys.stderr)
        return 2
    # Whatever libraries print must not come between us and the client.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    told = json.loads(sys.stdin.readline() or "null")
    if told is None:
        return 0
    alive = threading.Thread(target=_end_with_client, args=(told["shared"],), name="client", daemon=True)
    alive.start()

    def say(word: str, what: dict) -> None:
        answer.write(word + json.dumps(what) + "\n")
        answer.flush()

    try:
        from MedSegLensLib.errors import MedSegLensError
        from MedSegLensLib.worker.protocol import error_fields

        warnings.filterwarnings("ignore")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is ever looked up in a hub
        try:
            from MedSegLensLib.worker.running import Running, bound_socket
            from MedSegLensLib.worker.segments import SharedFolder
            from MedSegLensLib.worker.server import Settings

            shared = SharedFolder(Path(told["shared"]), "w")
            limits = {name: told[name] for name in ("device", "memory_gb", "idle_seconds", "lease_seconds", "warm")}
            running = Running(Settings(told["key"], shared, **limits), ends_alone=True)
            bound = bound_socket("127.0.0.1", 0)
        except MedSegLensError as problem:
            say(FAILED, error_fields(problem))
            return 1
    except Exception as problem:  # a package that is missing or broken: the client says so
        say(FAILED, {"import": f"{type(problem).__name__}: {problem}"})
        return 1
    _RUNNING.append(running)
    say(READY, {"port": bound.getsockname()[1], "pid": os.getpid()})
    return running.run(bound)


_RUNNING: list = []


def _end_with_client(folder: str) -> None:
    """Wait for the client's end of the pipe to close; then end, and leave nothing behind."""
    while sys.stdin.buffer.raw.read(4096):
        pass
    if _RUNNING:
        from MedSegLensLib.worker.running import CLIENT_LOST

        _RUNNING[0].end(CLIENT_LOST)
        return
    import shutil  # still starting

    shutil.rmtree(folder, ignore_errors=True)
    os._exit(11)


if __name__ == "__main__":
    sys.exit(main())
