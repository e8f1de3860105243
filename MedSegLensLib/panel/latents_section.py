"""The latents of the case: one table, ranked, searched and filtered, with overlay, strength and pin in each row."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from MedSegLensLib.editing.recipe import Where
from MedSegLensLib.errors import MedSegLensError, UsageError
from MedSegLensLib.panel import latent_list
from MedSegLensLib.panel.compared import Compared
from MedSegLensLib.panel.latent_list import COLUMNS
from MedSegLensLib.panel.latent_rows import LatentRows
from MedSegLensLib.panel.overlay_choice import keyOf
from MedSegLensLib.panel.recipe_history import isEdited
from MedSegLensLib.panel.regions_section import NAMES, regionText
from MedSegLensLib.panel.saved_review import ROWS
from MedSegLensLib.panel.signal import Signal
from MedSegLensLib.panel.throttle import Throttle
from MedSegLensLib.scene import views, where
from MedSegLensLib.worker.answers import LatentRow, Volume

if TYPE_CHECKING:
    from MedSegLensLib.panel.review import Review

PAGE = 30
"""Rows built at first, and by each Show more: each holds a slider, so hundreds at once would be slow."""

MEASURED = 8
"""Latents whose suppression is really tried when ranked by influence; the others' is predicted."""

SORTS = {"number": "latent", "name": "name", "active": "active", "influence": "influence", "here": "here"}


