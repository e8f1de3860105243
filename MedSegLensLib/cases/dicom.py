"""A folder of DICOM series: which series is which modality, and its volume."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from MedSegLensLib.cases.case import MODALITIES, MODALITY_NAMES
from MedSegLensLib.cases.modality_words import modality_of
from MedSegLensLib.cases.volume import check_intensities, reader_said
from MedSegLensLib.errors import CaseError

FEWEST_SLICES = 3
"""A series of fewer slices is a scout or a key image, not a volume."""


@dataclass(frozen=True)
class Series:
    """One DICOM series: its files in slice order and what its header says of it."""

    uid: str
    files: tuple[str, ...]
    description: str
    agent: str
    number: str

    @property
    def in_words(self) -> str:
        """For example 'series 5 "AX T1 POST" (24 slices)'."""
        number = f"series {self.number} " if self.number else "series "
        return f'{number}"{self.description or "without description"}" ({len(self.files)} slices)'


def read_dicom_volumes(folder: Path) -> tuple[dict[str, tuple[sitk.Image, Path]], list[str]]:
    """Volumes of a folder of DICOM series (searched with its subfolders) by modality, each with a name, and notes.

    Raises CaseError when there is no series, none names a modality, two name the same one, or one cannot be read.
    """
    series = _find_series(folder)
    if not series:
        raise CaseError(
            folder,
            "it holds no volume that is read: no NIfTI, NRRD or MetaImage file and no DICOM series.",
            "Give the folder that holds the case's files, or name them with --t1n, --t1c, --t2w and --t2f.",
        )
    matched: dict[str, list[Series]] = {}
    for one in series:
        modality = modality_of(one.description, one.agent) if len(one.files) >= FEWEST_SLICES else None
        if modality:
            matched.setdefault(modality, []).append(one)
    if not matched:
        raise CaseError(
            folder,
            f"no series description names T1, T2 or FLAIR: {'; '.join(one.in_words for one in series[:6])}.",
            "Convert the series you need to NIfTI and name them with --t1n, --t1c, --t2w and --t2f.",
        )
    for modality in MODALITIES:
        rivals = matched.get(modality, [])
        if len(rivals) > 1:
            raise CaseError(
                folder,
                f"{len(rivals)} series look like {modality} ({MODALITY_NAMES[modality]}): "
                f"{'; '.join(one.in_words for one in rivals)}.",
                f"Leave only the right one in the folder, or convert it and name it with --{modality}.",
            )
    volumes, notes = {}, []
    for modality in MODALITIES:
        if modality in matched:
            one = matched[modality][0]
            image = _read_series(one, folder)
            volumes[modality] = (image, Path(one.description or one.uid))
            notes += [f"{one.in_words[0].upper()}{one.in_words[1:]} was taken as {modality}."]
    used = {one.uid for rivals in matched.values() for one in rivals}
    left = [one.in_words for one in series if one.uid not in used]
    if left:
        notes.append(f"Not used: {'; '.join(left)}.")
    return volumes, notes


def series_modalities(folder: Path) -> list[str]:
    """The modality of each series below `folder` that names one, from headers alone; twice where two name it."""
    found = [modality_of(s.description, s.agent) for s in _find_series(folder) if len(s.files) >= FEWEST_SLICES]
    return [modality for modality in found if modality]


def _find_series(folder: Path) -> list[Series]:
    """All image series below `folder`, by series number."""
    found: list[Series] = []
    folders = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]
    warnings = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # GDCM warns of every file that is not DICOM
    try:
        for place in folders:
            for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(place)):
                files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(place), uid)
                header = sitk.ImageFileReader()
                header.SetFileName(files[0])
                header.SetImageIO("GDCMImageIO")
                try:
                    header.ReadImageInformation()
                except RuntimeError as error:
                    raise _unreadable(Path(files[0]), error) from error
                tags = {key: header.GetMetaData(key).strip() for key in header.GetMetaDataKeys()}
                found.append(
                    Series(uid, files, tags.get("0008|103e", ""), tags.get("0018|0010", ""), tags.get("0020|0011", ""))
                )
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warnings)
    return sorted(found, key=lambda one: (int(one.number) if one.number.isdigit() else 10**9, one.uid))


def _read_series(series: Series, folder: Path) -> sitk.Image:
    """A series as a checked float32 volume. Refused where slices are missing."""
    subject = f"{folder} {series.in_words}"
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(series.files)
    reader.SetImageIO("GDCMImageIO")
    reader.MetaDataDictionaryArrayUpdateOn()
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise _unreadable(subject, error) from error
    places = [
        reader.GetMetaData(i, "0020|0032") for i in range(len(series.files)) if reader.HasMetaDataKey(i, "0020|0032")
    ]
    if len(places) == len(series.files):
        normal = np.array(image.GetDirection()).reshape(3, 3)[:, 2]
        along = np.array([[float(v) for v in place.split("\\")] for place in places]) @ normal
        gaps = np.abs(np.diff(along))
        if gaps.min() < 0.01 or gaps.max() > 1.5 * np.median(gaps):
            raise CaseError(
                subject,
                f"its slices are not evenly spaced ({gaps.min():.3g} to {gaps.max():.3g} mm apart): some are missing "
                "or belong to another volume.",
                "Export the series again in full, without others mixed in.",
            )
    return check_intensities(image, subject)


def _unreadable(subject: object, error: RuntimeError) -> CaseError:
    return CaseError(
        subject,
        "it cannot be read as DICOM: it is truncated, damaged or compressed in a way that is not supported.",
        f"Export it again, uncompressed. {reader_said(error)}",
    )
