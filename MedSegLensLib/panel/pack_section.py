"""Which lens pack, and what it runs on."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import qt
import slicer
from slicer.i18n import tr as _

from MedSegLensLib.packs.installed import list_packs
from MedSegLensLib.panel.text_window import showText
from MedSegLensLib.panel.worker_choice import WorkerDialog, keepWorker

if TYPE_CHECKING:
    from MedSegLensLib.panel.review import Review


class PackSection:
    """The pack's selector, import, model card, the device line and the doctor."""

    def __init__(self, review: "Review", loadUi: Callable):
        self.review = review
        self.widget = loadUi("Pack")
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self._filling = False
        self.ui.packComboBox.connect("currentIndexChanged(int)", self._onChosen)
        self.ui.importPackButton.connect("clicked(bool)", self._onImport)
        self.ui.modelCardButton.connect("clicked(bool)", self._onModelCard)
        self.ui.doctorButton.connect("clicked(bool)", self._onDoctor)
        self.ui.workerButton.connect("clicked(bool)", self._onWorker)
        review.workerChanged.connect(self.update)
        review.stateChanged.connect(self.update)

    def update(self) -> None:
        """Fill the selector with what is installed, and whatever the scene asks for."""
        parameters = self.review.parameters
        if parameters is None:
            return
        names = list(list_packs())
        if not parameters.pack and names:
            parameters.pack = names[0]
        if parameters.pack and parameters.pack not in names:
            names.append(parameters.pack)
        box = self.ui.packComboBox
        self._filling = True
        if [box.itemText(i) for i in range(box.count)] != names:
            box.clear()
            box.addItems(names)
        box.setCurrentIndex(names.index(parameters.pack) if parameters.pack in names else -1)
        self._filling = False
        box.enabled = not self.review.isBusy
        self._describe()

    def _describe(self) -> None:
        pack, hello = self.review.chosenPack(), self.review.hello
        if pack is None:
            description = ""
        elif pack["error"]:
            description = f"⚠ {pack['error']}"
        else:
            description = _("{description} Version {version}.").format(**pack)
        self.ui.packDescription.text = description
        self.ui.packDescription.visible = bool(description)
        self.ui.modelCardButton.enabled = bool(pack and pack.get("model_card"))
        if hello is not None:
            self.ui.deviceLabel.text = hello.device_line
        elif self.review.starting is not None:
            self.ui.deviceLabel.text = _("the worker is starting …")
        else:
            self.ui.deviceLabel.text = _("not started; Apply starts it")

    def _onChosen(self, index: int) -> None:
        if self._filling or index < 0 or self.review.parameters is None:
            return
        self.review.parameters.pack = self.ui.packComboBox.itemText(index)
        self._describe()
        self.review.stateChanged.emit()

    def _onImport(self, _checked=False) -> None:
        path = qt.QFileDialog.getOpenFileName(
            self.widget, _("A pack's pack.json, or its zip"), "", _("Lens packs (pack.json *.zip *.mslp)")
        )
        if path:
            self.importPack(path)

    def importPack(self, path: str) -> None:
        """Use the pack at a path: its zip, or the pack.json of its folder. It is verified when it is opened."""
        self.review.parameters.pack = path[: -len("pack.json")].rstrip("/\\") if path.endswith("pack.json") else path
        self.review.stateChanged.emit()

    def _onModelCard(self, _checked=False) -> None:
        pack = self.review.chosenPack()
        showText(self.widget, _("Model card of {name}").format(name=pack["name"]), pack["model_card"], markdown=True)

    def _onWorker(self, _checked=False) -> None:
        choice = WorkerDialog(self.widget).ask()
        if choice is not None:
            keepWorker(choice)
            self.review.changeWorker()

    def _onDoctor(self, _checked=False) -> None:
        """What `medseglens doctor` finds, by the interpreter that runs the worker."""
        from MedSegLensLib.panel.doctor_run import doctorText

        with slicer.util.WaitCursor():
            text = doctorText()
        showText(self.widget, _("Is this machine ready?"), text)
