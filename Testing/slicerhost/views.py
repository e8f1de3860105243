"""Slice views and 3D views: MRML's own slice logics and displayable managers, drawn off screen into a Qt widget.

Mouse and key events on the widget go to VTK's interactor and MRML's interactor styles, as in Slicer.
"""

import numpy as np
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from vtk.util.numpy_support import vtk_to_numpy

from .ctk_widgets import ctkSliderWidget, host_widget, stored
from .pythonqt import host_property as Property
from .pythonqt import send
from .qmrml_widgets import qMRMLWidget

Signal = QtCore.Signal
SLICE_MANAGERS = (
    "vtkMRMLVolumeGlyphSliceDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLScalarBarDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLTransformsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLColorLegendDisplayableManager",
)
THREE_D_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLThreeDReformatDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager3D",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLTransformsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLVolumeRenderingDisplayableManager",
    "vtkMRMLColorLegendDisplayableManager",
)


class _View(QtWidgets.QWidget):
    """A VTK render window shown in a Qt widget. Drawn when something changed and the widget is seen, or when asked."""

    def __init__(self, factory, managers, parent=None):
        super().__init__(parent)
        self.setMinimumSize(60, 60)
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self._renderer = vtk.vtkRenderer()
        self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)
        self._window.AddRenderer(self._renderer)
        self._iren = vtk.vtkGenericRenderWindowInteractor()
        self._iren.SetRenderWindow(self._window)
        self._iren.SetInteractorStyle(vtk.vtkInteractorStyleUser())  # does nothing; the one VTK brings would rotate
        factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        for manager in managers:
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        self._group = slicer.vtkMRMLDisplayableManagerGroup()
        self._group.Initialize(factory, self._renderer)
        self._group.AddObserver(vtk.vtkCommand.UpdateEvent, lambda *_: self.scheduleRender())
        self._pixels, self._stale, self._paused, self._enabled, self.__draws = None, True, 0, True, 0
        self._timer = QtCore.QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._draw_if_seen)

    def renderWindow(self):
        return self._window

    def interactor(self):
        return self._iren

    def VTKWidget(self):
        return self

    def scheduleRender(self):
        self._stale = True
        if not self._timer.active:
            self._timer.start()

    def forceRender(self):
        self._stale = True
        self._draw()

    def pauseRender(self):
        self._paused += 1

    def resumeRender(self):
        self._paused = max(0, self._paused - 1)
        if not self._paused and self._stale:
            self.scheduleRender()

    def setRenderPaused(self, paused):
        self.pauseRender() if paused else self.resumeRender()

    def setRenderEnabled(self, enabled):
        self._enabled = bool(enabled)

    def _host_draws(self) -> int:
        return self.__draws

    def _host_pixels(self) -> np.ndarray:
        """The view as RGB (rows, columns, 3) uint8, drawn anew if anything changed."""
        if self._stale or self._pixels is None or self._pixels.shape[:2] != (self.height, self.width):
            self._draw()
        return self._pixels

    def _draw_if_seen(self):
        if self._stale and not self._paused and self._enabled and self.isVisible():
            self._draw()

    def _draw(self):
        self._timer.stop()
        self._stale = False
        width, height = max(self.width, 2), max(self.height, 2)
        if tuple(self._window.GetSize()) != (width, height):
            self._window.SetSize(width, height)
            self._iren.UpdateSize(width, height)
            self._resized(width, height)
        self._before_drawing()
        self._window.Render()
        data = vtk.vtkUnsignedCharArray()
        self._window.GetPixelData(0, 0, width - 1, height - 1, 0, data, 0)
        self._pixels = np.ascontiguousarray(vtk_to_numpy(data).reshape(height, width, 3)[::-1])
        self.__draws += 1
        self.update()

    def _resized(self, width, height):
        pass

    def _before_drawing(self):
        pass

    def paintEvent(self, event):
        if self._pixels is None or self._stale and not self._paused:
            self._draw()
        rows, columns, _ = self._pixels.shape
        image = QtGui.QImage(self._pixels.data, columns, rows, 3 * columns, QtGui.QImage.Format.Format_RGB888)
        QtGui.QPainter(self).drawImage(0, 0, image)

    def resizeEvent(self, event):
        super().resizeEvent(event)
        self.scheduleRender()

    def showEvent(self, event):
        super().showEvent(event)
        self.scheduleRender()

    def _send(self, event, vtk_event, place=None, key="", repeat=0):
        flags = event.modifiers()
        place = place if place is not None else event.position()
        self._iren.SetEventInformationFlipY(
            int(place.x()),
            int(place.y()),
            int(bool(flags & QtCore.Qt.KeyboardModifier.ControlModifier)),
            int(bool(flags & QtCore.Qt.KeyboardModifier.ShiftModifier)),
            key[:1] or "\0",
            repeat,
            key or None,
        )
        self._iren.SetAltKey(int(bool(flags & QtCore.Qt.KeyboardModifier.AltModifier)))
        self._iren.InvokeEvent(vtk_event)

    _buttons = {1: "Left", 2: "Right", 4: "Middle"}

    def mousePressEvent(self, event):
        self._send(event, f"{self._buttons.get(int(event.button()), 'Left')}ButtonPressEvent")

    def mouseReleaseEvent(self, event):
        self._send(event, f"{self._buttons.get(int(event.button()), 'Left')}ButtonReleaseEvent")

    def mouseDoubleClickEvent(self, event):
        self._send(event, f"{self._buttons.get(int(event.button()), 'Left')}ButtonDoubleClickEvent")

    def mouseMoveEvent(self, event):
        self._send(event, "MouseMoveEvent")

    def wheelEvent(self, event):
        self._send(event, "MouseWheelForwardEvent" if event.angleDelta().y() > 0 else "MouseWheelBackwardEvent")

    def enterEvent(self, event):
        self._iren.InvokeEvent("EnterEvent")

    def leaveEvent(self, event):
        self._iren.InvokeEvent("LeaveEvent")

    def keyPressEvent(self, event):
        place = self.mapFromGlobal(QtGui.QCursor.pos())
        name = event.text() or QtGui.QKeySequence(event.key()).toString()
        self._send(event, "KeyPressEvent", place, name)
        self._iren.InvokeEvent("CharEvent")


