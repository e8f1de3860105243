"""JSON from a file that nobody has vouched for: strict parsing, and schema problems a person can find in the file."""

import collections
import functools
import itertools
import json
import math
from pathlib import Path

MAX_DEPTH = 32
"""Nesting beyond this is refused: no file of ours comes near, and deep nesting exhausts the interpreter's stack."""

MESSAGE_LENGTH = 200
MAX_PROBLEMS = 50
"""More are not listed: the file is another kind of file then."""


def parse_json(data: bytes) -> object:
    """The document in `data` (UTF-8). Raises ValueError, with the cause in words, for anything that is not strict JSON.

    Stricter than `json.loads`: NaN and infinity are refused (also as 1e999), a key given twice (readers differ in which
    one they take), text that is not valid Unicode, and nesting deeper than `MAX_DEPTH`.
    """
    try:
        document = json.loads(
            data.decode("utf-8-sig"),
            parse_constant=_not_finite,
            parse_float=_finite,
            object_pairs_hook=_unique,
        )
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeError as problem:
        raise ValueError("it is not valid UTF-8 text") from problem
    except json.JSONDecodeError as problem:
        cause = f"it is not valid JSON: {problem.msg} in line {problem.lineno}, column {problem.colno}"
        raise ValueError(cause) from problem
    except RecursionError as problem:
        raise ValueError("it is nested too deeply") from problem
    if _deeper_than(document, MAX_DEPTH):
        raise ValueError("it is nested too deeply")
    return document


def canonical_json(document: object) -> bytes:
    """One byte string for one document, whatever its layout and line ends: sorted keys, no spaces, ASCII."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def schema_problems(document: object, schema_file: Path) -> list[str]:
    """Each way in which `document` departs from the schema, as 'at /lenses/0/k: ...' (a JSON pointer and the cause)."""
    errors = itertools.islice(_validator(schema_file).iter_errors(document), MAX_PROBLEMS)
    return sorted(f"at {_pointer(error.absolute_path)}: {_shortened(error.message)}" for error in errors)


@functools.cache
def _validator(schema_file: Path):
    from jsonschema import Draft202012Validator, validators  # here: the import takes a tenth of a second

    # By the standard 3.0 is an integer too; as a Python float it would go on as an index or a size.
    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    strict = validators.extend(Draft202012Validator, type_checker=types)
    return strict(json.loads(schema_file.read_text(encoding="utf-8")))


def _pointer(path) -> str:
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in path]
    return "/" + "/".join(parts) if parts else "the top level"


def _shortened(message: str) -> str:
    # jsonschema quotes the whole offending value, which may be most of the file.
    if len(message) <= MESSAGE_LENGTH:
        return message
    half = MESSAGE_LENGTH // 2
    return f"{message[:half]} ... {message[-half:]}"


def _not_finite(text: str):
    raise ValueError(f"it holds {text}, which is not a number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it holds the number {_shortened(text)}, which is too large")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = collections.Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"it has the key {_shortened(repr(twice))} twice")
    return result


def _deeper_than(document: object, limit: int) -> bool:
    level = [document]
    for _ in range(limit):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True
