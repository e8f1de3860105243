"""The studies in a scene, for a batch: volumes of one folder of the subject hierarchy, or whose names differ only in
the modality."""

import re
from dataclasses import dataclass

import slicer

from MedSegLensLib.scene.study import candidates, guess_modalities, guess_modality


@dataclass(frozen=True)
class Study:
    """Volume nodes by modality, those that are there."""

    name: str
    volumes: dict[str, slicer.vtkMRMLScalarVolumeNode]


def find_studies() -> list[Study]:
    """The studies among `candidates()`, by name. A volume whose modality is not told belongs to none."""
    groups: dict[str, list] = {}
    for node in candidates():
        if guess_modality(node):
            groups.setdefault(_folder(node) or _stem(node.GetName()), []).append(node)
    studies = []
    for name, nodes in groups.items():
        volumes = {m: node for m, node in guess_modalities(nodes).items() if node is not None}
        if volumes:
            studies.append(Study(name, volumes))
    return sorted(studies, key=lambda s: s.name)


def result_owner(name: str) -> slicer.vtkMRMLScriptedModuleNode:
    """The node that owns a study's result of a batch, made where there is none: see `ownership`."""
    tag = f"MedSegLens.Batch.{name}"
    node = slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLScriptedModuleNode")
    if node is None:
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        node.SetSingletonTag(tag)
        node.SetName(slicer.mrmlScene.GenerateUniqueName("MedSegLens batch"))
        node.SetModuleName("MedSegLensBatch")
        node = slicer.mrmlScene.AddNode(node)
    return node


def _folder(node: slicer.vtkMRMLScalarVolumeNode) -> str:
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(node)
    parent = hierarchy.GetItemParent(item)
    return "" if parent in (0, hierarchy.GetSceneItemID()) else hierarchy.GetItemName(parent)


def _stem(name: str) -> str:
    """The name without the words that tell the modality: 'BraTS_01 t1ce' and 'BraTS_01_flair' give 'BraTS_01'."""
    stem = re.sub(r"(?i)[\s_.-]*(t1ce|t1gd|t1c|t1n|t1w?|t2w|t2f|t2|flair|post|contrast|\+c)(?=$|[\s_.-])", "", name)
    return stem.strip(" _.-") or name
