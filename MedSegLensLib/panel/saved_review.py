"""What a saved scene needs to show a review before anything is computed, as JSON in the parameter node."""

import json
from dataclasses import asdict, dataclass, field, fields

from MedSegLensLib.editing.recipe import Recipe
from MedSegLensLib.errors import RecipeError

ROWS = 100
"""Latents kept in the scene: enough for the first screens of the table."""


@dataclass
class SavedReview:
    """Volumes in mL by region before and after the edits, Dice likewise (or None), what was said of the case, the
    latents that were listed (`LatentRow` as dictionaries), the pack (name, version, hash, taps), and what comparisons
    that it is shipped with found of these latents; the last check: `found` (`findings.Check` as JSON) and `recipe`, a
    mark of the edits that it was of."""

    before: dict = field(default_factory=dict)
    after: dict = field(default_factory=dict)
    diceBefore: dict | None = None
    diceAfter: dict | None = None
    notes: list = field(default_factory=list)
    rows: list = field(default_factory=list)
    pack: dict = field(default_factory=dict)
    showDifference: bool = False
    comparisons: list = field(default_factory=list)
    check: dict | None = None

    def text(self) -> str:
        document = asdict(self)
        document["pack"].pop("model_card", None)
        return json.dumps(document, allow_nan=False, default=float)

    @staticmethod
    def read(text: str) -> "SavedReview":
        """What `text` wrote; an empty one where the scene holds none."""
        try:
            document = json.loads(text) if text else {}
        except ValueError:
            return SavedReview()
        known = {f.name for f in fields(SavedReview)}
        return SavedReview(**{k: v for k, v in document.items() if k in known})

    @staticmethod
    def recipeText(recipe: Recipe) -> str:
        return json.dumps(recipe.to_json(), allow_nan=False)

    @staticmethod
    def recipe(text: str) -> Recipe:
        """The recipe in the scene. Raises RecipeError where it cannot be read."""
        try:
            return Recipe.from_json(json.loads(text), "the scene's recipe")
        except ImportError as problem:
            cause = f"it cannot be checked before MedSegLens's packages are installed ({problem})."
            raise RecipeError("the scene's recipe", cause, "Press Apply once, then load the scene again.") from problem
        except ValueError as problem:
            raise RecipeError("the scene's recipe", f"{problem}.", "Load a saved recipe file instead.") from problem
