"""A reader's work on one case: opened with a pack, taken apart into latents, edited, compared, saved with the scene.

    review = Review(makeClient)
    review.attach(parameters)          # the scene's parameter node: a saved scene is shown as it was, nothing computed
    review.apply()                     # the worker starts, the case is segmented, the saved recipe is replayed
    review.setStrength(tap, 17, 0.0)   # the segmentation changes in place
    review.undo()

It holds no Qt: the widget's timer calls `poll`, the sections listen to the signals. What the reader did is the recipe
and the parameter node; the worker may die at any time.
"""

import time
from collections.abc import Callable

import slicer
from slicer.i18n import tr as _

from MedSegLensLib.cases.case import MODALITIES, REGIONS
from MedSegLensLib.editing.recipe import PackReference, Recipe, Where, load_recipe, save_recipe
from MedSegLensLib.errors import Cancelled, CaseError, MedSegLensError, RecipeError, UsageError
from MedSegLensLib.panel.checking import Checking
from MedSegLensLib.panel.latent_findings import LatentFindings
from MedSegLensLib.panel.latent_notes import LatentNotes
from MedSegLensLib.panel.overlay_choice import OverlayChoice
from MedSegLensLib.panel.partner import Partner
from MedSegLensLib.panel.pointing import Pointing
from MedSegLensLib.panel.recipe_history import RecipeHistory, emptyRecipe, strengthOf, withoutLatent, withStrength
from MedSegLensLib.panel.saved_review import SavedReview
from MedSegLensLib.panel.signal import Signal
from MedSegLensLib.panel.task_watch import TaskWatch
from MedSegLensLib.panel.throttle import Throttle
from MedSegLensLib.scene import study, views
from MedSegLensLib.scene.change import Difference, Preview
from MedSegLensLib.scene.reference import reference_volume
from MedSegLensLib.scene.restore import restore
from MedSegLensLib.scene.segmentation import ResultSegmentation


