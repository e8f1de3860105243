"""One button that applies, continues or cancels; the bar, the elapsed time, and what there is to say."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from MedSegLensLib.errors import MedSegLensError
from MedSegLensLib.panel.dependencies import ensureDependencies

if TYPE_CHECKING:
    from MedSegLensLib.panel.review import Review

LINES = 4
"""Of what was said, shown at once."""


class ApplySection:
    """Apply turns into Cancel while it works, and is called Continue where a saved scene is taken up again."""

    def __init__(self, review: "Review", loadUi: Callable):
        self.review = review
        self.widget = loadUi("Apply")
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self._lines: list[str] = []
        self.ui.applyButton.connect("clicked(bool)", self._onApply)
        self.ui.messageLabel.visible = self.ui.stageLabel.visible = False
        review.stateChanged.connect(self.update)
        review.progressed.connect(self._onProgress)
        review.said.connect(self.say)
        review.workerLeft.connect(self.clearMessages)
        self.update()

    def update(self) -> None:
        review = self.review
        if review.isBusy:
            text, tip = _("Cancel"), _("Stop; nothing is changed")
        elif review.isRestored:
            text, tip = _("Continue"), _("Open the case again in the worker and replay the recipe")
        else:
            text, tip = _("Apply"), _("Segment the study and find its latents")
        self.ui.applyButton.text, self.ui.applyButton.toolTip = text, tip
        self.ui.progressBar.visible = self.ui.stageLabel.visible = review.isBusy
        if not review.isBusy:
            self.ui.progressBar.value = 0

    def say(self, text: str, isProblem: bool) -> None:
        """Show a line; the newest last. Problems are marked."""
        line = f"⚠ {text}" if isProblem else text
        if self._lines and self._lines[-1] == line:
            return
        self._lines = [*self._lines, line][-LINES:]
        self.ui.messageLabel.text = "\n".join(self._lines)
        self.ui.messageLabel.visible = True

    def clearMessages(self) -> None:
        self._lines = []
        self.ui.messageLabel.text = ""
        self.ui.messageLabel.visible = False

    def _onProgress(self, task) -> None:
        self.ui.progressBar.value = int(round(100 * task.share))
        self.ui.stageLabel.text = _("{stage}, {seconds:.0f} s").format(stage=task.stage, seconds=task.elapsed)

    def _onApply(self, _checked=False) -> None:
        if self.review.isBusy:
            self.review.cancel()
            return
        self.clearMessages()
        try:
            ensureDependencies()
        except MedSegLensError as problem:
            self.say(str(problem), True)
            return
        if self.review.recipeIsForAnotherPack() and not self._startsWithoutEdits():
            return
        self.review.apply()

    def _startsWithoutEdits(self) -> bool:
        recipe = self.review.history.recipe
        question = _(
            "The {count} edits were made with the pack {pack}; the one chosen now is another, or was changed since. "
            "They mean nothing in it.\n\nOK starts without them. Cancel leaves all as it is, so that you can save the "
            "recipe or choose the earlier pack."
        ).format(count=len(recipe.edits), pack=recipe.pack)
        if not slicer.util.confirmOkCancelDisplay(question, windowTitle="MedSegLens"):
            return False
        self.review.startWithoutEdits()
        return True