class LatentsSection:
    """The table of latents and what orders it.

    chosen tells the selected latent, (tap, latent); place gives where a new edit acts, or raises UsageError.
    """

    def __init__(self, review: "Review", loadUi: Callable):
        self.review = review
        self.place: Callable[[], Where | None] = lambda: None
        self.widget = loadUi("Latents")
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self.chosen = Signal()
        self.rows: list[LatentRow] = []
        self._sort: tuple[str | None, bool] = (None, True)
        self._count = PAGE
        self._filling = False
        self._asked = Throttle(self._ask)
        self._crosshair = None
        self._fill()
        self.table = LatentRows(self.ui.latentsTable, self)
        self.compared = Compared(review, self.ui, self._onFilter, lambda: self.current)
        self._connect()

    def _fill(self) -> None:
        self._ranks = ("activity", "influence", "point", "mask")
        self.ui.rankComboBox.addItems(
            [_("activity in this case"), _("influence on a region"), _("activity at the crosshair"),
             _("activity inside a segment")]
        )  # fmt: skip
        self.ui.rankRegionComboBox.addItems([regionText(region) for region in NAMES])
        self._filters = (
            latent_list.ALL, latent_list.LOCAL, latent_list.EDITED, latent_list.PINNED, latent_list.SHOWN,
            latent_list.NAMED, latent_list.FAVOURITE, latent_list.STABLE,
        )  # fmt: skip
        self.ui.filterComboBox.toolTip = _(
            "Local only leaves out those that fire on more than a quarter of the brain; stable ones are found again by "
            "lenses trained from other seeds"
        )
        self.ui.filterComboBox.addItems(
            [_("all"), _("local only"), _("edited"), _("pinned"), _("with overlay"), _("named"), _("★ favourites"),
             _("stable")]
        )  # fmt: skip
        self.ui.rankSegmentSelector.setMRMLScene(slicer.mrmlScene)

    def _connect(self) -> None:
        ui, review = self.ui, self.review
        ui.tapComboBox.connect("currentIndexChanged(int)", self._onTap)
        ui.rankComboBox.connect("currentIndexChanged(int)", self._onRank)
        ui.rankRegionComboBox.connect("currentIndexChanged(int)", self._onRank)
        ui.rankSegmentSelector.connect("currentSegmentChanged(QString)", self._onRank)
        ui.searchBox.connect("textChanged(QString)", self._onFilter)
        ui.filterComboBox.connect("currentIndexChanged(int)", self._onFilter)
        ui.moreButton.connect("clicked(bool)", self._onMore)
        ui.latentsTable.horizontalHeader().connect("sectionClicked(int)", self._onHeader)
        ui.opacitySlider.connect("valueChanged(double)", self._onDisplay)
        ui.thresholdSlider.connect("valueChanged(double)", self._onDisplay)
        review.opened.connect(self._onOpened)
        review.recipeChanged.connect(self.refresh)
        review.overlaysChanged.connect(self._onOverlays)
        review.notesChanged.connect(self.refresh)
        review.partnerChanged.connect(self._onCompared)
        review.stateChanged.connect(self._enable)

    # -- what is listed ---------------------------------------------------------------------------------------------

    @property
    def tap(self) -> str:
        return self.ui.tapComboBox.currentText

    @property
    def rank(self) -> str:
        return self._ranks[max(self.ui.rankComboBox.currentIndex, 0)]

    @property
    def region(self) -> str:
        return list(NAMES)[max(self.ui.rankRegionComboBox.currentIndex, 0)]

    @property
    def current(self) -> tuple[str, int] | None:
        """The selected latent."""
        return self.table.current()

    def _onOpened(self) -> None:
        review, parameters = self.review, self.review.parameters
        taps = review.session.opened.taps if review.session else list(review.saved.pack.get("taps", []))
        self._filling = True
        self.ui.tapComboBox.clear()
        self.ui.tapComboBox.addItems(taps)
        default = review.session.opened.default_tap if review.session else None
        wanted = parameters.tap if parameters and parameters.tap in taps else default
        if wanted in taps:
            self.ui.tapComboBox.setCurrentIndex(taps.index(wanted))
        if parameters is not None and parameters.rank in self._ranks:
            self.ui.rankComboBox.setCurrentIndex(self._ranks.index(parameters.rank))
        self._filling = False
        self._asked = Throttle(self._ask)
        self.compared.fill(self.tap)
        self.rows = [] if review.session else [LatentRow(**row) for row in review.saved.rows]
        self._count = PAGE
        self._enable()
        self.refresh()
        self.request()

    def _enable(self) -> None:
        rank = self.rank
        self.ui.rankRegionComboBox.visible = rank == "influence"
        self.ui.rankSegmentSelector.visible = rank == "mask"
        for name in ("tapComboBox", "rankComboBox", "rankRegionComboBox", "rankSegmentSelector"):
            getattr(self.ui, name).enabled = self.review.isOpen
        if rank == "mask" and self.ui.rankSegmentSelector.currentNode() is None and self.review.isOpen:
            self.ui.rankSegmentSelector.setCurrentNode(self.review.result.node)

    def _onTap(self, _index: int) -> None:
        if not self._filling:
            self.review.parameters.tap = self.tap
            self.compared.fill(self.tap)
            self._restart()

    def _onRank(self, _value=None) -> None:
        if not self._filling and self.review.parameters is not None:
            self.review.parameters.rank = self.rank
            self._enable()
            self._restart()

    def _restart(self) -> None:
        self._sort, self._count, self._crosshair = (None, True), PAGE, None
        self.request()

    def request(self) -> None:
        """Ask the worker for the latents as they are to be ranked."""
        if self.review.session is None or not self.tap:
            return
        question = {"tap": self.tap, "rank": self.rank}
        if self.rank == "influence":
            question |= {"region": self.region, "measure": MEASURED}
        elif self.rank == "point":
            self._crosshair = views.crosshair_ras()
            question["ras"] = self._crosshair
        elif self.rank == "mask":
            node, segment = self.ui.rankSegmentSelector.currentNode(), self.ui.rankSegmentSelector.currentSegmentID()
            if node is None or not segment:
                return
            try:
                question["mask"] = Volume(*where.volume_of_mask(where.mask_of(node, segment)), segment)
            except MedSegLensError as problem:
                self.review.said.emit(str(problem), True)
                return
        self._asked.give(question)

    def _ask(self, question: dict) -> None:
        self.ui.latentsCount.text = _("ranking …")
        self.review.watch.add(self.review.session.latents(**question), self._listed, self._askFailed)

    def _listed(self, rows: list[LatentRow]) -> None:
        self._asked.finished()
        self.rows = rows
        self.review.saved.rows = [asdict(row) for row in rows[:ROWS]]
        self.review.saved.comparisons = self.review.findings.forScene((row.tap, row.latent) for row in rows[:ROWS])
        self.review.parameters.found = self.review.saved.text()
        self.refresh()

    def _askFailed(self, problem: MedSegLensError) -> None:
        self._asked.finished()
        self.ui.latentsCount.text = ""
        self.review.said.emit(str(problem), True)

    def tick(self) -> None:
        """Follow the crosshair; called by the widget's timer."""
        if self.rank != "point" or not self.review.isOpen or not self.widget.visible:
            return
        here = views.crosshair_ras()
        if self._crosshair is None or max(abs(a - b) for a, b in zip(here, self._crosshair, strict=True)) > 0.4:
            self.request()

    # -- what is shown of it ----------------------------------------------------------------------------------------

    def listed(self) -> list[LatentRow]:
        """The latents that pass search and filter, in the table's order, under the names that the reader gave them."""
        name = self._filters[max(self.ui.filterComboBox.currentIndex, 0)]
        rows = [self._named(row) for row in self.rows if self.compared.passes(row)]
        found = latent_list.matching(rows, self.ui.searchBox.text, self._predicate(name), self._comment)
        return latent_list.ordered(found, *self._sort)

    def _named(self, row: LatentRow) -> LatentRow:
        name = self.review.notes.name(row.tap, row.latent)
        return replace(row, name=name) if name else row

    def _comment(self, row: LatentRow) -> str:
        note = self.review.notes.of(row.tap, row.latent)
        return note.comment if note else ""

    def _predicate(self, name: str) -> latent_list.Predicate:
        review = self.review
        return {
            latent_list.ALL: lambda row: True,
            latent_list.LOCAL: lambda row: not row.dense,
            latent_list.EDITED: lambda row: isEdited(review.history.recipe, row.tap, row.latent),
            latent_list.PINNED: lambda row: self.isPinned(row.tap, row.latent),
            latent_list.SHOWN: lambda row: review.overlays.slotOf(row.tap, row.latent) is not None,
            latent_list.NAMED: lambda row: row.named,
            latent_list.FAVOURITE: lambda row: review.notes.isFavourite(row.tap, row.latent),
            latent_list.STABLE: lambda row: bool(latent_list.isStable(row)),
        }[name]

    def refresh(self) -> None:
        """Write the rows that are to be seen into the table."""
        if self.review.parameters is None:
            return
        listed = self.listed()
        shown = listed[: self._count]
        self.table.fill(shown, _("Δ{region}\nmL").format(region=self.region), self.rank)
        self.ui.moreButton.visible = len(listed) > len(shown)
        if self.rows:
            text = _("{shown} of {count} latents").format(shown=len(shown), count=len(listed))
        else:
            text = _("Apply lists the latents of the case.") if not self.review.isOpen else ""
        self.ui.latentsCount.text = text

    def _onOverlays(self) -> None:
        self._onCompared()
        if self._filters[max(self.ui.filterComboBox.currentIndex, 0)] == latent_list.SHOWN:
            self.refresh()
        else:
            self.table.mark()

    def _onFilter(self, _value=None) -> None:
        self._count = PAGE
        self.refresh()

    def _onMore(self, _checked=False) -> None:
        self._count += PAGE
        self.refresh()

    def _onHeader(self, column: int) -> None:
        name = SORTS.get(COLUMNS[column])
        if name is None:
            return
        again = self._sort[0] == name
        self._sort = (name, not self._sort[1] if again else name not in ("latent", "name"))
        self.refresh()

    def _onDisplay(self, _value=None) -> None:
        parameters = self.review.parameters
        if parameters is not None:
            self.review.overlays.setDisplay(self.ui.opacitySlider.value, self.ui.thresholdSlider.value / 100)

    # -- what is done with a latent ---------------------------------------------------------------------------------

    def isPinned(self, tap: str, latent: int) -> bool:
        return keyOf(tap, latent) in self.review.parameters.pinned.split()

    def togglePin(self, tap: str, latent: int) -> None:
        pinned, key = self.review.parameters.pinned.split(), keyOf(tap, latent)
        pinned = [k for k in pinned if k != key] if key in pinned else [*pinned, key]
        self.review.parameters.pinned = " ".join(pinned)

    def choose(self, tap: str, latent: int) -> None:
        """A row was selected: its activation lies over the anatomy, its details are shown."""
        self.review.parameters.latent = latent
        self.review.overlays.show(tap, latent)
        self.chosen.emit((tap, latent))
        self.review.partner.follow(tap, latent)

    def _onCompared(self) -> None:
        if self.review.parameters is not None:
            self.compared.update()

    def strength(self, tap: str, latent: int) -> float:
        """What the latent's slider shows: its strength where new edits act."""
        try:
            return self.review.strength(tap, latent, self.place())
        except UsageError:  # no box or segment is chosen yet
            return self.review.strength(tap, latent)

    def drag(self, tap: str, latent: int, strength: float) -> None:
        """The slider is being moved."""
        try:
            self.review.dragStrength(tap, latent, strength, self.place())
        except UsageError:
            return  # said when it is released

    def release(self, tap: str, latent: int, strength: float) -> None:
        """The slider was let go, or a strength typed."""
        try:
            place = self.place()
        except UsageError as problem:
            self.review.said.emit(str(problem), True)
            self.refresh()
            return
        self.review.setStrength(tap, latent, strength, place)

    def nameOf(self, tap: str, latent: int) -> str:
        """A latent's name, the reader's or the catalogue's, or where it fires; '' for one not in the ranking."""
        row = next((row for row in self.rows if (row.tap, row.latent) == (tap, latent)), None)
        return self.review.notes.name(tap, latent) or (row.name if row is not None else "")

    def select(self, tap: str, latent: int) -> None:
        """Select a latent wherever it is: search and filter give way where they hide it."""
        key = (tap, latent)
        if key not in [(row.tap, row.latent) for row in self.rows]:
            self.review.said.emit(_("Latent {number} is not in this ranking.").format(number=latent), False)
            self.chosen.emit(key)
            return
        if key not in [(row.tap, row.latent) for row in self.listed()]:
            self.ui.searchBox.text = ""
            self.ui.filterComboBox.setCurrentIndex(0)
            self.compared.clear()
        place = [(row.tap, row.latent) for row in self.listed()].index(key)
        if place >= self._count:
            self._count = PAGE * (place // PAGE + 1)
            self.refresh()
        self.table.select(place)

    def step(self, by: int) -> None:
        """Select the next (1) or previous (-1) latent of the table."""
        self.table.step(by)

    def jumpTo(self, tap: str, latent: int) -> None:
        """Move the slice views to where a latent is strongest."""
        row = next((r for r in self.rows if (r.tap, r.latent) == (tap, latent)), None)
        if row is not None:
            views.jump_to(row.peak_ras)
