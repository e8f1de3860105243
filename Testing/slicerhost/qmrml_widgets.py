"""Slicer's own widgets that the module uses: scene-aware boxes, sliders, and the button that places markups."""

from functools import partial

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from .ctk_widgets import (
    _row,
    ctkCollapsibleButton,
    ctkDoubleSpinBox,
    ctkRangeWidget,
    ctkSliderWidget,
    host_widget,
    stored,
)
from .pythonqt import host_property as Property
from .pythonqt import send

Signal = QtCore.Signal


class _Observations:
    """VTK observers of a widget, which go when the widget is deleted."""

    def __init__(self, widget):
        self._tags = []
        widget.connect("destroyed()", self.stop)

    def watch(self, observed, events, callback):
        """Call `callback` (with any arguments) at these events of a VTK object."""
        self._tags += [(observed, observed.AddObserver(event, lambda *_: callback())) for event in events]

    def stop(self):
        """Remove all."""
        for observed, tag in self._tags:
            observed.RemoveObserver(tag)
        self._tags = []


@host_widget
class qMRMLWidget(QtWidgets.QWidget):
    """A widget with a scene."""

    mrmlSceneChanged = Signal(object)
    _scene = None

    def setMRMLScene(self, scene):
        if scene is not self._scene:
            self._scene = scene
            send(self, "mrmlSceneChanged", scene)

    def mrmlScene(self):
        return self._scene


@host_widget
class qMRMLCollapsibleButton(ctkCollapsibleButton):
    """A folding section with a scene."""

    mrmlSceneChanged = Signal(object)
    _scene = None

    def setMRMLScene(self, scene):
        if scene is not self._scene:
            self._scene = scene
            send(self, "mrmlSceneChanged", scene)


