"""While a slider is dragged, only the newest position matters: one request under way, and one that waits."""

from collections.abc import Callable


class Throttle:
    """Sends the newest of many requests once the one before has come back.

    `send(value)` starts a request; its end is told by `finished`. Values given meanwhile replace each other.
    """

    def __init__(self, send: Callable):
        self._send = send
        self._busy = False
        self._waiting: list = []

    def give(self, value) -> None:
        if self._busy:
            self._waiting = [value]
            return
        self._busy = True
        self._send(value)

    def finished(self) -> None:
        """The request under way has ended, well or not."""
        self._busy = False
        if self._waiting:
            self.give(self._waiting.pop())

    def drop(self) -> None:
        """Forget what waits: the slider was released."""
        self._waiting = []
