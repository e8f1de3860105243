"""Writing: under a temporary name in the target folder first, then renamed, so that nothing is left half-written."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import SimpleITK as sitk

from MedSegLensLib.cases.case import PHANTOM, Case
from MedSegLensLib.cases.volume import FILE_NOTES, FORMATS, check_complete, reader_said
from MedSegLensLib.errors import CaseError, OutputError, UsageError

CONVENTIONS = ("brats2023", "brats2021")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, with the same suffixes; renamed to `path` when the block ends without error.

    On any error the temporary file is removed and what `path` held before is untouched.

    Raises OutputError when the folder is missing, read-only or full.
    """
    path = Path(path)
    # The full suffix stays (".nii.gz"): writers choose the format by it.
    suffix = "".join(path.suffixes[-2:])
    try:
        handle, name = tempfile.mkstemp(prefix=".unfinished-", suffix=suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise _output_error(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files that only their owner may read; a result gets the permissions any new file has.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, path)
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_file(path: Path) -> None:
    """Raise the OutputError that writing this file would end in, before the minutes of work that it would lose."""
    path = Path(path)
    if path.is_dir():
        raise _output_error(path, IsADirectoryError(errno.EISDIR, ""))
    _try_in(path.parent, path)


def check_folder(path: Path) -> None:
    """The same for a folder of results, which need not exist yet and is not made here."""
    place = path = Path(path).absolute()
    while not place.exists():
        place = place.parent
    _try_in(place, path)


def _try_in(folder: Path, subject: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _output_error(subject, error) from error


def check_format(path: Path) -> None:
    """Raise OutputError for a name whose format volumes are not written in."""
    if not path.name.lower().endswith(FORMATS) or path.suffix in (".mhd", ".nhdr"):
        raise OutputError(path, "this format is not written.", "Let the name end in .nii.gz, .nii, .nrrd or .mha.")


def write_image(image: sitk.Image, path: Path) -> None:
    """Write a volume; the format follows from the name (.nii.gz, .nii, .nrrd, .mha).

    Raises OutputError when the format is not written, or the folder is missing, read-only or full.
    """
    path = Path(path)
    check_format(path)
    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
            check_complete(temporary)
        except (RuntimeError, CaseError) as error:
            raise _writer_failed(path, error) from error


def write_labels(image: sitk.Image, path: Path, convention: str = "brats2023") -> None:
    """Write labels (uint8, BraTS 2023 values); with convention 'brats2021' ET is written as 4.

    Raises UsageError for another convention, OutputError as `write_image` does.
    """
    if convention not in CONVENTIONS:
        raise UsageError(convention, "it is not a label convention.", f"Use {' or '.join(CONVENTIONS)}.")
    write_image(sitk.ChangeLabel(image, {3: 4}) if convention == "brats2021" else image, path)


def write_case(case: Case, folder: Path, convention: str = "brats2023") -> list[Path]:
    """Write a case as NIfTI with BraTS 2023 names ('<name>-t1n.nii.gz', '<name>-seg.nii.gz'); returns the files.

    The folder is made where it does not exist. Raises OutputError as `write_image` does.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _output_error(folder, error) from error
    written = []
    for modality, image in case.images.items():
        if case.invented:
            image = sitk.Image(image)
            image.SetMetaData(FILE_NOTES, f"{PHANTOM}: invented anatomy, not a patient.")
        written.append(folder / f"{case.name}-{modality}.nii.gz")
        write_image(image, written[-1])
    if case.labels is not None:
        written.append(folder / f"{case.name}-seg.nii.gz")
        write_labels(case.labels, written[-1], convention)
    return written


def _output_error(path: Path, error: OSError) -> OutputError:
    causes = {
        errno.ENOENT: ("its folder does not exist.", f"Make {path.parent} first, or choose another folder."),
        errno.ENOTDIR: ("what should be its folder is a file.", "Choose another folder."),
        errno.EEXIST: ("a file of this name is in the way.", "Remove it or choose another name."),
        errno.EISDIR: ("it is a folder.", "Choose a file name that is not taken by a folder."),
        errno.EACCES: ("its folder may not be written to.", "Choose a folder of your own, or change its permissions."),
        errno.EPERM: ("its folder may not be written to.", "Choose a folder of your own, or change its permissions."),
        errno.EROFS: ("its disk is read-only.", "Choose a folder on another disk."),
        errno.ENOSPC: ("the disk is full.", "Free some space or choose a folder on another disk."),
        errno.EDQUOT: ("your disk quota is used up.", "Free some space or choose a folder on another disk."),
    }
    cause, remedy = causes.get(error.errno, (f"it cannot be written ({error.strerror}).", "Choose another folder."))
    return OutputError(path, cause, remedy)


def _writer_failed(path: Path, error: Exception) -> OutputError:
    """SimpleITK does not pass on why a write failed; a full disk is by far the likeliest, so look for that."""
    free = shutil.disk_usage(path.parent).free
    if free < 16 * 2**20:
        return _output_error(path, OSError(errno.ENOSPC, "No space left on device"))
    return OutputError(
        path,
        "it cannot be written in full.",
        f"Choose another folder or another format. {reader_said(error)}".strip(),
    )
