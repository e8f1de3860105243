"""Point and repair, as the reader sees it: two buttons, what is proposed, one slider, accept or reject."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from MedSegLensLib.errors import MedSegLensError
from MedSegLensLib.panel.regions_section import NAMES
from MedSegLensLib.scene.change import CHANGES
from MedSegLensLib.scene.hand_drawing import prepare_drawing

if TYPE_CHECKING:
    from MedSegLensLib.panel.review import Review

REGIONS = ("WT", "ET", "ED", "NCR", "TC")
LEAST_ML = 0.05
"""A change of a region's volume below this is not listed."""


class PointsSection:
    """Shows and drives `review.pointing`. It keeps which region is chosen, and nothing else."""

    def __init__(self, review: "Review", loadUi: Callable):
        self.review = review
        self.widget = loadUi("Points")
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self.ui.pointRegionComboBox.addItems(
            [_("tumour") if region == "WT" else f"{NAMES[region].lower()} ({region})" for region in REGIONS]
        )
        self.ui.pointStrengthSlider.tracking = False  # valueIsChanging while dragged, valueChanged on release
        legend = (f'<span style="color: rgb{colour}">■</span> {name}' for name, colour in CHANGES.values())
        self.ui.pointsLegend.text = "&nbsp;&nbsp; ".join(legend)
        self._connect()
        self._onRegion()
        self.update()

    def _connect(self) -> None:
        ui, review = self.ui, self.review
        ui.pointRegionComboBox.connect("currentIndexChanged(int)", self._onRegion)
        ui.insideButton.connect("clicked(bool)", lambda on: self._onPlace(True, on))
        ui.outsideButton.connect("clicked(bool)", lambda on: self._onPlace(False, on))
        ui.pointStrengthSlider.connect("valueIsChanging(double)", self._onDragged)
        ui.pointStrengthSlider.connect("valueChanged(double)", self._onReleased)
        ui.acceptButton.connect("clicked(bool)", lambda _checked=False: review.pointing.accept())
        ui.rejectButton.connect("clicked(bool)", lambda _checked=False: review.pointing.reject())
        ui.drawButton.connect("clicked(bool)", lambda _checked=False: self.draw())
        review.pointingChanged.connect(self.update)
        review.stateChanged.connect(self.update)
        self.widget.connect("contentsCollapsed(bool)", self._onCollapsed)

    @property
    def region(self) -> str:
        return REGIONS[max(self.ui.pointRegionComboBox.currentIndex, 0)]

    def choose(self, region: str) -> None:
        """Let the next points be about a region."""
        self.ui.pointRegionComboBox.setCurrentIndex(REGIONS.index(region))

    def _onCollapsed(self, collapsed: bool) -> None:
        if not collapsed:
            self.update()  # unfolding shows what was hidden while it was folded

    def open(self) -> None:
        """Unfold the section."""
        self.widget.collapsed = False

    def _onRegion(self, _index=None) -> None:
        what = _("tumour") if self.region == "WT" else self.region
        self.ui.insideButton.text = _("This is {what}").format(what=what)
        self.ui.outsideButton.text = _("This is not {what}").format(what=what)
        self.review.pointing.endPlacing()  # what the next click says would be the region before

    def _onPlace(self, inside: bool, on: bool) -> None:
        if on:
            self.review.pointing.begin(inside, self.region)
        else:
            self.review.pointing.endPlacing()
        self.update()

    def _onDragged(self, strength: float) -> None:
        self.review.pointing.dragStrength(strength)

    def _onReleased(self, strength: float) -> None:
        self.review.pointing.setStrength(strength)

    # -- what is shown ----------------------------------------------------------------------------------------------

    def update(self) -> None:
        pointing, ui = self.review.pointing, self.ui
        placing = pointing.placing
        for button, inside in ((ui.insideButton, True), (ui.outsideButton, False)):
            button.enabled = pointing.canPlace
            button.checked = placing is inside
        ui.pointRegionComboBox.enabled = self.review.isOpen
        ui.pointsState.text = self.stateText()
        ui.pointsState.visible = bool(ui.pointsState.text)
        canDecide = pointing.canDecide
        ui.pointsChange.text = self.changeText() if canDecide else ""
        for widget in (ui.pointsChange, ui.pointsLegend, ui.pointStrengthLabel, ui.pointStrengthSlider):
            widget.visible = canDecide
        ui.acceptButton.enabled = canDecide and pointing.strength > 0
        ui.acceptButton.visible = canDecide
        ui.rejectButton.visible = pointing.point is not None
        ui.rejectButton.text = _("Reject") if canDecide else _("Remove the point")
        ui.drawButton.visible = pointing.canDraw
        if ui.pointStrengthSlider.value != pointing.strength:
            ui.pointStrengthSlider.blockSignals(True)
            ui.pointStrengthSlider.value = pointing.strength
            ui.pointStrengthSlider.blockSignals(False)

    def stateText(self) -> str:
        """What is going on with the point under decision, in words."""
        pointing, answer = self.review.pointing, self.review.pointing.answer
        if not self.review.isOpen:
            return _("Press Continue first.") if self.review.isRestored else _("Press Apply first.")
        if pointing.placing is not None:
            return _("Click in a slice view.")
        if pointing.problem:
            return f"⚠ {pointing.problem}"
        if answer is None:
            return f"{pointing.stage} …" if pointing.stage else ""
        if not answer.edits:
            return answer.reason
        found = _("“{says}”: {words} In {ml:.1f} mL around the point; {moved:.0f} % of it comes out so.")
        return found.format(
            says=answer.point.words, words=_sentence(answer.words), ml=answer.tissue_ml, moved=100 * answer.moved
        )

    def changeText(self) -> str:
        """Volumes of the regions that would change, before and after, in mL."""
        before, after = self.review.saved.after, self.review.pointing.regions_ml
        changed = [r for r in NAMES if abs(after.get(r, 0.0) - before.get(r, 0.0)) >= LEAST_ML]
        lines = [
            _("{region}: {before:.1f} → {after:.1f} mL ({change:+.1f})").format(
                region=NAMES[r], before=before[r], after=after[r], change=after[r] - before[r]
            )
            for r in changed
        ]
        return "<br>".join(lines) if lines else _("No region's volume would change by 0.05 mL or more.")

    # -- where no latent does it ------------------------------------------------------------------------------------

    def draw(self) -> None:
        """Open Slicer's Segment Editor with the region at the point prepared."""
        answer = self.review.pointing.answer
        try:
            prepare_drawing(self.review.result, answer.tissue, answer.point.region, answer.point.inside)
        except MedSegLensError as problem:
            self.review.said.emit(str(problem), True)
            return
        self.review.pointing.reject()
        if slicer.app.moduleManager().module("SegmentEditor") is None:
            self.review.said.emit(_("The region is prepared as a segment; this Slicer has no Segment Editor."), True)
            return
        self.review.said.emit(
            _("The Segment Editor draws inside “Region at the point”. Latent edits made later write over it."), False
        )
        slicer.util.selectModule("SegmentEditor")


def _sentence(words: str) -> str:
    return words if words.endswith(".") else f"{words}."
