"""`slicer.app`, `slicer.modules` and the main window."""

import os
import sys
import tempfile
import types
from pathlib import Path

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from .ctk_widgets import host_widget
from .io_manager import qSlicerIOManager
from .pythonqt import host_property as Property
from .qmrml_widgets import qMRMLWidget

Signal = QtCore.Signal
VERSION = "5.13.0"
LOGICS = {
    "Colors": "vtkSlicerColorLogic",
    "Units": "vtkSlicerUnitsLogic",
    "Cameras": "vtkSlicerCamerasModuleLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Models": "vtkSlicerModelsLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "SceneViews": "vtkSlicerSceneViewsModuleLogic",
}


@host_widget
class qSlicerApplication(QtWidgets.QApplication):
    """`slicer.app`. Settings live in a folder of this process and go with it."""

    startupCompleted, renderPaused = Signal(), Signal(bool)
    mrmlSceneChanged, urlReceived = Signal(object), Signal(str)
    temporaryPath = Property(str, lambda s: s._temporary, lambda s, v: setattr(s, "_temporary", v))
    slicerHome = Property(str, lambda s: str(Path(s._folder) / "home"))
    slicerSharePath = Property(str, lambda s: "share/Slicer-5.13")
    cachePath = Property(str, lambda s: str(Path(s._folder) / "cache"))
    extensionsInstallPath = Property(str, lambda s: str(Path(s._folder) / "extensions"))
    majorVersion, minorVersion = Property(int, lambda s: 5), Property(int, lambda s: 13)
    mainApplicationName = Property(str, lambda s: "Slicer")
    mainApplicationDisplayName = Property(str, lambda s: "MedSegLens host")
    os = Property(str, lambda s: {"linux": "linux", "darwin": "macosx"}.get(sys.platform, "win"))
    revision = repositoryRevision = Property(str, lambda s: "host")
    documentationBaseUrl = Property(str, lambda s: "")
    applicationLocaleName = Property(str, lambda s: "en_US")

    def __init__(self):
        super().__init__(["MedSegLens host"])
        self.setOrganizationName("MedSegLens")
        self.setApplicationName("MedSegLens host")
        self.setApplicationVersion(VERSION)
        self._host_folder = tempfile.TemporaryDirectory(prefix="slicerhost-")
        self._folder = self._host_folder.name
        for name in ("home", "cache", "extensions", "temporary", "settings"):
            os.makedirs(os.path.join(self._folder, name))
        self._temporary = os.path.join(self._folder, "temporary")
        settings = QtCore.QSettings
        settings.setPath(settings.Format.IniFormat, settings.Scope.UserScope, os.path.join(self._folder, "settings"))
        self._settings = QtCore.QSettings()
        self._testing = False
        self._logic = self._layout_manager = None
        self._io = qSlicerIOManager()
        self._modules = qSlicerModuleManager()

    def _start(self, scene):
        self._logic = slicer.vtkSlicerApplicationLogic()
        self._logic.SetSliceLogics(vtk.vtkCollection())
        self._logic.SetViewLogics(vtk.vtkCollection())
        self._logic.SetMRMLScene(scene)
        self._logic.SetTemporaryPath(self._temporary)
        cache = slicer.vtkCacheManager()
        cache.SetRemoteCacheDirectory(os.path.join(self._folder, "cache"))
        cache.SetMRMLScene(scene)
        transfers = slicer.vtkDataIOManager()
        transfers.SetCacheManager(cache)
        scene.SetCacheManager(cache)
        scene.SetDataIOManager(transfers)
        self._logic.GetColorLogic().SetMRMLScene(scene)
        self._logic.GetColorLogic().AddDefaultColorNodes()

    def applicationLogic(self):
        return self._logic

    def mrmlScene(self):
        return slicer.mrmlScene

    def layoutManager(self):
        return self._layout_manager

    def moduleManager(self):
        return self._modules

    def moduleLogic(self, name):
        return getattr(slicer.modules, name.lower()).logic()

    def coreIOManager(self):
        return self._io

    def ioManager(self):
        return self._io

    def userSettings(self):
        return self._settings

    def settings(self):
        return self._settings

    revisionUserSettings = userSettings

    def testingEnabled(self):
        return self._testing

    def commandOptions(self):
        return types.SimpleNamespace(testingEnabled=self._testing, noMainWindow=False)

    def processEvents(self, *flags):
        QtWidgets.QApplication.processEvents(*flags)

    def pauseRender(self):
        if self._layout_manager:
            self._layout_manager.pauseRender()

    def resumeRender(self):
        if self._layout_manager:
            self._layout_manager.resumeRender()

    def setRenderPaused(self, paused):
        self.pauseRender() if paused else self.resumeRender()

    def logUsageEvent(self, component, event):
        """Slicer counts uses where the user agreed; the host does not."""


@host_widget
class qSlicerModuleManager(QtCore.QObject):
    """`slicer.app.moduleManager()`."""

    moduleLoaded, moduleAboutToBeUnloaded = Signal(str), Signal(str)

    def modulesNames(self):
        return tuple(m.name for m in vars(slicer.modules).values() if isinstance(m, qSlicerLoadableModule))

    def module(self, name):
        return getattr(slicer.modules, name.lower(), None)