@host_widget
class qMRMLNodeComboBox(QtWidgets.QWidget):
    """The scene's nodes of some classes, with None, and below them the actions to create one and the module's own."""

    currentNodeChanged, _currentNodeChanged_bool = Signal(object), Signal(bool)
    currentNodeIDChanged, nodeActivated, nodeAdded = Signal(str), Signal(object), Signal(object)
    nodeAddedByUser, nodeAddedByUserAction, nodeAboutToBeRemoved = Signal(object), Signal(object), Signal(object)
    currentNodeRenamed, nodeAboutToBeEdited = Signal(str), Signal(object)

    nodeTypes = stored("QStringList", "nodeTypes", (), then="_fill")
    noneEnabled = stored(bool, "noneEnabled", False, then="_fill")
    noneDisplay = stored(str, "noneDisplay", "None", then="_fill")
    showHidden = stored(bool, "showHidden", False, then="_fill")
    showChildNodeTypes = stored(bool, "showChildNodeTypes", True, then="_fill")
    hideChildNodeTypes = stored("QStringList", "hideChildNodeTypes", (), then="_fill")
    addEnabled = stored(bool, "addEnabled", True, then="_fill")
    removeEnabled, editEnabled = stored(bool, "removeEnabled", True), stored(bool, "editEnabled", False)
    renameEnabled = stored(bool, "renameEnabled", False)
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)
    baseName = stored(str, "baseName", "")
    interactionNodeSingletonTag = stored(str, "interactionNodeSingletonTag", "")
    sizeAdjustPolicy = stored("QVariant", "sizeAdjustPolicy")
    currentNodeID = Property(str, lambda s: s._current or "", lambda s, v: s.setCurrentNodeID(v))
    currentNodeId = Property(str, lambda s: s._current or "", lambda s, v: s.setCurrentNodeID(v))

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene, self._scene_watch, self._name_watch = None, _Observations(self), _Observations(self)
        self._current, self._ids, self._attributes, self._actions = None, [], [], []
        self._box = QtWidgets.QComboBox()
        self._box.setSizeAdjustPolicy(QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._box.connect("activated(int)", self._activated)
        _row(self, (self._box, 1))

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        if scene is self._scene:
            return
        self._scene_watch.stop()
        self._scene = scene
        if scene is not None:
            events = ("NodeAdded", "NodeRemoved", "EndClose", "EndImport", "EndRestore", "EndBatchProcess")
            self._scene_watch.watch(scene, [getattr(scene, f"{e}Event") for e in events], self._scene_changed)
        self._fill()

    def _scene_changed(self):
        if not self._scene.IsBatchProcessing():
            self._fill()

    def addAttribute(self, node_type, name, value=None):
        self._attributes.append((node_type, name, None if value is None else str(value)))
        self._fill()

    def removeAttribute(self, node_type, name):
        self._attributes = [a for a in self._attributes if a[:2] != (node_type, name)]
        self._fill()

    def currentNode(self):
        scene = self._scene
        return scene.GetNodeByID(self._current) if scene and self._current else None

    def setCurrentNode(self, node):
        if isinstance(node, str):
            self.setCurrentNodeID(node)
        else:
            self._select(node.GetID() if node else None)

    def setCurrentNodeID(self, node_id):
        self._select(node_id or None)

    def setCurrentNodeIndex(self, index):
        ids = [i for i in self._ids if i]
        self._select(ids[index] if 0 <= index < len(ids) else None)

    def nodeCount(self):
        return sum(bool(i) for i in self._ids)

    def nodeFromIndex(self, index):
        ids = [i for i in self._ids if i]
        return self._scene.GetNodeByID(ids[index]) if 0 <= index < len(ids) else None

    def addNode(self, node_type=None):
        node_type = node_type or (self.nodeTypes[0] if self.nodeTypes else "")
        node = self._scene.AddNewNodeByClass(node_type, self.baseName)
        for its_type, name, value in self._attributes:
            if node.IsA(its_type):
                node.SetAttribute(name, value)
        send(self, "nodeAddedByUser", node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        return node

    def removeCurrentNode(self):
        node = self.currentNode()
        if node:
            send(self, "nodeAboutToBeRemoved", node)
            self._scene.RemoveNode(node)

    def renameCurrentNode(self):
        node = self.currentNode()
        text = QtWidgets.QInputDialog.getText(self, "Rename", "New name:")
        if node and text:
            node.SetName(text)

    def editCurrentNode(self):
        send(self, "nodeAboutToBeEdited", self.currentNode())

    def addMenuAction(self, action):
        self._actions.append(action)
        self._fill()

    def _accepts(self, node) -> bool:
        types = self.nodeTypes or ()
        if not any(node.IsA(t) if self.showChildNodeTypes else node.GetClassName() == t for t in types):
            return False
        if any(node.IsA(t) and node.GetClassName() not in types for t in self.hideChildNodeTypes or ()):
            return False
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        for node_type, name, value in self._attributes:
            has = node.GetAttribute(name)
            if node.IsA(node_type) and (has is None or value is not None and has != value):
                return False
        return True

    def _fill(self):
        if "_box" not in self.__dict__:
            return
        scene, nodes = self._scene, []
        if scene:
            found = {node.GetID(): node for kind in self.nodeTypes for node in slicer.util.getNodesByClass(kind, scene)}
            nodes = [node for node in found.values() if self._accepts(node)]
            if len(self.nodeTypes) > 1:
                nodes.sort(key=scene.IsNodePresent)  # in the scene's order
        was = self._current
        self._ids = [node.GetID() for node in nodes]
        if self.noneEnabled or not self._ids:
            self._ids.insert(0, None)
        names = [node.GetName() for node in nodes]
        blocked = self._box.blockSignals(True)
        self._box.clear()
        self._box.addItems(([self.noneDisplay] if self._ids[0] is None else []) + names)
        if self.addEnabled and scene and self.nodeTypes:
            self._box.addItems([f"Create new {_label(t)}" for t in self.nodeTypes])
        self._box.addItems([a.text for a in self._actions])
        self._box.setCurrentIndex(self._ids.index(was) if was in self._ids else -1)
        self._box.blockSignals(blocked)
        self._watch_names(nodes)
        if was not in self._ids:
            self._select(self._ids[0])

    def _watch_names(self, nodes):
        self._name_watch.stop()
        for node in nodes:
            self._name_watch.watch(node, ["ModifiedEvent"], partial(self._renamed, node.GetID()))

    def _renamed(self, node_id):
        node = self._scene.GetNodeByID(node_id)
        if node is None or node_id not in self._ids:
            return
        place = self._ids.index(node_id)
        if not self._accepts(node):
            self._fill()
        elif self._box.itemText(place) != node.GetName():
            self._box.setItemText(place, node.GetName())
            if node_id == self._current:
                send(self, "currentNodeRenamed", node.GetName())

    def _activated(self, place):
        if place < len(self._ids):
            self._select(self._ids[place])
            send(self, "nodeActivated", self.currentNode())
            return
        place -= len(self._ids)
        types = list(self.nodeTypes) if self.addEnabled else []
        if place < len(types):
            self.addNode(types[place])
        else:
            self._actions[place - len(types)].trigger()
        self._fill()

    def _select(self, node_id):
        if node_id is not None and node_id not in self._ids:
            node_id = None if None in self._ids or not self._ids else self._current
        if node_id == self._current:
            return
        self._current = node_id
        blocked = self._box.blockSignals(True)
        self._box.setCurrentIndex(self._ids.index(node_id) if node_id in self._ids else -1)
        self._box.blockSignals(blocked)
        node = self.currentNode()
        send(self, "currentNodeChanged", node)
        send(self, "_currentNodeChanged_bool", node is not None)
        send(self, "currentNodeIDChanged", node_id or "")


def _label(class_name: str) -> str:
    node = slicer.mrmlScene.CreateNodeByClass(class_name)
    tag = node.GetNodeTagName() if node else class_name
    if node:
        node.UnRegister(None)
    return tag


@host_widget
class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """Several nodes of the scene, each checked or not. Shown as a plain list of names."""

    checkedNodesChanged = Signal()

    def __init__(self, parent=None):
        super().__init__(parent)
        self._checked = []

    def checkedNodes(self):
        scene = self._scene
        return [scene.GetNodeByID(i) for i in self._ids if i and i in self._checked]

    def uncheckedNodes(self):
        scene = self._scene
        return [scene.GetNodeByID(i) for i in self._ids if i and i not in self._checked]

    def allChecked(self):
        return bool(self._ids) and not self.uncheckedNodes()

    def noneChecked(self):
        return not self.checkedNodes()

    def checkState(self, node):
        checked = node.GetID() in self._checked
        return QtCore.Qt.CheckState.Checked if checked else QtCore.Qt.CheckState.Unchecked

    def setCheckState(self, node, state):
        if (int(state) == 2) != (node.GetID() in self._checked):
            (self._checked.append if int(state) == 2 else self._checked.remove)(node.GetID())
            send(self, "checkedNodesChanged")

    def check(self, node):
        self.setCheckState(node, QtCore.Qt.CheckState.Checked)

    def uncheck(self, node):
        self.setCheckState(node, QtCore.Qt.CheckState.Unchecked)


@host_widget
class qMRMLColorTableComboBox(qMRMLNodeComboBox):
    """The scene's colour tables, the hidden ones too."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self.nodeTypes, self.showHidden = ("vtkMRMLColorNode",), True
        self.addEnabled = self.removeEnabled = False


@host_widget
class qMRMLSegmentSelectorWidget(qMRMLWidget):
    """A segmentation and one of its segments."""

    currentNodeChanged, _currentNodeChanged_bool = Signal(object), Signal(bool)
    currentSegmentChanged, segmentSelectionChanged = Signal(str), Signal(object)
    nodeAboutToBeEdited = Signal(object)
    noneEnabled = stored(bool, "noneEnabled", False, then="_fill")
    editEnabled, selectNodeUponCreation = stored(bool, "editEnabled", False), stored(bool, "selectUponCreation", True)
    horizontalLayout = stored(bool, "horizontalLayout", False)
    multiSelection = stored(bool, "multiSelection", False)
    segmentationNodeSelectorVisible = Property(
        bool, lambda s: not s._nodes.isHidden(), lambda s, v: s._nodes.setVisible(v)
    )

    def __init__(self, parent=None):
        super().__init__(parent)
        self._nodes = qMRMLNodeComboBox()
        self._nodes.nodeTypes, self._nodes.noneEnabled = ("vtkMRMLSegmentationNode",), True
        self._nodes.addEnabled = False
        self._segments, self._segment_ids, self._watch = QtWidgets.QComboBox(), [], _Observations(self)
        self._nodes.connect("currentNodeChanged(vtkMRMLNode*)", self._node_changed)
        self._segments.connect("currentIndexChanged(int)", self._segment_changed)
        _row(self, (self._nodes, 1), (self._segments, 1))

    def setMRMLScene(self, scene):
        super().setMRMLScene(scene)
        self._nodes.setMRMLScene(scene)

    def currentNode(self):
        return self._nodes.currentNode()

    def currentNodeID(self):
        return self._nodes.currentNodeID

    def setCurrentNode(self, node):
        self._nodes.setCurrentNode(node)

    def setCurrentNodeID(self, node_id):
        self._nodes.setCurrentNodeID(node_id)

    def segmentIDs(self):
        return tuple(i for i in self._segment_ids if i)

    def currentSegmentID(self):
        place = self._segments.currentIndex
        return self._segment_ids[place] if 0 <= place < len(self._segment_ids) else ""

    def setCurrentSegmentID(self, segment_id):
        self._segments.setCurrentIndex(self._segment_ids.index(segment_id) if segment_id in self._segment_ids else -1)

    def selectedSegmentIDs(self):
        return tuple(filter(None, [self.currentSegmentID()]))

    def setSelectedSegmentIDs(self, segment_ids):
        if len(segment_ids) > 1:
            raise NotImplementedError("the host's qMRMLSegmentSelectorWidget selects one segment")
        self.setCurrentSegmentID(segment_ids[0] if segment_ids else "")

    def _node_changed(self, node):
        self._watch.stop()
        if node:
            segmentation = node.GetSegmentation()
            events = (segmentation.SegmentAdded, segmentation.SegmentRemoved, segmentation.SegmentModified)
            self._watch.watch(segmentation, events, self._fill)
        self._fill()
        send(self, "currentNodeChanged", node)
        send(self, "_currentNodeChanged_bool", node is not None)

    def _fill(self):
        if "_segments" not in self.__dict__:
            return
        was, node = self.currentSegmentID(), self.currentNode()
        ids = list(node.GetSegmentation().GetSegmentIDs()) if node else []
        names = [node.GetSegmentation().GetSegment(i).GetName() for i in ids] if node else []
        if self.noneEnabled:
            ids, names = ["", *ids], ["None", *names]
        blocked = self._segments.blockSignals(True)
        self._segment_ids = ids
        self._segments.clear()
        self._segments.addItems(names)
        self._segments.setCurrentIndex(ids.index(was) if was in ids else (0 if ids else -1))
        self._segments.blockSignals(blocked)
        if self.currentSegmentID() != was:
            self._segment_changed()

    def _segment_changed(self, *_):
        send(self, "currentSegmentChanged", self.currentSegmentID())
        send(self, "segmentSelectionChanged", list(self.selectedSegmentIDs()))


class InSceneUnits:
    """What a slider and a spin box that know the scene's units share. (Qt properties stay with each: Qt sees those of
    its own classes only.)"""

    _scene = None

    def setMRMLScene(self, scene):
        self._scene = scene

    def mrmlScene(self):
        return self._scene

    def setQuantity(self, quantity):
        self.quantity = quantity


@host_widget
class qMRMLSliderWidget(InSceneUnits, ctkSliderWidget):
    """A slider in the scene's units; the host shows the units' suffix only when asked by `suffix`."""

    orientation = Property("QVariant", lambda s: s._slider.orientation, lambda s, v: s.setOrientation(v))
    quantity = stored(str, "quantity", "")
    unitAwareProperties = stored("QVariant", "unitAware")

    def setOrientation(self, orientation):
        self._slider.setOrientation(orientation)

    def setUnitAwareProperties(self, flags):
        self.unitAwareProperties = flags


@host_widget
class qMRMLSpinBox(InSceneUnits, ctkDoubleSpinBox):
    """A spin box in the scene's units."""

    quantity = stored(str, "quantity", "")
    unitAwareProperties = stored("QVariant", "unitAware")


@host_widget
class qMRMLRangeWidget(ctkRangeWidget):
    """A range in the scene's units."""

    quantity = stored(str, "quantity", "")
    mrmlScene = stored("QVariant", "scene")

    def setMRMLScene(self, scene):
        self.mrmlScene = scene

    def setQuantity(self, quantity):
        self.quantity = quantity


@host_widget
class qSlicerMarkupsPlaceWidget(QtWidgets.QWidget):
    """The button that starts placing the current markups node's points by clicks in the views."""

    activeMarkupsPlaceModeChanged, activeMarkupsFiducialPlaceModeChanged = Signal(bool), Signal(bool)
    placeModeEnabled = Property(bool, lambda s: s._placing(), lambda s, v: s.setPlaceModeEnabled(v))
    placeModePersistency = Property(bool, lambda s: s._persistent(), lambda s, v: s.setPlaceModePersistency(v))
    currentNodeActive = Property(bool, lambda s: s._active(), lambda s, v: s.setCurrentNodeActive(v))
    buttonsVisible = Property(bool, lambda s: not s._button.isHidden(), lambda s, v: s._button.setVisible(v))
    placeMultipleMarkups = stored("QVariant", "placeMultiple", 0)
    defaultNodeColor, nodeColor = stored(QtGui.QColor, "defaultNodeColor"), stored(QtGui.QColor, "nodeColor")
    deleteAllControlPointsOptionVisible = stored(bool, "deleteAllVisible", True)
    unsetAllControlPointsOptionVisible = stored(bool, "unsetAllVisible", True)
    unsetLastControlPointOptionVisible = stored(bool, "unsetLastVisible", True)
    deleteAllMarkupsOptionVisible = stored(bool, "deleteMarkupsVisible", True)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = self._node = None
        self._watch = _Observations(self)
        self._button = QtWidgets.QToolButton()
        self._button.setText("Place")
        self._button.setCheckable(True)
        self._button.connect("toggled(bool)", self.setPlaceModeEnabled)
        _row(self, (self._button, 0))

    def setMRMLScene(self, scene):
        self._watch.stop()
        self._scene = scene
        if scene:
            for node in (self.interactionNode(), self.selectionNode()):
                self._watch.watch(node, ["ModifiedEvent"], self._show)

    def interactionNode(self):
        return slicer.app.applicationLogic().GetInteractionNode()

    def selectionNode(self):
        return slicer.app.applicationLogic().GetSelectionNode()

    def currentNode(self):
        return self._node

    currentMarkupsNode = currentNode

    def setCurrentNode(self, node):
        self._node = node
        self._button.setEnabled(node is not None)
        self._show()

    def placeButton(self):
        return self._button

    def setPlaceMultipleMarkups(self, option):
        self.placeMultipleMarkups = option

    def setPlaceModePersistency(self, persistent):
        self.interactionNode().SetPlaceModePersistence(bool(persistent))

    def setCurrentNodeActive(self, active):
        if active and self._node:
            selection = self.selectionNode()
            selection.SetReferenceActivePlaceNodeClassName(self._node.GetClassName())
            selection.SetActivePlaceNodeID(self._node.GetID())

    def setPlaceModeEnabled(self, enabled):
        interaction = self.interactionNode()
        if bool(enabled) == self._placing():
            return
        if enabled:
            self.setCurrentNodeActive(True)
            interaction.SetCurrentInteractionMode(interaction.Place)
        else:
            interaction.SetCurrentInteractionMode(interaction.ViewTransform)
        self._show()

    def deleteAllPoints(self):
        if self._node:
            self._node.RemoveAllControlPoints()

    def deleteLastPoint(self):
        if self._node and self._node.GetNumberOfControlPoints():
            self._node.RemoveNthControlPoint(self._node.GetNumberOfControlPoints() - 1)

    def _active(self):
        return bool(self._node) and self.selectionNode().GetActivePlaceNodeID() == self._node.GetID()

    def _persistent(self):
        return bool(self.interactionNode().GetPlaceModePersistence())

    def _placing(self):
        interaction = self.interactionNode()
        return self._active() and interaction.GetCurrentInteractionMode() == interaction.Place

    _shown = False

    def _show(self):
        placing = self._placing()
        self._button.setChecked(placing)
        if placing != self._shown:
            self._shown = placing
            send(self, "activeMarkupsPlaceModeChanged", placing)


def install():
    """Put the widgets where the module finds them: in the package slicer."""
    from .qt_module import custom_widgets

    for name, cls in custom_widgets.items():
        if name.startswith(("qMRML", "qSlicer")):
            setattr(slicer, name, cls)
