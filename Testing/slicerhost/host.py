"""Start the host, load modules into it, look at it. See the package's docstring."""

import importlib.util
import logging
import os
import sys
import time
import traceback
from pathlib import Path

os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")) or "pytest" in sys.modules:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

_host = None


def start() -> "Host":
    """The host of this process. Raises RuntimeError where another QApplication runs already."""
    global _host
    if _host is None:
        _host = Host()
    return _host


class Host:
    """A running host; make it by `start()`."""

    def __init__(self):
        import slicer
        import slicer.util
        from PySide6 import QtWidgets

        if QtWidgets.QApplication.instance() is not None:
            raise RuntimeError("another QApplication runs in this process: start the host first")
        from . import ctk_widgets, dialogs, qt_module

        qt_module.install()
        ctk_widgets.install()
        self.errors: list[str] = []
        self._recorder = dialogs.recorder
        self._install_python_modules(slicer)
        from . import application, layout_manager, qmrml_widgets

        slicer.app = application.qSlicerApplication()
        qmrml_widgets.install()
        slicer.mrmlScene = scene = slicer.vtkMRMLScene()
        slicer.app._start(scene)
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
        application.make_modules()
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetSingletonTag("default")
        scene.AddNode(crosshair)
        self.window = application.qSlicerMainWindow()
        slicer.app._layout_manager = layout_manager.qSlicerLayoutManager(self.window._views)
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        self.window.resize(1400, 900)
        self._modules: dict[str, object] = {}
        self._record_dialogs(slicer.util)
        sys.excepthook = self._note_error
        self.process()

    # ---- modules ----

    def load_module(self, path) -> object:
        """Load a scripted module from its file, as Slicer does at start; show its panel; return its widget object."""
        import slicer

        from .application import qSlicerScriptedLoadableModule, qSlicerScriptedLoadableModuleWidget

        path = Path(path).resolve()
        name = path.stem
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        parent = qSlicerScriptedLoadableModule(name, str(path))
        setattr(slicer.modules, name.lower(), parent)
        setattr(slicer.modules, f"{name}Instance", getattr(module, name)(parent))
        slicer.app.moduleManager().moduleLoaded(name)
        slicer.app.startupCompleted()
        panel = qSlicerScriptedLoadableModuleWidget(name, lambda p: getattr(sys.modules[name], f"{name}Widget")(p))
        panel.setMRMLScene(slicer.mrmlScene)
        parent._panel = panel
        panel._fill(panel._make_widget)
        self._modules[name] = panel
        self.select_module(name)
        self.process()
        return panel._widget

    def select_module(self, name: str) -> None:
        """Leave the module that is shown and enter this one."""
        panel = self._modules[name]
        for other in self._modules.values():
            if other is not panel:
                other._enter(False)
        self.window._panel.takeWidget()
        self.window._panel.setWidget(panel)
        panel.show()
        panel._enter(True)

    def unload_module(self, name: str) -> None:
        """Leave a module, call its cleanup and forget it."""
        import slicer

        panel = self._modules.pop(name)
        panel._enter(False)
        panel._widget.cleanup()
        if self.window._panel.widget() is panel:
            self.window._panel.takeWidget()
        panel.deleteLater()
        for attribute in (name.lower(), f"{name}Instance", f"{name}Widget"):
            delattr(slicer.modules, attribute)
        self.process()

    # ---- time ----

    def process(self, seconds: float = 0.0) -> None:
        """Run the event loop. Raises AssertionError with the traceback of what failed in a callback meanwhile."""
        import slicer

        end = time.monotonic() + seconds
        while True:
            slicer.app.processEvents()
            self._flush_deleted()
            if time.monotonic() >= end:
                break
            time.sleep(0.002)
        self.raise_errors()

    def wait(self, condition, seconds: float = 20.0) -> None:
        """Run the event loop until `condition()`. Raises TimeoutError."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"not so after {seconds} s")
            self.process(0.005)

    def raise_errors(self) -> None:
        """Raise AssertionError with the errors of callbacks since the last call, if any."""
        if self.errors:
            texts, self.errors[:] = list(self.errors), []
            raise AssertionError("failed in a callback:\n" + "\n".join(texts))

    # ---- the user ----

    @property
    def messages(self) -> list:
        """Dialogs that would have been shown, since the last reset (slicerhost.dialogs.Message)."""
        return self._recorder.messages

    @property
    def answers(self):
        """What the user answers (slicerhost.dialogs.Answers)."""
        return self._recorder.answers

    def click(self, widget, place=None) -> None:
        """Click with the left button into the middle of a widget, or at (x, y)."""
        from . import driving

        driving.click(widget, place)
        self.process()

    def drag(self, slider, value: float, steps: int = 5) -> None:
        """Drag a slider's handle (QSlider, ctkSliderWidget, ctkDoubleSlider) to a value: press, moves, release."""
        from . import driving

        for _ in driving.drag(slider, value, steps):
            self.process()

    def type(self, widget, text: str) -> None:
        """Type into a widget what it does not hold yet; the text it has is replaced."""
        from . import driving

        driving.type_text(widget, text)
        self.process()

    def key(self, widget, key: str, modifiers: str = "") -> None:
        """Press and release a key given as Qt names it ("Down", "Space", "Z"), with modifiers such as "Ctrl+Shift"."""
        from . import driving

        driving.key(widget, key, modifiers)
        self.process()

    def key_down(self, widget, key: str) -> None:
        """Press a key and hold it."""
        from . import driving

        driving.key_event(widget, key, press=True)
        self.process()

    def key_up(self, widget, key: str) -> None:
        """Release a key that is held."""
        from . import driving

        driving.key_event(widget, key, press=False)
        self.process()

    # ---- what is seen ----

    def show(self) -> None:
        """Show the window."""
        self.window.show()
        self.process()

    def view(self, name: str):
        """A view of the current layout by its name ("Red", "Yellow", "Green", "1"): slicerhost.driving.ViewDriver."""
        import slicer

        from .driving import ViewDriver

        manager = slicer.app.layoutManager()
        widget = manager.sliceWidget(name) or manager.threeDWidget(name)
        if widget is None:
            raise KeyError(f"no view {name}: there are {manager.sliceViewNames()}")
        return ViewDriver(self, widget)

    def screenshot(self, path, size: tuple[int, int] | None = None, widget=None) -> Path:
        """Write the window (or one widget) as PNG, at this size in pixels."""
        if size:
            (widget or self.window).resize(*size)
        self.show()
        self.process(0.05)
        target = widget or self.window
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not target.grab().save(str(path)):
            raise OSError(f"{path} could not be written")
        return path

    # ---- the scene ----

    def close_scene(self) -> None:
        """File > Close Scene."""
        import slicer

        slicer.mrmlScene.Clear(0)
        self.process()

    def save_scene(self, path) -> None:
        """Save as .mrb or .mrml. Raises OSError."""
        import slicer

        if not slicer.util.saveScene(str(path), {}):
            raise OSError(f"{path} could not be saved")

    def load_scene(self, path) -> None:
        """Load a .mrb or .mrml in place of the scene."""
        import slicer

        slicer.util.loadScene(str(path), {})
        self.process()

    def reset(self) -> None:
        """Unload the modules, close the scene, go back to four views, forget messages, answers and errors."""
        import slicer

        from . import packaging
        from .dialogs import Answers

        for name in list(self._modules):
            self.unload_module(name)
        for node in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode"):
            node.RemoveAllObservers()  # of panels that are no more; the node itself would outlive a closed scene
            slicer.mrmlScene.RemoveNode(node)
        self.close_scene()
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        slicer.app.userSettings().clear()
        slicer.app._testing = False
        self._recorder.messages.clear()
        self._recorder.answers = Answers()
        packaging.requested.clear()
        self.process()

    def run(self) -> None:
        """Show the window and give it to the user until it is closed. Raises RuntimeError without a display."""
        import slicer

        if slicer.app.platformName == "offscreen":
            raise RuntimeError("there is no display to show a window on: use screenshot()")
        self._recorder.interactive = True
        self.window.show()
        slicer.app.exec_()
        self._recorder.interactive = False

    def quit(self) -> None:
        """Unload the modules and close the window, as when Slicer ends."""
        for name in list(self._modules):
            self.unload_module(name)
        self.window.close()
        self.process()

    # ---- inside ----

    def _flush_deleted(self):
        from PySide6 import QtCore

        QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete.value)

    def _note_error(self, kind, value, trace):
        text = "".join(traceback.format_exception(kind, value, trace))
        self.errors.append(text)
        sys.__stderr__.write(text)

    def _install_python_modules(self, slicer):
        from . import i18n, packaging, parameter_node, sample_data, scripted_module

        for name, module in (
            ("ScriptedLoadableModule", scripted_module),
            ("i18n", i18n),
            ("packaging", packaging),
        ):
            sys.modules[f"slicer.{name}"] = module
            setattr(slicer, name, module)
        parameter_node.install()
        sample_data.install()

    def _record_dialogs(self, util):
        import qt

        show_message_box = util.messageBox

        def message_box(text, parent=None, **options):
            if self._recorder.interactive:
                return show_message_box(text, parent, **options)
            icon = options.get("icon")
            kinds = {1: "info", 2: "warning", 3: "error", 4: "confirm"}
            kind = kinds.get(int(icon) if icon is not None else 0, "message")
            buttons = int(options.get("standardButtons") or qt.QMessageBox.Ok)
            asks = bool(buttons & (int(qt.QMessageBox.Cancel) | int(qt.QMessageBox.No) | int(qt.QMessageBox.Close)))
            kind = "confirm" if asks else kind
            self._recorder.add(kind, text, options.get("windowTitle", ""), options.get("detailedText", ""))
            yes, no = (qt.QMessageBox.Ok, qt.QMessageBox.Yes, qt.QMessageBox.Retry), (
                qt.QMessageBox.Cancel,
                qt.QMessageBox.No,
                qt.QMessageBox.Close,
            )
            wanted = yes if self._recorder.answers.confirm or not asks else no
            return next((b for b in wanted if buttons & int(b)), qt.QMessageBox.Ok)

        def delay_display(message, autoCloseMsec=1000, parent=None, **_options):
            logging.info(message)
            self._recorder.add("message", message)

        def select_module(module):
            self.select_module(module if isinstance(module, str) else module.name)

        def refuse(name):
            def call(*_arguments):
                raise AssertionError(f"the module called slicer.util.{name}()")

            return call

        util.messageBox, util.delayDisplay, util.selectModule = message_box, delay_display, select_module
        for name in ("restart", "quit", "exit"):
            setattr(util, name, refuse(name))
