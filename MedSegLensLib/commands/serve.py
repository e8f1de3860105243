"""`medseglens serve`: a worker for other machines. A key and, beyond this machine, TLS are not optional."""

import os
import ssl
from pathlib import Path

from MedSegLensLib.commands.common import Result, add_command
from MedSegLensLib.errors import UsageError

KEY_VARIABLE = "MEDSEGLENS_KEY"
SHORTEST_KEY = 16


def add_parser(commands) -> None:
    command = add_command(
        commands,
        "serve",
        "let Slicer on other machines use this one",
        run,
        "Serve segmentation and latents to 3D Slicer on another machine. Clients show a key; beyond this machine "
        "(--host other than loopback) the connection is encrypted with the TLS files given. Nothing of a case is "
        "written to disk; cases are dropped when their client has been silent for --lease seconds.",
    )
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine)")
    command.add_argument("--port", type=int, default=8443, help="port (default 8443)")
    command.add_argument(
        "--key-file", type=Path, metavar="FILE", help=f"file that holds the key (or set {KEY_VARIABLE}); required"
    )
    command.add_argument("--tls-certificate", type=Path, metavar="FILE", help="certificate (PEM, with its chain)")
    command.add_argument("--tls-key", type=Path, metavar="FILE", help="the certificate's private key (PEM)")
    command.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
    command.add_argument("--memory-gb", type=float, help="most memory to use (default 90 %% of what is free)")
    command.add_argument("--idle", type=float, default=1800.0, metavar="S", help="drop cases after S seconds of rest")
    command.add_argument("--lease", type=float, default=120.0, metavar="S", help="and of a client silent for S seconds")


def run(options) -> Result:
    from MedSegLensLib.worker.connection import is_loopback

    key = _key(options.key_file)
    certificate, certificate_key = options.tls_certificate, options.tls_key
    if bool(certificate) != bool(certificate_key):
        raise UsageError("TLS", "a certificate was given without its key, or a key alone.", "Give both files.")
    if not certificate and not is_loopback(options.host):
        raise UsageError(
            options.host,
            "other machines can reach this address, and without TLS they could read the images and the key.",
            "Give --tls-certificate and --tls-key, or listen on 127.0.0.1 and reach it through an SSH tunnel.",
        )
    if not 1 <= options.port <= 65535:
        raise UsageError(str(options.port), "it is no port.", "Use 1 to 65535.")
    if certificate:
        _check_tls(certificate, certificate_key)

    from MedSegLensLib.worker.running import Running, bound_socket
    from MedSegLensLib.worker.server import Settings

    bound = bound_socket(options.host, options.port)  # first: it is the quickest to be wrong
    settings = Settings(
        key=key,
        device=options.device,
        memory_gb=options.memory_gb,
        idle_seconds=options.idle,
        lease_seconds=options.lease,
    )
    running = Running(settings, ends_alone=False)
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"{'https' if certificate else 'http'}://{host}:{options.port}"
    if not options.json:
        print(f"Serving {address} on {running.server.device_line}. Stop with Ctrl-C.", flush=True)
    running.run(bound, certificate, certificate_key)
    return Result({"served": address}, [f"Stopped serving {address}."])


def _key(file: Path | None) -> str:
    """The key, from the file or the environment: not an argument, which every user of the machine could see."""
    if file is not None:
        try:
            key = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError) as problem:
            raise UsageError(file, f"the key cannot be read ({problem}).", "Check its name and permissions.") from None
    else:
        key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        raise UsageError("key", "none was given.", f"Give --key-file FILE, or set {KEY_VARIABLE}.")
    if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable():
        cause = f"it is shorter than {SHORTEST_KEY} characters, or holds more than plain letters."
        raise UsageError("key", cause, "Make one, for example with `openssl rand -hex 32`.")
    return key


def _check_tls(certificate: Path, key: Path) -> None:
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except OSError as problem:  # ssl.SSLError is one too
        reason = problem.strerror or problem
        cause = f"it cannot be used with the key {key} ({reason})."
        raise UsageError(certificate, cause, "Give a certificate and its own key, both in PEM format.") from None