@host_widget
class qMRMLSliceView(_View):
    """The drawn part of a slice view."""

    resized = Signal(QtCore.QSize)
    colorWindow, colorLevel = stored(float, "colorWindow", 255.0), stored(float, "colorLevel", 127.5)

    def __init__(self, node, logic, parent=None):
        super().__init__(slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance(), SLICE_MANAGERS, parent)
        self._node, self._logic = node, logic
        self._renderer.GetActiveCamera().ParallelProjectionOn()
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        actor = vtk.vtkActor2D()
        actor.SetMapper(self._mapper)
        actor.GetProperty().SetDisplayLocationToBackground()
        self._actor = actor
        self._group.SetMRMLDisplayableNode(node)
        logic.SetDisplayableManagerGroup(self._group)
        logic.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self.scheduleRender())
        self._style = slicer.vtkMRMLSliceViewInteractorStyle()
        slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.EndImportEvent, lambda *_: self._follow_scene())
        self._style.SetSliceLogic(logic)
        self._style.SetDisplayableManagers(self._group)
        self._style.SetInteractor(self._iren)

    def mrmlSliceNode(self):
        return self._node

    def interactorStyle(self):
        return self._style

    sliceViewInteractorStyle = interactorObserver = interactorStyle

    def displayableManagerByClassName(self, name):
        return self._group.GetDisplayableManagerByClassName(name)

    def convertDeviceToXYZ(self, xy):
        return (float(xy[0]), float(self.height - 1 - xy[1]), 0.0)

    def convertXYZToRAS(self, xyz):
        return tuple(self._node.GetXYToRAS().MultiplyPoint((*xyz, 1.0))[:3])

    def convertRASToXYZ(self, ras):
        inverse = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self._node.GetXYToRAS(), inverse)
        return tuple(inverse.MultiplyPoint((*ras, 1.0))[:3])

    def _follow_scene(self):
        """A loaded scene's segments are drawn in 2D once the slice node changes; Slicer fits it to the view's size."""
        QtCore.QTimer.singleShot(0, self._node.Modified)

    def _resized(self, width, height):
        self._logic.ResizeSliceNode(width, height)
        send(self, "resized", QtCore.QSize(width, height))

    def _before_drawing(self):
        shown = self._renderer.HasViewProp(self._actor)
        connection = self._logic.GetImageDataConnection()
        if connection is not None:
            self._mapper.SetInputConnection(connection)
            if not shown:
                self._renderer.AddViewProp(self._actor)
        elif shown:
            self._renderer.RemoveViewProp(self._actor)


