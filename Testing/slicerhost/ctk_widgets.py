"""The module `ctk`: CTK's widgets that the module uses, drawn with Qt's own.

Their names are those that facts.json lists (pythonqt.py sees to that); here stands what they do. A property that is
only `stored` has no effect that this host shows.
"""

import os
import sys
import types

from PySide6 import QtCore, QtGui, QtWidgets

from .pythonqt import host_property as Property
from .pythonqt import send
from .qt_module import custom_widgets

Signal = QtCore.Signal
Qt = QtCore.Qt


def stored(kind, name: str, default=None, then=None):
    """A Qt property kept in the object under `_<name>`; `then` is the name of the method called after a change."""
    key = f"_{name}"

    def read(self):
        return self.__dict__.get(key, default)

    def write(self, value):
        changed = read(self) != value
        self.__dict__[key] = value
        if changed and then:
            getattr(self, then)()

    return Property(kind, read, write)


def host_widget(cls):
    """Class decorator: `slicer_class` is the class's name, and the .ui loader knows it."""
    cls.slicer_class = cls.__name__
    custom_widgets[cls.__name__] = cls
    return cls


def _row(widget, *children):
    layout = QtWidgets.QHBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    for child, stretch in children:
        layout.addWidget(child, stretch)
    return layout


class _Number:
    """What CTK's sliders and spin boxes share: a value between minimum and maximum, in steps, with decimals."""

    _value, _minimum, _maximum, _singleStep, _decimals = 0.0, 0.0, 99.0, 1.0, 2
    _prefix, _suffix = "", ""

    def _set_value(self, value):
        value = min(max(float(value), self._minimum), self._maximum)
        if value != self._value:
            self._value = value
            self._show()
            send(self, "valueChanged", value)

    def _set_bounds(self, minimum=None, maximum=None):
        self._minimum = self._minimum if minimum is None else float(minimum)
        self._maximum = self._maximum if maximum is None else float(maximum)
        if self._minimum > self._maximum:
            if maximum is None:
                self._maximum = self._minimum
            else:
                self._minimum = self._maximum
        self._show()
        self._set_value(self._value)

    def _set_plain(self, name, value):
        setattr(self, f"_{name}", value)
        self._show()


def _bound_properties():
    return {
        "value": Property(float, lambda s: s._value, lambda s, v: s._set_value(v)),
        "minimum": Property(float, lambda s: s._minimum, lambda s, v: s._set_bounds(minimum=v)),
        "maximum": Property(float, lambda s: s._maximum, lambda s, v: s._set_bounds(maximum=v)),
        "singleStep": Property(float, lambda s: s._singleStep, lambda s, v: s._set_plain("singleStep", float(v))),
    }


