"""Dialogs that would wait for a user: kept in a list and answered by the test."""

from dataclasses import dataclass, field

from PySide6 import QtCore, QtWidgets


@dataclass
class Message:
    """A dialog that would have been shown.

    kind: error, warning, info, confirm, message; files, texts, dialog, menu for those that wait; pip for packages.
    """

    kind: str
    text: str
    title: str = ""
    details: str = ""

    def __str__(self):
        return f"{self.kind}: {self.text}"


@dataclass
class Answers:
    """What the user would answer.

    confirm: OK/Cancel, Yes/No, Retry/Close and the consent to install packages; files: paths that file dialogs return,
    first come, first served ("" is Cancel); texts: what text input dialogs return; dialogs: called with a dialog that
    the module runs by `exec_()`, returns its result; menu: text of the action chosen in a popup menu.
    """

    confirm: bool = True
    files: list = field(default_factory=list)
    texts: list = field(default_factory=list)
    dialogs: object = None
    menu: str | None = None


class Recorder:
    """The dialogs of this process and their answers. interactive: a person sits here, show them."""

    def __init__(self):
        self.messages: list[Message] = []
        self.answers = Answers()
        self.interactive = False

    def add(self, kind: str, text: str, title: str = "", details: str = "") -> None:
        self.messages.append(Message(kind, str(text), title or "", details or ""))


recorder = Recorder()


def _next(waiting: list, what: str, kind: str):
    recorder.add(kind, what)
    if not waiting:
        raise AssertionError(f"the module waits for the user ({what}): set host.answers.{kind}")
    return waiting.pop(0)


def catch_waiting_dialogs():
    """Replace every Qt call that waits for the user. File dialogs return a string, as PythonQt's do."""
    for name in ("getOpenFileName", "getSaveFileName", "getExistingDirectory", "getOpenFileNames"):
        _replace(QtWidgets.QFileDialog, name, _file_dialog(name), first_only=True)
    _replace(QtWidgets.QInputDialog, "getText", lambda *a: _next(recorder.answers.texts, str(a[1:3]), "texts"), True)
    for kind in ("question", "warning", "information", "critical"):
        _replace(QtWidgets.QMessageBox, kind, _message_box(kind))
    for cls in (QtWidgets.QDialog, QtWidgets.QMessageBox, QtWidgets.QFileDialog, QtWidgets.QInputDialog):
        cls.exec = cls.exec_ = _or_really(cls.exec, _run_dialog)
    QtWidgets.QMenu.exec = QtWidgets.QMenu.exec_ = _or_really(QtWidgets.QMenu.exec, _run_menu)


def _replace(cls, name, recorded, first_only=False):
    setattr(cls, name, staticmethod(_or_really(getattr(cls, name), recorded, first_only)))


def _or_really(original, recorded, first_only=False):
    """Qt's own call where a person sits before the window; PySide's pairs (path, filter) become their first part."""

    def call(*arguments, **options):
        if not recorder.interactive:
            return recorded(*arguments, **options)
        answer = original(*arguments, **options)
        return answer[0] if first_only and isinstance(answer, tuple) else answer

    return call


def _file_dialog(name: str):
    def ask(parent=None, title="", *_rest, **_options):
        return _next(recorder.answers.files, f"{name} {title}", "files")

    return ask


def _message_box(kind: str):
    def show(parent, title, text, *_buttons):
        recorder.add({"critical": "error", "information": "info", "question": "confirm"}.get(kind, kind), text, title)
        box = QtWidgets.QMessageBox.StandardButton
        if kind != "question":
            return box.Ok
        return box.Yes if recorder.answers.confirm else box.No

    return show


def _run_dialog(dialog, *_):
    recorder.add("dialog", QtWidgets.QWidget.windowTitle(dialog), type(dialog).__name__)
    if recorder.answers.dialogs is None:
        raise AssertionError(f"the module runs a {type(dialog).__name__} and waits: set host.answers.dialogs")
    return recorder.answers.dialogs(dialog)


def _run_menu(menu, *_):
    actions = {QtCore.QObject.property(a, "text"): a for a in QtWidgets.QWidget.actions(menu)}
    recorder.add("menu", ", ".join(t for t in actions if t))
    if recorder.answers.menu is None:
        raise AssertionError(f"the module shows a menu ({', '.join(actions)}) and waits: set host.answers.menu")
    action = actions[recorder.answers.menu]
    action.trigger()
    return action
