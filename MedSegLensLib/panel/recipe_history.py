"""The reader's edits and the way back: a recipe, the recipes before it, and those that were undone."""

import math
from dataclasses import replace

from MedSegLensLib.editing.recipe import Edit, PackReference, Recipe, VoxelMask, Where

NEUTRAL = 1.0
"""The strength at which a latent is left as it is."""

DEPTH = 200
"""Steps that can be undone."""


class RecipeHistory:
    """The recipe in force, with undo and redo. Recipes are immutable, so a step is a reference and not a copy.

    >>> history = RecipeHistory(Recipe("edits", pack))
    >>> history.change(withStrength(history.recipe, "upcat_3", 17, 0.0))
    >>> history.undo().edits
    ()
    """

    def __init__(self, recipe: Recipe | None = None):
        self.recipe = recipe
        self._before: list[Recipe] = []
        self._after: list[Recipe] = []

    @property
    def canUndo(self) -> bool:
        return bool(self._before)

    @property
    def canRedo(self) -> bool:
        return bool(self._after)

    def start(self, recipe: Recipe | None) -> None:
        """Begin anew with `recipe`: nothing to undo."""
        self.recipe, self._before, self._after = recipe, [], []

    def change(self, recipe: Recipe) -> bool:
        """Make `recipe` the one in force; False, and no step, where it is the one already."""
        if recipe == self.recipe:
            return False
        if self.recipe is not None:
            self._before = [*self._before[1 - DEPTH :], self.recipe]
        self.recipe, self._after = recipe, []
        return True

    def undo(self) -> Recipe | None:
        """Back one step; None where there is none."""
        if not self._before:
            return None
        self._after.append(self.recipe)
        self.recipe = self._before.pop()
        return self.recipe

    def redo(self) -> Recipe | None:
        """Forward again one step; None where there is none."""
        if not self._after:
            return None
        self._before.append(self.recipe)
        self.recipe = self._after.pop()
        return self.recipe


def emptyRecipe(pack: PackReference, name: str = "edits") -> Recipe:
    return Recipe(name, pack)


def withStrength(recipe: Recipe, tap: str, latent: int, strength: float, where: Where | None = None) -> Recipe:
    """The recipe with a latent's strength set at a place (None: everywhere); strength 1 takes that edit away."""
    edit = Edit(tap, latent, "scale", strength, where)
    if strength == NEUTRAL:
        return replace(recipe, edits=tuple(e for e in recipe.edits if e.target != edit.target))
    return replace(recipe, edits=(*recipe.edits, edit))


def strengthOf(recipe: Recipe | None, tap: str, latent: int, where: Where | None = None) -> float:
    """The strength of a latent at exactly this place, 1 where no edit is."""
    target = (tap, latent, where)
    edits = recipe.edits if recipe else ()
    return next((e.value for e in edits if e.target == target and e.kind == "scale"), NEUTRAL)


def withoutLatent(recipe: Recipe, tap: str, latent: int) -> Recipe:
    """The recipe without the edits of one latent, at whatever place."""
    return replace(recipe, edits=tuple(e for e in recipe.edits if (e.tap, e.latent) != (tap, latent)))


def withoutEdit(recipe: Recipe, number: int) -> Recipe:
    """The recipe without its edit `number`, from 0."""
    return replace(recipe, edits=tuple(e for n, e in enumerate(recipe.edits) if n != number))


def hasDrawnPlaces(recipe: Recipe | None) -> bool:
    """Whether some edit acts in drawn voxels only, such as the tissue at a point: a place in one patient."""
    return recipe is not None and any(isinstance(edit.where, VoxelMask) for edit in recipe.edits)


def forOthers(recipe: Recipe, where: Where | None) -> Recipe:
    """The recipe for other patients: edits in drawn voxels act at `where` (None: everywhere) instead.

    Of several strengths that one latent was given at several points the geometric mean is taken (0 stays 0), of other
    values their mean: later ones replacing earlier ones would make the order of the points matter.
    """
    drawn: dict[tuple, list[Edit]] = {}
    for edit in recipe.edits:
        if isinstance(edit.where, VoxelMask):
            drawn.setdefault((edit.tap, edit.latent, edit.kind), []).append(edit)
    kept = tuple(edit for edit in recipe.edits if not isinstance(edit.where, VoxelMask))
    general = tuple(
        Edit(tap, latent, kind, _middle(kind, [edit.value for edit in edits]), where)
        for (tap, latent, kind), edits in drawn.items()
    )
    return replace(recipe, edits=(*kept, *general))


def _middle(kind: str, values: list[float]) -> float:
    if kind != "scale":
        return sum(values) / len(values)
    return math.prod(values) ** (1 / len(values))


def isEdited(recipe: Recipe | None, tap: str, latent: int) -> bool:
    return recipe is not None and any((e.tap, e.latent) == (tap, latent) for e in recipe.edits)