@host_widget
class ctkDoubleSlider(_Number, QtWidgets.QWidget):
    """A slider over doubles."""

    valueChanged, sliderMoved = Signal(float), Signal(float)
    sliderPressed, sliderReleased, rangeChanged = Signal(), Signal(), Signal(float, float)
    value, minimum, maximum, singleStep = _bound_properties().values()
    sliderPosition = Property(float, lambda s: s._value, lambda s, v: s._set_value(v))
    pageStep = stored(float, "pageStep", 10.0)
    tracking = stored(bool, "tracking", True)
    tickInterval = stored(float, "tickInterval", 0.0, then="_show")
    tickPosition = Property(int, lambda s: int(s._slider.tickPosition), lambda s, v: s._ticks(v))
    handleToolTip = stored(str, "handleToolTip", "")
    invertedAppearance = stored(bool, "invertedAppearance", False)
    invertedControls = stored(bool, "invertedControls", False)

    def __init__(self, orientation=Qt.Orientation.Horizontal, parent=None):
        if isinstance(orientation, QtWidgets.QWidget):
            orientation, parent = Qt.Orientation.Horizontal, orientation
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(orientation)
        self._slider.setRange(0, 1000)
        self._slider.connect("valueChanged(int)", self._from_slider)
        for signal in ("sliderPressed", "sliderReleased"):
            self._slider.connect(signal + "()", lambda name=signal: send(self, name))
        self._slider.connect("sliderMoved(int)", self._moved)
        _row(self, (self._slider, 1))
        self._show()

    orientation = Property(
        "QVariant", lambda s: s._slider.orientation, lambda s, v: s._slider.setOrientation(v)
    )

    def setOrientation(self, orientation):
        self._slider.setOrientation(orientation)

    def setValue(self, value):
        self._set_value(value)

    def _ticks(self, position):
        self._slider.setTickPosition(QtWidgets.QSlider.TickPosition(int(position)))

    def _at(self, place: int) -> float:
        value = self._minimum + (self._maximum - self._minimum) * place / 1000
        return self._minimum + round((value - self._minimum) / self._singleStep) * self._singleStep

    def _moved(self, place: int):
        send(self, "sliderMoved", self._at(place))

    def _from_slider(self, place: int):
        if self.tracking or not self._slider.isSliderDown():
            self._set_value(self._at(place))

    def _show(self):
        if "_slider" not in self.__dict__:
            return
        blocked = self._slider.blockSignals(True)
        span = (self._maximum - self._minimum) or 1.0
        self._slider.setSingleStep(max(1, round(1000 * self._singleStep / span)))
        self._slider.setTickInterval(round(1000 * self.tickInterval / span))
        if not self._slider.isSliderDown():
            self._slider.setValue(round(1000 * (self._value - self._minimum) / span))
        self._slider.blockSignals(blocked)


@host_widget
class ctkDoubleSpinBox(_Number, QtWidgets.QWidget):
    """A spin box over doubles (a QWidget, not a QDoubleSpinBox, as CTK's is)."""

    valueChanged, _valueChanged_QString, decimalsChanged = Signal(float), Signal(str), Signal(int)
    editingFinished = Signal()
    value, minimum, maximum, singleStep = _bound_properties().values()
    decimals = Property(int, lambda s: s._decimals, lambda s, v: s.setDecimals(v))
    prefix = Property(str, lambda s: s._prefix, lambda s, v: s._set_plain("prefix", v))
    suffix = Property(str, lambda s: s._suffix, lambda s, v: s._set_plain("suffix", v))
    cleanText = Property(str, lambda s: s._spin.cleanText)
    readOnly = Property(bool, lambda s: s._spin.readOnly, lambda s, v: s._spin.setReadOnly(v))

    def __init__(self, parent=None):
        super().__init__(parent)
        self._spin = QtWidgets.QDoubleSpinBox()
        self._spin.connect("valueChanged(double)", lambda v: self._set_value(v))
        self._spin.connect("editingFinished()", lambda: send(self, "editingFinished"))
        _row(self, (self._spin, 1))
        self._show()

    def setValue(self, value):
        self._set_value(value)

    setValueIfDifferent = setValue

    def setDecimals(self, decimals):
        if decimals != self._decimals:
            self._set_plain("decimals", int(decimals))
            send(self, "decimalsChanged", int(decimals))

    def setReadOnly(self, read_only):
        self._spin.setReadOnly(read_only)

    def stepUp(self):
        self._set_value(self._value + self._singleStep)

    def stepDown(self):
        self._set_value(self._value - self._singleStep)

    def _show(self):
        if "_spin" in self.__dict__:
            _show_spin_box(self._spin, self)


def _show_spin_box(spin, number):
    blocked = spin.blockSignals(True)
    for name in ("decimals", "minimum", "maximum", "singleStep", "prefix", "suffix", "value"):
        new = getattr(number, f"_{name}")
        if getattr(spin, name) != new:  # else it would rewrite the text that the user is typing; CTK's does not
            setattr(spin, name, new)
    spin.blockSignals(blocked)


