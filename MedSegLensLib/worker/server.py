"""The worker's side of the wire: an HTTP server whose requests are worked on, one after another, by one thread.

    GET    /hello                    who is this: protocol, version, device, packs
    POST   /heartbeat                the client is there; answered with memory and open cases
    POST   /cases                    open a case          \\
    POST   /cases/{case}/{asked}     ask about it           > answered by a stream of messages: progress, partial,
    DELETE /cases/{case}             forget it            /   alive (each second), then one of result, error
    POST   /tasks/{task}/cancel      stop a request between two samples

Every request carries the key, the protocol's version and the client's name; without the right ones it is refused
before its body is read.
"""

import contextlib
import ctypes
import gc
import hmac
import sys
from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from MedSegLensLib import __version__
from MedSegLensLib.errors import MedSegLensError, PackError, WorkerError
from MedSegLensLib.packs.installed import list_packs
from MedSegLensLib.packs.pack import load_pack
from MedSegLensLib.worker.device import choose_device
from MedSegLensLib.worker.jobs import Desk, Job
from MedSegLensLib.worker.leases import Leases
from MedSegLensLib.worker.memory import Ceiling, used_gb
from MedSegLensLib.worker.opened_case import OpenedCase, pack_fields
from MedSegLensLib.worker.protocol import (
    CLIENT_HEADER,
    MAX_MESSAGE,
    MEDIA_TYPE,
    PROTOCOL,
    PROTOCOL_HEADER,
    TASK_HEADER,
    Message,
    decode,
    error_fields,
)
from MedSegLensLib.worker.ranking import Ranking
from MedSegLensLib.worker.requests import ASKED, checked, checked_open
from MedSegLensLib.worker.segments import SharedFolder

LONGEST_NAME = 100


@dataclass
class Settings:
    """key: what clients must show. shared: the client's folder of shared memory, None for remote clients.

    idle_seconds: without work; lease_seconds: without a sign of life of a client. warm: whether to import ahead what a
    case will need; not for a worker that is asked at once.
    """

    key: str
    shared: SharedFolder | None = None
    device: str | None = None
    memory_gb: float | None = None
    idle_seconds: float = 1800.0
    lease_seconds: float = 120.0
    warm: bool = True


