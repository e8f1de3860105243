"""What a worker process of this machine does when it starts (Dask's `preload`)."""

import signal


def dask_setup(worker) -> None:
    """Ctrl-C in a terminal reaches every process of the command: its own one says so and ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
