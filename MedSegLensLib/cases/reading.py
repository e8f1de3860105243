"""From a folder or from named files to a case."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from MedSegLensLib.cases.case import MODALITIES, MODALITY_NAMES, Case
from MedSegLensLib.cases.foreground import background_value, looks_unstripped
from MedSegLensLib.cases.grid import in_words, same_grid, voxel_ml
from MedSegLensLib.cases.modality_words import modality_of_ending
from MedSegLensLib.cases.volume import bare_name, is_volume_file, read_image, read_labels
from MedSegLensLib.errors import CaseError

LEAST_OVERLAP = 0.05
"""Share of a volume's foreground that must lie on the reference's grid."""


def read_case(path: Path) -> Case:
    """A case from a folder: NIfTI, NRRD or MetaImage files named as in `modality_words.ALIASES`, or else DICOM series.

    Raises CaseError when the path is no folder, names no modality or one twice, or a file cannot be used.
    """
    path = Path(path)
    if not path.is_dir():
        cause = "it is a file, not a folder." if path.exists() else "there is no such folder."
        raise CaseError(path, cause, "Give the case's folder, or single files with --t1n, --t1c, --t2w and --t2f.")
    # Files whose names begin with a dot are not meant to be seen: macOS puts a '._name' beside each file it copies.
    files = sorted(f for f in path.iterdir() if f.is_file() and is_volume_file(f) and not f.name.startswith("."))
    if not files:
        # Imported here because few cases come as DICOM.
        from MedSegLensLib.cases.dicom import read_dicom_volumes

        volumes, notes = read_dicom_volumes(path)
        return assemble(path.resolve().name, volumes, None, notes)

    found: dict[str, Path] = {}
    for file in files:
        key = modality_of_ending(bare_name(file))
        if key is None:
            continue
        if key in found:
            raise CaseError(
                path,
                f"{found[key].name} and {file.name} both claim to be {key}.",
                "Leave one of them in the folder" + (f", or name the right one with --{key}." if key != "seg" else "."),
            )
        found[key] = file
    if not set(found) & set(MODALITIES):
        raise CaseError(
            path,
            f"none of its files ({', '.join(f.name for f in files[:4])}{', ...' * (len(files) > 4)}) names a modality.",
            "Let names end in _t1, _t1ce, _t2, _flair or -t1n, -t1c, -t2w, -t2f, or use --t1n, --t1c, --t2w, --t2f.",
        )
    labels = found.pop("seg", None)
    return read_volumes(found, labels, path.resolve().name)


def read_volumes(volumes: dict[str, Path], labels: Path | None = None, name: str | None = None) -> Case:
    """A case from named files: {"t1n": path, ...}. `name` is the first file's where it is not given.

    Raises CaseError for an unknown modality, a file that cannot be used, or grids that do not overlap.
    """
    if not volumes:
        raise CaseError(name or "case", "no volume is given.", f"Give at least one of {', '.join(MODALITIES)}.")
    taken: dict[Path, str] = {}
    for key, path in volumes.items():
        if key not in MODALITIES:
            raise CaseError(path, f"{key!r} is not a modality.", f"Use one of {', '.join(MODALITIES)}.")
        first = taken.setdefault(Path(path).resolve(), key)
        if first != key:
            raise CaseError(path, f"it is given both as {first} and as {key}.", "Give each modality its own file.")
    images, notes = {}, []
    for modality in MODALITIES:
        if modality in volumes:
            path = Path(volumes[modality])
            image, said = read_image(path)
            images[modality] = (image, path)
            notes += said
    segmentation = None
    if labels is not None:
        segmentation, said = read_labels(labels)
        notes += said
    first = next(iter(images.values()))[1]
    notes = list(dict.fromkeys(notes))  # what each volume of a phantom says is said once
    return assemble(name or bare_name(first), images, (segmentation, Path(labels)) if labels else None, notes)


def assemble(
    name: str,
    volumes: dict[str, tuple[sitk.Image, Path]],
    labels: tuple[sitk.Image, Path] | None,
    notes: list[str],
) -> Case:
    """One case from checked volumes: one grid for all, and what there is to say about them.

    A path is only what a volume is called in notes and errors.
    """
    order = [m for m in MODALITIES if m in volumes]
    # The finest grid keeps every volume's detail; of equally fine ones the first in the order of MODALITIES.
    chosen = min(order, key=lambda m: round(voxel_ml(volumes[m][0]), 6))
    reference, source = volumes[chosen]
    images = {}
    for modality in order:
        image, path = volumes[modality]
        if same_grid(image, reference):
            image.CopyInformation(reference)  # the same to within rounding: make it exactly so
        else:
            before = in_words(image)
            image = _onto(image, reference, path, source)
            notes.append(
                f"{path.name} ({modality}, {before}) was resampled onto the grid of {source.name} "
                f"({chosen}, {in_words(reference)})."
            )
        images[modality] = image
    segmentation = None
    if labels is not None:
        segmentation, path = labels
        if same_grid(segmentation, reference):
            segmentation.CopyInformation(reference)
        else:
            notes.append(
                f"{path.name} (labels, {in_words(segmentation)}) was resampled onto the grid of {source.name}."
            )
            segmentation = _onto(segmentation, reference, path, source, labels=True)
    for modality in MODALITIES:
        if modality not in images:
            notes.append(f"{modality} ({MODALITY_NAMES[modality]}) is missing.")
    unstripped = [
        volumes[m][1].name
        for m in order
        if looks_unstripped(sitk.GetArrayViewFromImage(volumes[m][0]), voxel_ml(volumes[m][0]))
    ]
    if unstripped:
        notes.append(
            f"{', '.join(unstripped)} look{'s' * (len(unstripped) == 1)} not skull-stripped; "
            "BraTS models expect the brain alone, so strip the skull before trusting a result."
        )
    return Case(name, images, segmentation, tuple(notes))


def _onto(image: sitk.Image, reference: sitk.Image, path: Path, source: Path, labels: bool = False) -> sitk.Image:
    """`image` on the reference's grid: linear, labels nearest. Refused where the two hardly overlap."""
    array = sitk.GetArrayViewFromImage(image)
    background = 0.0 if labels else background_value(array)
    before = np.count_nonzero(array != background) * voxel_ml(image)
    kind = sitk.sitkNearestNeighbor if labels else sitk.sitkLinear
    moved = sitk.Resample(image, reference, sitk.Transform(), kind, background)
    after = np.count_nonzero(sitk.GetArrayViewFromImage(moved) != background) * voxel_ml(reference)
    if after < LEAST_OVERLAP * before:
        raise CaseError(
            path,
            f"its grid hardly overlaps in space with that of {source.name}.",
            "Check that both belong to the same patient and study and are registered, then export them again.",
        )
    return moved
