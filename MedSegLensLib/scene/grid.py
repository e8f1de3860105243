"""Where a volume's voxels lie: (4, 4) matrices from voxel indices (i, j, k) to RAS (mm), parent transforms included."""

import itertools

import numpy as np
import slicer
import slicer.util
import vtk


def shape_of(node: slicer.vtkMRMLVolumeNode) -> tuple[int, int, int]:
    """(Z, Y, X)."""
    return tuple(reversed(node.GetImageData().GetDimensions()))


def parent_to_world(node: slicer.vtkMRMLTransformableNode) -> np.ndarray:
    """(4, 4) of the node's parent transform, which must be linear; the identity where there is none."""
    matrix = vtk.vtkMatrix4x4()
    if node.GetParentTransformNode() is not None:
        node.GetParentTransformNode().GetMatrixTransformToWorld(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def ijk_to_world(node: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """(4, 4) from the node's voxel indices to RAS; its parent transform must be linear."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return parent_to_world(node) @ slicer.util.arrayFromVTKMatrix(matrix)


def is_warped(node: slicer.vtkMRMLVolumeNode) -> bool:
    """Whether a parent transform bends the node, or leaves its axes not at right angles: no grid any more."""
    parent = node.GetParentTransformNode()
    if parent is None:
        return False
    if not parent.IsTransformToWorldLinear():
        return True
    axes = ijk_to_world(node)[:3, :3]
    axes = axes / np.linalg.norm(axes, axis=0)
    return not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3)


def corners(node: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """Centres of the eight corner voxels, RAS, (8, 3)."""
    if is_warped(node):  # no affine says where they are; told apart from any other grid by nan
        return np.full((8, 3), np.nan)
    ends = itertools.product(*((0, n - 1) for n in reversed(shape_of(node))))
    return (ijk_to_world(node) @ np.array([(*end, 1) for end in ends]).T).T[:, :3]


def put_under(
    node: slicer.vtkMRMLTransformableNode, like: slicer.vtkMRMLVolumeNode | None, ijk_to_ras: np.ndarray
) -> np.ndarray:
    """Put `node` under the transform of `like`, so that it follows when that is moved or hardened.

    Gives the (4, 4) that `node` needs there for voxels that lie at `ijk_to_ras` in the world.
    """
    under = None if like is None or is_warped(like) else like.GetTransformNodeID()
    if node.GetTransformNodeID() != under:
        node.SetAndObserveTransformNodeID(under)
    return np.linalg.inv(parent_to_world(node)) @ np.asarray(ijk_to_ras, float)
