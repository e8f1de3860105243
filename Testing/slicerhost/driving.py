"""Drive widgets and views as a user does: mouse, keys, wheel, by real Qt events."""

import time

import numpy as np
from PySide6 import QtCore, QtGui, QtTest, QtWidgets

Qt = QtCore.Qt
_QTest = QtTest.QTest


def click(widget, place=None, button=Qt.MouseButton.LeftButton, modifiers=Qt.KeyboardModifier.NoModifier) -> None:
    """Click into a widget, at its middle or at (x, y). Raises AssertionError for one that is hidden or disabled."""
    if not widget.isVisible() or not widget.enabled:
        raise AssertionError(f"{widget.className()} {widget.name} is hidden or disabled: a user could not click it")
    at = QtCore.QPoint(*place) if place is not None else _middle(widget)
    _QTest.mouseClick(widget, button, modifiers, at)


def _middle(widget) -> QtCore.QPoint:
    if isinstance(widget, QtWidgets.QCheckBox | QtWidgets.QRadioButton):
        return QtCore.QPoint(8, widget.height // 2)
    if widget.className().startswith("ctkCollapsible"):
        return QtCore.QPoint(widget.width // 2, 8)
    return widget.rect.center()


def drag(slider, value: float, steps: int):
    """Drag a slider's handle to a value; yields after each event, so that the caller can let the event loop run."""
    inner = slider
    while not isinstance(inner, QtWidgets.QSlider):
        inner = inner._slider
    if slider.minimum > value or slider.maximum < value:
        raise AssertionError(f"{value} is outside the slider's {slider.minimum} to {slider.maximum}")
    if not slider.enabled:
        raise AssertionError(f"{slider.className()} {slider.name} is disabled: a user could not drag it")
    share = (value - slider.minimum) / ((slider.maximum - slider.minimum) or 1)
    start, end = inner.value, round(inner.minimum + share * (inner.maximum - inner.minimum))
    inner.setSliderDown(True)
    yield
    for step in range(1, steps + 1):
        inner.setSliderPosition(round(start + (end - start) * step / steps))
        yield
    inner.setSliderDown(False)
    yield


def type_text(widget, text: str) -> None:
    """Replace a widget's text by typing."""
    target = _line_edit(widget)
    target.setFocus()
    _QTest.keyClick(target, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    _QTest.keyClick(target, Qt.Key.Key_Delete)
    _QTest.keyClicks(target, text)
    if not isinstance(target, QtWidgets.QTextEdit | QtWidgets.QPlainTextEdit):
        _QTest.keyClick(target, Qt.Key.Key_Return)


def _line_edit(widget):
    if isinstance(widget, QtWidgets.QLineEdit | QtWidgets.QTextEdit | QtWidgets.QPlainTextEdit):
        return widget
    found = widget.findChild(QtWidgets.QLineEdit)
    if found is None:
        raise AssertionError(f"{widget.className()} {widget.name} takes no text")
    return found


def key(widget, name: str, modifiers: str = "") -> None:
    """Press and release a key."""
    _activate(widget)
    _QTest.keyClick(widget, _key(name), _modifiers(modifiers))


def key_event(widget, name: str, press: bool) -> None:
    """Press or release a key."""
    _activate(widget)
    (_QTest.keyPress if press else _QTest.keyRelease)(widget, _key(name))


def _activate(widget) -> None:
    """Bring the widget's window to the front and wait until it is: a shortcut of an inactive window does nothing."""
    widget.activateWindow()
    widget.setFocus()
    window = QtWidgets.QWidget.window(widget)
    until = time.monotonic() + 5
    while not QtWidgets.QWidget.isActiveWindow(window):
        if time.monotonic() > until:
            raise TimeoutError(f"the window of {widget} did not become active within 5 s")
        QtWidgets.QApplication.processEvents()


def _key(name: str):
    return getattr(Qt.Key, f"Key_{name}") if hasattr(Qt.Key, f"Key_{name}") else QtGui.QKeySequence(name)[0].key()


def _modifiers(text: str):
    names = {"ctrl": "ControlModifier", "shift": "ShiftModifier", "alt": "AltModifier", "meta": "MetaModifier"}
    found = Qt.KeyboardModifier.NoModifier
    for part in filter(None, text.lower().split("+")):
        found |= getattr(Qt.KeyboardModifier, names[part])
    return found


class ViewDriver:
    """One view of the layout: its pixels, and the mouse in it. Places are RAS mm in slice views, or (x, y) pixels."""

    def __init__(self, host, widget):
        self._host, self.widget, self.view = host, widget, widget.viewWidget()

    def image(self) -> np.ndarray:
        """What the view shows: uint8 (rows, columns, 3)."""
        return self.view._host_pixels().copy()

    @property
    def draws(self) -> int:
        """How often the view was drawn so far."""
        return self.view._host_draws()

    def pixel(self, ras) -> tuple[int, int]:
        """(x, y) in the widget, from its upper left corner, of a point in mm."""
        x, y, _ = self.view.convertRASToXYZ(ras)
        return round(x), round(self.view.height - 1 - y)

    def click(self, ras=None, xy=None, button="Left", modifiers="") -> None:
        """Click at a point."""
        at = QtCore.QPoint(*(xy or self.pixel(ras)))
        self._move(at, modifiers)
        _QTest.mouseClick(self.view, getattr(Qt.MouseButton, f"{button}Button"), _modifiers(modifiers), at)
        self._host.process()

    def move(self, ras=None, xy=None, modifiers="") -> None:
        """Move the mouse to a point; with "Shift" the crosshair follows."""
        self._move(QtCore.QPoint(*(xy or self.pixel(ras))), modifiers)
        self._host.process()

    def drag(self, start, end, button="Left", modifiers="") -> None:
        """Press at (x, y), move to another, release."""
        which = getattr(Qt.MouseButton, f"{button}Button")
        self._move(QtCore.QPoint(*start), modifiers)
        _QTest.mousePress(self.view, which, _modifiers(modifiers), QtCore.QPoint(*start))
        for i in range(1, 6):
            at = [round(s + (e - s) * i / 5) for s, e in zip(start, end, strict=True)]
            self._move(QtCore.QPoint(*at), modifiers, which)
        _QTest.mouseRelease(self.view, which, _modifiers(modifiers), QtCore.QPoint(*end))
        self._host.process()

    def wheel(self, clicks: int) -> None:
        """Turn the wheel: slice views move by slices."""
        middle = QtCore.QPointF(self.view.rect.center())
        for _ in range(abs(clicks)):
            event = QtGui.QWheelEvent(
                middle,
                QtCore.QPointF(self.view.mapToGlobal(middle.toPoint())),
                QtCore.QPoint(),
                QtCore.QPoint(0, 120 if clicks > 0 else -120),
                Qt.MouseButton.NoButton,
                Qt.KeyboardModifier.NoModifier,
                Qt.ScrollPhase.NoScrollPhase,
                False,
            )
            QtCore.QCoreApplication.sendEvent(self.view, event)
        self._host.process()

    def _move(self, at, modifiers, buttons=Qt.MouseButton.NoButton):
        event = QtGui.QMouseEvent(
            QtCore.QEvent.Type.MouseMove,
            QtCore.QPointF(at),
            QtCore.QPointF(self.view.mapToGlobal(at)),
            Qt.MouseButton.NoButton,
            buttons,
            _modifiers(modifiers),
        )
        QtCore.QCoreApplication.sendEvent(self.view, event)