@host_widget
class ctkSliderWidget(_Number, QtWidgets.QWidget):
    """A slider with a spin box. With tracking off, valueChanged waits for the release and valueIsChanging does not."""

    valueChanged, valueIsChanging, decimalsChanged = Signal(float), Signal(float), Signal(int)
    value, minimum, maximum, singleStep = _bound_properties().values()
    decimals = Property(int, lambda s: s._decimals, lambda s, v: s.setDecimals(v))
    prefix = Property(str, lambda s: s._prefix, lambda s, v: s._set_plain("prefix", v))
    suffix = Property(str, lambda s: s._suffix, lambda s, v: s._set_plain("suffix", v))
    tracking = stored(bool, "tracking", True)
    pageStep = Property(float, lambda s: s._slider.pageStep, lambda s, v: setattr(s._slider, "pageStep", v))
    tickInterval = Property(
        float, lambda s: s._slider.tickInterval, lambda s, v: setattr(s._slider, "tickInterval", v)
    )
    tickPosition = Property(int, lambda s: s._slider.tickPosition, lambda s, v: s._slider._ticks(v))
    spinBoxVisible = Property(bool, lambda s: s._visible, lambda s, v: s.setSpinBoxVisible(v))
    popupSlider = stored(bool, "popupSlider", False)
    invertedAppearance = stored(bool, "invertedAppearance", False)
    invertedControls = stored(bool, "invertedControls", False)
    _visible = True

    def __init__(self, parent=None):
        super().__init__(parent)
        self._slider = ctkDoubleSlider()
        self._spin = QtWidgets.QDoubleSpinBox()
        self._slider.connect("valueChanged(double)", self._changing)
        self._slider.connect("sliderReleased()", self._released)
        self._spin.connect("valueChanged(double)", lambda v: self._set_value(v))
        _row(self, (self._slider, 1), (self._spin, 0))
        self._show()

    def setValue(self, value):
        self._set_value(value)

    def reset(self):
        self._set_value(min(max(0.0, self._minimum), self._maximum))

    def setDecimals(self, decimals):
        if decimals != self._decimals:
            self._set_plain("decimals", int(decimals))
            send(self, "decimalsChanged", int(decimals))

    def setSpinBoxVisible(self, visible):
        self._visible = bool(visible)
        self._spin.setVisible(bool(visible))

    def _changing(self, value):
        if self._slider._slider.isSliderDown():
            send(self, "valueIsChanging", value)
            if not self.tracking:
                blocked = self._spin.blockSignals(True)
                self._spin.setValue(value)
                self._spin.blockSignals(blocked)
                return
        self._set_value(value)

    def _released(self):
        self._set_value(self._slider.value)

    def _show(self):
        if "_spin" not in self.__dict__:
            return
        _show_spin_box(self._spin, self)
        slider = self._slider
        blocked = slider.blockSignals(True)
        slider._minimum, slider._maximum, slider._singleStep = self._minimum, self._maximum, self._singleStep
        slider._value = self._value
        slider._show()
        slider.blockSignals(blocked)


