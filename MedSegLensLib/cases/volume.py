"""One volume from one file, checked: what cannot be used is refused here, with the file, the cause and the remedy."""

import gzip
import math
import re
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from MedSegLensLib.cases.case import PHANTOM
from MedSegLensLib.errors import CaseError

FILE_NOTES = "ITK_FileNotes"
"""SimpleITK's name for a NIfTI header's `descrip`, 79 characters in words."""

FORMATS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")

_READERS = {
    ".nii": "NiftiImageIO",
    ".gz": "NiftiImageIO",
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}

SMALLEST_SPACING, LARGEST_EXTENT = 0.01, 1000.0
"""In mm: of a voxel's side and of a whole volume's."""

LARGEST_LABEL = 10
"""A volume of whole numbers between 0 and this holds labels, not intensities."""


def is_volume_file(path: Path) -> bool:
    """Whether the file's name ends like a format that is read (`FORMATS`)."""
    return path.name.lower().endswith(FORMATS)


def bare_name(path: Path) -> str:
    """The file's name without its format: 'a_t1' of 'a_t1.nii.gz'."""
    for suffix in FORMATS:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def read_image(path: Path) -> tuple[sitk.Image, list[str]]:
    """An intensity volume as float32, and notes.

    Raises CaseError when the file is absent, truncated or no image, is not 3D, has colour, holds NaN or infinite
    voxels, is zero throughout, or holds labels instead of intensities.
    """
    image, notes = _read(path)
    return check_intensities(image, path), notes


def read_labels(path: Path) -> tuple[sitk.Image, list[str]]:
    """A label volume as uint8 with BraTS 2023 values (a 4, BraTS 2021's ET, becomes 3), and notes.

    Raises CaseError as `read_image` does, and for values that are not BraTS labels or hold both 3 and 4.
    """
    image, notes = _read(path)
    return check_labels(image, path), notes


def read_mask(path: Path) -> sitk.Image:
    """Where a volume of any values is not 0, as uint8. Raises CaseError as `read_image` does for what is no volume."""
    image, _ = _read(path)
    _check_one_value(image, path)
    _check_finite(sitk.GetArrayViewFromImage(image), path)
    return image != 0


def check_labels(image: sitk.Image, subject: object) -> sitk.Image:
    """`image` as uint8 with BraTS 2023 values, once it is sure to hold labels; `subject` is what an error names."""
    _check_one_value(image, subject)
    _check_finite(sitk.GetArrayViewFromImage(image), subject)
    values = np.unique(sitk.GetArrayViewFromImage(image))
    strange = [v for v in values.tolist() if v not in (0, 1, 2, 3, 4)]
    if strange:
        raise CaseError(
            subject,
            f"it holds values that are no BraTS labels, such as {strange[0]:g} ({len(strange)} such values).",
            "Give a segmentation with 0 background, 1 NCR, 2 ED and 3 (or, as in BraTS 2021, 4) ET.",
        )
    if 3 in values and 4 in values:
        raise CaseError(
            subject,
            "it holds both 3 and 4, so that it follows neither BraTS 2021 (4 is ET) nor BraTS 2023 (3 is ET).",
            "Relabel it to 1 NCR, 2 ED, 3 ET.",
        )
    image = sitk.Cast(image, sitk.sitkUInt8)
    return sitk.ChangeLabel(image, {4: 3}) if 4 in values else image


def check_intensities(image: sitk.Image, subject: object) -> sitk.Image:
    """`image` as float32, once it is sure to hold intensities; `subject` is what an error names."""
    _check_one_value(image, subject)
    _check_size(image, subject)
    image = sitk.Cast(image, sitk.sitkFloat32)
    array = sitk.GetArrayViewFromImage(image)
    _check_finite(array, subject)
    low, high = array.min(), array.max()
    if low == high:
        cause = "every voxel is zero." if low == 0 else f"every voxel is {low:g}."
        raise CaseError(subject, cause, "Check the export of this series, or leave the file out of the case.")
    if low >= 0 and high <= LARGEST_LABEL and np.array_equal(array, np.rint(array)):
        raise CaseError(
            subject,
            f"it holds only whole numbers from {low:g} to {high:g}: labels or a mask, not an image.",
            "Give the intensity volume here; a segmentation lies in the case's folder with a name that ends in seg.",
        )
    return image


def _check_one_value(image: sitk.Image, subject: object) -> None:
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise CaseError(
            subject,
            f"it has {image.GetNumberOfComponentsPerPixel()} values per voxel (colour or vectors).",
            "Give a volume with one intensity per voxel.",
        )
    if "complex" in image.GetPixelIDTypeAsString():
        raise CaseError(subject, "its voxels are complex numbers.", "Export the magnitude.")


def _check_size(image: sitk.Image, subject: object) -> None:
    """A header in metres or micrometres would be resampled to nothing, or to more than the memory holds."""
    spacing = image.GetSpacing()
    extent = [n * s for n, s in zip(image.GetSize(), spacing, strict=True)]
    if min(spacing) < SMALLEST_SPACING or max(extent) > LARGEST_EXTENT:
        raise CaseError(
            subject,
            f"by its header a voxel is {' x '.join(f'{s:.3g}' for s in spacing)} mm and the whole volume "
            f"{' x '.join(f'{e:.3g}' for e in extent)} mm, which no study of a head is.",
            "Correct the spacing in its header (it is in mm), or export it again.",
        )


def _check_finite(array: np.ndarray, subject: object) -> None:
    bad = array.size - int(np.count_nonzero(np.isfinite(array))) if array.dtype.kind == "f" else 0
    if bad:
        raise CaseError(
            subject,
            f"{bad} of its {array.size} voxels are NaN or infinite.",
            "Export it again, or replace them (for example by 0) if you know why they are there.",
        )


