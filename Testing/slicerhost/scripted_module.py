"""`slicer.ScriptedLoadableModule`: the base classes of scripted modules, to Slicer's contract."""

import importlib
import logging
import os
import unittest

import slicer

__all__ = [
    "ScriptedLoadableModule",
    "ScriptedLoadableModuleWidget",
    "ScriptedLoadableModuleLogic",
    "ScriptedLoadableModuleTest",
]


class ScriptedLoadableModule:
    """What a module is: title, category, help. Its class's name is the module's name."""

    def __init__(self, parent):
        self.parent = parent
        self.moduleName = type(self).__name__
        if not hasattr(slicer, "selfTests"):
            slicer.selfTests = {}
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename):
        """A file of the module's Resources folder."""
        return os.path.join(os.path.dirname(self.parent.path), "Resources", filename)

    def getDefaultModuleDocumentationLink(self, docPage=None):
        """A link for the help text; the host has no documentation to link to."""
        return ""

    def runTest(self, msec=100, **kwargs):
        """Run the module's <name>Test class."""
        module = importlib.import_module(type(self).__module__)
        test = getattr(module, f"{self.moduleName}Test")()
        test.messageDelay = msec
        test.runTest(**kwargs)


class ScriptedLoadableModuleWidget:
    """The module's panel: `setup` fills `self.layout`."""

    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.parent, self.layout = parent, parent.layout()

    def resourcePath(self, filename):
        """A file of the module's Resources folder."""
        return os.path.join(os.path.dirname(slicer.util.modulePath(self.moduleName)), "Resources", filename)

    def setup(self):
        """Called once, before the panel is shown."""
        self.setupDeveloperSection()

    def setupDeveloperSection(self):
        """Slicer's "Reload and Test" section, which the host does not show."""

    def cleanup(self):
        """Called when the panel goes."""

    def onReload(self):
        """Load the module's file again."""
        slicer.util.reloadScriptedModule(self.moduleName)

    def onTest(self, **kwargs):
        """Run the module's self-test."""
        slicer.selfTests[self.moduleName](**kwargs)

    def onReloadAndTest(self, **kwargs):
        """Load the module's file again and run its self-test."""
        self.onReload()
        self.onTest(**kwargs)

    def onEditSource(self):
        """Slicer opens an editor."""
        raise NotImplementedError("the host has no editor")


class ScriptedLoadableModuleLogic:
    """What the module does, and its parameter node in the scene."""

    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self):
        """The module's vtkMRMLScriptedModuleNode, made where there is none."""
        scene = slicer.mrmlScene
        if self.isSingletonParameterNode:
            node = scene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            return node or self.createParameterNode()
        nodes = self.getAllParameterNodes()
        return nodes[0] if nodes else self.createParameterNode()

    def getAllParameterNodes(self):
        """Every parameter node of this module."""
        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self):
        """A new parameter node, in the scene."""
        scene = slicer.mrmlScene
        node = scene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(scene.GenerateUniqueName(self.moduleName))
        return scene.AddNode(node)


class ScriptedLoadableModuleTest(unittest.TestCase):
    """The module's self-test."""

    def __init__(self, *args, **kwargs):
        super().__init__(*(args or ("runTest",)), **kwargs)
        self.messageDelay = 0

    def setUp(self):
        """Close the scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """The default: nothing."""
        logging.warning("No test is defined in %s", type(self).__name__)

    def delayDisplay(self, message, requestedDelay=None, msec=None):
        """Say where the test is; the host does not wait."""
        logging.info(message)
        slicer.app.processEvents()

    def takeScreenshot(self, name, description, type=-1):
        """Slicer keeps an annotation; use the host's own screenshots."""
        raise NotImplementedError("the host takes screenshots by host.screenshot(path)")
