"""The input: which volume in the scene is which modality, what is odd about the choice, and the volume as it is sent.

chosen = guess_modalities(candidates())
for concern in concerns(chosen): ...          # one sentence each, for the warning line
volumes = {m: volume_of(node) for m, node in chosen.items() if node}
"""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import slicer
import slicer.util

from MedSegLensLib.cases.case import MODALITIES, MODALITY_NAMES
from MedSegLensLib.cases.modality_words import modality_of, modality_of_ending
from MedSegLensLib.errors import CaseError
from MedSegLensLib.scene.grid import corners, ijk_to_world, is_warped, shape_of
from MedSegLensLib.scene.ownership import is_ours
from MedSegLensLib.worker.answers import Volume

LARGEST_LABEL = 10
"""A volume of whole numbers between 0 and this holds labels, not intensities (as in cases.volume)."""

THICK_MM = 3.0
"""Slices thicker than this are told: thin structures are missed, and volumes err."""

SAME_WITHIN_VOXELS = 0.02
"""Two grids are one when no corner voxel lies further apart (as in cases.grid)."""

Chosen = dict[str, slicer.vtkMRMLScalarVolumeNode | None]


def candidates() -> list[slicer.vtkMRMLScalarVolumeNode]:
    """The scene's volumes that may be an input: scalar, no label map, not made by MedSegLens; in the scene's order."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node for node in nodes if node.GetClassName() == "vtkMRMLScalarVolumeNode" and not is_ours(node)]


def guess_modality(node: slicer.vtkMRMLScalarVolumeNode) -> str | None:
    """The modality (t1n, t1c, t2w, t2f) that the node's DICOM header, name or file name tells, in this order, or None.

    A DICOM header comes first because it knows of a contrast agent that the name "AX T1" does not tell.
    """
    told = []
    header = _dicom_header(node)
    if header:
        told.append(modality_of(*header))
    storage = node.GetStorageNode()
    file = Path(storage.GetFileName() or "").name if storage else ""
    for name in (node.GetName() or "", re.sub(r"(\.nii|\.seg)?\.\w+$", "", file)):
        name = re.sub(r"_\d+$", "", name)  # what Slicer appends to tell nodes of one name apart
        ending = modality_of_ending(name)
        if ending == "seg":
            return None
        told += [ending, modality_of(name)]
    return next((modality for modality in told if modality), None)


def guess_modalities(nodes: list[slicer.vtkMRMLScalarVolumeNode]) -> Chosen:
    """A node for each modality, or None. Label volumes, and nodes of ours, are never chosen.

    Where several tell the same modality, those on the grid that most recognised volumes are on win, then the one
    loaded last.
    """
    told = {}
    for node in nodes:
        if node.IsA("vtkMRMLLabelMapVolumeNode") or is_ours(node) or not _has_voxels(node):
            continue
        modality = guess_modality(node)
        if modality and not _looks_like_labels(node):
            told.setdefault(modality, []).append(node)
    grids = Counter(_grid_key(node) for rivals in told.values() for node in rivals)
    return {
        modality: max(
            enumerate(told[modality]), key=lambda numbered: (grids[_grid_key(numbered[1])], numbered[0])
        )[1]
        if modality in told
        else None
        for modality in MODALITIES
    }


def concerns(chosen: Chosen) -> list[str]:
    """What is odd about the choice though the rest may be used, one sentence each with what to do; [] when all is well.

    Told: nothing chosen, a single modality, some missing, the same volume twice, two volumes with equal voxels, a label
    volume chosen as image, no voxels, different grids, thick slices, a transform that is not hardened.
    """
    given = {modality: node for modality, node in chosen.items() if node is not None}
    if not given:
        return ["No volume is chosen: load a study or choose its volumes below."]
    said = []
    missing = [m for m in MODALITIES if m not in given]
    if len(given) == 1:
        (only,) = given
        said.append(f"Only {MODALITY_NAMES[only]} is chosen: with a single modality expect a poor segmentation.")
    elif missing:
        said.append(f"{' and '.join(MODALITY_NAMES[m] for m in missing)} not chosen: expect less accuracy.")
    said += _concerns_of_each(given)
    said += _concerns_of_pairs({m: node for m, node in given.items() if _has_voxels(node)})
    return said


def volume_of(node: slicer.vtkMRMLVolumeNode) -> Volume:
    """The node's voxels (a view, not a copy) and where they lie in RAS, linear parent transforms included.

    Raises CaseError when there are no voxels, they are no scalars, or the parent transform warps or shears the volume:
    it has to be hardened first.
    """
    if not _has_voxels(node):
        raise CaseError(node.GetName(), "the volume has no voxels.", "Load it again, or choose another volume.")
    components = node.GetImageData().GetNumberOfScalarComponents()
    if components != 1:
        cause = f"each voxel has {components} values (colour, or several time points)."
        raise CaseError(node.GetName(), cause, "Choose a volume with one value per voxel.")
    if is_warped(node):
        cause = "its transform warps or shears it, so that its voxels no longer lie on a grid."
        raise CaseError(node.GetName(), cause, "Harden the transform: Data module, right click, Harden transform.")
    return Volume(slicer.util.arrayFromVolume(node), ijk_to_world(node), node.GetName())


def _concerns_of_each(given: Chosen) -> list[str]:
    said = []
    for modality, node in given.items():
        name = f"{node.GetName()} ({MODALITY_NAMES[modality]})"
        if not _has_voxels(node):
            said.append(f"{name} has no voxels: load it again, or choose another volume.")
            continue
        if node.IsA("vtkMRMLLabelMapVolumeNode") or _looks_like_labels(node):
            said.append(f"{name} looks like labels, not an image: choose the image.")
        if is_warped(node):
            said.append(f"{name} lies under a transform that warps or shears it: harden the transform.")
        elif max(node.GetSpacing()) > THICK_MM:
            said.append(f"{name} has slices of {max(node.GetSpacing()):.3g} mm: small parts may be missed.")
    return said


def _concerns_of_pairs(given: Chosen) -> list[str]:
    said = []
    order = list(given.items())
    for number, (modality, node) in enumerate(order):
        for other_modality, other in order[:number]:
            both = f"{MODALITY_NAMES[other_modality]} and {MODALITY_NAMES[modality]}"
            if node is other:
                said.append(f"{node.GetName()} is chosen as {both}: choose the right volume for each.")
            elif _equal_voxels(node, other):
                said.append(f"{other.GetName()} and {node.GetName()} hold the same voxels, chosen as {both}.")
    first_modality, first = order[0] if order else (None, None)
    apart = [MODALITY_NAMES[m] for m, node in order[1:] if node is not first and not _same_grid(node, first)]
    if apart:
        said.append(
            f"{' and '.join(apart)} on another grid than {MODALITY_NAMES[first_modality]}: resampled, which is right "
            "only when all are registered."
        )
    return said


def _dicom_header(node: slicer.vtkMRMLScalarVolumeNode) -> tuple[str, str] | None:
    """SeriesDescription and ContrastBolusAgent of a volume loaded from Slicer's DICOM database."""
    uids = (node.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(slicer, "dicomDatabase", None)  # absent when Slicer was started without its DICOM module
    if not uids or database is None:
        return None
    return database.instanceValue(uids[0], "0008,103E"), database.instanceValue(uids[0], "0018,0010")


def _has_voxels(node: slicer.vtkMRMLVolumeNode) -> bool:
    image = node.GetImageData()
    return image is not None and image.GetNumberOfPoints() > 0 and image.GetPointData().GetScalars() is not None


def _looks_like_labels(node: slicer.vtkMRMLVolumeNode) -> bool:
    array = slicer.util.arrayFromVolume(node)
    if array.max() > LARGEST_LABEL or array.min() < 0 or array.max() == 0:
        return False
    return bool(np.issubdtype(array.dtype, np.integer) or np.all(array == np.rint(array)))


def _grid_key(node: slicer.vtkMRMLVolumeNode) -> tuple:
    return (shape_of(node), *np.round(corners(node).ravel(), 1))


def _same_grid(node: slicer.vtkMRMLVolumeNode, other: slicer.vtkMRMLVolumeNode) -> bool:
    if shape_of(node) != shape_of(other):
        return False
    return bool(np.abs(corners(node) - corners(other)).max() <= SAME_WITHIN_VOXELS * min(other.GetSpacing()))


def _equal_voxels(node: slicer.vtkMRMLVolumeNode, other: slicer.vtkMRMLVolumeNode) -> bool:
    if shape_of(node) != shape_of(other):
        return False
    return np.array_equal(slicer.util.arrayFromVolume(node), slicer.util.arrayFromVolume(other))
