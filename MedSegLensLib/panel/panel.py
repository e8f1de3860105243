"""The panel: its sections in order, what they tell each other, and what happens when the module is opened and left."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import qt

from MedSegLensLib.panel.apply_section import ApplySection
from MedSegLensLib.panel.batch_section import BatchSection
from MedSegLensLib.panel.check_section import CheckSection
from MedSegLensLib.panel.details_section import DetailsSection
from MedSegLensLib.panel.edits_section import EditsSection
from MedSegLensLib.panel.latents_section import LatentsSection
from MedSegLensLib.panel.pack_section import PackSection
from MedSegLensLib.panel.points_section import PointsSection
from MedSegLensLib.panel.regions_section import RegionsSection
from MedSegLensLib.panel.shortcuts import Shortcuts
from MedSegLensLib.panel.study_section import StudySection

if TYPE_CHECKING:
    from MedSegLensLib.panel.review import Review


class Panel:
    """The sections over one review. `loadUi(name)` gives the widget of Resources/UI/<name>.ui."""

    def __init__(self, review: "Review", loadUi: Callable):
        self.review = review
        self._isOpen = True
        self._guiTags: list = []
        self.study = StudySection(review, loadUi)
        self.pack = PackSection(review, loadUi)
        self.apply = ApplySection(review, loadUi)
        self.regions = RegionsSection(review, loadUi)
        self.latents = LatentsSection(review, loadUi)
        self.check, self.points = CheckSection(review, loadUi), PointsSection(review, loadUi)
        self.edits = EditsSection(review, loadUi, lambda: self.latents.current)
        self.details = DetailsSection(review, loadUi)
        self.batch = BatchSection(review, loadUi)
        self.latents.chosen.connect(self.details.choose)
        self.latents.place = self.edits.place
        self.details.nameOf, self.details.select = self.latents.nameOf, self.latents.select
        self.check.opensPoints = self.points.open
        self.shortcuts = Shortcuts(self.latents, self.edits, review)
        self.latents.ui.keysLabel.text = self.shortcuts.text()

    @property
    def sections(self) -> tuple:
        return (
            self.study, self.pack, self.apply, self.regions, self.check, self.points, self.latents, self.edits,
            self.details, self.batch,
        )  # fmt: skip

    def layOut(self, layout) -> None:
        """Put the sections below each other."""
        for section in self.sections:
            layout.addWidget(section.widget)
        layout.addStretch(1)

    def connectTo(self, parameters) -> None:
        """The review has taken up a parameter node: widgets show its fields and write them, volumes are recognised."""
        self._guiTags = [parameters.connectGui(section.ui) for section in self.sections]
        self.study.guess(onlyWhenEmpty=True)
        self.pack.update()

    def disconnectFrom(self, parameters) -> None:
        """Widgets no longer show or write this parameter node; None is no node."""
        if parameters is not None:
            for tag in self._guiTags:
                parameters.disconnectGui(tag)
        self._guiTags = []

    def enter(self, window) -> None:
        """The module comes into view. The worker starts while the reader is still choosing, if it can, and once the
        panel is drawn: looking for packages and importing the client are a seventh of the time to open it."""
        self.shortcuts.install(window)
        self.study.guess(onlyWhenEmpty=True)
        qt.QTimer.singleShot(0, self._startWorker)

    def _startWorker(self) -> None:
        from MedSegLensLib.panel.dependencies import missing

        if self._isOpen and not missing():
            self.review.startWorker()
            self.pack.update()

    def exit(self) -> None:
        self.shortcuts.remove()

    def tick(self) -> None:
        """Called by the widget's timer."""
        self.review.poll()
        self.latents.tick()

    def close(self) -> None:
        """The widget goes: the review is not to call it any more."""
        self._isOpen = False
        for section in self.sections:
            self.review.forgetListener(section)
