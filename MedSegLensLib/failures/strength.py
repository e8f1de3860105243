"""A proposed repair at a strength. Torch-free: the panel's slider and the command line call the same."""

from collections.abc import Iterable
from dataclasses import replace

from MedSegLensLib.editing.recipe import Edit

LARGEST_GAIN = 5.0
"""Of a gain as it is fitted."""


def at_strength(edits: Iterable[Edit], strength: float) -> tuple[Edit, ...]:
    """Edits as fitted, their gains to the power of `strength`: 0 for none, 1 as fitted, at most 2."""
    return tuple(replace(edit, value=min(edit.value**strength, LARGEST_GAIN**2)) for edit in edits)