@host_widget
class ctkRangeWidget(QtWidgets.QWidget):
    """Two values between bounds, each with a spin box and a slider."""

    minimumValueChanged, maximumValueChanged = Signal(float), Signal(float)
    minimumValueIsChanging, maximumValueIsChanging = Signal(float), Signal(float)
    valuesChanged, rangeChanged = Signal(float, float), Signal(float, float)
    minimum = Property(float, lambda s: s._bounds[0], lambda s, v: s.setRange(v, max(v, s._bounds[1])))
    maximum = Property(float, lambda s: s._bounds[1], lambda s, v: s.setRange(min(v, s._bounds[0]), v))
    minimumValue = Property(float, lambda s: s._values[0], lambda s, v: s.setMinimumValue(v))
    maximumValue = Property(float, lambda s: s._values[1], lambda s, v: s.setMaximumValue(v))
    singleStep = Property(float, lambda s: s._step, lambda s, v: s._set_step(v))
    decimals = Property(int, lambda s: s._ends[0].decimals, lambda s, v: s.setDecimals(v))
    tracking = stored(bool, "tracking", True)
    prefix, suffix = stored(str, "prefix", ""), stored(str, "suffix", "")
    tickInterval = stored(float, "tickInterval", 0.0)
    symmetricMoves, autoSpinBoxWidth = stored(bool, "symmetricMoves", False), stored(bool, "autoSpinBoxWidth", True)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._bounds, self._values, self._step = (0.0, 99.0), (0.0, 99.0), 1.0
        self._ends = (ctkSliderWidget(), ctkSliderWidget())
        for end, setter in zip(self._ends, (self.setMinimumValue, self.setMaximumValue), strict=True):
            end.connect("valueChanged(double)", setter)
        _row(self, (self._ends[0], 1), (self._ends[1], 1))
        self._show()

    def setRange(self, minimum, maximum):
        self._bounds = (float(minimum), float(maximum))
        send(self, "rangeChanged", *self._bounds)
        self.setValues(*self._values)
        self._show()

    def setMinimumValue(self, value):
        self.setValues(value, max(value, self._values[1]))

    def setMaximumValue(self, value):
        self.setValues(min(value, self._values[0]), value)

    def setValues(self, minimum, maximum):
        old = self._values
        low, high = (min(max(float(v), self._bounds[0]), self._bounds[1]) for v in (minimum, maximum))
        self._values = (low, high)
        self._show()
        if old[0] != low:
            send(self, "minimumValueChanged", low)
        if old[1] != high:
            send(self, "maximumValueChanged", high)
        if old != self._values:
            send(self, "valuesChanged", low, high)

    def setDecimals(self, decimals):
        for end in self._ends:
            end.setDecimals(decimals)

    def reset(self):
        self.setValues(*self._bounds)

    def _set_step(self, step):
        self._step = float(step)
        self._show()

    def _show(self):
        for end, value in zip(self._ends, self._values, strict=True):
            blocked = end.blockSignals(True)
            end.singleStep, end.minimum, end.maximum, end.value = self._step, *self._bounds, value
            end.blockSignals(blocked)


