"""Which volumes are the study: chosen by guess, by hand, from a folder or from sample data."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import qt
import slicer
from slicer.i18n import tr as _

from MedSegLensLib.cases.case import MODALITIES
from MedSegLensLib.errors import MedSegLensError
from MedSegLensLib.panel import study_files
from MedSegLensLib.scene import study

if TYPE_CHECKING:
    from MedSegLensLib.panel.review import Review


class StudySection:
    """Four selectors, filled by guess and correctable, with a warning line for what is missing or odd."""

    def __init__(self, review: "Review", loadUi: Callable):
        self.review = review
        self.widget = loadUi("Study")
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self.selectors = {m: getattr(self.ui, f"{m}Selector") for m in MODALITIES}
        for selector in self.selectors.values():
            selector.setMRMLScene(slicer.mrmlScene)
            selector.connect("currentNodeChanged(vtkMRMLNode*)", self._onChosen)
        self.ui.guessButton.connect("clicked(bool)", self._onGuess)
        self.ui.loadFolderButton.connect("clicked(bool)", self._onLoadFolder)
        self._menu = qt.QMenu(self.widget)
        self._menu.addAction(_("Phantom (invented anatomy, not a patient)")).connect("triggered()", self._onPhantom)
        self._menu.addAction(_("Real glioma case from the internet")).connect("triggered()", self._onRealCase)
        self.ui.sampleButton.setMenu(self._menu)
        review.studyChanged.connect(self.update)

    def guess(self, onlyWhenEmpty: bool = False) -> None:
        """Fill the selectors from the scene's volumes; with `onlyWhenEmpty` nothing that was chosen is changed."""
        parameters = self.review.parameters
        if parameters is None or (onlyWhenEmpty and any(getattr(parameters, m) for m in MODALITIES)):
            return
        for modality, node in study.guess_modalities(study.candidates()).items():
            setattr(parameters, modality, node)
        self.update()

    def update(self) -> None:
        parameters = self.review.parameters
        if parameters is None:
            return
        chosen = {m: getattr(parameters, m) for m in MODALITIES}
        if study.candidates():
            self._note(study.concerns(chosen))
        else:
            self._note([_("No volumes in the scene yet: load a folder, or take sample data.")])

    def _note(self, lines: list[str]) -> None:
        self.ui.studyNotes.text = "\n".join(f"⚠ {line}" for line in lines)
        self.ui.studyNotes.visible = bool(lines)

    def _onChosen(self, _node) -> None:
        # The selector writes the parameter node in its own handler of this signal, maybe after this one.
        qt.QTimer.singleShot(0, self.update)

    def _onGuess(self, _checked=False) -> None:
        self.guess()

    def _onLoadFolder(self, _checked=False) -> None:
        folder = qt.QFileDialog.getExistingDirectory(self.widget, _("Folder of one study"))
        if folder:
            self.loadFolder(folder)

    def loadFolder(self, folder: str) -> None:
        """Load the volumes in a folder and choose them."""
        self._load(lambda: study_files.loadFolder(folder))

    def _onPhantom(self) -> None:
        self._load(study_files.addPhantom)

    def _onRealCase(self) -> None:
        self._load(study_files.downloadRealCase)

    def _load(self, load: Callable) -> None:
        try:
            with slicer.util.WaitCursor():
                loaded = load()
        except MedSegLensError as problem:
            self.review.said.emit(str(problem), True)
            return
        for modality, node in study.guess_modalities(loaded.volumes).items():
            setattr(self.review.parameters, modality, node)
        self.review.parameters.reference = loaded.reference
        if loaded.volumes:
            slicer.util.setSliceViewerLayers(background=loaded.volumes[-1], fit=True)
        self.update()
