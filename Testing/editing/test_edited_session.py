"""A session under a recipe is the edit, for whatever reads sessions."""

import numpy as np
import pytest
from tiny_packs import write_tiny_pack

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.editing.edited_session import EditedSession
from MedSegLensLib.editing.recipe import Edit, PackReference, Recipe
from MedSegLensLib.editing.session import Session
from MedSegLensLib.errors import RecipeError
from MedSegLensLib.segmenters.sampling import whole


@pytest.mark.parametrize("network", ["unet", "segresnet"])
def test_labels_and_logits_are_the_edits_and_all_else_the_sessions_own(network, tmp_path):
    pack = write_tiny_pack(network, tmp_path / "pack")
    session = Session(phantom(3, size=(40, 48, 14), spacing=(4.0, 4.0, 9.0)), pack)
    unedited, logits = session.labels.copy(), session.replay.logits.clone()
    tap = pack.default_tap
    recipe = Recipe("strong", PackReference.of(pack), tuple(Edit(tap, j, "scale", 4.0) for j in range(6)))
    edited = EditedSession(session, recipe)
    assert np.array_equal(edited.labels, session.edit(recipe).labels) and (edited.labels != unedited).any()
    assert np.array_equal(session.labels_of(edited.replay.logits, whole(unedited.shape)), edited.labels)
    assert np.array_equal(session.labels, unedited) and (session.replay.logits == logits).all()
    assert edited.codes is session.codes and edited.replay.taps == session.replay.taps
    other = Recipe("other", PackReference("other", "1", "f" * 64), recipe.edits)
    with pytest.raises(RecipeError):
        EditedSession(session, other)
