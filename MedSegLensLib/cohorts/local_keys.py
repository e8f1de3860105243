"""The keys to worker processes of this machine: a certificate that only this run has.

Dask listens on loopback, where any user of the machine may connect, and who connects may run anything as the user whose
workers they are. With a certificate of their own, the workers hear this process alone.
"""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Security

MAKE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out cert.pem -days 30 "
    "-subj /CN=medseglens"
)


@contextlib.contextmanager
def local_keys() -> "Iterator[Security | None]":
    """Dask's Security with a new certificate, whose files go at the end; None, which is no protection from other users
    of the machine, where there is neither the package `cryptography` nor the program `openssl` to make one."""
    from distributed import Security

    with tempfile.TemporaryDirectory(prefix="medseglens-keys-") as folder:  # readable by its owner alone
        try:
            security = Security.temporary()
        except ImportError:
            security = _by_openssl(Path(folder))
        yield security


def _by_openssl(folder: Path) -> "Security | None":
    from distributed import Security

    try:
        subprocess.run(MAKE.split(), cwd=folder, check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    pair = {f"tls_{who}_{what}": str(folder / f"{what}.pem") for who in ("client", "scheduler", "worker")
            for what in ("cert", "key")}  # fmt: skip
    return Security(tls_ca_file=str(folder / "cert.pem"), require_encryption=True, **pair)
