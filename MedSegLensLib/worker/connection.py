"""One way to a worker: requests over HTTP, and every trouble on the way as an error that says what to do."""

import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from MedSegLensLib import __version__
from MedSegLensLib.errors import MedSegLensError, UsageError, WorkerError
from MedSegLensLib.worker.answers import Handshake
from MedSegLensLib.worker.protocol import (
    CLIENT_HEADER,
    MEDIA_TYPE,
    PROTOCOL,
    PROTOCOL_HEADER,
    TASK_HEADER,
    Decoder,
    Message,
    encode,
    error_of,
)
from MedSegLensLib.worker.segments import SharedFolder

CONNECT_SECONDS, SILENCE_SECONDS, QUICK_SECONDS = 5.0, 30.0, 10.0
"""To connect; without a word during a request (the worker says each second that it is alive); for a small request."""


class Lost(WorkerError):
    """The worker cannot be reached, or went away during a request."""


class UnknownCase(WorkerError):
    """The worker runs, and does not have the case (any more)."""


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own and not reachable from others."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def full_address(address: str) -> str:
    """An address as a URL: https where it does not say (http on loopback). Raises UsageError for what is none."""
    text = address.strip().rstrip("/")
    if "://" not in text:
        host = urlsplit(f"//{text}").hostname or ""
        text = f"{'http' if is_loopback(host) else 'https'}://{text}"
    remedy = "Give it as https://host:port, as `medseglens serve` prints it."
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as problem:
        raise UsageError(address, f"it is no address ({problem}).", remedy) from problem
    if parts.scheme not in ("http", "https") or not host or parts.path or port is None:
        raise UsageError(address, "it is no address of a worker: scheme, host and port are needed.", remedy)
    if parts.scheme == "http" and not is_loopback(host):
        raise UsageError(address, "it is not encrypted (http), and the key and the images would be read.", remedy)
    return text


