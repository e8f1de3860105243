"""The header of a safetensors file, checked against the file's size before anything is allocated for its tensors.

Format: 8 bytes little-endian length, that many bytes of JSON, then the tensors' bytes without gaps
(https://huggingface.co/docs/safetensors).
"""

import math
import struct
from dataclasses import dataclass
from typing import BinaryIO

from MedSegLensLib.packs.checked_json import parse_json

MAX_HEADER_BYTES = 4 * 2**20
MAX_DIMENSIONS = 8
ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class TensorInfo:
    """What the header says of one tensor: its type (a key of `ITEM_BYTES`) and shape."""

    dtype: str
    shape: tuple[int, ...]


def read_header(stream: BinaryIO, size: int) -> dict[str, TensorInfo]:
    """The tensors that a safetensors file of `size` bytes declares; `stream` stands at its start.

    Raises ValueError, with the cause in words, unless the declared shapes fill the file exactly.
    """
    start = stream.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
        raise ValueError("it is not a safetensors file: its header has no sensible length")
    text = stream.read(length)
    if len(text) < length or not text.startswith(b"{"):
        raise ValueError("it is not a safetensors file: its header is not JSON")
    try:
        header = parse_json(text)
    except ValueError as problem:
        raise ValueError(f"its safetensors header is damaged: {problem}") from problem
    header.pop("__metadata__", None)
    tensors, spans = {}, []
    for name, declared in header.items():
        tensor, begin, end = _tensor(name, declared)
        tensors[name] = tensor
        spans.append((begin, end))
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise ValueError("its safetensors header has tensors that overlap or leave gaps")
        position = end
    if 8 + length + position != size:
        raise ValueError(f"its header declares {8 + length + position:,} bytes, the file has {size:,}")
    return tensors


def _tensor(name: str, declared: object) -> tuple[TensorInfo, int, int]:
    label = f"its tensor {name[:80]!r}"
    if not isinstance(declared, dict) or set(declared) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{label} is not declared by dtype, shape and data_offsets")
    dtype, shape, offsets = declared["dtype"], declared["shape"], declared["data_offsets"]
    if dtype not in ITEM_BYTES if isinstance(dtype, str) else True:
        raise ValueError(f"{label} has a type that packs do not use")
    if not _counts(shape) or len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"{label} has no valid shape")
    if not _counts(offsets) or len(offsets) != 2 or offsets[1] < offsets[0]:
        raise ValueError(f"{label} has no valid place in the file")
    if math.prod(shape) * ITEM_BYTES[dtype] != offsets[1] - offsets[0]:
        raise ValueError(f"{label} declares the shape {shape}, which its bytes do not fill")
    return TensorInfo(dtype, tuple(shape)), offsets[0], offsets[1]


def _counts(values: object) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**48 for v in values)
