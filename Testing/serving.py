"""`medseglens serve` as a true process with a true certificate, for the tests of the client and of the panel."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KEY = "a-key-for-tests-0123456789"
SERVER_SECONDS = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_certificate(folder: Path) -> Path:
    """cert.pem and key.pem for this machine, in `folder`, which is given back; without openssl the test is skipped."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    try:
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not here to make a certificate")
    return folder


def serve_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "MedSegLensLib.cli", "serve", *arguments]


@contextlib.contextmanager
def serving(certificate: Path) -> Iterator[tuple[str, str]]:
    """A server that answers, with `KEY`: its address, and its certificate's authority (itself)."""
    port, authority = free_port(), str(certificate / "cert.pem")
    command = serve_command(
        "--port", str(port), "--tls-certificate", authority, "--tls-key", str(certificate / "key.pem")
    )
    environment = os.environ | {"MEDSEGLENS_KEY": KEY}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert "Serving https://127.0.0.1" in server.stdout.readline()
            _wait_until_it_answers(f"https://127.0.0.1:{port}", authority)
            yield f"https://127.0.0.1:{port}", authority
        finally:
            server.terminate()
            assert server.wait(20) is not None


def _wait_until_it_answers(address: str, authority: str) -> None:
    """On a busy machine its imports take longer than a client waits."""
    from MedSegLensLib.worker.connection import Connection, Lost

    connection = Connection(address, KEY, "the test", tls_ca=authority)
    deadline = time.monotonic() + SERVER_SECONDS
    while True:
        try:
            connection.hello()
            break
        except Lost:
            assert time.monotonic() < deadline
    connection.close()
