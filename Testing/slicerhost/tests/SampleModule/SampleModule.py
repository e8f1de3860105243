"""A scripted module as Slicer's wizard lays one out: panel from a .ui file, parameter node, logic, self-test."""

import enum
import pathlib
from typing import Annotated

import ctk
import qt
import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, Default, WithinRange, parameterNodeWrapper, parameterPack
from slicer.ScriptedLoadableModule import *  # noqa: F403
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class SampleModule(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Sample")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Examples")]
        self.parent.dependencies = []
        self.parent.contributors = ["Nobody"]
        self.parent.helpText = _("Thresholds a volume.")
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="Sample",
        sampleName="Sample1",
        uris="file:///nowhere/sample.nrrd",
        fileNames="sample.nrrd",
        nodeNames="Sample1",
        checksums="SHA256:" + 64 * "0",
    )


class Mode(enum.Enum):
    ABOVE = 1
    BELOW = 2


@parameterPack
class Window:
    width: Annotated[float, WithinRange(0, 1000)] = 100.0
    level: float = 50.0


@parameterNodeWrapper
class SampleModuleParameterNode:
    inputVolume: vtkMRMLScalarVolumeNode
    threshold: Annotated[float, WithinRange(-100, 500)] = 100
    steps: Annotated[int, WithinRange(1, 9), Default(3)]
    invert: bool = False
    title: str = "untitled"
    rank: Annotated[str, Choice(["size", "name"])] = "size"
    mode: Mode = Mode.BELOW
    names: list[str]
    folder: pathlib.Path
    counts: dict[str, int]
    window: Window


class SampleModuleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self.states = []

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/SampleModule.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = SampleModuleLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.slider = ctk.ctkDoubleSlider()
        self.slider.orientation = qt.Qt.Horizontal
        self.slider.maximum = 5
        self.slider.singleStep = 0.05
        self.slider.connect("valueChanged(double)", self.states.append)
        self.ui.advancedCollapsibleButton.layout().addWidget(self.slider)
        self.initializeParameterNode()

    def cleanup(self):
        self.removeObservers()

    def enter(self):
        self.states.append("enter")
        self.initializeParameterNode()

    def exit(self):
        self.states.append("exit")
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self._parameterNodeGuiTag = None
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanApply)

    def onSceneStartClose(self, caller, event):
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.inputVolume:
            first = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            if first:
                self._parameterNode.inputVolume = first

    def setParameterNode(self, inputParameterNode):
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanApply)
        self._parameterNode = inputParameterNode
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanApply)
            self._checkCanApply()

    def _checkCanApply(self, caller=None, event=None):
        ready = bool(self._parameterNode and self._parameterNode.inputVolume)
        self.ui.applyButton.enabled = ready
        self.ui.applyButton.toolTip = _("Compute") if ready else _("Select a volume")

    def onApplyButton(self):
        with slicer.util.tryWithErrorDisplay(_("Failed to compute results."), waitCursor=True):
            p = self._parameterNode
            count = self.logic.process(p.inputVolume, p.threshold, p.invert)
            self.ui.resultLabel.text = _("{count} voxels").format(count=count)


class SampleModuleLogic(ScriptedLoadableModuleLogic):
    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)

    def getParameterNode(self):
        return SampleModuleParameterNode(super().getParameterNode())

    def process(self, volume, threshold, invert):
        if threshold < 0:
            raise ValueError("Threshold is negative")
        above = slicer.util.arrayFromVolume(volume) > threshold
        return int((~above if invert else above).sum())


class SampleModuleTest(ScriptedLoadableModuleTest):
    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_counts()

    def test_counts(self):
        import numpy as np

        volume = slicer.util.addVolumeFromArray(np.full((2, 3, 4), 7.0))
        self.assertEqual(SampleModuleLogic().process(volume, 5, False), 24)
        self.delayDisplay("Test passed")