@host_widget
class qMRMLThreeDView(_View):
    """The drawn part of a 3D view."""

    def __init__(self, node, parent=None):
        super().__init__(slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance(), THREE_D_MANAGERS, parent)
        self._node = node
        self._renderer.SetBackground(0.76, 0.76, 0.91)
        self._renderer.SetBackground2(0.45, 0.47, 0.75)
        self._renderer.SetGradientBackground(True)
        self._group.SetMRMLDisplayableNode(node)
        self._style = slicer.vtkMRMLThreeDViewInteractorStyle()
        self._style.SetDisplayableManagers(self._group)
        self._style.SetInteractor(self._iren)
        self._style.SetCameraNode(self.cameraNode())

    def mrmlViewNode(self):
        return self._node

    def interactorStyle(self):
        return self._style

    interactorObserver = interactorStyle

    def displayableManagerByClassName(self, name):
        return self._group.GetDisplayableManagerByClassName(name)

    def cameraNode(self):
        cameras = slicer.modules.cameras.logic()
        return cameras.GetViewActiveCameraNode(self._node)

    def resetCamera(self, rotation=True, translation=True, distance=True):
        camera = self.cameraNode()
        if camera:
            camera.Reset(rotation, translation, distance, self._renderer)
            self.scheduleRender()

    def resetFocalPoint(self):
        self._node.InvokeEvent(self._node.ResetFocalPointRequestedEvent)
        self._renderer.ResetCameraClippingRange()
        self.scheduleRender()

    def zoomIn(self):
        self._renderer.GetActiveCamera().Dolly(1.1)
        self.scheduleRender()

    def zoomOut(self):
        self._renderer.GetActiveCamera().Dolly(1 / 1.1)
        self.scheduleRender()


@host_widget
class qMRMLSliceControllerWidget(qMRMLWidget):
    """The bar above a slice view: its name and the slider of the slice offset."""

    imageDataConnectionChanged, renderRequested, nodeAboutToBeEdited = Signal(object), Signal(), Signal(object)
    sliceViewName = Property(str, lambda s: s._node.GetLayoutName())
    sliceViewLabel = Property(str, lambda s: s._node.GetLayoutLabel())
    sliceOrientation = Property(str, lambda s: s._node.GetOrientation(), lambda s, v: s.setSliceOrientation(v))

    def __init__(self, node, logic, parent=None):
        super().__init__(parent)
        self._node, self._logic, self._updating = node, logic, False
        self._label = QtWidgets.QLabel(node.GetLayoutLabel() or node.GetLayoutName())
        color = [int(255 * c) for c in node.GetLayoutColor()]
        self._label.setStyleSheet(f"background-color: rgb({color[0]}, {color[1]}, {color[2]}); padding: 1px 5px;")
        self._slider = ctkSliderWidget()
        self._slider.connect("valueChanged(double)", self._moved)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(2, 1, 2, 1)
        layout.addWidget(self._label)
        layout.addWidget(self._slider, 1)
        logic.AddObserver(vtk.vtkCommand.ModifiedEvent, self._follow)
        node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._follow)
        self._follow()

    def sliceOffsetSlider(self):
        return self._slider

    def mrmlSliceNode(self):
        return self._node

    def mrmlSliceCompositeNode(self):
        return self._logic.GetSliceCompositeNode()

    def sliceLogic(self):
        return self._logic

    def setSliceOffsetValue(self, offset):
        self._logic.StartSliceOffsetInteraction()
        self._logic.SetSliceOffset(offset)
        self._logic.EndSliceOffsetInteraction()

    def setSliceOrientation(self, orientation):
        self._node.SetOrientation(orientation)

    def setSliceVisible(self, visible):
        self._node.SetSliceVisible(visible)

    def setSliceLink(self, linked):
        for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            node.SetLinkedControl(linked)

    def setHotLinked(self, hot):
        for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            node.SetHotLinkedControl(hot)

    def fitSliceToBackground(self):
        self._logic.FitSliceToBackground()
        self._node.UpdateMatrices()

    def setForegroundOpacity(self, opacity):
        self._logic.GetSliceCompositeNode().SetForegroundOpacity(opacity)

    def setLabelMapOpacity(self, opacity):
        self._logic.GetSliceCompositeNode().SetLabelOpacity(opacity)

    def _moved(self, offset):
        if not self._updating:
            self.setSliceOffsetValue(offset)

    def _follow(self, *_):
        bounds = [0.0] * 6
        self._logic.GetLowestVolumeSliceBounds(bounds)
        spacing = self._logic.GetLowestVolumeSliceSpacing()[2] or 1.0
        self._updating = True
        if bounds[4] < bounds[5]:
            self._slider.singleStep = spacing
            self._slider.minimum, self._slider.maximum = bounds[4] + spacing / 2, bounds[5] - spacing / 2
        self._slider.value = self._logic.GetSliceOffset()
        self._updating = False


