"""Which widget can show which type of a parameter node's field, and how: Slicer's own table, by exact widget class."""

import enum
import pathlib
import typing

import ctk
import qt
import slicer

from .parameter_node import Choice, Decimals, Maximum, Minimum, SingleStep, WithinRange, _is_node_class, _split


class Connector:
    """A widget that shows one value: read, write, and a signal that says it changed."""

    def __init__(self, widget, signal, read, write):
        self.widget, self._signal, self.read, self.write = widget, signal, read, write
        self._callback = None

    def connect(self, callback):
        """Call `callback()` when the user changes the widget."""
        self._callback = callback
        self.widget.connect(self._signal, self._changed)

    def disconnect(self):
        """Undo connect."""
        if self._callback:
            self._callback = None
            self.widget.disconnect(self._signal, self._changed)

    def _changed(self):
        if self._callback:
            self._callback()


def make_connector(widget, annotated) -> Connector:
    """The connector for a widget and a field's type. Raises RuntimeError where Slicer has none."""
    kind, annotations = _split(annotated)
    cls = type(widget)
    if kind is bool and cls is qt.QCheckBox:
        return _by_property(widget, "stateChanged(int)", "checked")
    if kind is bool and cls in (qt.QPushButton, ctk.ctkCheckablePushButton):
        widget.checkable = True
        return _by_property(widget, "toggled(bool)", "checked")
    if kind is int and cls in (qt.QSlider, qt.QSpinBox):
        _set_bounds(widget, annotations, must=cls is qt.QSlider, limits=(-(2**31), 2**31 - 1))
        return _by_property(widget, "valueChanged(int)", "value")
    if kind in (float, int) and cls in (qt.QDoubleSpinBox, ctk.ctkSliderWidget):
        _set_bounds(widget, annotations, must=cls is not qt.QDoubleSpinBox, limits=(float("-inf"), float("inf")))
        signal = "valueChanged(double)"
        return Connector(widget, signal, lambda: kind(widget.value), lambda v: setattr(widget, "value", v))
    if cls is qt.QComboBox and isinstance(kind, type) and issubclass(kind, enum.Enum):
        label = getattr(kind, "label", lambda member: member.name)
        return _choices(widget, [(label(member), member) for member in kind])
    if cls is qt.QComboBox and kind in (int, float, str, bool):
        choice = next((a for a in annotations if isinstance(a, Choice)), None)
        if choice is None:
            raise RuntimeError("a QComboBox needs the Choice annotation")
        return _choices(widget, [(str(c), c) for c in choice.choices])
    if kind is str and cls is qt.QLineEdit:
        return _by_property(widget, "textChanged(QString)", "text")
    if kind is str and cls is qt.QLabel:
        return Connector(widget, "destroyed()", lambda: widget.text, lambda v: setattr(widget, "text", v))
    if kind is str and cls is qt.QTextEdit:
        return Connector(widget, "textChanged()", widget.toPlainText, widget.setPlainText)
    if isinstance(kind, type) and issubclass(kind, pathlib.PurePath):
        if cls is ctk.ctkPathLineEdit:
            return _path(widget, kind, "currentPathChanged(QString)", "currentPath")
        if cls is ctk.ctkDirectoryButton:
            return _path(widget, kind, "directoryChanged(QString)", "directory")
    classes = typing.get_args(kind) or (kind,)
    if cls is slicer.qMRMLNodeComboBox and all(_is_node_class(c) or c is type(None) for c in classes):
        widget.nodeTypes = [c.__name__ for c in classes if _is_node_class(c)]
        return Connector(widget, "currentNodeChanged(vtkMRMLNode*)", widget.currentNode, widget.setCurrentNode)
    raise RuntimeError(f"Unable to create GUI connector from datatype '{annotated}' to widget type '{cls}'")


def _by_property(widget, signal, name):
    return Connector(widget, signal, lambda: getattr(widget, name), lambda value: setattr(widget, name, value))


def _path(widget, kind, signal, name):
    return Connector(widget, signal, lambda: kind(getattr(widget, name)), lambda v: setattr(widget, name, str(v)))


def _choices(widget, labelled):
    widget.clear()
    for label, _ in labelled:
        widget.addItem(label)

    def write(value):
        places = [i for i, (_, choice) in enumerate(labelled) if choice == value]
        if not places:
            raise ValueError(f"Unable to find value {value!r} in {[c for _, c in labelled]}")
        widget.currentIndex = places[0]

    return Connector(widget, "currentIndexChanged(int)", lambda: labelled[widget.currentIndex][1], write)


def _set_bounds(widget, annotations, must, limits):
    for annotation in annotations:
        if isinstance(annotation, Decimals):
            widget.decimals = annotation.value
        if isinstance(annotation, SingleStep):
            widget.singleStep = annotation.value
    minimum = next((a.minimum for a in annotations if isinstance(a, WithinRange | Minimum)), None)
    maximum = next((a.maximum for a in annotations if isinstance(a, WithinRange | Maximum)), None)
    if must and (minimum is None or maximum is None):
        raise RuntimeError(f"a {type(widget).__name__} needs a bounded number: annotate it WithinRange")
    widget.minimum = limits[0] if minimum is None else minimum
    widget.maximum = limits[1] if maximum is None else maximum
