"""Undo, redo, and what a slider does to a recipe."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from MedSegLensLib.editing.recipe import Box, PackReference, Recipe, RegionOf, VoxelMask
from MedSegLensLib.panel.recipe_history import (
    DEPTH,
    RecipeHistory,
    emptyRecipe,
    forOthers,
    hasDrawnPlaces,
    isEdited,
    strengthOf,
    withoutEdit,
    withoutLatent,
    withStrength,
)

PACK = PackReference("tiny", "1.0.0", "0" * 64)
BOX = Box((0, 0, 0), (1, 1, 1))


def edited(latent=3, strength=0.0, where=None, recipe=None) -> Recipe:
    return withStrength(recipe or emptyRecipe(PACK), "tap", latent, strength, where)


def test_a_strength_is_one_edit_however_often_the_slider_moves():
    recipe = edited(strength=2.0, recipe=edited(strength=0.5))
    assert [e.value for e in recipe.edits] == [2.0]
    assert strengthOf(recipe, "tap", 3) == 2.0


def test_strength_one_takes_the_edit_away():
    assert edited(strength=1.0, recipe=edited(strength=0.5)).edits == ()


def test_a_latent_has_a_strength_at_each_place():
    recipe = edited(strength=3.0, where=BOX, recipe=edited(strength=0.5))
    assert (strengthOf(recipe, "tap", 3), strengthOf(recipe, "tap", 3, BOX)) == (0.5, 3.0)
    assert withoutLatent(recipe, "tap", 3).edits == ()
    assert [e.where for e in withoutEdit(recipe, 0).edits] == [BOX]


def test_isEdited_knows_tap_and_latent():
    assert isEdited(edited(), "tap", 3)
    assert not isEdited(edited(), "other tap", 3)
    assert not isEdited(None, "tap", 3)


def test_undo_and_redo_go_back_and_forth():
    history = RecipeHistory(emptyRecipe(PACK))
    for strength in (0.0, 2.0):
        history.change(edited(strength=strength, recipe=history.recipe))
    assert [history.undo().edits[0].value, history.undo().edits] == [0.0, ()]
    assert history.undo() is None
    assert [history.redo().edits[0].value, history.redo().edits[0].value] == [0.0, 2.0]
    assert history.redo() is None


def test_a_change_after_undo_forgets_what_was_undone():
    history = RecipeHistory(emptyRecipe(PACK))
    history.change(edited(1))
    history.undo()
    history.change(edited(2))
    assert not history.canRedo


def test_the_same_recipe_again_is_no_step():
    history = RecipeHistory(edited())
    assert not history.change(edited())
    assert not history.canUndo


@given(st.lists(st.one_of(st.none(), st.floats(0, 5)), max_size=40))
def test_history_always_returns_to_a_recipe_it_had(steps):
    """None is undo, a number a slider: after undoing all, the first recipe is there again."""
    first = emptyRecipe(PACK)
    history = RecipeHistory(first)
    seen = [first]
    for step in steps:
        if step is None:
            history.undo()
        else:
            history.change(edited(strength=step, recipe=history.recipe))
        seen.append(history.recipe)
    while history.undo() is not None:
        assert history.recipe in seen
    assert history.recipe == first


def test_the_history_is_bounded():
    history = RecipeHistory(emptyRecipe(PACK))
    for n in range(DEPTH + 50):
        history.change(edited(strength=n / 100 + 1.01))
    undone = 0
    while history.undo() is not None:
        undone += 1
    assert undone == DEPTH


def tissue(size: int) -> VoxelMask:
    return VoxelMask.from_array(np.ones((size, size, size)), (0, 0, 0), (1, 1, 1), tuple(np.eye(3).ravel()))


def test_edits_of_points_act_elsewhere_in_other_patients():
    recipe = edited(3, 0.5, tissue(2), edited(3, 2.0, tissue(3), edited(3, 0.9, BOX, edited(7, 0.0, tissue(2)))))
    assert hasDrawnPlaces(recipe) and not hasDrawnPlaces(edited(3, 0.9, BOX)) and not hasDrawnPlaces(None)
    around = RegionOf("WT", 10)
    general = forOthers(recipe, around)
    strengths = {(e.latent, e.where): e.value for e in general.edits}
    assert strengths == pytest.approx({(3, BOX): 0.9, (3, around): 1.0, (7, around): 0.0})
    assert forOthers(edited(7, 0.3, tissue(2)), None).edits == edited(7, 0.3).edits
