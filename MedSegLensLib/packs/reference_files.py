"""The files of the reference cohort that a pack is shipped with: how its cases use the latents, and what was learned
of failures.

Two small files: `reference/reference.json` (cases, lenses, modalities, the detector's coefficients) and
`reference/usage.safetensors` (numbers a case). Of a case there are some hundred sums, no voxel. What they mean is
`failures.reference`'s; here they are kept, read and checked. Imports no torch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from MedSegLensLib.errors import PackError
from MedSegLensLib.packs.checked_json import parse_json, schema_problems
from MedSegLensLib.packs.notes import lens_hash

if TYPE_CHECKING:
    from MedSegLensLib.packs.info import PackInfo

VERSION = 1
FOLDER = "reference"
DOCUMENT, USAGE = f"{FOLDER}/reference.json", f"{FOLDER}/usage.safetensors"
SCHEMA = Path(__file__).parent / "schema" / "reference.schema.json"
MAX_DOCUMENT_BYTES, MAX_USAGE_BYTES = 2 * 2**20, 16 * 2**20
REMEDY = "Make it again: `medseglens pack add-reference`."


@dataclass(frozen=True)
class ShippedReference:
    """What the two files hold.

    document: as the schema has it. arrays: by name: "rate.n", "magnitude.n" (cases, latents) and "weight.n" (latents,)
    of lens number n of the document, "graph" (cases, edges), "inputs" (cases, modalities, numbers), "present" (cases,
    modalities).
    """

    document: dict
    arrays: dict[str, np.ndarray]


def is_reference(name: str) -> bool:
    """Whether a file of a pack, by its path in it, belongs to its reference."""
    return name.startswith(f"{FOLDER}/")


def read_reference(document: bytes, usage: bytes) -> ShippedReference:
    """The reference of its two files. Raises PackError for what is none."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        parsed = parse_json(document)
    except ValueError as problem:
        raise PackError(DOCUMENT, f"{problem}.", REMEDY) from problem
    problems = schema_problems(parsed, SCHEMA)
    if problems:
        raise PackError(DOCUMENT, f"it is no reference ({problems[0]}).", REMEDY)
    try:
        arrays = load(usage)
    except (SafetensorError, ValueError, KeyError) as problem:
        raise PackError(USAGE, f"it cannot be read ({problem}).", REMEDY) from problem
    return ShippedReference(parsed, arrays)


def reference_problems(info: "PackInfo", read: Callable[[str, int], bytes]) -> Iterator[tuple[str, str]]:
    """What is wrong with the reference of a pack: pairs of a file and a cause. `read(name, most)` gives a file's bytes,
    at most so many."""
    names = sorted(name for name in info.files if is_reference(name))
    if not names:
        return
    if names != sorted((DOCUMENT, USAGE)):
        strange = sorted({DOCUMENT, USAGE} ^ set(names))[0]
        yield strange, f"a reference is {DOCUMENT} and {USAGE}, no file more or less"
        return
    if info.files[USAGE].bytes > MAX_USAGE_BYTES:
        yield USAGE, f"it has {info.files[USAGE].bytes:,} bytes, too many for a reference"
        return
    try:
        found = read_reference(read(DOCUMENT, MAX_DOCUMENT_BYTES), read(USAGE, MAX_USAGE_BYTES))
    except PackError as problem:
        yield str(problem.subject), problem.cause.rstrip(".")
        return
    yield from _contradictions(info, found)


def _contradictions(info: "PackInfo", found: ShippedReference) -> Iterator[tuple[str, str]]:
    document, cases = found.document, len(found.document["cases"])
    if len(set(document["cases"])) < cases:
        yield DOCUMENT, "a case is there twice"
    latents = {lens.tap: lens.d_sae for lens in info.lenses}
    expected: dict[str, tuple[int | None, ...]] = {"graph": (cases, None)}
    for number, lens in enumerate(document["lenses"]):
        if lens["tap"] not in latents or lens_hash(info, lens["tap"]) != lens["hash"]:
            yield DOCUMENT, f"it is about a lens at {lens['tap']} that this pack does not have (any more)"
            return
        expected |= {f"{what}.{number}": (cases, latents[lens["tap"]]) for what in ("rate", "magnitude")}
        expected[f"weight.{number}"] = (latents[lens["tap"]],)
    modalities = document["modalities"]
    if modalities != list(info.input["modalities"]):
        yield DOCUMENT, f"its modalities are {', '.join(modalities)}, not the pack's"
    expected |= {"inputs": (cases, len(modalities), None), "present": (cases, len(modalities))}
    for name in sorted(expected.keys() | found.arrays.keys()):
        shape = found.arrays[name].shape if name in found.arrays else None
        wanted = expected.get(name)
        if shape is None or wanted is None:
            yield USAGE, f"the array {name!r:.40} {'is missing' if shape is None else 'does not belong there'}"
        elif len(shape) != len(wanted) or any(w not in (None, s) for s, w in zip(shape, wanted, strict=True)):
            shown = " x ".join("any" if w is None else str(w) for w in wanted)
            yield USAGE, f"{name} has the shape {list(shape)}; it must be {shown}"
        elif not np.isfinite(found.arrays[name].astype(np.float64)).all():
            yield USAGE, f"{name} has values that are not finite"
