"""A folder of case folders: BraTS in all its years, and any other data laid out so, also as DICOM.

BraTS releases lie as `<release>/<case>/<case>-t1n.nii.gz` (2023 on) or `<release>/<case>/<case>_t1.nii.gz` (to 2021);
BraTS-Africa on TCIA has one folder more, `95_Glioma` and `51_OtherNeoplasms`, which becomes the fact `group`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from MedSegLensLib.cases.case import MODALITIES
from MedSegLensLib.cases.modality_words import modality_of_ending
from MedSegLensLib.cases.volume import bare_name, is_volume_file
from MedSegLensLib.cohorts.cohort import CohortCase, Fact
from MedSegLensLib.cohorts.found import Found, Progress, header_of, several, subfolders
from MedSegLensLib.cohorts.subjects import subject_of
from MedSegLensLib.errors import CaseError

DEEPEST = 3
"""Folders between the given one and a case's."""

SOURCES = {
    r"BraTS2021_\d": "BraTS 2021 (Baid et al., arXiv:2107.02314)",
    r"BraTS20_Training_\d": "BraTS 2020 (Bakas et al., arXiv:1811.02629)",
    r"BraTS-GLI-\d": "BraTS-GLI, adult glioma (Baid et al., arXiv:2107.02314; from 2024 de Verdier et al., "
    "arXiv:2405.18368)",
    r"BraTS-PED-\d": "BraTS-PEDs, children (Kazerooni et al., arXiv:2305.17033, arXiv:2404.15009)",
    r"BraTS-SSA-\d": "BraTS-Africa, Sub-Saharan Africa (Adewole et al., arXiv:2305.19369)",
}
"""By how the names of cases begin."""

SINCE_2023 = {1: 1, 2: 2, 3: 3, 4: 0}
"""BraTS-GLI and -MET: 4 is no ET as in 2021 but, from 2024 on, the resection cavity, which is no part of WT."""

PED_2024 = {1: 3, 2: 1, 3: 1, 4: 2}
"""BraTS-PEDs from 2024 on: 1 enhancing, 2 non-enhancing and 3 cystic tumour (both core), 4 edema."""

ASKED = 40
"""Label files of BraTS-PEDs that are opened to tell 2023's values from 2024's: the first 4 decides."""

LOOKED_AT = 8
"""Files of a folder that are opened to tell whether it holds DICOM: beside it lie a DICOMDIR, a note, a licence."""


def find(path: Path, progress: Progress | None = None) -> Found:
    """The cases below a folder. Raises CaseError where the folder is itself a case."""
    if _holds_volumes(path):
        cause = "it holds the volumes of one case, and is no folder of cases."
        raise CaseError(path, cause, "Give the folder around it.")
    # Where no folder holds volumes, each folder in the given one is taken for a case in DICOM, or it is itself one.
    folders = list(_case_folders(path, DEEPEST)) or ([path] if is_one_study(path) else subfolders(path))
    found = Found()
    for i, folder in enumerate(folders):
        if progress:
            progress("describing the cases", i / len(folders))
        group = "/".join(folder.relative_to(path).parts[:-1])
        try:
            facts = {"group": group} if group else {}
            found.cases.append(case_in(folder, folder.name, subject_of(folder.name), facts))
        except CaseError as problem:
            found.notes.append(f"{folder.name} was left out: {problem.cause}")
    found.source = next(
        (said for begins, said in SOURCES.items() if found.cases and re.match(begins, found.cases[0].name)), ""
    )
    if any(case.name.startswith("BraTS-PED-") for case in found.cases):
        _settle_ped_values(found)
    return found


def _case_folders(path: Path, deeper: int) -> Iterator[Path]:
    """Folders below `path` that hold a volume which names a modality, in order."""
    for folder in subfolders(path):
        try:
            if _holds_volumes(folder):
                yield folder
            elif deeper > 1:
                yield from _case_folders(folder, deeper - 1)
        except OSError:  # a folder that may not be looked at after all holds nothing for this user
            continue


def _holds_volumes(folder: Path) -> bool:
    return any(
        is_volume_file(file) and (modality_of_ending(bare_name(file)) or "seg") != "seg" for file in folder.iterdir()
    )