@host_widget
class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A titled section that folds; a click on its title row folds and unfolds it."""

    contentsCollapsed = Signal(bool)
    collapsed = Property(bool, lambda s: s._collapsed, lambda s, v: s._set_collapsed(v))
    collapsedHeight = stored(int, "collapsedHeight", 10)
    flat = stored(bool, "flat", False)
    contentsFrameShape, contentsFrameShadow = stored("QVariant", "frameShape"), stored("QVariant", "frameShadow")
    contentsLineWidth, contentsMidLineWidth = stored(int, "lineWidth", 1), stored(int, "midLineWidth", 0)
    buttonTextAlignment, indicatorAlignment = stored("QVariant", "textAlign"), stored("QVariant", "indicatorAlign")
    _collapsed = False
    _title_height = 24

    def __init__(self, *arguments):
        text = next((a for a in arguments if isinstance(a, str)), "")
        super().__init__(*[a for a in arguments if not isinstance(a, str)])
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Preferred)
        self.setContentsMargins(2, self._title_height, 2, 2)
        self.connect("toggled(bool)", lambda checked: self._set_collapsed(not checked))

    def _set_collapsed(self, collapsed):
        if bool(collapsed) == self._collapsed:
            return
        self._collapsed = bool(collapsed)
        self.setChecked(not self._collapsed)
        self._apply()
        send(self, "contentsCollapsed", self._collapsed)

    def _apply(self):
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                if self._collapsed:
                    child.setProperty("_host_hidden", child.isHidden())
                    child.setVisible(False)
                elif not child.property("_host_hidden"):
                    child.setVisible(True)
        self.setMaximumHeight(self._title_height + 2 if self._collapsed else 16777215)
        self.updateGeometry()
        self.update()

    def showEvent(self, event):
        if self._collapsed:
            self._apply()
        super().showEvent(event)

    def sizeHint(self):
        inner = self.layout().sizeHint() if self.layout() and not self._collapsed else QtCore.QSize(0, 0)
        width = self.fontMetrics().horizontalAdvance(self.text) + 40
        height = self._title_height + 2 if self._collapsed else inner.height()
        return QtCore.QSize(max(width, inner.width() + 4), height)

    def minimumSizeHint(self):
        inner = self.layout().minimumSize() if self.layout() and not self._collapsed else QtCore.QSize(0, 0)
        return QtCore.QSize(max(60, inner.width()), max(self._title_height + 2, inner.height()))

    def hitButton(self, place):
        return place.y() < self._title_height

    def paintEvent(self, event):
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width, self._title_height - 2)
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option)
        sign = "\u25b8" if self._collapsed else "\u25be"
        text = QtCore.QRect(8, 0, self.width - 16, self._title_height - 2)
        painter.drawText(text, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft), f"{sign}  {self.text}")
        if not self._collapsed:
            painter.setPen(self.palette.color(QtGui.QPalette.ColorRole.Mid))
            painter.drawRect(0, self._title_height - 2, self.width - 1, self.height - self._title_height + 1)


@host_widget
class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    """A group box that folds."""

    collapsed = Property(bool, lambda s: s._collapsed, lambda s, v: s._set_collapsed(v))
    collapsedHeight = stored(int, "collapsedHeight", 14)
    _collapsed = False

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.setCheckable(True)
        self.connect("toggled(bool)", lambda checked: self._set_collapsed(not checked))

    def _set_collapsed(self, collapsed):
        if bool(collapsed) != self._collapsed:
            self._collapsed = bool(collapsed)
            self.setChecked(not self._collapsed)
            for child in self.children():
                if isinstance(child, QtWidgets.QWidget):
                    child.setVisible(not self._collapsed)


@host_widget
class ctkComboBox(QtWidgets.QComboBox):
    """A combo box with a default text."""

    returnRelease = Signal()
    defaultText = stored(str, "defaultText", "Select...", then="_show_default")
    forceDefault = stored(bool, "forceDefault", False)
    elideMode, scrollWheelEffect = stored("QVariant", "elideMode"), stored("QVariant", "scrollWheelEffect")
    defaultIcon = stored(QtGui.QIcon, "defaultIcon")

    currentUserDataAsString = Property(
        str, lambda s: str(s.currentData() or ""), lambda s, v: s.setCurrentUserDataAsString(v)
    )

    def setCurrentUserDataAsString(self, data):
        for i in range(self.count):
            if str(self.itemData(i)) == str(data):
                self.setCurrentIndex(i)

    def _show_default(self):
        self.setPlaceholderText(self.defaultText)


@host_widget
class ctkCheckBox(QtWidgets.QCheckBox):
    """A check box with an icon."""

    indicatorIcon = stored(QtGui.QIcon, "indicatorIcon")
    indicatorIconSize = stored(QtCore.QSize, "indicatorIconSize")


@host_widget
class ctkSearchBox(QtWidgets.QLineEdit):
    """A line edit with a magnifying glass and a clear button."""

    searchIcon, clearIcon = stored(QtGui.QIcon, "searchIcon"), stored(QtGui.QIcon, "clearIcon")
    showSearchIcon = stored(bool, "showSearchIcon", False)

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setClearButtonEnabled(True)
        self.setPlaceholderText("Search...")


@host_widget
class ctkPathLineEdit(QtWidgets.QWidget):
    """An editable path with a history and a button that opens a file dialog."""

    validInputChanged, currentPathChanged = Signal(bool), Signal(str)
    currentPath = Property(str, lambda s: s._path, lambda s, v: s.setCurrentPath(v))
    filters, options = stored("QVariant", "filters"), stored("QVariant", "options")
    label, settingKey = stored(str, "label", ""), stored(str, "settingKey", "")
    nameFilters = stored("QStringList", "nameFilters", [])
    minimumContentsLength = stored(int, "minimumContentsLength", 0)
    sizeAdjustPolicy = stored("QVariant", "sizeAdjustPolicy")
    showBrowseButton, showHistoryButton = (
        Property(bool, lambda s: not s._button.isHidden(), lambda s, v: s._button.setVisible(v)),
        stored(bool, "showHistoryButton", True),
    )
    Dirs, Files, Drives, NoSymLinks, Readable, Writable, Executable = 1, 2, 4, 8, 16, 32, 64  # as QDir's filters

    def __init__(self, *arguments):
        super().__init__(*[a for a in arguments if isinstance(a, QtWidgets.QWidget)])
        self._path = ""
        self._box = QtWidgets.QComboBox()
        self._box.setEditable(True)
        self._box.setInsertPolicy(QtWidgets.QComboBox.InsertPolicy.NoInsert)
        self._button = QtWidgets.QToolButton()
        self._button.setText("...")
        self._box.connect("editTextChanged(QString)", self.setCurrentPath)
        self._button.connect("clicked()", self.browse)
        _row(self, (self._box, 1), (self._button, 0))

    def setCurrentPath(self, path):
        path = str(path)
        if path == self._path:
            return
        was_valid = os.path.exists(self._path)
        self._path = path
        self._box.setEditText(path)
        send(self, "currentPathChanged", path)
        if os.path.exists(path) != was_valid:
            send(self, "validInputChanged", os.path.exists(path))

    def comboBox(self):
        return self._box

    def addCurrentPathToHistory(self):
        if self._path and self._box.findText(self._path) < 0:
            self._box.insertItem(0, self._path)

    def retrieveHistory(self):
        """CTK reads the history from the settings; here there is none between processes."""

    def browse(self):
        folders = self.filters is not None and int(self.filters) & 1 and not int(self.filters) & 2
        ask = QtWidgets.QFileDialog.getExistingDirectory if folders else QtWidgets.QFileDialog.getOpenFileName
        chosen = ask(self, self.label or "Select")
        if chosen:
            self.setCurrentPath(chosen)


@host_widget
class ctkDirectoryButton(QtWidgets.QWidget):
    """A button that shows a folder and opens a folder dialog."""

    directoryChanged, directorySelected = Signal(str), Signal(str)
    directory = Property(str, lambda s: s._directory, lambda s, v: s._set_directory(v))
    caption, text = stored(str, "caption", ""), stored(str, "text", "")
    acceptMode, options = stored("QVariant", "acceptMode"), stored("QVariant", "options")
    elideMode = stored("QVariant", "elideMode")
    icon = stored(QtGui.QIcon, "icon")

    def __init__(self, *arguments):
        super().__init__(*[a for a in arguments if isinstance(a, QtWidgets.QWidget)])
        self._directory = os.getcwd()
        self._button = QtWidgets.QPushButton(self._directory)
        self._button.connect("clicked()", self.browse)
        _row(self, (self._button, 1))

    def browse(self):
        chosen = QtWidgets.QFileDialog.getExistingDirectory(self, self.caption)
        if chosen:
            self._set_directory(chosen)
            send(self, "directorySelected", chosen)

    def _set_directory(self, path):
        if str(path) != self._directory:
            self._directory = str(path)
            self._button.setText(self._directory)
            send(self, "directoryChanged", self._directory)


@host_widget
class ctkPushButton(QtWidgets.QPushButton):
    """A push button with aligned text and icon."""

    buttonTextAlignment, iconAlignment = stored("QVariant", "textAlign"), stored("QVariant", "iconAlign")
    elideMode = stored("QVariant", "elideMode")


@host_widget
class ctkMenuButton(QtWidgets.QPushButton):
    """A push button with an arrow that opens its menu."""


@host_widget
class ctkCheckablePushButton(ctkPushButton):
    """A push button with a check box in it."""

    checkBoxToggled, checkStateChanged = Signal(bool), Signal(object)
    checkState = Property("QVariant", lambda s: s._state, lambda s, v: s._set_state(v))
    checkBoxControlsButton = stored(bool, "checkBoxControlsButton", True, then="_control")
    checkBoxControlsButtonToggleState = stored(bool, "toggleState", True)
    checkBoxUserCheckable = stored(bool, "userCheckable", True)
    indicatorAlignment = stored("QVariant", "indicatorAlign")
    _state = Qt.CheckState.Unchecked

    def _set_state(self, state):
        if state != self._state:
            self._state = Qt.CheckState(int(state))
            self._control()
            send(self, "checkStateChanged", self._state)
            send(self, "checkBoxToggled", self._state == Qt.CheckState.Checked)

    def _control(self):
        if self.checkBoxControlsButton:
            self.setCheckable(self._state == Qt.CheckState.Checked)


@host_widget
class ctkColorPickerButton(QtWidgets.QPushButton):
    """A button that shows a colour."""

    colorChanged, colorNameChanged = Signal(QtGui.QColor), Signal(str)
    color = Property(QtGui.QColor, lambda s: s._color, lambda s, v: s.setColor(v))
    displayColorName = stored(bool, "displayColorName", True, then="_paint")
    colorName = stored(str, "colorName", "")
    dialogOptions = stored("QVariant", "dialogOptions")

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._color = QtGui.QColor("black")
        self._paint()

    def setColor(self, color):
        color = QtGui.QColor(color)
        if color != self._color:
            self._color = color
            self._paint()
            send(self, "colorChanged", color)

    def setDisplayColorName(self, display):
        self.displayColorName = display

    def _paint(self):
        pixmap = QtGui.QPixmap(16, 16)
        pixmap.fill(self._color)
        self.setIcon(QtGui.QIcon(pixmap))
        self.setText(self._color.name() if self.displayColorName else "")


@host_widget
class ctkExpandableWidget(QtWidgets.QFrame):
    """A frame that the user can make larger."""

    orientations = stored("QVariant", "orientations")
    sizeGripInside, sizeGripMargins = stored(bool, "sizeGripInside", True), stored(QtCore.QSize, "sizeGripMargins")

    def updateSizeHint(self):
        self.updateGeometry()


@host_widget
class ctkDynamicSpacer(QtWidgets.QWidget):
    """A spacer that can be switched off."""

    active = Property(bool, lambda s: s._active, lambda s, v: s.setActive(v))
    activeSizePolicy = stored(QtWidgets.QSizePolicy, "activeSizePolicy", QtWidgets.QSizePolicy())
    inactiveSizePolicy = stored(QtWidgets.QSizePolicy, "inactiveSizePolicy", QtWidgets.QSizePolicy())
    _active = False

    def setActive(self, active):
        self._active = bool(active)
        self.setSizePolicy(self.activeSizePolicy if self._active else self.inactiveSizePolicy)

    def setInactive(self, inactive):
        self.setActive(not inactive)


@host_widget
class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    """A text browser as high as its text, with a part that folds."""

    collapsed = stored(bool, "collapsed", True)
    disableMouseScroll = stored(bool, "disableMouseScroll", True)
    showDetailsText, hideDetailsText = stored(str, "showDetailsText", ""), stored(str, "hideDetailsText", "")

    def setCollapsibleHtml(self, text):
        self.setHtml(text)

    def setCollapsibleText(self, text):
        self.setText(text)


@host_widget
class ctkMessageBox(QtWidgets.QMessageBox):
    """A message box that can be asked not to show again; here it always shows."""

    dontShowAgain, dontShowAgainVisible = stored(bool, "dontShowAgain", False), stored(bool, "dontShowVisible", False)
    dontShowAgainSettingsKey = stored(str, "dontShowAgainSettingsKey", "")


class CtkModule(types.ModuleType):
    """`import ctk`."""

    def __getattr__(self, name):
        from .facts import surface

        try:
            surface(name)
        except KeyError:
            raise AttributeError(f"the host's ctk has no '{name}'") from None
        raise NotImplementedError(f"Slicer has ctk.{name}, the host does not cover it yet (ctk_widgets.py).")


def install() -> CtkModule:
    """Make `import ctk` work."""
    module = CtkModule("ctk")
    for name, cls in custom_widgets.items():
        if name.startswith("ctk"):
            setattr(module, name, cls)
    sys.modules["ctk"] = module
    return module
