"""`slicer.app.layoutManager()`: view widgets for the scene's view nodes, laid out by MRML's own layout logic."""

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from .ctk_widgets import host_widget
from .pythonqt import host_property as Property
from .pythonqt import send
from .views import qMRMLSliceWidget, qMRMLThreeDWidget

Signal = QtCore.Signal


@host_widget
class qSlicerLayoutManager(QtCore.QObject):
    """The views and how they share the window. Table and plot views are not shown."""

    layoutChanged, selectModule = Signal(int), Signal(str)
    activeMRMLThreeDViewNodeChanged = Signal(object)
    layout = Property(int, lambda s: s._logic.GetLayoutNode().GetViewArrangement(), lambda s, v: s.setLayout(v))
    enabled = Property(bool, lambda s: True)
    threeDViewCount = Property(int, lambda s: len(s._views("vtkMRMLViewNode")))
    tableViewCount, plotViewCount = Property(int, lambda s: 0), Property(int, lambda s: 0)

    def __init__(self, viewport):
        super().__init__()
        self._viewport, self._widgets, self._arranged = viewport, {}, None
        QtWidgets.QVBoxLayout(viewport).setContentsMargins(0, 0, 0, 0)
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._paused = 0
        self._logic.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._arrange())
        self._logic.GetLayoutNode().AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._arrange())

    def layoutLogic(self):
        return self._logic

    def mrmlScene(self):
        return slicer.mrmlScene

    def viewport(self):
        return self._viewport

    def setLayout(self, arrangement):
        self._logic.GetLayoutNode().SetViewArrangement(int(arrangement))
        self._arrange()

    def sliceViewNames(self):
        return tuple(node.GetLayoutName() for node in self._nodes("vtkMRMLSliceNode"))

    def sliceWidget(self, name):
        return next((w for n, w in self._views("vtkMRMLSliceNode") if n.GetLayoutName() == name), None)

    def threeDWidget(self, which):
        views = self._views("vtkMRMLViewNode")
        if isinstance(which, str):
            return next((w for n, w in views if n.GetLayoutName() == which), None)
        return views[which][1] if which < len(views) else None

    def viewWidget(self, node):
        return self._widget(node) if node is not None else None

    def mrmlSliceLogics(self):
        return slicer.app.applicationLogic().GetSliceLogics()

    def mrmlViewLogics(self):
        return slicer.app.applicationLogic().GetViewLogics()

    def activeMRMLThreeDViewNode(self):
        views = self._views("vtkMRMLViewNode")
        return views[0][0] if views else None

    def activeThreeDRenderer(self):
        views = self._views("vtkMRMLViewNode")
        return views[0][1].threeDView().renderWindow().GetRenderers().GetFirstRenderer() if views else None

    def resetSliceViews(self):
        for _, widget in self._views("vtkMRMLSliceNode"):
            widget.fitSliceToBackground()

    def resetThreeDViews(self):
        for _, widget in self._views("vtkMRMLViewNode"):
            widget.threeDView().resetCamera()
            widget.threeDView().resetFocalPoint()

    def pauseRender(self):
        self._paused += 1
        for widget in self._widgets.values():
            widget.viewWidget().pauseRender()

    def resumeRender(self):
        self._paused = max(0, self._paused - 1)
        for widget in self._widgets.values():
            widget.viewWidget().resumeRender()

    def setRenderPaused(self, paused):
        self.pauseRender() if paused else self.resumeRender()

    def _nodes(self, class_name):
        return [node for node in slicer.util.getNodesByClass(class_name) if node.GetID() in self._widgets]

    def _views(self, class_name):
        return [(node, self._widgets[node.GetID()]) for node in self._nodes(class_name)]

    def _widget(self, node):
        if node.GetID() not in self._widgets:
            make = {"vtkMRMLSliceNode": qMRMLSliceWidget, "vtkMRMLViewNode": qMRMLThreeDWidget}.get(node.GetClassName())
            if make is None:
                raise NotImplementedError(f"the host has no view for a {node.GetClassName()}")
            self._widgets[node.GetID()] = make(node)
            for _ in range(self._paused):
                self._widgets[node.GetID()].viewWidget().pauseRender()
        return self._widgets[node.GetID()]

    def _arrange(self):
        """Lay the widgets out as the layout node's XML says."""
        node = self._logic.GetLayoutNode()
        description = node.GetCurrentLayoutDescription()
        if description == self._arranged or not description:
            return
        self._arranged = description
        for widget in self._widgets.values():
            widget.hide()
            widget.setParent(None)
        outer = self._viewport.layout()
        while outer.count():
            outer.takeAt(0).widget().deleteLater()
        root = self._build(node.GetLayoutRootElement())
        outer.addWidget(root)
        for widget in self._widgets.values():
            if widget.parent() is not None:
                widget.show()
        send(self, "layoutChanged", node.GetViewArrangement())

    def _build(self, element):
        kind = element.GetName()
        if kind == "view":
            return self._widget(self._logic.GetViewFromElement(element))
        if kind != "layout":
            raise NotImplementedError(f"the host does not know the layout element <{kind}>")
        frame = QtWidgets.QWidget()
        type_ = element.GetAttribute("type") or "horizontal"
        grid = QtWidgets.QGridLayout(frame)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(2)
        for i in range(element.GetNumberOfNestedElements()):
            item = element.GetNestedElement(i)
            child = self._build(item.GetNestedElement(0))
            row = int(item.GetAttribute("row") or (i if type_ == "vertical" else 0))
            column = int(item.GetAttribute("column") or (i if type_ != "vertical" else 0))
            grid.addWidget(child, row, column)
            grid.setRowStretch(row, 1)
            grid.setColumnStretch(column, 1)
        return frame
