"""Point and repair: what the reader says at a place, what the worker proposes for it, and what becomes of that.

    review.pointing.begin(inside=True, region="ET")   # the next click in a view says "ET"
    ...                                               # the worker is asked at once; what would change is shown
    review.pointing.setStrength(1.4); review.pointing.accept()

One point is under decision at a time; others wait their turn. What is accepted goes into the recipe as any edit does,
so that it is undone, saved and applied to other cases like one. It holds no Qt.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from slicer.i18n import tr as _

from MedSegLensLib.editing.recipe import Recipe, VoxelMask
from MedSegLensLib.errors import Cancelled, MedSegLensError, UsageError
from MedSegLensLib.failures.points import Point
from MedSegLensLib.panel.throttle import Throttle
from MedSegLensLib.scene import views
from MedSegLensLib.scene.change import PROPOSAL, Difference
from MedSegLensLib.scene.points import Placed, ReaderPoints

if TYPE_CHECKING:
    import slicer

    from MedSegLensLib.panel.review import Review
    from MedSegLensLib.worker.answers import Edited, LabelBox, ProposalAnswer
    from MedSegLensLib.worker.client import CaseSession

STRONGEST = 2.0


class Pointing:
    """review.pointingChanged tells when anything here has changed.

    point: the one under decision, or None. answer: what is proposed for it, None while that is being found.
    problem: why nothing can be. stage: what is being done. strength: of the proposal, 0 to `STRONGEST`.
    regions_ml: volumes under the proposal at that strength.
    """

    def __init__(self, review: "Review"):
        self._review = review
        self.points: ReaderPoints | None = None
        self._change: Difference | None = None
        self._reset()
        review.recipeChanged.connect(self._onRecipe)
        review.stateChanged.connect(self._next)
        review.opened.connect(self._onOpened)
        review.workerLeft.connect(self._onWorkerLeft)

    def _reset(self) -> None:
        self.point: Placed | None = None
        self.answer: ProposalAnswer | None = None
        self.problem = self.stage = ""
        self.strength = 1.0
        self.regions_ml: dict[str, float] = {}
        self._task = self._trial = None
        self._over: Recipe | None = None  # the recipe that the point was asked over, and the session
        self._session: CaseSession | None = None
        self._shown: np.ndarray | None = None  # labels under it
        self._drag = Throttle(self._preview)

    def attach(self, owner: "slicer.vtkMRMLNode") -> None:
        """The review has taken up a case of the scene."""
        self._reset()
        self.points, self._change = ReaderPoints(owner), Difference(owner, PROPOSAL)
        self.points.watch(self._onPoints)

    def leave(self) -> None:
        """The review lets go of the case."""
        if self.points is not None:
            self.points.unwatch()
        self._withdraw()
        self.points = self._change = None

    # -- for the section --------------------------------------------------------------------------------------------

    @property
    def canPlace(self) -> bool:
        """Whether a point can be placed: the case is open, and no proposal waits to be accepted or rejected."""
        return self._review.isOpen and not self.canDecide and self._task is None

    @property
    def canDecide(self) -> bool:
        """Whether there is something to accept."""
        return self.answer is not None and bool(self.answer.edits)

    @property
    def canDraw(self) -> bool:
        """Whether there is a region to be drawn by hand, since no latent does it."""
        return self.answer is not None and not self.answer.edits and self.answer.tissue is not None

    @property
    def placing(self) -> bool | None:
        """What the next click in a view says: True "this is", False "this is not"; None: clicks place nothing."""
        return self.points.placing if self.points is not None else None

    def begin(self, inside: bool, region: str) -> None:
        """Let the next click in a view say that it lies in a region, or does not."""
        if self.canPlace:
            self._forget()
            self.points.begin_placing(inside, Point((0, 0, 0), inside, region).words)
            self._tell()

    def say(self, ras: tuple[float, float, float], inside: bool, region: str) -> None:
        """The same without a click."""
        if self.canPlace:
            self._forget()
            self.points.add(ras, inside, Point(ras, inside, region).words)
            self._onPoints()

    def endPlacing(self) -> None:
        if self.points is not None and self.points.placing is not None:
            self.points.end_placing()
            self._tell()

    def dragStrength(self, strength: float) -> None:
        """The slider moves: the slice under the eye follows."""
        if self.canDecide:
            self.strength = strength
            self._drag.give(strength)

    def setStrength(self, strength: float) -> None:
        """The slider was let go, or a number typed: all that would change is shown."""
        if not self.canDecide:
            return
        self.strength = strength
        self._drag.drop()
        review = self._review
        review.watch.forget(self._trial)
        self._trial = review.session.trial(self.answer.at(strength))
        review.watch.add(self._trial, self._tried, self._trialFailed)
        self._tell()

    def accept(self) -> None:
        """Make the proposal an edit."""
        if not self.canDecide or not self.strength:
            return
        recipe, point = self.answer.at(self.strength), self.point
        mark = markOf(self.answer.edits[0].where)
        self._withdraw()
        self.points.decide(point.key, mark)
        self._review.change(recipe)
        self._tell()
        self._onPoints()

    def reject(self) -> None:
        """Leave all as it is; the point goes."""
        self._forget()
        self._tell()
        self._onPoints()

    # -- asking -----------------------------------------------------------------------------------------------------

    def _onPoints(self) -> None:
        """A point was placed, moved or removed, or the one before was decided."""
        if self.point is not None:
            now = self.points.find(self.point.key)
            same = now is not None and (now.ras, now.label) == (self.point.ras, self.point.label)
            if not same:
                self._withdraw()
        self._next()
        self._tell()

    def _next(self) -> None:
        """Ask about the point under decision, or the next that waits, once the edits it is asked over are done."""
        review = self._review
        if self._over is not None or self.points is None or not review.isOpen or review.editing is not None:
            return
        self.point = self.point or next(iter(self.points.undecided()), None)
        if self.point is None:
            return
        self._over, self._session = review.history.recipe, review.session
        self.stage = _("asking what can be done here")
        try:
            said, earlier = spoken(self.point), [spoken(one) for one in self._inForce()]
        except MedSegLensError as problem:
            self._failed(problem)
            return
        self._task = review.session.propose(said, self._over, earlier)
        review.watch.add(self._task, self._answered, self._failed, self._progressed)
        self._tell()

    def _inForce(self) -> list[Placed]:
        marks = marksOf(self._review.history.recipe)
        return [one for one in self.points.all() if one.fate in marks]

    def _progressed(self, task) -> None:
        stage = _("{stage}, {seconds:.0f} s").format(stage=task.stage, seconds=task.elapsed)
        if stage != self.stage:
            self.stage = stage
            self._tell()

    def _answered(self, answer: "ProposalAnswer") -> None:
        self._task, self.answer, self.stage, self.strength = None, answer, "", 1.0
        self.regions_ml = answer.regions_ml
        try:
            self._shown = self._review.result.labels()
            if answer.edits:
                self._show(answer.box)
        except MedSegLensError as problem:  # the reader deleted the segmentation
            self._failed(problem)
            return
        self._tell()

    def _failed(self, problem: MedSegLensError) -> None:
        self._task, self.stage = None, ""
        self.problem = "" if isinstance(problem, Cancelled) else str(problem)
        self._tell()

    # -- what would change ------------------------------------------------------------------------------------------

    def _show(self, box: "LabelBox | None") -> None:
        """Show what a segmentation that differs from the unedited one in a box changes of the one in force."""
        opened = self._review.session.opened
        labels = opened.labels.copy()
        if box is not None:
            labels[box.slices] = box.labels
        self._change.show(self._shown, labels, opened.ijk_to_ras, self._review.result.reference)

    def _preview(self, strength: float) -> None:
        points = views.visible_points()
        task = self._review.session.preview(self.answer.at(strength), points[0] if points else self.point.ras)
        answer = self.answer
        self._review.watch.add(task, lambda box: self._previewed(answer, box), self._previewFailed)

    def _previewed(self, answer: "ProposalAnswer", box: "LabelBox") -> None:
        if answer is self.answer and self._trial is None:
            self._change.update(self._shown, box)
        self._drag.finished()

    def _previewFailed(self, problem: MedSegLensError) -> None:
        self._drag.finished()
        if not isinstance(problem, UsageError | Cancelled):  # the slice lies beside the volume: nothing to follow
            self._review.said.emit(str(problem), True)

    def _tried(self, edited: "Edited") -> None:
        self._trial = None
        self.regions_ml = edited.regions_ml
        self._show(edited.box)
        self._tell()

    def _trialFailed(self, problem: MedSegLensError) -> None:
        self._trial = None
        if not isinstance(problem, Cancelled):
            self._review.said.emit(str(problem), True)

    # -- what ends a proposal ---------------------------------------------------------------------------------------

    def _onRecipe(self) -> None:
        """Points whose edits are undone are hidden; a proposal that was made over other edits is asked for again."""
        if self.points is None:
            return
        recipe = self._review.history.recipe
        marks = marksOf(recipe)
        for one in self.points.all():
            if one.fate:
                self.points.show(one.key, one.fate in marks)
        if self._over is not None and recipe != self._over:
            self._askAgain()

    def _onOpened(self) -> None:
        if self._session is not None and self._session is not self._review.session:
            self._askAgain()

    def _askAgain(self) -> None:
        point = self.point
        self._withdraw()
        self.point = point
        self._next()
        self._tell()

    def _onWorkerLeft(self) -> None:
        self._withdraw()
        self._tell()

    def _forget(self) -> None:
        """Take the point under decision away."""
        point = self.point
        self._withdraw()
        if point is not None:
            self.points.remove(point.key)

    def _withdraw(self) -> None:
        for task in (self._task, self._trial):
            self._review.watch.forget(task)
            if task is not None:
                task.cancel()
        if self._change is not None:
            self._change.hide()
        self._reset()

    def _tell(self) -> None:
        self._review.pointingChanged.emit()


def spoken(placed: Placed) -> Point:
    """What a placed point says: its label, else what its list stands for."""
    try:
        return Point.saying(placed.ras, placed.label)
    except UsageError:
        return Point(placed.ras, placed.inside)


def markOf(where: VoxelMask) -> str:
    """Tells the tissue of one accepted point from that of another, in the scene and in the recipe alike."""
    told = f"{where.shape} {where.origin}".encode() + where.packed
    return hashlib.sha256(told).hexdigest()[:16]


def marksOf(recipe: Recipe | None) -> set[str]:
    edits = recipe.edits if recipe else ()
    return {markOf(where) for where in {edit.where for edit in edits} if isinstance(where, VoxelMask)}
