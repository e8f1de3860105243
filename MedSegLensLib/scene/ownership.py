"""Which nodes are ours, and whose: found again by node references from the owner, never by name.

The owner is the module's parameter node. A reference survives saving, renaming and merging a scene into another one,
and two owners (two sessions in one scene) never meet.
"""

import slicer

ROLE = "MedSegLens.Role"
"""Attribute of every node that MedSegLens makes; its value is the role. Such a node is never taken as input."""


def is_ours(node: slicer.vtkMRMLNode) -> bool:
    """Whether MedSegLens made `node`, for whatever owner."""
    return node.GetAttribute(ROLE) is not None


def found(owner: slicer.vtkMRMLNode, role: str) -> slicer.vtkMRMLNode | None:
    """The owner's node of that role; None when there is none, or the user deleted it."""
    raise NotImplementedError


def owned(owner: slicer.vtkMRMLNode, role: str, class_name: str, name: str) -> slicer.vtkMRMLNode:
    """The owner's node of that role, made anew (with the default display) where there is none."""
    raise NotImplementedError


def removed(owner: slicer.vtkMRMLNode, role: str) -> None:
    """Takes the owner's node of that role out of the scene."""
    raise NotImplementedError