def is_one_study(folder: Path) -> bool:
    """Whether one DICOM study lies in a folder, as files or series by series in folders of their own, rather than the
    folders of several cases."""
    if _study_in(sorted(folder.iterdir())):
        return True
    first, same = None, 0
    for inside in subfolders(folder):
        try:
            files = sorted(path for path in inside.rglob("*") if path.is_file())
        except OSError:  # what may not be read is reported when it is its turn
            continue
        if any(path.parent == inside and is_volume_file(path) for path in files):
            return False
        study = _study_in(files)
        if study and study != (first := first or study):
            return False
        same += study is not None
    return same > 1


def _study_in(paths: list[Path]) -> str | None:
    """The study's UID of the first DICOM file among the first few files; None where there is none."""
    import SimpleITK as sitk

    files = [path for path in paths if path.is_file() and not path.name.startswith(".") and not is_volume_file(path)]
    warnings = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # GDCM warns of every file that is not DICOM
    try:
        for path in files[:LOOKED_AT]:
            reader = sitk.ImageFileReader()
            reader.SetFileName(str(path))
            reader.SetImageIO("GDCMImageIO")
            try:
                reader.ReadImageInformation()
            except RuntimeError:
                continue
            if reader.HasMetaDataKey("0020|000d"):
                return reader.GetMetaData("0020|000d").strip() or None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warnings)
    return None


def case_in(folder: Path, name: str, subject: str, facts: dict[str, Fact]) -> CohortCase:
    """The case whose volumes lie in a folder, as files or as DICOM series.

    Raises CaseError where two files or series are of one modality, none is, or a header cannot be read.
    """
    volumes = _volumes(folder)
    if not volumes:
        return _dicom_case(folder, name, subject, facts)
    labels = volumes.pop("seg", None)
    volumes = {m: volumes[m] for m in MODALITIES if m in volumes}
    header, notes = header_of(next(iter(volumes.values())))
    values = SINCE_2023 if labels and re.match(r"BraTS-(GLI|MET)-", name) else None
    return CohortCase(name, subject, folder, volumes, labels, header | facts, label_values=values, notes=notes)


def _volumes(folder: Path) -> dict[str, Path]:
    """File by modality ('seg' too); empty where there is no volume. Raises CaseError for two of one modality."""
    volumes: dict[str, Path] = {}
    for file in sorted(f for f in folder.iterdir() if is_volume_file(f) and not f.name.startswith(".")):
        key = modality_of_ending(bare_name(file))
        if key and key in volumes:
            cause = f"{volumes[key].name} and {file.name} both claim to be {key}."
            raise CaseError(folder, cause, "Leave one of them in the folder.")
        if key:
            volumes[key] = file
    return {} if set(volumes) <= {"seg"} else volumes


def _dicom_case(folder: Path, name: str, subject: str, facts: dict[str, Fact]) -> CohortCase:
    from MedSegLensLib.cases.dicom import series_modalities

    modalities = series_modalities(folder)
    twice = sorted({m for m in modalities if modalities.count(m) > 1})
    if twice:
        cause = f"several of its DICOM series look like {twice[0]}."
        raise CaseError(folder, cause, "Leave only the right one in the folder.")
    if not modalities:
        cause = "it holds no volume of a modality, neither as a file nor as a DICOM series."
        raise CaseError(folder, cause, "Give the case's own folder, with names as BraTS has them.")
    return CohortCase(name, subject, folder, facts=facts, series=tuple(m for m in MODALITIES if m in modalities))


def _settle_ped_values(found: Found) -> None:
    """Tell the two conventions of BraTS-PEDs apart by their values, since names and folders are the same."""
    import numpy as np
    import SimpleITK as sitk

    labelled = [case.labels for case in found.cases if case.labels and case.name.startswith("BraTS-PED-")]
    if not labelled:
        return
    asked = labelled[:: max(1, len(labelled) // ASKED)][:ASKED]
    later = any(np.any(sitk.GetArrayFromImage(sitk.ReadImage(str(path))) == 4) for path in asked)
    if later:
        found.cases = [
            CohortCase(**{**vars(case), "label_values": PED_2024 if case.labels else None}) for case in found.cases
        ]
    convention = (
        "2024 (1 ET, 2 and 3 core, 4 ED), since a 4 is among them"
        if later
        else f"2023 (1 core, 2 ED, 3 ET), since {several([path.parent.name for path in asked], 3)} have no 4"
    )
    found.notes.append(f"Labels were taken to follow BraTS-PEDs {convention}; --label-values says otherwise.")
