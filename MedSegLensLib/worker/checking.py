"""The check of an opened case, before or after edits, with its risk map on the case's own grid."""

from MedSegLensLib.editing.edited_session import EditedSession
from MedSegLensLib.editing.recipe import Recipe
from MedSegLensLib.failures.check import check
from MedSegLensLib.worker.opened_case import OpenedCase, Say, overlay_message
from MedSegLensLib.worker.protocol import Message

AFTER_EDITS = "The check learned from segmentations without edits; after edits it is a hint more than a measure."


def checked_case(case: OpenedCase, recipe: Recipe | None, say: Say) -> Message:
    """`CheckAnswer`; under a recipe where one with edits is given.

    Raises PackError for a reference that is damaged, RecipeError or UsageError for a recipe that does not fit the pack.
    """
    session = case.session
    edited = recipe is not None and bool(recipe.edits)
    found, risk = check(EditedSession(session, recipe) if edited else session, progress=say)
    message = overlay_message(case.on_case(risk))
    message.fields["check"] = found.to_json()
    if edited:
        message.fields["check"]["notes"].append(AFTER_EDITS)
    return message
