"""The module `qt`: Qt's classes by their names, and a loader of .ui files that knows Slicer's widgets.

Names that PySide6 has and PythonQt lacks (Signal, Slot, Property, QtWidgets ...) are not there.
"""

import sys
import types
import xml.etree.ElementTree as ET

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from . import dialogs, pythonqt
from .facts import surface

# Class name in a .ui file -> host class; filled by ctk_widgets and qmrml_widgets.
custom_widgets: dict[str, type] = {}


class QtModule(types.ModuleType):
    """`import qt`."""

    def __getattr__(self, name):
        if name[:1] == "Q":
            for module in pythonqt.QT_MODULES:
                found = getattr(module, name, None)
                if isinstance(found, type):
                    setattr(self, name, found)
                    return found
        raise AttributeError(f"the host's qt has no '{name}': PythonQt lacks it, or the host does not know it.")


class UiLoader(QtUiTools.QUiLoader):
    """`qt.QUiLoader`: Qt's own, which makes the host's ctk and qMRML widgets and connects what the file connects.

    Raises RuntimeError for a widget class that the host does not know, AttributeError for a property, signal or slot
    that the class lacks in Slicer.
    """

    def load(self, device, parent=None):
        """The top widget of the .ui file that `device` (an open QFile) holds."""
        tree = ET.fromstring(bytes(device.readAll().data()))
        device.close()
        connections = _take_connections(tree)
        later = _take_host_enums(tree)
        buffer = QtCore.QBuffer()
        buffer.setData(ET.tostring(tree))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        pythonqt.loading_ui = True
        try:
            widget = super().load(buffer, parent)
        finally:
            pythonqt.loading_ui = False
        if widget is None:
            raise RuntimeError(QtUiTools.QUiLoader.errorString(self))
        _check_properties(tree, widget)
        for name, attribute, value in later:
            setattr(_by_name(widget, name), attribute, value)
        for sender, signal, receiver, slot in connections:
            source, target = _by_name(widget, sender), _by_name(widget, receiver)
            pythonqt.connect(source, signal, getattr(target, slot.partition("(")[0]))
        return widget

    def createWidget(self, class_name, parent=None, name=""):
        """A widget by its class's name, of the host's class where there is one."""
        if class_name in custom_widgets:
            widget = custom_widgets[class_name](parent) if parent is not None else custom_widgets[class_name]()
            QtCore.QObject.setObjectName(widget, name)
            return widget
        if not isinstance(getattr(QtWidgets, class_name, None), type):
            raise RuntimeError(f"the .ui file asks for a {class_name}, which the host does not know")
        return super().createWidget(class_name, parent, name)


def _take_connections(tree) -> list[tuple[str, str, str, str]]:
    connections = []
    for block in tree.findall("connections"):
        tree.remove(block)
        for c in block.findall("connection"):
            connections.append(tuple(c.findtext(tag) for tag in ("sender", "signal", "receiver", "slot")))
    return connections


def _take_host_enums(tree) -> list[tuple[str, str, object]]:
    """Enum properties of the host's own widgets, which Qt's loader cannot set: (widget, property, value)."""
    later = []
    for element in tree.iter("widget"):
        if element.get("class") not in custom_widgets:
            continue
        for found in list(element.findall("property")):
            text = found.findtext("enum") or found.findtext("set")
            facts = surface(element.get("class"))
            if text and found.get("name") in facts.properties:
                element.remove(found)
                later.append((element.get("name"), found.get("name"), _enum_value(text, facts)))
    return later


def _enum_value(text: str, facts):
    value = None
    for part in text.split("|"):
        owner, _, name = part.strip().rpartition("::")
        owner = owner.split("::")[0]
        one = facts.enum_values[name] if name in facts.enum_values else getattr(getattr(_namespace, owner), name)
        value = one if value is None else value | one
    return value


def _check_properties(tree, top):
    for element in tree.iter("widget"):
        widget = _by_name(top, element.get("name"))
        for found in element.findall("property"):
            name = found.get("name")
            if name not in pythonqt.properties(type(widget)) and found.get("stdset") != "0" and name != "buttonGroup":
                raise AttributeError(f"{element.get('class')} {element.get('name')} of the .ui file has no '{name}'")


def _by_name(top, name):
    if QtCore.QObject.objectName(top) == name:
        return top
    found = QtCore.QObject.findChild(top, QtCore.QObject, name)
    if found is None:
        raise RuntimeError(f"the .ui file has no object named {name}")
    return found


_namespace = QtModule("qt")


def install() -> QtModule:
    """Make `import qt` work; PythonQt's rules hold from here on."""
    pythonqt.install()
    sys.modules["qt"] = _namespace
    _namespace.QUiLoader = UiLoader
    dialogs.catch_waiting_dialogs()
    settings = QtCore.QSettings
    settings.setDefaultFormat(settings.Format.IniFormat)
    for shortcut in ("QShortcut", "QAction", "QActionGroup"):  # in QtWidgets until Qt 5
        setattr(_namespace, shortcut, getattr(QtGui, shortcut))
    return _namespace