@host_widget
class qSlicerLoadableModule(QtCore.QObject):
    """A C++ module: its name and its logic. The host has no panel of it."""

    title = Property(str, lambda s: s._facts["name"])
    path = Property(str, lambda s: s._facts.get("path", ""))

    def __init__(self, name, logic):
        super().__init__()
        self.setObjectName(name)
        self._facts, self._logic = {"name": name}, logic

    def logic(self):
        return self._logic


def _text(name, default=""):
    return Property(str, lambda s: s._facts.get(name, default), lambda s, v: s._facts.__setitem__(name, v))


def _listing(name):
    return Property("QStringList", lambda s: tuple(s._facts.get(name, ())), lambda s, v: s._facts.__setitem__(name, v))


@host_widget
class qSlicerScriptedLoadableModule(qSlicerLoadableModule):
    """A scripted module: `parent` of its ScriptedLoadableModule."""

    title, helpText, acknowledgementText = _text("title"), _text("helpText"), _text("acknowledgementText")
    categories, contributors, dependencies = _listing("categories"), _listing("contributors"), _listing("dependencies")
    associatedNodeTypes = _listing("associatedNodeTypes")
    hidden = Property(bool, lambda s: s._facts.get("hidden", False), lambda s, v: s._facts.__setitem__("hidden", v))
    index = Property(int, lambda s: s._facts.get("index", -1), lambda s, v: s._facts.__setitem__("index", v))
    icon = Property(QtGui.QIcon, lambda s: s._facts.get("icon"), lambda s, v: s._facts.__setitem__("icon", v))
    extensions = Property("QVariant", lambda s: s._facts.get("ext"), lambda s, v: s._facts.__setitem__("ext", v))

    def __init__(self, name, path):
        super().__init__(name, slicer.vtkSlicerScriptedLoadableModuleLogic())
        self._facts["path"] = path
        self._panel = None

    def widgetRepresentation(self):
        return self._panel


@host_widget
class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """The empty panel that a scripted module's widget fills."""

    moduleName = Property(str, lambda s: s._name)
    isEntered = Property(bool, lambda s: s._entered)

    def __init__(self, name, make_widget):
        super().__init__()
        self.setObjectName(f"{name}ModuleWidget")
        self._name, self._make_widget, self._entered, self._widget = name, make_widget, False, None
        QtWidgets.QVBoxLayout(self)

    def self(self):
        return self._widget

    def reload(self):
        self._fill(self._make_widget)

    def _fill(self, make_widget):
        self._widget = make_widget(self)
        setattr(slicer.modules, f"{self._name}Widget", self._widget)
        self._widget.setup()
        if self._entered and hasattr(self._widget, "enter"):
            self._widget.enter()

    def _enter(self, entered):
        if entered != self._entered:
            self._entered = entered
            call = getattr(self._widget, "enter" if entered else "exit", None)
            if call:
                call()


class _ModulePanel(QtWidgets.QScrollArea):
    """At least as wide as the module needs, as Slicer's is: it scrolls up and down, never sideways."""

    def eventFilter(self, watched, event):
        if watched is self.widget() and event.type() == QtCore.QEvent.Type.LayoutRequest:
            bar = self.verticalScrollBar().sizeHint.width()
            self.setMinimumWidth(max(430, watched.minimumSizeHint.width() + bar))
        return super().eventFilter(watched, event)


@host_widget
class qSlicerMainWindow(QtWidgets.QMainWindow):
    """The module's panel to the left, the views to the right, a status bar below."""

    initialWindowShown = Signal()

    def __init__(self):
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self.setWindowTitle("MedSegLens in the Slicer host")
        self._views = QtWidgets.QWidget()
        self._panel = _ModulePanel()
        self._panel.setWidgetResizable(True)
        self._panel.setMinimumWidth(430)
        self._panel.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        splitter = QtWidgets.QSplitter()
        splitter.addWidget(self._panel)
        splitter.addWidget(self._views)
        splitter.setStretchFactor(0, 0)
        splitter.setStretchFactor(1, 1)
        splitter.setSizes([460, 900])
        self.setCentralWidget(splitter)
        self.statusBar()

    def setLayout(self, arrangement):
        slicer.app.layoutManager().setLayout(arrangement)

    def _show_panel(self, panel):
        self._panel.takeWidget()
        self._panel.setWidget(panel)


def make_modules():
    """`slicer.modules` with the C++ modules' logics; an unknown module is an AttributeError, as in Slicer."""
    slicer.modules = sys.modules["slicer.modules"] = types.ModuleType("slicer.modules")
    application = slicer.app.applicationLogic()
    for name, class_name in LOGICS.items():
        logic = application.GetColorLogic() if name == "Colors" else getattr(slicer, class_name)()
        logic.SetMRMLApplicationLogic(application)
        if name != "Colors":
            # slicer-core ships no terminology files, about which their logic complains
            vtk.vtkObject.SetGlobalWarningDisplay(name != "Terminologies")
            logic.SetMRMLScene(slicer.mrmlScene)
            vtk.vtkObject.SetGlobalWarningDisplay(True)
        application.SetModuleLogic(name, logic)
        setattr(slicer.modules, name.lower(), qSlicerLoadableModule(name, logic))
