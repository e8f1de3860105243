"""Writing a lens pack: all of it under a temporary name, verified, then renamed; and its zip."""

import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.errors import OutputError, PackError, UsageError
from MedSegLensLib.packs.container import MAX_FILE_BYTES, PACK_FILE
from MedSegLensLib.packs.info import (
    CATALOGUE_FILE,
    MODEL_CARD_FILE,
    SEGMENTER_FILE,
    FileInfo,
    LensInfo,
    PackInfo,
)
from MedSegLensLib.packs.verify import verify

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from MedSegLensLib.lenses.lens import Lens

STATISTICS = ("running_mean", "running_var")
"""Buffers of batch norm: few numbers over a wide range (a variance of 1e-7 is 0 in float16), so kept in float32."""


def write_pack(
    folder: Path,
    info: PackInfo,
    state_dict: "dict[str, torch.Tensor]",
    lenses: "Sequence[Lens]",
    catalogue: "pa.Table | None",
    model_card: str,
    *,
    default_tap: str | None = None,
    lens_dtype: str = "float16",
    replace_existing: bool = False,
) -> PackInfo:
    """Write a pack to `folder` and return its info, with `lenses` and `files` filled in.

    info: all but `lenses` and `files`, which are taken from what is written.
    state_dict: the segmenter's weights; see `stored` for how they are kept.
    lenses: each goes to lenses/<tap>.
    default_tap: the lens that opens first; None takes the first one.
    lens_dtype: "float16" (relative rounding 5e-4) or "float32"; how the lenses' weights are stored.
    replace_existing: whether a pack that is already in `folder` gives way (other folders never do).

    Everything is written to a temporary folder beside `folder`, verified, and renamed; after a failure nothing is
    left and what was there is untouched. Raises UsageError for a default tap without lens, PackError for what does
    not make a whole pack, OutputError where it cannot be written.
    """
    from MedSegLensLib.lenses.files import save_lens

    if default_tap is None and lenses:
        default_tap = lenses[0].tap
    if default_tap is not None and default_tap not in [lens.tap for lens in lenses]:
        known = ", ".join(lens.tap for lens in lenses) or "none"
        raise UsageError(default_tap, "no lens is at this tap.", f"Taps with a lens are: {known}.")
    lens_infos = []
    for lens in lenses:
        place = _lens_folder(lens.tap, [known.folder for known in lens_infos])
        lens_infos.append(LensInfo(lens.tap, place, lens.d_in, lens.d_sae, lens.k, lens.tap == default_tap))

    with _new_folder(Path(folder), replace_existing) as temporary:
        _write_weights(state_dict, temporary / SEGMENTER_FILE)
        for lens, lens_info in zip(lenses, lens_infos, strict=True):
            save_lens(lens, temporary / lens_info.folder, lens_dtype)
        if catalogue is not None:
            from MedSegLensLib.packs.catalogue import write_catalogue

            write_catalogue(catalogue, temporary / CATALOGUE_FILE)
        (temporary / MODEL_CARD_FILE).write_text(model_card, encoding="utf-8", newline="\n")
        info = replace(info, lenses=tuple(lens_infos), files=_hashes(temporary))
        try:
            text = json.dumps(info.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        except (ValueError, TypeError) as problem:
            raise PackError(PACK_FILE, f"a value cannot be written ({problem}).", "Use finite numbers.") from problem
        (temporary / PACK_FILE).write_text(text, encoding="utf-8", newline="\n")
        for finding in verify(temporary):
            if finding.severity == "error":
                raise PackError(f"{folder}: {finding.file}", finding.cause, "Correct what was given to write_pack.")
    return info


def zip_pack(folder: Path, path: Path) -> None:
    """Zip the pack in `folder` to `path` (.mslp or .zip): the files that pack.json lists, the same bytes each time.

    Raises PackError for a pack that `verify` faults, OutputError where it cannot be written.
    """
    from MedSegLensLib.cases.writing import atomic_path
    from MedSegLensLib.packs.pack import load_pack

    pack = load_pack(Path(folder))
    with atomic_path(Path(path)) as temporary, zipfile.ZipFile(temporary, "w", allowZip64=False) as archive:
        for name in [PACK_FILE, *sorted(pack.info.files)]:
            # A fixed date, so that one pack gives one zip.
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, (pack.folder / name).read_bytes())


def stored(name: str, tensor: "torch.Tensor") -> "torch.Tensor":
    """The tensor as a pack keeps it: float16 where that serves, else float32; integers and booleans as they are.

    float32 is kept for batch norm's running statistics and where a value is beyond float16's 65504.
    Raises PackError for a value that is not finite.
    """
    import torch

    tensor = tensor.detach().cpu()
    if not tensor.is_floating_point():
        return tensor.clone()
    tensor = tensor.to(torch.float32)
    if not bool(torch.isfinite(tensor).all()):
        raise PackError(name, "this tensor has NaN or infinite values.", "Train again; such a segmenter is of no use.")
    half = tensor.to(torch.float16)
    if name.endswith(STATISTICS) or not bool(torch.isfinite(half).all()):
        return tensor.clone().contiguous()  # cloned: safetensors refuses tensors that share their memory
    return half.clone().contiguous()


def _write_weights(state_dict: "dict[str, torch.Tensor]", path: Path) -> None:
    from safetensors.torch import save_file

    size = sum(4 * tensor.numel() for tensor in state_dict.values())
    if size > MAX_FILE_BYTES:
        raise PackError(SEGMENTER_FILE, f"it would have {size:,} bytes.", f"A pack takes {MAX_FILE_BYTES:,} at most.")
    save_file({name: stored(name, tensor) for name, tensor in state_dict.items()}, path)


def _lens_folder(tap: str, taken: list[str]) -> str:
    """'lenses/<tap>' in characters that every file system takes, and not yet taken."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", tap).strip(".-")[:80].rstrip(".-") or "tap"
    folder, number = f"lenses/{plain}", 2
    while folder.lower() in [name.lower() for name in taken]:
        folder, number = f"lenses/{plain}_{number}", number + 1
    return folder


def _hashes(folder: Path) -> dict[str, FileInfo]:
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            files[path.relative_to(folder).as_posix()] = FileInfo(hashlib.sha256(data).hexdigest(), len(data))
    return files


@contextmanager
def _new_folder(folder: Path, replace_existing: bool) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its name when the block ends without error."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        if not (folder / PACK_FILE).is_file():
            raise OutputError(folder, "it exists and is not a pack.", "Choose another folder.")
        if not replace_existing:
            raise OutputError(folder, "there is a pack already.", "Choose another folder, or ask to replace it.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
    except OSError as problem:
        raise _not_writable(folder, problem) from problem
    aside = temporary.with_name(temporary.name + "-replaced")
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)  # mkdtemp makes folders for their owner alone
        if folder.exists():
            folder.rename(aside)
        temporary.rename(folder)
    except OSError as problem:
        raise _not_writable(folder, problem) from problem
    finally:
        if aside.exists() and not folder.exists():
            aside.rename(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def _not_writable(folder: Path, problem: OSError) -> OutputError:
    return OutputError(folder, f"it cannot be written ({problem.strerror or problem}).", "Choose another folder.")
