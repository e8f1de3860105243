"""A case from arrays with their places in space, as they lie in 3D Slicer: by the same checks as from files."""

from pathlib import PurePosixPath

import numpy as np

from MedSegLensLib.cases.case import MODALITIES, Case
from MedSegLensLib.cases.reading import assemble
from MedSegLensLib.cases.volume import check_intensities, check_labels, placed_image
from MedSegLensLib.errors import CaseError

SKEWED_DEGREES = 0.01
"""Axes that are turned by less to be perpendicular were so but for rounding."""

Placed = tuple[np.ndarray, np.ndarray, str]
"""array (Z, Y, X), ijk_to_ras (4, 4), name."""


def case_from_arrays(volumes: dict[str, Placed], labels: Placed | None = None, name: str = "case") -> Case:
    """A case from volumes by modality, and maybe a label volume.

    Raises CaseError for an unknown modality, a volume that is not 3D, holds NaN, is constant or holds labels, a label
    volume with other values, and grids that do not overlap.
    """
    unknown = [key for key in volumes if key not in MODALITIES]
    if unknown or not volumes:
        cause = f"{unknown[0]!r} is not a modality." if unknown else "no volume is given."
        raise CaseError(name, cause, f"Give at least one of {', '.join(MODALITIES)}.")
    images, notes = {}, []
    for modality in MODALITIES:
        if modality in volumes:
            image, called = _image(volumes[modality], modality, notes)
            images[modality] = check_intensities(image, called.name), called
    segmentation = None
    if labels is not None:
        image, called = _image(labels, "reference", notes)
        segmentation = check_labels(image, called.name), called
    return assemble(name, images, segmentation, notes)


def _image(placed: Placed, otherwise: str, notes: list[str]):
    array, ijk_to_ras, name = placed
    called = PurePosixPath((name or otherwise).replace("/", "_"))
    if array.ndim != 3 or array.shape[0] < 2 or array.size == 0:
        cause = f"it is {' x '.join(map(str, array.shape[::-1]))} values, not a volume of several slices."
        raise CaseError(called.name, cause, "Give a volume with one intensity per voxel.")
    if array.dtype == bool or array.dtype == np.float16:
        array = array.astype(np.uint8 if array.dtype == bool else np.float32)
    image, turned = placed_image(np.ascontiguousarray(array), ijk_to_ras, called.name)
    if turned > SKEWED_DEGREES:
        notes.append(f"The axes of {called.name} are not perpendicular; they were turned by {turned:.2g} degrees.")
    return image, called