def _read(path: Path) -> tuple[sitk.Image, list[str]]:
    """The file as a 3D volume, without a look at its voxels."""
    path = Path(path)
    if not path.is_file():
        cause = "it is a folder, not a file." if path.is_dir() else "there is no such file."
        raise CaseError(path, cause, "Check the path.")
    if not is_volume_file(path):
        raise CaseError(path, "its format is not read.", f"Convert it to one of {', '.join(FORMATS)}.")
    check_complete(path)
    if path.name.lower().endswith((".nii", ".nii.gz")):
        # SimpleITK turns the NaN and infinite voxels of a NIfTI file into zeros, so they are looked for before.
        nifti = nibabel.load(path)
        if nifti.get_data_dtype().kind == "f":
            _check_finite(np.asanyarray(nifti.dataobj), path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    # The reader is named, so that the error speaks of this format and not of a list of all that were tried.
    reader.SetImageIO(_READERS[path.suffix.lower()])
    try:
        image, notes = reader.Execute(), []
    except RuntimeError as error:
        if "orthonormal" not in str(error):
            raise _unreadable(path, error) from error
        image, notes = _read_skewed_nifti(path)
    told = image.GetMetaData(FILE_NOTES) if image.HasMetaDataKey(FILE_NOTES) else ""
    if told.startswith(PHANTOM):
        notes = [told, *notes]
    return _as_3d(image, path, notes)


def reader_said(error: Exception) -> str:
    """What a reading library gave as the reason, in a sentence, without its addresses and source lines."""
    lines = [
        re.sub(r"^(ITK ERROR|sitk::ERROR): *|\w+\(0x[0-9a-f]+\): *", "", line).strip()
        for line in str(error).splitlines()
    ]
    told = [line for line in lines if line and not re.match(r"Exception thrown|Reason:|/|\S+\.(cxx|hxx|h):\d+", line)]
    return f"The reader said: {told[-1]}" if told else ""


def _unreadable(path: Path, error: Exception) -> CaseError:
    return CaseError(
        path,
        "it cannot be read: it is truncated, damaged or no image of the format that its name says.",
        f"Copy or export it again. {reader_said(error)}".strip(),
    )


def check_complete(path: Path) -> None:
    """Raise CaseError for a file that ends too early or whose compressed data are damaged.

    SimpleITK reads a truncated NIfTI file without a word and leaves the missing voxels as whatever the memory held,
    and writes one without a word when the disk is full. Of the other formats it tells by itself.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return
    try:
        header = nibabel.load(path).header
        wanted = int(header["vox_offset"]) + header.get_data_dtype().itemsize * math.prod(header.get_data_shape())
        if path.suffix.lower() == ".gz":
            there = 0
            with gzip.open(path) as file:  # reading to the end compares the checksum
                while chunk := file.read(1 << 22):
                    there += len(chunk)
        else:
            there = path.stat().st_size
    except Exception as error:  # nibabel, gzip and zlib raise many kinds for a damaged file
        raise _unreadable(path, error) from error
    if there < wanted:
        raise _unreadable(path, EOFError(f"{there} of {wanted} bytes are there"))


def _as_3d(image: sitk.Image, path: Path, notes: list[str]) -> tuple[sitk.Image, list[str]]:
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        return image[:, :, :, 0], [*notes, f"{path.name} is 4D with a single time point, which was taken."]
    if image.GetDimension() == 3 and image.GetSize()[2] > 1:
        return image, notes
    if image.GetDimension() == 4:
        raise CaseError(path, f"it is 4D with {image.GetSize()[3]} volumes.", "Give one 3D file for each modality.")
    raise CaseError(
        path, "it is a single 2D slice, not a volume.", "Give the 3D volume (for DICOM: the folder of the series)."
    )


def _read_skewed_nifti(path: Path) -> tuple[sitk.Image, list[str]]:
    """A NIfTI file whose axes SimpleITK refuses as not perpendicular, with the nearest axes that are.

    Such headers come from rounding and from registration tools that write shears. The nearest orthonormal matrix
    (polar decomposition) is taken and the volume's centre kept in place.
    """
    try:
        nifti = nibabel.load(path)
        array = np.asanyarray(nifti.dataobj)
    except Exception as error:  # nibabel raises many kinds for a damaged file
        raise _unreadable(path, error) from error
    if array.ndim != 3:
        return sitk.GetImageFromArray(np.ascontiguousarray(array.T).astype(np.float32)), []
    image, turned = placed_image(np.ascontiguousarray(array.T).astype(np.float32), nifti.affine, path)
    return image, [f"The axes in {path.name}'s header are not perpendicular; they were turned by {turned:.2g} degrees."]


def placed_image(array: np.ndarray, ijk_to_ras: np.ndarray, subject: object) -> tuple[sitk.Image, float]:
    """An array (Z, Y, X) as a volume with the nearest axes that are perpendicular (polar decomposition), its centre
    kept in place; and by how many degrees they had to be turned.

    ijk_to_ras: (4, 4), from index (x, y, z) to RAS mm. Raises CaseError, naming `subject`, where it gives no place.
    """
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(ijk_to_ras, float)  # RAS to LPS
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or np.any(spacing <= 0) or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        cause = "its header gives no usable position in space."
        raise CaseError(subject, cause, "Export it again with a valid affine.")
    axes = affine[:3, :3] / spacing
    u, _, v = np.linalg.svd(axes)
    direction = u @ v
    turned = float(np.degrees(np.arccos(np.clip((axes * direction).sum(axis=0), -1, 1))).max())
    middle = (np.array(array.shape[::-1]) - 1) / 2
    origin = (affine[:3, :3] @ middle + affine[:3, 3]) - direction @ (spacing * middle)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin(origin.tolist())
    return image, turned
