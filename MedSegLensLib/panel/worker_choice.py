"""Which computer segments: this one, or another that runs `medseglens serve`."""

from dataclasses import dataclass

import qt
from slicer.i18n import tr as _

ADDRESS, AUTHORITY = "MedSegLens/workerAddress", "MedSegLens/workerAuthority"


@dataclass(frozen=True)
class WorkerChoice:
    """address "" is this computer. The key is kept for as long as Slicer runs and never written to the settings."""

    address: str = ""
    key: str = ""
    authority: str = ""


_key = ""


def chosenWorker() -> WorkerChoice:
    """What was chosen last."""
    settings = qt.QSettings()
    return WorkerChoice(settings.value(ADDRESS, "") or "", _key, settings.value(AUTHORITY, "") or "")


def keepWorker(choice: WorkerChoice) -> None:
    """Use `choice` from now on."""
    global _key
    settings = qt.QSettings()
    settings.setValue(ADDRESS, choice.address)
    settings.setValue(AUTHORITY, choice.authority)
    _key = choice.key


class WorkerDialog:
    """Asks for address, key and certificate authority."""

    def __init__(self, parent):
        choice = chosenWorker()
        self.dialog = qt.QDialog(parent)
        self.dialog.setWindowTitle(_("Which computer segments"))
        self.addressEdit = qt.QLineEdit(choice.address)
        self.addressEdit.setPlaceholderText(_("this computer; or https://host:8443"))
        self.addressEdit.setMinimumWidth(320)
        self.keyEdit = qt.QLineEdit(choice.key)
        self.keyEdit.setEchoMode(qt.QLineEdit.Password)
        self.authorityEdit = qt.QLineEdit(choice.authority)
        self.authorityEdit.setPlaceholderText(_("file (PEM), where the system does not know it"))
        form = qt.QFormLayout(self.dialog)
        form.addRow(_("Address:"), self.addressEdit)
        form.addRow(_("Key:"), self.keyEdit)
        form.addRow(_("Certificate authority:"), self.authorityEdit)
        note = qt.QLabel(
            _("The volumes of the study are sent to that computer, encrypted. Leave the address empty for this one.")
        )
        note.setWordWrap(True)
        form.addRow(note)
        buttons = qt.QDialogButtonBox(qt.QDialogButtonBox.Ok | qt.QDialogButtonBox.Cancel)
        buttons.connect("accepted()", self.dialog.accept)
        buttons.connect("rejected()", self.dialog.reject)
        form.addRow(buttons)

    def ask(self) -> WorkerChoice | None:
        """What the reader enters; None for Cancel."""
        if self.dialog.exec_() != qt.QDialog.Accepted:
            return None
        texts = (edit.text.strip() for edit in (self.addressEdit, self.keyEdit, self.authorityEdit))
        return WorkerChoice(*texts)
