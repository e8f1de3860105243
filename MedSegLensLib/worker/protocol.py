"""What goes over the wire: messages of JSON fields and arrays, both ways, and which versions understand each other.

    message = 4 bytes: length of the header, little endian | header, JSON | the bytes of its arrays, one after another
    header  = {"kind": ..., "fields": {...}, "arrays": [{"name", "dtype", "shape", "codec", "bytes", "segment"}]}

codec: 'raw'; 'zlib' (remote: each byte of the items apart, which halves what zlib leaves of MR volumes); 'shared', no
bytes, in the shared memory segment named (local). Whatever is not such a message is a WorkerError; nothing is
allocated before its size was checked.
"""

import json
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from MedSegLensLib.errors import (
    Cancelled,
    CaseError,
    MedSegLensError,
    OutputError,
    PackError,
    RecipeError,
    UsageError,
    WorkerError,
)
from MedSegLensLib.packs.checked_json import parse_json
from MedSegLensLib.worker.segments import SharedFolder

PROTOCOL = 3
"""Raised when a message changes so that the other side must know."""
PROTOCOL_HEADER = "MedSegLens-Protocol"
CLIENT_HEADER = "MedSegLens-Client"
TASK_HEADER = "MedSegLens-Task"
MEDIA_TYPE = "application/x-medseglens"

MAX_HEADER = 96 * 2**20
"""Bytes: a recipe with drawn masks may take 64 MiB."""
MAX_ARRAY = 4 * 2**30
MAX_ARRAYS = 64
MAX_MESSAGE = 16 * 2**30
SHARE_FROM = 128 * 1024
"""Bytes from which an array goes through shared memory; a smaller one is quicker beside its header."""

