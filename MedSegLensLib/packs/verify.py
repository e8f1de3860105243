"""Is this pack whole, and safe to open? Every problem, not only the first.

Everything is checked on the files as they lie, zipped or not: nothing is unzipped, no tensor is allocated, nothing is
executed. Imports no torch.
"""

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile

from MedSegLensLib.errors import PackError
from MedSegLensLib.lenses.layout import weight_shapes
from MedSegLensLib.packs.checked_json import parse_json, schema_problems
from MedSegLensLib.packs.comparisons import MAX_FILES as MAX_COMPARISONS
from MedSegLensLib.packs.comparisons import is_comparison, read_comparison
from MedSegLensLib.packs.container import (
    MAX_FILE_BYTES,
    MAX_PACK_BYTES,
    PACK_FILE,
    FolderFiles,
    ZipFiles,
    escapes,
    is_portable,
    open_container,
)
from MedSegLensLib.packs.info import (
    FORMAT_VERSION,
    LENS_CONFIGURATION,
    LENS_WEIGHTS,
    SCHEMA,
    FileInfo,
    PackInfo,
    contradictions,
)
from MedSegLensLib.packs.notes import lens_hash
from MedSegLensLib.packs.reference_files import REMEDY as REBUILD_REFERENCE
from MedSegLensLib.packs.reference_files import is_reference, reference_problems
from MedSegLensLib.packs.safetensors_header import read_header
from MedSegLensLib.segmenters.foreign import TORCH

MAX_TEXT_BYTES = 2 * 2**20
"""Of pack.json, the model card and the lenses' configurations."""

PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill", ".npy", ".npz")
"""Formats that are pickle, or may hold one."""

CODE_SUFFIXES = (".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".ts", ".sh", ".bat", ".exe")
"""Formats that are code. Nothing would run them; but a pack with code in it is not what it says it is."""

_UNREADABLE = (OSError, EOFError, BadZipFile, zlib.error, NotImplementedError, RuntimeError)
"""What reading a damaged or vanishing file raises."""

DOWNLOAD_AGAIN = "Copy or download the pack again."
REBUILD = "Ask the pack's maker to build it again with `medseglens pack build`."
DO_NOT_USE = "Do not use this pack unless you trust its source and know why this is so."


@dataclass(frozen=True)
class Finding:
    """One thing wrong with a pack. `severity` is 'error' (it is not opened) or 'warning'; `file` is relative to it."""

    severity: str
    file: str
    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.file}: {self.cause} {self.remedy}"


@dataclass
class Inspection:
    """What was found in a pack, and, as far as it could be read, what it says of itself."""

    findings: list[Finding]
    document: dict | None = None
    info: PackInfo | None = None

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "error"]


def verify(path: Path | str) -> list[Finding]:
    """Every problem of the pack at `path` (folder, .mslp or .zip), errors first; empty if it is whole.

    Raises nothing for a bad pack: what cannot be read at all is a finding too.
    """
    try:
        container = open_container(Path(path))
    except PackError as problem:
        return [Finding("error", problem.subject, problem.cause, problem.remedy)]
    try:
        return inspect(container).findings
    finally:
        container.close()


def inspect(container: FolderFiles | ZipFiles) -> Inspection:
    """Check all of a pack's files; findings come errors first."""
    result = Inspection([])
    total = sum(member.size for member in container.members.values())
    if total > MAX_PACK_BYTES:  # not even read, which could take hours
        cause = f"its files have {total:,} bytes, too many for a pack."
        result.findings.append(Finding("error", str(container.path), cause, DO_NOT_USE))
        return result
    result.findings += _members(container)
    result.findings += _pack_json(container, result)
    listed = result.info.files if result.info is not None else _listed_files(result.document)
    for name, file in sorted(listed.items()):
        result.findings += _file(container, name, file)
    if result.info is not None:
        result.findings += _lens_sizes(container, result.info)
        result.findings += _comparisons(container, result.info)
        result.findings += _reference(container, result.info)
        if result.info.segmenter.architecture.startswith(TORCH):
            module = result.info.segmenter.architecture.split(":")[1]
            cause = f"its segmenter is made by the Python module {module}, which is not part of it."
            remedy = f"Install the module, and name it if you trust it: --trust-module {module}."
            result.findings.append(Finding("warning", PACK_FILE, cause, remedy))
        if not result.info.lenses:
            result.findings.append(Finding("warning", PACK_FILE, "it has no lens.", "Train one with `train lens`."))
    if listed:
        for name, member in container.members.items():
            if name not in listed and name != PACK_FILE and member.unsafe is None:
                remedy = "Remove it; it is not read."
                result.findings.append(Finding("warning", name, "it is not listed in pack.json.", remedy))
    result.findings.sort(key=lambda finding: finding.severity != "error")
    return result


def _members(container: FolderFiles | ZipFiles) -> Iterator[Finding]:
    """Links, paths that lead outside, absurd sizes and pickles, listed in pack.json or not."""
    for name, member in container.members.items():
        if member.unsafe:
            yield Finding("error", name, f"it {member.unsafe}.", DO_NOT_USE)
        elif member.size > MAX_FILE_BYTES:
            yield Finding("error", name, f"it has {member.size:,} bytes, too many for a pack.", DO_NOT_USE)
        else:
            yield from _pickle(container, name)


