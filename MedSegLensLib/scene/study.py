"""The input: which volume in the scene is which modality, what is odd about the choice, and the volume as it is sent.

chosen = guess_modalities(candidates())
for concern in concerns(chosen): ...          # one sentence each, for the warning line
volumes = {m: volume_of(node) for m, node in chosen.items() if node}
"""

import slicer

from MedSegLensLib.worker.client import Volume


def candidates() -> list[slicer.vtkMRMLScalarVolumeNode]:
    """The scene's volumes that may be an input: scalar, no label map, not made by MedSegLens; in the scene's order."""
    raise NotImplementedError


def guess_modality(node: slicer.vtkMRMLScalarVolumeNode) -> str | None:
    """The modality (t1n, t1c, t2w, t2f) that the node's DICOM description, name or file name tells, or None."""
    raise NotImplementedError


def guess_modalities(
    nodes: list[slicer.vtkMRMLScalarVolumeNode],
) -> dict[str, slicer.vtkMRMLScalarVolumeNode | None]:
    """A node for each modality, or None. Label volumes, and nodes of ours, are never chosen.

    Where several tell the same modality, the one on the grid that most of the others are on wins, then the later one:
    it was loaded last.
    """
    raise NotImplementedError


def concerns(chosen: dict[str, slicer.vtkMRMLScalarVolumeNode | None]) -> list[str]:
    """What is odd about the choice though it may be used, one sentence each with what to do; [] when all is well.

    Told: nothing chosen, a single modality, one missing, the same volume twice, two volumes with equal voxels, a label
    volume chosen as image, no voxels, different grids, thick slices, a transform that is not hardened.
    """
    raise NotImplementedError


def volume_of(node: slicer.vtkMRMLVolumeNode) -> Volume:
    """The node's voxels (a view, not a copy) and where they lie in RAS, linear parent transforms included.

    Raises CaseError when there are no voxels, they are no scalars, or the parent transform is no rigid motion with
    scaling along the volume's axes (warped or sheared): harden it first.
    """
    raise NotImplementedError


def place(node: slicer.vtkMRMLTransformableNode, ijk_to_ras, like: slicer.vtkMRMLVolumeNode | None):
    """Put `node` under the transform of `like`; gives the (4, 4) IJK to RAS that it needs there for `ijk_to_ras`
    (world)."""
    raise NotImplementedError
