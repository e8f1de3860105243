"""Check: where the case under review is likely wrong, asked for by the reader and kept with the scene.

    review.checking.run()          # the segmentation as it is now, edits included
    review.checking.found          # findings.Check; review.checking.isStale: edits were made since

It holds no Qt.
"""

import hashlib
import json
from typing import TYPE_CHECKING

from slicer.i18n import tr as _

from MedSegLensLib.editing.recipe import Recipe
from MedSegLensLib.errors import Cancelled, MedSegLensError, UsageError
from MedSegLensLib.failures.findings import MISSED, Check, Suspect
from MedSegLensLib.scene import views
from MedSegLensLib.scene.risk import RiskMap

if TYPE_CHECKING:
    import slicer

    from MedSegLensLib.panel.review import Review
    from MedSegLensLib.worker.client import CheckAnswer, Task


class Checking:
    """review.checkingChanged tells when anything here has changed.

    found: what the last check says, None before one. task: the check under way, or None.
    """

    def __init__(self, review: "Review"):
        self._review = review
        self.found: Check | None = None
        self.task: Task | None = None
        self.map: RiskMap | None = None
        self._session = None
        review.recipeChanged.connect(self._tell)
        review.stateChanged.connect(self._tell)
        review.opened.connect(self._onOpened)
        review.workerLeft.connect(self.cancel)

    def attach(self, owner: "slicer.vtkMRMLNode", kept: dict | None) -> None:
        """The review has taken up a case of the scene; kept: what `SavedReview` holds of its check."""
        self.map, self._session = RiskMap(owner), None
        try:
            self.found = Check.from_json(kept["found"]) if kept else None
        except (KeyError, TypeError, ValueError):  # of another version: it is done again
            self.found = None

    def leave(self) -> None:
        """The review lets go of the case."""
        self.cancel()
        self.found = self.map = self._session = None

    @property
    def isStale(self) -> bool:
        """Whether the edits are others than those that were checked."""
        kept = self._review.saved.check
        return self.found is not None and (kept or {}).get("recipe") != markOf(self._review.history.recipe)

    def run(self) -> None:
        """Ask the worker; problems are said."""
        review = self._review
        if self.task is not None:
            return
        if review.session is None:
            remedy = _("Press Continue first.") if review.isRestored else _("Press Apply first.")
            review.said.emit(str(UsageError(_("check"), _("the case is not open in the worker."), remedy)), True)
            return
        recipe, self._session = review.history.recipe, review.session
        self.task = review.session.check(recipe)
        review.watch.add(self.task, lambda answer: self._done(recipe, answer), self._failed, lambda task: self._tell())
        self._tell()

    def cancel(self) -> None:
        """Give up the check under way; what was found before stays."""
        if self.task is not None:
            self._review.watch.forget(self.task)
            self.task.cancel()
            self.task = None
            self._tell()

    def showMap(self, on: bool) -> None:
        """The risk map over the anatomy."""
        if self.map is not None:
            self.map.show(on)
            self._tell()

    def goTo(self, suspect: Suspect) -> None:
        """All views cut through the place."""
        views.jump_to(suspect.ras)

    def pointAt(self, suspect: Suspect) -> None:
        """Say at the place what the check suspects: that it is tumour where that is likely missed, else that it is
        not."""
        self.goTo(suspect)
        self._review.pointing.say(suspect.ras, suspect.kind == MISSED, suspect.region)

    def _done(self, recipe: Recipe, answer: "CheckAnswer") -> None:
        review = self._review
        self.task, self.found = None, answer.check
        review.saved.check = {"found": answer.check.to_json(), "recipe": markOf(recipe)}
        review.keep()
        try:
            self.map.fill(answer.risk, review.result.reference)
        except MedSegLensError as problem:
            review.said.emit(str(problem), True)
        self._tell()

    def _failed(self, problem: MedSegLensError) -> None:
        self.task = None
        if not isinstance(problem, Cancelled):
            self._review.said.emit(str(problem), True)
        self._tell()

    def _onOpened(self) -> None:
        """Another segmentation: what was found of the one before says nothing of it."""
        review = self._review
        if review.session is not None and review.session is not self._session:
            self.cancel()
            self._session = review.session
            if review.saved.check is None:
                self.found = None
                if self.map is not None:
                    self.map.hide()
        self._tell()

    def _tell(self) -> None:
        self._review.checkingChanged.emit()


def markOf(recipe: Recipe | None) -> str:
    """Tells one set of edits from another."""
    edits = recipe.to_json()["edits"] if recipe else []
    return hashlib.sha256(json.dumps(edits).encode()).hexdigest()[:16] if edits else ""