def _pickle(container: FolderFiles | ZipFiles, name: str) -> Iterator[Finding]:
    remedy = f"A pickle can run code when it is loaded. {REBUILD} Weights belong in safetensors files."
    if PurePosixPath(name).suffix.lower() in CODE_SUFFIXES:
        cause = "it is a program, by its name; a pack holds no code."
        yield Finding("error", name, cause, f"Remove it. {DO_NOT_USE}")
        return
    if PurePosixPath(name).suffix.lower() in PICKLE_SUFFIXES:
        yield Finding("error", name, "its kind of file may hold a pickle, which packs never do.", remedy)
        return
    try:
        with container.open(name) as stream:
            kind = _pickle_kind(stream.read(10))
        if kind and name.endswith(".safetensors"):
            with container.open(name) as stream:
                # A sound header of 640 bytes begins like a pickle of protocol 2.
                kind = kind if _header_problem(stream, container.members[name].size) else None
    except _UNREADABLE:
        return  # `_file` says so of listed files; others are not read
    if kind:
        yield Finding("error", name, f"it is {kind}, not what its name says.", remedy)


def _pickle_kind(start: bytes) -> str | None:
    if start[:1] == b"\x80" and start[1:2] in b"\1\2\3\4\5" and len(start) > 1:
        return "a pickle"
    if start.startswith(b"PK\3\4"):
        return "a zip, as torch.save makes it around a pickle"
    return None


def _header_problem(stream, size: int) -> str | None:
    try:
        read_header(stream, size)
    except ValueError as problem:
        return str(problem)
    return None


def _pack_json(container: FolderFiles | ZipFiles, result: Inspection) -> Iterator[Finding]:
    """Read pack.json into `result` as far as it can be."""
    member = container.members.get(PACK_FILE)
    if member is None:
        yield Finding("error", PACK_FILE, f"it is missing in {container.path}.", "Give the pack's own folder or zip.")
        return
    if member.unsafe:
        return
    if member.size > MAX_TEXT_BYTES:
        yield Finding("error", PACK_FILE, f"it has {member.size:,} bytes, too many to be true.", DO_NOT_USE)
        return
    try:
        with container.open(PACK_FILE) as stream:
            document = parse_json(stream.read(MAX_TEXT_BYTES))
    except ValueError as problem:
        yield Finding("error", PACK_FILE, f"{problem}.", DOWNLOAD_AGAIN)
        return
    except _UNREADABLE as problem:
        yield Finding("error", PACK_FILE, f"it cannot be read ({problem}).", DOWNLOAD_AGAIN)
        return
    if not isinstance(document, dict) or "medseglens_pack" not in document:
        cause = "it has no field medseglens_pack: this is not a MedSegLens pack."
        yield Finding("error", PACK_FILE, cause, "Give the folder or zip of a lens pack.")
        return
    version = document["medseglens_pack"]
    if version is True or version != FORMAT_VERSION:
        cause = f"its format version is {str(version)[:40]}; this MedSegLens reads version {FORMAT_VERSION}."
        yield Finding("error", PACK_FILE, cause, "Update MedSegLens, or choose a pack made for this version.")
        return
    result.document = document
    problems = schema_problems(document, SCHEMA)
    for problem in problems:
        yield Finding("error", PACK_FILE, f"{problem}.", REBUILD)
    if not problems:
        info = PackInfo.from_json(document)
        contradicting = list(contradictions(info))
        for at, cause in contradicting:
            yield Finding("error", PACK_FILE, f"at {at}: {cause}.", REBUILD)
        if not contradicting:
            result.info = info


def _listed_files(document: dict | None) -> dict[str, FileInfo]:
    """The well-formed entries of `files`, so that files are checked even where the rest of pack.json is wrong."""
    files = (document or {}).get("files")
    listed = {}
    for name, file in files.items() if isinstance(files, dict) else ():
        if isinstance(file, dict) and isinstance(file.get("sha256"), str) and type(file.get("bytes")) is int:
            listed[name] = FileInfo(file["sha256"], file["bytes"])
    return listed