class _ViewWidget(qMRMLWidget):
    """A view with its bar."""

    def _lay_out(self, bar, view):
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(1, 1, 1, 1)
        layout.setSpacing(0)
        layout.addWidget(bar)
        layout.addWidget(view, 1)


@host_widget
class qMRMLSliceWidget(_ViewWidget):
    """A slice view with its bar."""

    nodeAboutToBeEdited = Signal(object)
    sliceViewName = Property(str, lambda s: s._node.GetLayoutName())
    sliceViewLabel = Property(str, lambda s: s._node.GetLayoutLabel())
    sliceOrientation = Property(str, lambda s: s._node.GetOrientation(), lambda s, v: s.setSliceOrientation(v))

    def __init__(self, node, parent=None):
        super().__init__(parent)
        self._node = node
        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        slicer.app.applicationLogic().GetSliceLogics().AddItem(self._logic)
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._logic.SetSliceNode(node)
        self._view = qMRMLSliceView(node, self._logic)
        self._controller = qMRMLSliceControllerWidget(node, self._logic)
        self._lay_out(self._controller, self._view)
        self.setMRMLScene(slicer.mrmlScene)

    def sliceLogic(self):
        return self._logic

    logic = sliceLogic

    def mrmlSliceNode(self):
        return self._node

    mrmlAbstractViewNode = mrmlSliceNode

    def mrmlSliceCompositeNode(self):
        return self._logic.GetSliceCompositeNode()

    def sliceView(self):
        return self._view

    viewWidget = sliceView

    def sliceController(self):
        return self._controller

    controllerWidget = sliceController

    def interactorStyle(self):
        return self._view.interactorStyle()

    def fitSliceToBackground(self):
        self._controller.fitSliceToBackground()

    def setSliceOrientation(self, orientation):
        self._node.SetOrientation(orientation)


@host_widget
class qMRMLThreeDViewControllerWidget(qMRMLWidget):
    """The bar above a 3D view: its name."""

    def __init__(self, view, parent=None):
        super().__init__(parent)
        self._view = view
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(2, 1, 2, 1)
        layout.addWidget(QtWidgets.QLabel(view.mrmlViewNode().GetLayoutLabel() or "3D"), 1)

    def mrmlThreeDViewNode(self):
        return self._view.mrmlViewNode()

    def resetFocalPoint(self):
        self._view.resetFocalPoint()


@host_widget
class qMRMLThreeDWidget(_ViewWidget):
    """A 3D view with its bar."""

    def __init__(self, node, parent=None):
        super().__init__(parent)
        self._node = node
        self._logic = slicer.vtkMRMLViewLogic()
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        self._logic.SetName(node.GetLayoutName())
        slicer.app.applicationLogic().GetViewLogics().AddItem(self._logic)
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._view = qMRMLThreeDView(node)
        self._logic.SetDisplayableManagerGroup(self._view._group)
        self._controller = qMRMLThreeDViewControllerWidget(self._view)
        self._lay_out(self._controller, self._view)
        self.setMRMLScene(slicer.mrmlScene)

    def threeDView(self):
        return self._view

    viewWidget = threeDView

    def threeDController(self):
        return self._controller

    controllerWidget = threeDController

    def mrmlViewNode(self):
        return self._node

    mrmlAbstractViewNode = mrmlViewNode

    def viewLogic(self):
        return self._logic

    logic = viewLogic