class Server:
    """The application and what it holds. `app` is what uvicorn runs.

    Raises UsageError for a device that is not there.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.device, self.device_line = choose_device(settings.device)
        self.ceiling = Ceiling(settings.memory_gb)
        self.leases, self.desk = Leases(settings.lease_seconds), Desk(warm_up if settings.warm else None)
        self._tasks: dict[str, Job] = {}
        self._routes = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        self._routes.add_api_route("/hello", self._hello, methods=["GET"])
        self._routes.add_api_route("/heartbeat", self._heartbeat, methods=["POST"])
        self._routes.add_api_route("/cases", self._open, methods=["POST"])
        self._routes.add_api_route("/cases/{case}/{asked}", self._ask, methods=["POST"])
        self._routes.add_api_route("/cases/{case}", self._close, methods=["DELETE"])
        self._routes.add_api_route("/tasks/{task}/cancel", self._cancel, methods=["POST"])
        self._routes.add_exception_handler(MedSegLensError, _as_json)

    async def app(self, scope, receive, send) -> None:
        """ASGI: the door. Refuses before anything of the body is read."""
        if scope["type"] == "http":
            refusal = self._refusal(Request(scope))
            if refusal is not None:
                await refusal(scope, receive, send)
                return
            with self.leases.answering(Request(scope).headers[CLIENT_HEADER]):
                await self._routes(scope, receive, send)

    def _refusal(self, request: Request) -> JSONResponse | None:
        shown = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(shown, f"Bearer {self.settings.key}".encode()):
            return _refused(401, "wrong_key", "the key is wrong or missing.", "Give the key that the worker was given.")
        spoken = request.headers.get(PROTOCOL_HEADER, "")
        if spoken != str(PROTOCOL):
            cause = f"this worker is MedSegLens {__version__} (protocol {PROTOCOL}), the client speaks {spoken[:40]!r}."
            return _refused(426, "wrong_version", cause, "Install the same version of MedSegLens on both sides.")
        client = request.headers.get(CLIENT_HEADER, "")
        if not 1 <= len(client) <= LONGEST_NAME:
            return _refused(400, "no_client", "the client does not give its name.", "Use MedSegLens's own client.")
        return None

    # -- requests ---------------------------------------------------------------------------------------------------

    def _hello(self, request: Request) -> dict:
        self.leases.hear(request.headers[CLIENT_HEADER])
        return {
            "medseglens": __version__,
            "protocol": PROTOCOL,
            "device": self.device,
            "device_line": self.device_line,
            "packs": [_pack_or_error(name, path) for name, path in list_packs().items()],
        }

    async def _heartbeat(self, request: Request) -> dict:
        lease = self.leases.hear(request.headers[CLIENT_HEADER])
        return {"memory_gb": used_gb(), "memory_limit_gb": self.ceiling.limit_gb, "cases": list(lease.cases)}

    async def _open(self, request: Request) -> StreamingResponse:
        lease = self.leases.hear(request.headers[CLIENT_HEADER])
        message = await self._message(request)
        fields = checked_open(message)
        arrays = message.arrays

        def work(job: Job) -> Message:
            lease.cases.pop(fields.case, None)
            asked = Message("open", fields.model_dump(), arrays)
            try:
                case = OpenedCase(asked, self.device, self.ceiling, job.say)
            except BaseException:
                _give_back_memory()
                raise
            job.say("sending", 1.0)
            lease.cases[fields.case] = case, Ranking(case)
            return case.opened()

        return self._begun(request, Job(f"opening {fields.name}", work, self.settings.shared))

    async def _ask(self, case: str, asked: str, request: Request):
        lease = self.leases.hear(request.headers[CLIENT_HEADER])
        if case not in lease.cases:
            cause = "this worker does not have the case (any more)."
            return _refused(404, "unknown_case", cause, "Open it again.")
        if asked not in ASKED:
            return _refused(404, "unknown_request", f"{asked[:40]!r} cannot be asked.", "Use MedSegLens's own client.")
        message = await self._message(request)
        fields = checked(ASKED[asked], message)
        opened, ranking = lease.cases[case]

        def work(job: Job) -> Message:
            return fields.work(opened, ranking, message.arrays, job)

        job = Job(f"{asked} of {opened.session.case.name}", work, self.settings.shared, urgent=asked == "preview")
        return self._begun(request, job)

    async def _close(self, case: str, request: Request) -> StreamingResponse:
        lease = self.leases.hear(request.headers[CLIENT_HEADER])

        def work(job: Job) -> Message:
            lease.cases.pop(case, None)
            _give_back_memory()
            return Message("result")

        return self._begun(request, Job("closing", work, self.settings.shared))

    async def _cancel(self, task: str) -> dict:
        job = self._tasks.get(task)
        if job:
            job.cancel()
        return {"known": job is not None}

    # -- how ----------------------------------------------------------------------------------------------------------

    async def _message(self, request: Request) -> Message:
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > MAX_MESSAGE:
                raise WorkerError("request", "it is too large.", "Use MedSegLens's own client.")
        return decode(bytes(data), self.settings.shared)

    def _begun(self, request: Request, job: Job) -> StreamingResponse:
        task = request.headers.get(TASK_HEADER, "")[:LONGEST_NAME]
        self._tasks[task] = job
        self.desk.add(job)

        async def stream():
            try:
                async for data in job.messages():
                    yield data
            finally:
                if self._tasks.get(task) is job:
                    del self._tasks[task]

        return StreamingResponse(stream(), media_type=MEDIA_TYPE)

    # -- from the watch -----------------------------------------------------------------------------------------------

    def forget_cases(self) -> None:
        """Drop every case: nobody has asked for long."""
        self.leases.forget_cases()
        _give_back_memory()


def warm_up() -> None:
    """Import what building a network needs (monai 4 s, transformers 2.5 s) while the reader still chooses."""
    with contextlib.suppress(ImportError):  # said when a case is opened with a pack that needs it
        import monai.networks.nets  # noqa: F401
        import transformers.models.segformer.modeling_segformer  # noqa: F401

        import MedSegLensLib.segmenters.architectures  # noqa: F401


def _pack_or_error(name: str, path) -> dict:
    try:
        return pack_fields(load_pack(path)) | {"error": None}
    except PackError as problem:
        nothing = {"version": "", "hash": "", "taps": [], "default_tap": None, "description": "", "model_card": ""}
        return {"name": name, "path": str(path), **nothing, "latents": {}, "error": str(problem)}


def _refused(status: int, code: str, cause: str, remedy: str) -> JSONResponse:
    body = {"code": code, "error": "WorkerError", "subject": "worker", "cause": cause, "remedy": remedy}
    return JSONResponse(body, status)


async def _as_json(_request: Request, problem: MedSegLensError) -> JSONResponse:
    return JSONResponse({"code": "error", **error_fields(problem)}, 400)


def _give_back_memory() -> None:
    """Free what a closed case held: a captured graph is a web of cycles, and glibc keeps freed memory for itself."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        with_trim = ctypes.CDLL(None)
        if hasattr(with_trim, "malloc_trim"):
            with_trim.malloc_trim(0)
