"""The worker's process: a socket, the server on it, a watch, and an orderly end.

It ends when the client's end of its standard input closes (the client closed it, or died, however),
when its parent is another than at the start, when no client was heard of for long, or when there was no work for long.
Then it computes nothing more, removes the shared memory and is gone within three seconds, come what may.
"""

import errno
import os
import socket
import threading
import time

import uvicorn

from MedSegLensLib.errors import UsageError
from MedSegLensLib.worker.server import Server, Settings

STOPPED, IDLE, CLIENT_LOST = 0, 10, 11
"""Exit codes: told to, no work for long, client gone."""
WATCH_SECONDS = 0.25
GRACE_SECONDS = 2.5
"""Between being told to end and ending by force: a sample being computed cannot be interrupted."""


def bound_socket(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one. Raises UsageError where the port is taken or the address not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, for asyncio sends without delay (Nagle, 40 ms) only on sockets that say they are TCP.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name != "nt":  # there it would let two programs have one port
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(128)
    except (OSError, OverflowError) as problem:
        bound.close()
        if getattr(problem, "errno", None) == errno.EADDRINUSE:
            cause, remedy = "another program listens there already.", "Choose another port, or end that program."
        else:
            cause, remedy = f"the address cannot be used ({problem}).", "Give this machine's own address."
        raise UsageError(f"{host}:{port}", cause, remedy) from problem
    return bound


class Running:
    """A worker from its start to its end.

    ends_alone: end the process when idle or when its clients are lost (a local worker); else only forget the cases.
    """

    def __init__(self, settings: Settings, ends_alone: bool):
        self.settings, self.ends_alone = settings, ends_alone
        self.exit_code = STOPPED
        self.server = Server(settings)
        self._uvicorn: uvicorn.Server | None = None
        self._ending = threading.Lock()

    def run(self, bound: socket.socket, certificate: str | None = None, certificate_key: str | None = None) -> int:
        """Serve until the end; returns the exit code. The TLS files (PEM) are good: the command has looked."""
        config = uvicorn.Config(
            self.server.app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            interface="asgi3",
            proxy_headers=False,
            ssl_certfile=certificate,
            ssl_keyfile=certificate_key,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
        self._uvicorn = uvicorn.Server(config)
        threading.Thread(target=self._watch, name="watching", daemon=True).start()
        self._uvicorn.run(sockets=[bound])
        self.server.desk.cancel_all()
        self._clean()
        return self.exit_code

    def end(self, code: int) -> None:
        """Begin the end; may be called from any thread, and again."""
        if not self._ending.acquire(blocking=False):
            return
        self.exit_code = code
        self.server.desk.cancel_all()
        if code == CLIENT_LOST:
            self._by_force()  # there is nobody left to answer
        if self._uvicorn:
            self._uvicorn.should_exit = True
        by_force = threading.Timer(GRACE_SECONDS, self._by_force)
        by_force.daemon = True
        by_force.start()

    def _by_force(self) -> None:
        self._clean()
        os._exit(self.exit_code)

    def _clean(self) -> None:
        """Of a client that is gone everything, else what this side made."""
        shared = self.settings.shared
        if shared is not None:
            if self.exit_code == CLIENT_LOST:
                while shared.path.exists():  # the computing thread may just be adding to it
                    shared.destroy()
            else:
                shared.remove_of("w")

    def _watch(self) -> None:
        parent = os.getppid()
        while True:
            time.sleep(WATCH_SECONDS)
            lost = self.server.leases.end_lost()
            resting = not self.server.leases.active and self.server.desk.idle_seconds > self.settings.idle_seconds
            if self.ends_alone and (lost or os.getppid() != parent):
                self.end(CLIENT_LOST)
            elif self.ends_alone and resting:
                self.end(IDLE)
            elif (lost or resting) and self.server.leases.cases:
                self.server.forget_cases()