class Review:
    """One case under review, shared by all widgets that show it.

    Signals: stateChanged() when what can be done has changed; progressed(task); said(text, isProblem); workerChanged();
    workerLeft() when the reader has chosen another, and what was said of the former is over; regionsChanged();
    recipeChanged(); opened(); overlaysChanged(); studyChanged(); notesChanged(); partnerChanged(); pointingChanged();
    checkingChanged(); edited(Edited); failed(MedSegLensError), which `said` tells too.
    """

    def __init__(self, makeClient: Callable):
        self._makeClient = makeClient
        self.watch = TaskWatch()
        self.history = RecipeHistory()
        self.client = self.session = self.hello = self.parameters = None
        self.applying = self.starting = self.editing = None
        self.saved = SavedReview()
        self._drag = Throttle(self._preview)
        self._dragging = False
        self._previews = []
        self.stateChanged, self.progressed, self.said, self.workerChanged = (Signal() for _n in range(4))
        self.regionsChanged, self.recipeChanged, self.opened = (Signal() for _n in range(3))
        self.overlaysChanged, self.edited, self.studyChanged, self.failed = (Signal() for _n in range(4))
        self.notesChanged, self.workerLeft, self.partnerChanged, self.pointingChanged = (Signal() for _n in range(4))
        self.notes, self.findings, self.partner = LatentNotes(self), LatentFindings(self), Partner(self)
        self.checkingChanged = Signal()
        self.pointing, self.checking = Pointing(self), Checking(self)

    # -- the scene --------------------------------------------------------------------------------------------------

    def attach(self, parameters, anew: bool = False) -> None:
        """Take up the work that the scene's parameter node holds. Shows it; computes nothing.

        A node that is taken up already (by another widget) is left as it is, unless `anew`: the scene was loaded.
        """
        if not anew and self.parameters is not None and self.parameters.parameterNode is parameters.parameterNode:
            self._everythingChanged()
            return
        self.leave()
        self.parameters = parameters
        owner = parameters.parameterNode
        self.result, self.difference, self.preview = ResultSegmentation(owner), Difference(owner), Preview(owner)
        self.overlays = OverlayChoice(self, owner)
        self.pointing.attach(owner)
        self.saved = SavedReview.read(parameters.found)
        self.checking.attach(owner, self.saved.check)
        recipe = None
        if parameters.recipe:
            try:
                recipe = self.saved.recipe(parameters.recipe)
            except MedSegLensError as problem:
                self.said.emit(str(problem), True)
        self.history.start(recipe)
        if self.result.node is not None:
            for line in restore(owner):
                self.said.emit(line, True)
        self._everythingChanged()

    def leave(self) -> None:
        """Let go of the case: the scene closes, or another one is opened. The worker stays."""
        for task in (self.applying, self.editing):
            if task is not None:
                task.cancel()
        self.watch.forgetAll()
        self.applying = self.editing = None
        self._dragging = False
        self._drag = Throttle(self._preview)
        self.pointing.leave()
        self.checking.leave()
        if self.session is not None:
            self.session.close()
        self.session = self.parameters = None
        self.history.start(None)
        self.saved = SavedReview()
        if self.starting is not None:
            self._watchStart(self.starting)

    def close(self) -> None:
        """End the worker; nothing may be asked after this."""
        self.leave()
        self.watch.forgetAll()
        if self.client is not None:
            self.client.close()
        self.client = self.hello = self.starting = None

    def _everythingChanged(self) -> None:
        for signal in (
            self.stateChanged, self.studyChanged, self.opened, self.recipeChanged, self.regionsChanged,
            self.overlaysChanged, self.pointingChanged, self.checkingChanged,
        ):  # fmt: skip
            signal.emit()

    def forgetListener(self, owner: object) -> None:
        """Call no method of `owner` any more."""
        for signal in vars(self).values():
            if isinstance(signal, Signal):
                signal.disconnectOwner(owner)

    # -- the worker -------------------------------------------------------------------------------------------------

    def poll(self) -> None:
        """Look at what is under way; called by a timer on the main thread."""
        self.watch.poll()
        if self.client is not None:
            for line in self.client.messages():
                self.said.emit(line, False)

    @property
    def isBusy(self) -> bool:
        return self.applying is not None

    @property
    def isOpen(self) -> bool:
        """Whether the case is open in the worker: latents and edits can be asked for."""
        return self.session is not None

    @property
    def isRestored(self) -> bool:
        """Whether a saved result is shown that no worker has open."""
        return self.session is None and bool(self.saved.before)

    def startWorker(self) -> None:
        """Start the worker ahead of need, where it is not up already."""
        if self.hello is None and self.starting is None:
            self.client = self.client or self._makeClient()
            self.starting = self.client.start()
            self._watchStart(self.starting)

    def changeWorker(self) -> None:
        """Go on with another worker: the one in use ends, what was done stays, Continue takes it up."""
        if self.applying is not None:
            self.applying.cancel()
        self.watch.forgetAll()
        self.applying = self.starting = self.editing = self.session = self.hello = None
        if self.client is not None:
            self.client.close()
        self.client = None
        self.workerLeft.emit()
        try:
            self.startWorker()
        except MedSegLensError as problem:
            self._say(problem)
        self.workerChanged.emit()
        self._everythingChanged()

    def _watchStart(self, task) -> None:
        self.watch.add(task, self._started, self._startFailed)

    def _started(self, hello) -> None:
        self.starting, self.hello = None, hello
        self.workerChanged.emit()

    def _startFailed(self, problem: MedSegLensError) -> None:
        self.starting = None
        self.workerChanged.emit()
        self._say(problem)

    def packs(self) -> list[dict]:
        """The packs that the worker knows, usable ones first."""
        packs = self.hello.packs if self.hello else []
        return sorted(packs, key=lambda p: bool(p["error"]))

    def chosenPack(self) -> dict | None:
        """What the worker says of the pack that is chosen; None before it has started or for a path it has not seen."""
        wanted = self.parameters.pack
        opened = [dict(self.session.opened.pack, error=None)] if self.session is not None else []
        return next((p for p in [*self.packs(), *opened] if wanted in (p["name"], str(p["path"]))), None)

    # -- apply ------------------------------------------------------------------------------------------------------

    def chosenVolumes(self) -> dict:
        """The volume nodes by modality, those chosen only."""
        nodes = {m: getattr(self.parameters, m) for m in MODALITIES}
        return {m: node for m, node in nodes.items() if node is not None}

    def apply(self) -> None:
        """Open the case that is chosen with the pack that is chosen. Problems are said, none is raised."""
        try:
            nodes = self.chosenVolumes()
            if not nodes:
                raise CaseError(
                    _("study"), _("no volume is chosen."), _("Choose at least one volume under Study, then Apply.")
                )
            volumes = {m: study.volume_of(node) for m, node in nodes.items()}
            reference = reference_volume(self.parameters.reference) if self.parameters.reference else None
            self.client = self.client or self._makeClient()
        except MedSegLensError as problem:
            self._say(problem)
            return
        if self.session is not None:
            self.session.close()
            self.session = None
        name = next(iter(nodes.values())).GetName()
        self.applying = self.client.open_case(volumes, name, self.parameters.pack, reference)
        self._modalityNodes = {m: node.GetID() for m, node in nodes.items()}
        self.watch.add(self.applying, self._caseOpened, self._applyFailed, self.progressed.emit)
        self.stateChanged.emit()

    def applyAndWait(self):
        """Apply, for scripts: waits for the segmentation and gives its node. Raises what went wrong."""
        problems = []
        remember = lambda problem: problems.append(problem)  # noqa: E731
        self.failed.connect(remember)
        try:
            self.apply()
            self.wait()
        finally:
            self.failed.disconnect(remember)
        if problems:
            raise problems[0]
        return self.result.node

    def wait(self) -> None:
        """Wait until nothing is under way, for scripts."""
        while len(self.watch):
            self.poll()
            time.sleep(0.005)

    def cancel(self) -> None:
        """Give up what Apply is doing."""
        if self.applying is not None:
            self.applying.cancel()

    def _applyFailed(self, problem: MedSegLensError) -> None:
        self.applying = None
        self.stateChanged.emit()
        self._say(problem)

    def _caseOpened(self, session) -> None:
        self.applying = None
        opened = session.opened
        node = slicer.mrmlScene.GetNodeByID(self._modalityNodes[opened.grid_of])
        if node is None:
            session.close()
            self.stateChanged.emit()
            self.said.emit(_("The study's volume was deleted while it was segmented. Choose it again and Apply."), True)
            return
        self.session = session
        if self.hello is None:
            self.startWorker()  # up already: it answers at once with what it is
        self.difference.hide()
        self.overlays.hideAll()
        self.result.make(opened.labels, opened.ijk_to_ras, opened.label_meta, node)
        volumes, pack = dict(opened.regions_ml), dict(opened.pack)
        self.saved = SavedReview(volumes, dict(volumes), opened.dice, opened.dice, list(opened.notes), pack=pack)
        reference = PackReference(opened.pack["name"], opened.pack["version"], opened.pack["hash"])
        self._takeUpRecipe(reference)
        self.keep()
        self._everythingChanged()
        for note in opened.notes:
            self.said.emit(note, False)
        if self.history.recipe.edits:
            self._edit()

    def _takeUpRecipe(self, pack: PackReference) -> None:
        """Go on with the edits that are there, unless they are for another pack than the one that was opened."""
        recipe = self.history.recipe
        if recipe is not None and recipe.pack.hash == pack.hash:
            return
        if recipe is None or not recipe.edits:
            self.history.start(emptyRecipe(pack))
            return
        self.history.change(emptyRecipe(pack))
        line = _("The {count} edits are for the pack {pack} and are not applied; Undo brings them back to be saved.")
        self.said.emit(line.format(count=len(recipe.edits), pack=recipe.pack), True)

    def recipeIsForAnotherPack(self) -> bool:
        """Whether edits are there that mean nothing in the pack that is chosen now."""
        recipe, pack = self.history.recipe, self.chosenPack()
        return bool(recipe and recipe.edits and pack and pack["hash"] and pack["hash"] != recipe.pack.hash)

    def startWithoutEdits(self) -> None:
        self.history.start(None)
        self.parameters.recipe = ""
        self.recipeChanged.emit()

    # -- edits ------------------------------------------------------------------------------------------------------

    def strength(self, tap: str, latent: int, where: Where | None = None) -> float:
        """The strength of a latent at a place."""
        return strengthOf(self.history.recipe, tap, latent, where)

    def dragStrength(self, tap: str, latent: int, strength: float, where: Where | None = None) -> None:
        """The slider moves: the slice under the eye follows; nothing is kept."""
        if self.session is not None:
            self._dragging = True
            self._drag.give(withStrength(self.history.recipe, tap, latent, strength, where))

    def setStrength(self, tap: str, latent: int, strength: float, where: Where | None = None) -> None:
        """The slider was released, or a number typed: an edit."""
        self._endDrag()
        try:
            self._requireOpen()
            self.change(withStrength(self.history.recipe, tap, latent, strength, where))
        except MedSegLensError as problem:
            self._say(problem)
            self.recipeChanged.emit()  # the slider goes back to what is so

    def resetLatent(self, tap: str, latent: int) -> None:
        if self.history.recipe is not None:
            self.change(withoutLatent(self.history.recipe, tap, latent))

    def resetAll(self) -> None:
        recipe = self.history.recipe
        if recipe is not None:
            self.change(Recipe(recipe.name, recipe.pack, (), recipe.comment))

    def change(self, recipe: Recipe) -> None:
        """Make `recipe` the one in force and segment again."""
        if self.history.change(recipe):
            self._edit()

    def undo(self) -> None:
        if self.history.undo() is not None:
            self._edit()

    def redo(self) -> None:
        if self.history.redo() is not None:
            self._edit()

    def saveRecipe(self, path: str) -> None:
        if self.history.recipe is None:
            raise RecipeError(_("recipe"), _("there are no edits yet."), _("Press Apply and change a latent first."))
        save_recipe(self.history.recipe, path)

    def loadRecipe(self, path: str) -> None:
        """Replace the edits by those of a file. Raises RecipeError for one of another pack."""
        recipe = load_recipe(path)
        here = self.history.recipe
        if here is not None and recipe.pack.hash != here.pack.hash:
            cause = _("it was made for the pack {other}; the open one is {here}.").format(
                other=recipe.pack, here=here.pack
            )
            raise RecipeError(path, cause, _("Choose that pack and Apply, then load the recipe again."))
        self.change(recipe)

    def _requireOpen(self) -> None:
        if self.session is None:
            remedy = _("Press Continue first.") if self.isRestored else _("Press Apply first.")
            raise UsageError(_("edit"), _("the case is not open in the worker."), remedy)

    def _edit(self) -> None:
        self.keep()
        self.recipeChanged.emit()
        if self.session is None:
            return
        self.watch.forget(self.editing)
        self.editing = self.session.edit(self.history.recipe, near_ras=views.visible_points())
        self.watch.add(self.editing, self._editDone, self._editFailed, partial=self._write)
        self.stateChanged.emit()

    def _write(self, box) -> None:
        try:
            self.preview.end()
            self.result.update(box)
            if self.saved.showDifference:
                self.difference.update(self.originalLabels(), box)
        except MedSegLensError as problem:
            self._say(problem)

    def _editDone(self, edited) -> None:
        self.editing = None
        if edited.box is not None:
            self._write(edited.box)
        self.preview.end()
        self.saved.after, self.saved.diceAfter = dict(edited.regions_ml), edited.dice
        self.keep()
        self.overlays.refreshProbability()
        self.stateChanged.emit()
        self.regionsChanged.emit()
        self.edited.emit(edited)

    def _editFailed(self, problem: MedSegLensError) -> None:
        self.editing = None
        self.preview.end()
        self.stateChanged.emit()
        self._say(problem)

    # -- while dragging ---------------------------------------------------------------------------------------------

    def _preview(self, recipe: Recipe) -> None:
        points = views.visible_points()
        task = self.session.preview(recipe, points[0] if points else views.crosshair_ras())
        self.watch.add(task, self._previewed, self._previewFailed)

    def _previewed(self, box) -> None:
        if self._dragging:
            self.preview.show(box)
        self._drag.finished()

    def _previewFailed(self, problem: MedSegLensError) -> None:
        self._drag.finished()
        if not isinstance(problem, UsageError):  # the slice lies beside the volume: nothing to follow
            self._say(problem)

    def _endDrag(self) -> None:
        self._dragging = False
        self._drag.drop()

    # -- original and edited ----------------------------------------------------------------------------------------

    def originalLabels(self):
        """The unedited labels, uint8 (Z, Y, X)."""
        return self.session.opened.labels if self.session is not None else self.result.labels("original")

    def showOriginal(self, on: bool) -> None:
        self.result.show("original" if on else "edited")

    def showDifference(self, on: bool) -> None:
        """Voxels that the edits added and removed, in two colours, over the anatomy."""
        self.saved.showDifference = on
        if on and self.result.node is not None:
            ijkToRas = self.session.opened.ijk_to_ras if self.session else self.result.ijk_to_ras
            self.difference.show(self.originalLabels(), self.result.labels(), ijkToRas, self.result.reference)
        else:
            self.difference.hide()
        self.keep()

    # -- what is said and kept --------------------------------------------------------------------------------------

    def _say(self, problem: MedSegLensError) -> None:
        self.failed.emit(problem)
        self.said.emit(str(problem), not isinstance(problem, Cancelled))

    def keep(self) -> None:
        """Write the work into the parameter node, so that it is saved with the scene."""
        if self.history.recipe is not None:
            self.parameters.recipe = SavedReview.recipeText(self.history.recipe)
            self.parameters.packVersion = self.history.recipe.pack.version
            self.parameters.packHash = self.history.recipe.pack.hash
        self.parameters.found = self.saved.text()

    def regions(self) -> tuple[str, ...]:
        return tuple(REGIONS)