class Connection:
    """To one worker. May be used by several threads at once.

    shared: the folder of shared memory, for a local worker.
    """

    def __init__(
        self, address: str, key: str, client: str, shared: SharedFolder | None = None, tls_ca: str | None = None
    ):
        import httpx  # here: the import takes a fifth of a second, and opening the module may not

        self._httpx, self.address, self.shared = httpx, full_address(address), shared
        host = urlsplit(self.address).hostname or ""
        try:
            verify = ssl.create_default_context(cafile=tls_ca) if self.address.startswith("https") else False
        except (OSError, ssl.SSLError) as problem:
            cause = f"this certificate authority cannot be read ({problem})."
            raise UsageError(tls_ca, cause, "Give the PEM file of its certificate's signer.") from problem
        # Headers and body are two writes: with Nagle's algorithm the second waits 40 ms for the first's receipt.
        nodelay = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        own = httpx.HTTPTransport(verify=verify, socket_options=nodelay) if is_loopback(host) else None
        self._http = httpx.Client(
            base_url=self.address,
            headers={
                "Authorization": f"Bearer {key}",
                PROTOCOL_HEADER: str(PROTOCOL),
                CLIENT_HEADER: client,
                "Content-Type": MEDIA_TYPE,
            },
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
            verify=verify,
            transport=own,
            trust_env=own is None,  # a proxy of the network is not asked for this machine itself
        )

    def hello(self, patience: float = QUICK_SECONDS) -> Handshake:
        """The handshake, waited for at most `patience` seconds. Raises WorkerError: another version, wrong key, no
        answer, no MedSegLens worker."""
        told = self._quick("GET", "/hello", patience)
        if "medseglens" not in told or told.get("protocol") != PROTOCOL:
            version = f"{told.get('medseglens', 'unknown')}, protocol {told.get('protocol', 'unknown')}"
            raise self._error(
                f"it is of another version ({version}; this is {__version__}, protocol {PROTOCOL}).",
                "Install the same version of MedSegLens on both sides.",
            )
        return Handshake(
            int(told["protocol"]), told["medseglens"], told["device"], told["device_line"], list(told["packs"])
        )

    def heartbeat(self) -> dict:
        """A sign of life; answered with memory_gb, memory_limit_gb and the cases held."""
        return self._quick("POST", "/heartbeat")

    def cancel(self, task: str) -> None:
        """Stop a request. Where the worker is not reached there is nothing to stop."""
        with contextlib.suppress(WorkerError):
            self._quick("POST", f"/tasks/{task}/cancel")

    def ask(
        self,
        method: str,
        path: str,
        message: Message,
        task: str,
        heard: Callable[[Message], None],
    ) -> Message:
        """One request; progress and parts go to `heard`, the result is returned.

        Raises the error the worker names; Lost, UnknownCase.
        """
        made: list[str] = []
        body = encode(message, self.shared, compress=self.shared is None, made=made)
        decoder, result = Decoder(self.shared), None
        try:
            with self._http.stream(method, path, content=body, headers={TASK_HEADER: task}) as response:
                if response.status_code != 200:
                    response.read()
                    raise self._refusal(response)
                for chunk in response.iter_raw():
                    for said in decoder.feed(chunk):
                        if said.kind == "error":
                            raise error_of(said.fields)
                        if said.kind == "result":
                            result = said  # and read on to the end, so that the connection can be used again
                        else:
                            heard(said)
        except self._httpx.HTTPError as problem:
            raise self._lost(problem) from problem
        finally:
            for name in made:
                self.shared.remove(name)
        if result is None:
            raise Lost(self.address, "the worker broke off in the middle of its answer.", "Try again.")
        return result

    def close(self) -> None:
        self._http.close()

    def _quick(self, method: str, path: str, seconds: float = QUICK_SECONDS) -> dict:
        try:
            response = self._http.request(method, path, timeout=seconds)
        except self._httpx.HTTPError as problem:
            raise self._lost(problem) from problem
        if response.status_code != 200:
            raise self._refusal(response)
        try:
            told = response.json()
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise self._stranger(response)
        return told

    def _refusal(self, response) -> MedSegLensError:
        try:
            told = response.json()
            code = told["code"]
        except (ValueError, TypeError, KeyError):
            return self._stranger(response)
        if code == "unknown_case":
            return UnknownCase(self.address, str(told.get("cause")), str(told.get("remedy")))
        if code in ("wrong_key", "wrong_version"):
            return self._error(str(told.get("cause")), str(told.get("remedy")))
        return error_of(told)

    def _stranger(self, response) -> WorkerError:
        if response.status_code in (502, 503, 504):
            return self._error(
                f"a proxy on the way could not reach the worker (HTTP {response.status_code}).",
                "See that the worker runs, and that the proxy lets it through.",
            )
        if response.status_code == 500:
            return self._error("the worker failed unexpectedly.", "Try again; if it happens again, report it.")
        return self._error(
            f"something else than a MedSegLens worker answers there (HTTP {response.status_code}).",
            "Check the address and the port.",
        )

    def _lost(self, problem: Exception) -> WorkerError:
        said = str(problem) or type(problem).__name__
        if "CERTIFICATE_VERIFY_FAILED" in said:
            return self._error(
                f"its certificate is not trusted ({said.split('(')[0].strip()}).",
                "Give the PEM file of the authority that signed it.",
            )
        if isinstance(problem, self._httpx.ConnectError | self._httpx.ConnectTimeout):
            cause = f"nothing answers there ({said})."
        elif isinstance(problem, self._httpx.TimeoutException):
            cause = "the worker has stopped answering."
        else:
            cause = f"the connection broke ({said})."
        return Lost(self.address, cause, "See that the worker runs and that the address is right.")

    def _error(self, cause: str, remedy: str) -> WorkerError:
        return WorkerError(self.address, cause, remedy)
