"""Who is there and who is gone: each client's last sign of life, and the cases it holds."""

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

from MedSegLensLib.worker.opened_case import OpenedCase
from MedSegLensLib.worker.ranking import Ranking


@dataclass
class Lease:
    """One client: when it was last heard of, how many of its requests are being answered, and its cases by the name it
    gave them."""

    seen: float = field(default_factory=time.monotonic)
    active: int = 0
    cases: dict[str, tuple[OpenedCase, Ranking]] = field(default_factory=dict)


class Leases:
    """A client that is not heard of for `seconds` loses its cases; it may come back and open them again."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._lock = threading.Lock()
        self._clients: dict[str, Lease] = {}

    def hear(self, client: str) -> Lease:
        """A sign of life."""
        with self._lock:
            lease = self._clients.setdefault(client, Lease())
            lease.seen = time.monotonic()
            return lease

    @contextmanager
    def answering(self, client: str):
        """A client that waits for an answer is there."""
        lease = self.hear(client)
        lease.active += 1
        try:
            yield
        finally:
            lease.active -= 1
            lease.seen = time.monotonic()

    @property
    def active(self) -> bool:
        """Whether any request is being answered."""
        with self._lock:
            return any(lease.active for lease in self._clients.values())

    def end_lost(self) -> bool:
        """Forget clients that were not heard of; whether there were clients and now is none."""
        with self._lock:
            now = time.monotonic()
            lost = [c for c, lease in self._clients.items() if not lease.active and now - lease.seen > self.seconds]
            for client in lost:
                del self._clients[client]
            return bool(lost) and not self._clients

    def forget_cases(self) -> None:
        with self._lock:
            for lease in self._clients.values():
                lease.cases.clear()

    @property
    def cases(self) -> int:
        with self._lock:
            return sum(len(lease.cases) for lease in self._clients.values())
