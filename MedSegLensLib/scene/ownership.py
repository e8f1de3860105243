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
    return owner.GetNodeReference(f"{ROLE}.{role}")


def owned(
    owner: slicer.vtkMRMLNode, role: str, class_name: str, name: str, saved: bool = True
) -> slicer.vtkMRMLDisplayableNode:
    """The owner's node of that role, made anew (with the default display) where there is none.

    saved: whether a node made here is saved with the scene and listed in Slicer's node selectors.
    """
    node = found(owner, role)
    if node is None:
        node = slicer.mrmlScene.CreateNodeByClass(class_name)
        node.UnRegister(None)  # CreateNodeByClass gives a reference away
        node.SetName(slicer.mrmlScene.GenerateUniqueName(name))
        node.SetAttribute(ROLE, role)
        node.SetSaveWithScene(saved)
        node.SetHideFromEditors(not saved)
        slicer.mrmlScene.AddNode(node)
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetSaveWithScene(saved)
        owner.SetNodeReferenceID(f"{ROLE}.{role}", node.GetID())
    return node


def remove(owner: slicer.vtkMRMLNode, role: str) -> None:
    """Takes the owner's node of that role, where there is one, out of the scene with its display and storage."""
    node = found(owner, role)
    if node is None:
        return
    parts = [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
    for one in (node, *parts, node.GetStorageNode()):
        if one is not None:
            slicer.mrmlScene.RemoveNode(one)


def roles(owner: slicer.vtkMRMLNode) -> list[str]:
    """The roles that the owner has or had a node for."""
    kept = [owner.GetNthNodeReferenceRole(n) for n in range(owner.GetNumberOfNodeReferenceRoles())]
    return [role.removeprefix(f"{ROLE}.") for role in kept if role.startswith(f"{ROLE}.")]


def set_beside(node: slicer.vtkMRMLNode, input_node: slicer.vtkMRMLNode | None) -> None:
    """Put `node` into the folder (patient, study) of the subject hierarchy that `input_node` is in."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    beside = 0 if hierarchy is None or input_node is None else hierarchy.GetItemByDataNode(input_node)
    if not beside:
        return
    folder, item = hierarchy.GetItemParent(beside), hierarchy.GetItemByDataNode(node)
    if not item:  # Slicer's application makes an item for each node; its core alone does not
        hierarchy.CreateItem(folder, node)
    elif hierarchy.GetItemParent(item) != folder:
        hierarchy.SetItemParent(item, folder)