DTYPES = ("|b1", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<i8", "<u8", "<f2", "<f4", "<f8")
_SEGMENT = re.compile(r"[cw]-[0-9a-f]{24}")
_CODECS = ("raw", "zlib", "shared")
ERRORS = {
    e.__name__: e for e in (UsageError, CaseError, PackError, RecipeError, OutputError, WorkerError, MedSegLensError)
}


@dataclass(frozen=True)
class Segment:
    """An array that lies in shared memory already."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]


@dataclass
class Message:
    """kind: what it is; fields: JSON values; arrays: by name, of one of `DTYPES`."""

    kind: str
    fields: dict = field(default_factory=dict)
    arrays: dict[str, np.ndarray | Segment] = field(default_factory=dict)


def encode(
    message: Message, shared: SharedFolder | None = None, compress: bool = False, made: list[str] | None = None
) -> bytes:
    """A message as bytes. Large arrays go into `shared` where it is given and has room, else they are compressed
    (`compress`) or lie in the message as they are. made: the names of the segments made are added to it."""
    described, bodies = [], []
    for name, array in message.arrays.items():
        if isinstance(array, Segment):
            about = {"name": name, "dtype": array.dtype.str, "shape": list(array.shape), "bytes": 0}
            described.append(about | {"codec": "shared", "segment": array.name})
            continue
        array = np.asarray(array, order="C")
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        about = {"name": name, "dtype": array.dtype.str, "shape": list(array.shape), "bytes": 0}
        if array.dtype.str not in DTYPES:
            raise WorkerError(name, f"an array of type {array.dtype} is not sent.", "Convert it to plain numbers.")
        segment = _share(shared, array)
        if segment:
            about |= {"codec": "shared", "segment": segment}
            if made is not None:
                made.append(segment)
        else:
            body = zlib.compress(_apart(array), 1) if compress else array.tobytes()
            about |= {"codec": "zlib" if compress else "raw", "bytes": len(body)}
            bodies.append(body)
        described.append(about)
    header = json.dumps(
        {"kind": message.kind, "fields": message.fields, "arrays": described}, allow_nan=False, separators=(",", ":")
    ).encode()
    return b"".join([struct.pack("<I", len(header)), header, *bodies])


def _share(shared: SharedFolder | None, array: np.ndarray) -> str | None:
    if shared is None or array.nbytes < SHARE_FROM:
        return None
    try:
        return shared.put(array)
    except WorkerError:
        return None  # no room: it goes with the message, slower but sure


def _apart(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array.reshape(-1, 1).view(np.uint8).T).tobytes()


class Decoder:
    """Bytes in pieces as they come -> messages. Raises WorkerError for anything that is no message.

    Shared arrays are only looked at by the worker, and taken by the client, which owns the memory.
    """

    def __init__(self, shared: SharedFolder | None = None):
        self._shared, self._buffer, self._header, self._wanted = shared, bytearray(), None, 4

    @property
    def empty(self) -> bool:
        """Whether nothing of a further message has come."""
        return not self._buffer and self._header is None

    def feed(self, data: bytes) -> Iterator[Message]:
        self._buffer += data
        while True:
            if self._header is None:
                if len(self._buffer) < 4:
                    return
                (length,) = struct.unpack_from("<I", self._buffer)
                if not 2 <= length <= MAX_HEADER:
                    raise _broken(f"its header has {length} bytes")
                if len(self._buffer) < 4 + length:
                    return
                self._header = _checked_header(bytes(self._buffer[4 : 4 + length]))
                del self._buffer[: 4 + length]
                self._wanted = sum(a["bytes"] for a in self._header["arrays"])
            if len(self._buffer) < self._wanted:
                return
            header, body = self._header, bytes(self._buffer[: self._wanted])
            del self._buffer[: self._wanted]
            self._header = None
            yield self._message(header, body)

    def _message(self, header: dict, body: bytes) -> Message:
        arrays, at = {}, 0
        for about in header["arrays"]:
            dtype, shape = np.dtype(about["dtype"]), tuple(about["shape"])
            part, at = body[at : at + about["bytes"]], at + about["bytes"]
            if about["codec"] == "shared":
                if self._shared is None:
                    raise _broken("it speaks of shared memory, which the two do not have")
                read = self._shared.take if self._shared.side == "c" else self._shared.view
                arrays[about["name"]] = read(about["segment"], dtype, shape)
            elif about["codec"] == "raw":
                arrays[about["name"]] = np.frombuffer(part, dtype).reshape(shape)
            else:
                arrays[about["name"]] = _inflated(part, dtype, shape)
        return Message(header["kind"], header["fields"], arrays)


def decode(data: bytes, shared: SharedFolder | None = None) -> Message:
    """The one message that `data` is. Raises WorkerError."""
    decoder = Decoder(shared)
    messages = list(decoder.feed(data))
    if len(messages) != 1 or not decoder.empty:
        raise _broken("it is not one whole message")
    return messages[0]


def _checked_header(data: bytes) -> dict:
    try:
        header = parse_json(data)
    except (ValueError, RecursionError) as problem:
        raise _broken(str(problem)) from problem
    match header:
        case {"kind": str(), "fields": dict(), "arrays": list() as arrays}:
            pass
        case _:
            raise _broken("its header lacks kind, fields or arrays")
    if len(arrays) > MAX_ARRAYS:
        raise _broken(f"it has {len(arrays)} arrays")
    names, total = set(), 0
    for about in arrays:
        match about:
            case {"name": str(name), "dtype": str(dtype), "shape": list(shape), "codec": str(codec)}:
                size = about.get("bytes")
            case _:
                raise _broken("it has an array that is not described")
        if name in names or dtype not in DTYPES or codec not in _CODECS or len(shape) > 8 or type(size) is not int:
            raise _broken(f"its array {name[:40]!r} is there twice, or of an unknown type or codec")
        names.add(name)
        if not all(type(n) is int and 0 <= n < 2**31 for n in shape):
            raise _broken(f"the shape of its array {name[:40]!r} is not a list of counts")
        full = np.dtype(dtype).itemsize
        for n in shape:
            full *= n
        segment = about.get("segment")
        plausible = {
            "raw": size == full,
            "zlib": 0 < size <= full + full // 1000 + 64,
            "shared": size == 0 and isinstance(segment, str) and bool(_SEGMENT.fullmatch(segment)),
        }[codec]
        total += size
        if full > MAX_ARRAY or not plausible or total > MAX_MESSAGE:
            raise _broken(f"its array {name[:40]!r} is too large, or its size does not match its shape")
    return header


def _inflated(part: bytes, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape, dtype=np.int64))
    expected = count * dtype.itemsize
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(part, expected + 1)
    except zlib.error as problem:
        raise _broken(f"an array cannot be unpacked ({problem})") from problem
    if len(data) != expected or not inflater.eof:
        raise _broken("an array does not unpack to its size")
    apart = np.frombuffer(data, np.uint8).reshape(dtype.itemsize, count)
    return np.ascontiguousarray(apart.T).view(dtype).reshape(shape)


def _broken(what: str) -> WorkerError:
    return WorkerError(
        "message",
        f"this is no message of MedSegLens {what and f'({what})'}.",
        "See that both sides have the same version, and that the address is a MedSegLens worker's.",
    )


def error_fields(problem: MedSegLensError) -> dict:
    """An error as fields of a message."""
    return {
        "error": type(problem).__name__,
        "subject": problem.subject,
        "cause": problem.cause,
        "remedy": problem.remedy,
    }


def error_of(fields: dict) -> MedSegLensError:
    """The error that `error_fields` described; an unknown kind is a WorkerError."""
    if fields.get("error") == "Cancelled":
        return Cancelled(fields.get("subject", "task"))
    kind = ERRORS.get(str(fields.get("error")), WorkerError)
    return kind(*(str(fields.get(key, "")) for key in ("subject", "cause", "remedy")))
