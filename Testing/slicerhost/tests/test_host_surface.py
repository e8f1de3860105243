"""What real Slicer lacks, and what the host does not know, raises here."""

import threading

import pytest


@pytest.fixture
def slider(host):
    import ctk

    return ctk.ctkSliderWidget()


def test_a_plain_cpp_method_raises_and_its_property_works(slider):
    with pytest.raises(AttributeError, match="PythonQt does not expose"):
        slider.setMaximum(5)
    slider.maximum = 5
    assert slider.maximum == 5.0
    slider.setValue(3)
    assert slider.value == 3.0


@pytest.mark.parametrize("name", ["nonsense", "setRange", "setTracking", "isSpinBoxVisible"])
def test_names_that_a_ctk_widget_lacks_raise(slider, name):
    with pytest.raises(AttributeError):
        getattr(slider, name)


def test_new_attributes_are_refused_on_qt_objects_and_kept_on_python_classes(host, slider):
    import qt

    table = qt.QTableWidget()
    for widget in (slider, qt.QLabel("a"), table.horizontalHeader(), qt.QTableWidgetItem("a")):
        with pytest.raises(AttributeError, match="does not exist"):
            widget.nonsense = 1

    class Panel(qt.QWidget):
        def __init__(self):
            super().__init__()
            self.nonsense = 1

    assert Panel().nonsense == 1


def test_properties_are_attributes(host):
    import qt

    label = qt.QLabel("a")
    label.text, label.name = "b", "theLabel"
    assert (label.text, label.name, label.objectName) == ("b", "theLabel", "theLabel")
    with pytest.raises(TypeError):
        label.text()
    with pytest.raises(AttributeError, match="not writable"):
        label.minimized = True
    with pytest.raises(AttributeError, match="can not be overwritten"):
        label.clear = 1


def test_signatures_of_signals_are_checked(host, slider):
    import qt

    button, got = qt.QPushButton("a"), []
    button.connect("clicked(bool)", got.append)
    button.clicked.connect(lambda: got.append("short"))
    button.clicked()
    assert got == [False, "short"] or got[-1] == "short"
    for wrong in ("clicked(int)", "pushed()"):
        with pytest.raises(AttributeError, match="no signal"):
            button.connect(wrong, got.append)
    with pytest.raises(AttributeError, match="no signal"):
        slider.connect("valueChanged(int)", got.append)
    with pytest.raises(AttributeError, match="no 'emit'"):
        button.clicked.emit()


def test_a_connection_can_be_undone(host):
    import qt

    button, got = qt.QPushButton("a"), []

    def receive(checked):
        got.append(checked)

    button.connect("clicked(bool)", receive)
    button.click()
    button.disconnect("clicked(bool)", receive)
    button.click()
    assert len(got) == 1
    with pytest.raises(ValueError):
        button.disconnect("clicked(bool)", receive)


def test_protected_methods_are_not_there(host):
    import qt

    table = qt.QTableWidget(2, 2)
    table.selectRow(1)
    with pytest.raises(AttributeError, match="not there"):
        table.selectedIndexes()
    assert [i.row() for i in table.selectionModel().selectedRows()] == [1]


@pytest.mark.parametrize("name", ["Signal", "Slot", "Property", "QtWidgets", "nonsense", "QNonsense"])
def test_qt_has_no_names_of_pyside_alone(host, name):
    import qt

    with pytest.raises(AttributeError):
        getattr(qt, name)


def test_unknown_names_of_slicer_raise(host):
    import ctk
    import slicer

    for owner, name in (
        (slicer.app, "nonsense"),
        (slicer.modules, "nonsense"),
        (slicer.app.layoutManager(), "viewNames"),
        (slicer, "qMRMLNonsense"),
        (ctk, "ctkNonsense"),
    ):
        with pytest.raises(AttributeError):
            getattr(owner, name)


def test_what_slicer_has_and_the_host_does_not_says_so(host):
    import slicer

    with pytest.raises(NotImplementedError, match="does not cover"):
        slicer.app.openExtensionsManagerDialog()


def test_another_thread_may_not_touch_qt(host):
    import qt

    label, seen = qt.QLabel("a"), []

    def touch():
        try:
            label.text = "b"
        except RuntimeError as error:
            seen.append(str(error))

    thread = threading.Thread(target=touch)
    thread.start()
    thread.join()
    assert seen and "another thread" in seen[0]
    assert label.text == "a"


def test_a_ui_file_with_an_unknown_widget_or_property_is_refused(host, tmp_path):
    import slicer

    inner = '<widget class="{}" name="top"><property name="{}"><bool>true</bool></property></widget>'
    ui = f'<ui version="4.0">{inner}</ui>'
    for cls, name in (("qMRMLNonsense", "enabled"), ("ctkCollapsibleButton", "folded"), ("QLabel", "folded")):
        path = tmp_path / "wrong.ui"
        path.write_text(ui.format(cls, name))
        with pytest.raises((RuntimeError, AttributeError), match="Nonsense|folded"):
            slicer.util.loadUI(str(path))


def test_every_host_widget_shows_no_more_than_its_facts(host):
    """What a host class defines for Python's use is in facts.json, under the class's own name or a base's."""
    from slicerhost.facts import surface
    from slicerhost.qt_module import custom_widgets

    for name, cls in custom_widgets.items():
        facts = surface(name)
        for attribute in (a for c in cls.__mro__ if "slicer_class" in c.__dict__ for a in vars(c)):
            known = attribute[0] == "_" or attribute == "slicer_class" or attribute == "staticMetaObject"
            inherited = any(hasattr(c, attribute) for c in cls.__mro__ if c.__module__.startswith("PySide6"))
            assert known or inherited or facts.has(attribute), f"{name}.{attribute}"


def test_the_base_classes_have_the_methods_of_slicers(host):
    import slicer
    from slicerhost.facts import load

    for name, facts in load()["python"]["slicer.ScriptedLoadableModule"].items():
        cls = getattr(slicer.ScriptedLoadableModule, name)
        assert set(facts["methods"]) <= set(dir(cls)), name
        public = {m for m in vars(cls) if m[0] != "_"}
        assert public <= set(facts["methods"]), name


@pytest.mark.parametrize("package", ["slicer.i18n", "slicer.packaging"])
def test_packages_have_the_functions_and_arguments_of_slicers(host, package):
    import importlib
    import inspect

    from slicerhost.facts import load

    module = importlib.import_module(package)
    for name, signature in load()["python"][package].items():
        ours = list(inspect.signature(getattr(module, name)).parameters)
        theirs = [p.split(":")[0].split("=")[0].strip() for p in _parameters(signature)]
        assert ours == theirs, name


def _parameters(signature: str) -> list[str]:
    depth, parts, part = 0, [], ""
    for letter in signature.strip()[1:-1]:
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += letter
    return [p for p in [*parts, part] if p.strip()]