def _file(container: FolderFiles | ZipFiles, name: str, listed: FileInfo) -> Iterator[Finding]:
    """One listed file: its path, presence, size, hash, and what it must be by its name."""
    shown = name[:200]
    if escapes(name):
        yield Finding("error", shown, "pack.json lists this path, which leads out of the pack's folder.", DO_NOT_USE)
        return
    if not is_portable(name) or name == PACK_FILE:
        yield Finding("error", shown, "pack.json lists this path, which a pack may not have.", REBUILD)
        return
    member = container.members.get(name)
    if member is None:
        yield Finding("error", name, "it is missing.", DOWNLOAD_AGAIN)
        return
    if member.unsafe or member.size > MAX_FILE_BYTES:
        return  # said by `_members`
    if member.size != listed.bytes:
        cause = f"it has {member.size:,} bytes; pack.json says {listed.bytes:,}."
        yield Finding("error", name, cause, DOWNLOAD_AGAIN)
        return
    try:
        with container.open(name) as stream:
            digest = hashlib.sha256()
            while block := stream.read(2**20):
                digest.update(block)
        if digest.hexdigest() != listed.sha256:
            cause = "its content is not what pack.json says (wrong SHA-256): it was changed or damaged."
            yield Finding("error", name, cause, DOWNLOAD_AGAIN)
            return
        if name.endswith(".safetensors"):
            with container.open(name) as stream:
                problem = _header_problem(stream, member.size)
        else:
            problem = _text_problem(container, name, member.size)
    except _UNREADABLE as error:
        yield Finding("error", name, f"it cannot be read ({error}).", DOWNLOAD_AGAIN)
        return
    if problem:
        yield Finding("error", name, f"{problem}.", REBUILD)


def _text_problem(container: FolderFiles | ZipFiles, name: str, size: int) -> str | None:
    if not name.endswith((".json", ".md", ".txt")):
        return None
    if size > MAX_TEXT_BYTES:
        return f"it has {size:,} bytes, too many for a text"
    with container.open(name) as stream:
        data = stream.read()
    try:
        if name.endswith(".json"):
            parse_json(data)
        else:
            data.decode("utf-8")
    except UnicodeError:
        return "it is not valid UTF-8 text"
    except ValueError as problem:
        return str(problem)
    return None


def _lens_sizes(container: FolderFiles | ZipFiles, info: PackInfo) -> Iterator[Finding]:
    """Lens files whose sizes are not those that pack.json says; files that cannot be read are left to `_file`."""
    for number, lens in enumerate(info.lenses):
        weights, configuration = f"{lens.folder}/{LENS_WEIGHTS}", f"{lens.folder}/{LENS_CONFIGURATION}"
        members = [container.members.get(name) for name in (weights, configuration)]
        if any(member is None or member.unsafe for member in members):
            continue
        try:
            with container.open(weights) as stream:
                tensors = read_header(stream, members[0].size)
            with container.open(configuration) as stream:
                cfg = parse_json(stream.read(MAX_TEXT_BYTES))
        except (ValueError, *_UNREADABLE):
            continue
        architecture = cfg.get("architecture") if isinstance(cfg, dict) else None
        for name, shape in weight_shapes(str(architecture), lens.d_in, lens.d_sae).items():
            found = tensors[name].shape if name in tensors else None
            if found != shape:
                what = "is missing" if found is None else f"has the shape {list(found)}"
                cause = f"{name} {what}; by pack.json at /lenses/{number} it must be {list(shape)}."
                yield Finding("error", weights, cause, REBUILD)
        sizes = {"d_in": lens.d_in, "d_sae": lens.d_sae}
        for name, size in sizes.items():
            if not isinstance(cfg, dict) or cfg.get(name) != size:
                cause = f"its {name} is not the {size} of pack.json at /lenses/{number}."
                yield Finding("error", configuration, cause, REBUILD)


def _comparisons(container: FolderFiles | ZipFiles, info: PackInfo) -> Iterator[Finding]:
    """Comparisons that the pack is shipped with; files that cannot be read are left to `_file`."""
    names = sorted(name for name in info.files if is_comparison(name))
    if len(names) > MAX_COMPARISONS:
        yield Finding("error", PACK_FILE, f"it lists {len(names)} comparisons, too many for a pack.", REBUILD)
        return
    latents = {lens_hash(info, lens.tap): (lens.tap, lens.d_sae) for lens in info.lenses}
    for name in names:
        member = container.members.get(name)
        if member is None or member.unsafe or member.size > MAX_TEXT_BYTES or member.size != info.files[name].bytes:
            continue
        try:
            with container.open(name) as stream:
                comparison = read_comparison(name, stream.read(MAX_TEXT_BYTES), info.name)
        except _UNREADABLE:
            continue
        except PackError as problem:
            yield Finding("error", name, problem.cause, REBUILD)
            continue
        for finding in comparison.findings:
            tap, count = latents.get(finding.lens, ("", 0))
            if finding.lens not in latents:
                cause = f"it is about a lens at {finding.tap} that this pack does not have (any more)."
                yield Finding("error", name, cause, "Compare this very pack again.")
                break
            if finding.tap != tap or finding.latent >= count:
                cause = f"it is about latent {finding.latent} at {finding.tap}, which the lens does not have."
                yield Finding("error", name, cause, REBUILD)
                break


def _reference(container: FolderFiles | ZipFiles, info: PackInfo) -> Iterator[Finding]:
    """The reference cohort that the pack is shipped with; files that cannot be read are left to `_file`."""
    for name in info.files:
        member = container.members.get(name)
        if is_reference(name) and (member is None or member.unsafe or member.size != info.files[name].bytes):
            return

    def read(name: str, most: int) -> bytes:
        with container.open(name) as stream:
            return stream.read(most)

    try:
        for name, cause in reference_problems(info, read):
            yield Finding("error", name, f"{cause}.", REBUILD_REFERENCE)
    except _UNREADABLE:
        return
