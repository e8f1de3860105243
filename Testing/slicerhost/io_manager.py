"""`slicer.app.coreIOManager()`: reads and writes nodes and scenes by MRML's logics and storage nodes."""

import os

import slicer
import vtk
from PySide6 import QtCore

from .ctk_widgets import host_widget

READERS = {
    "VolumeFile": (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd", ".hdr", ".img", ".dcm"),
    "SegmentationFile": (".seg.nrrd", ".seg.nhdr"),
    "SceneFile": (".mrml", ".mrb"),
    "MarkupsFile": (".mrk.json", ".fcsv"),
    "ColorTableFile": (".ctbl", ".cxml", ".csv"),
    "TransformFile": (".h5", ".tfm", ".txt"),
    "ModelFile": (".vtk", ".vtp", ".stl", ".obj", ".ply"),
}


@host_widget
class qSlicerIOManager(QtCore.QObject):
    """Files to nodes and back. Raises NotImplementedError for a kind of file that the host does not read."""

    newFileLoaded, fileSaved = QtCore.Signal(object), QtCore.Signal(object)

    def fileType(self, file_name):
        known = [(len(e), kind) for kind, ends in READERS.items() for e in ends if str(file_name).lower().endswith(e)]
        return max(known)[1] if known else "NoFile"

    def loadNodes(self, file_type, properties, loaded=None, messages=None):
        name = properties["fileName"]
        names = [name] if isinstance(name, str | os.PathLike) else list(name)
        nodes = [self._load(file_type, str(n), properties, messages) for n in names]
        if loaded is not None:
            for node in filter(None, nodes):
                if node is not True:
                    loaded.AddItem(node)
        return all(n is not None for n in nodes)

    def loadScene(self, file_name, clear=True, messages=None):
        return self._load("SceneFile", str(file_name), {"clear": clear}, messages) is not None

    def saveScene(self, file_name, screenshot=None, messages=None):
        return self.saveNodes("SceneFile", {"fileName": file_name}, messages)

    def fileWriterFileType(self, node, extension=""):
        kinds = {"vtkMRMLSegmentationNode": "SegmentationFile", "vtkMRMLVolumeNode": "VolumeFile"}
        return next((kind for cls, kind in kinds.items() if node.IsA(cls)), f"{node.GetClassName()}File")

    def saveNodes(self, file_type, properties, messages=None, scene=None):
        scene = scene or slicer.mrmlScene
        file_name = str(properties["fileName"])
        if file_type == "SceneFile":
            return self._save_scene(scene, file_name, messages)
        node = scene.GetNodeByID(properties["nodeID"])
        storage = node.GetStorageNode()
        if storage is None:
            node.AddDefaultStorageNode(file_name)
            storage = node.GetStorageNode()
        storage.SetFileName(file_name)
        if "useCompression" in properties:
            storage.SetUseCompression(properties["useCompression"])
        return bool(storage.WriteData(node))

    def addDefaultStorageNodes(self):
        for node in slicer.util.getNodesByClass("vtkMRMLStorableNode"):
            if node.GetSaveWithScene() and node.GetStorageNode() is None:
                node.AddDefaultStorageNode()

    def _save_scene(self, scene, file_name, messages):
        if file_name.endswith(".mrb"):
            return bool(scene.WriteToMRB(file_name, None, messages))
        if file_name.endswith(".mrml"):
            scene.SetURL(file_name)
            return bool(scene.Commit())
        raise NotImplementedError(f"the host saves scenes as .mrb and .mrml, not as {file_name}")

    def _load(self, kind, path, properties, messages):
        if not os.path.exists(path):
            if messages is not None:
                messages.AddMessage(vtk.vtkCommand.ErrorEvent, f"File does not exist: {path}")
            return None
        if kind == "VolumeFile":
            return self._load_volume(path, properties)
        if kind == "SegmentationFile":
            logic = slicer.modules.segmentations.logic()
            return logic.LoadSegmentationFromFile(path, True, properties.get("name", ""))
        if kind == "SceneFile":
            return self._load_scene(path, properties, messages)
        if kind == "MarkupsFile":
            node_id = slicer.modules.markups.logic().LoadMarkups(path, properties.get("name"))
            return slicer.mrmlScene.GetNodeByID(node_id) if node_id else None
        if kind == "ColorTableFile":
            return slicer.modules.colors.logic().LoadColorFile(path, properties.get("name"))
        if kind == "ModelFile":
            return slicer.modules.models.logic().AddModel(path)
        raise NotImplementedError(f"the host does not read a {kind} ({path})")

    def _load_volume(self, path, properties):
        bits = {"labelmap": 1, "center": 2, "singleFile": 4, "autoWindowLevel": 8, "discardOrientation": 16}
        options = sum(bit for name, bit in bits.items() if properties.get(name))
        base = os.path.basename(path)
        stem = next((base[: -len(e)] for e in sorted(READERS["VolumeFile"], key=len)[::-1] if base.endswith(e)), base)
        node = slicer.modules.volumes.logic().AddArchetypeVolume(path, properties.get("name") or stem, options)
        if node is not None and properties.get("show", True):
            label = node.IsA("vtkMRMLLabelMapVolumeNode")
            selection = slicer.app.applicationLogic().GetSelectionNode()
            (selection.SetActiveLabelVolumeID if label else selection.SetActiveVolumeID)(node.GetID())
            slicer.app.applicationLogic().PropagateVolumeSelection()
        return node

    def _load_scene(self, path, properties, messages):
        scene, clear = slicer.mrmlScene, properties.get("clear", True)
        if path.endswith(".mrb"):
            return True if scene.ReadFromMRB(path, clear, messages) else None
        scene.SetURL(path)
        return True if (scene.Connect() if clear else scene.Import()) else None
