"""Our own colour tables: Slicer's perceptual ones belong to its application and are absent elsewhere.

Each runs from a mid tone to a light one (a table that starts at black draws a dark rim), lightness rising throughout, so
that it reads in grey and with any colour vision.
"""

import slicer

COLOURS = ("heat", "green", "purple", "sky", "viridis")
"""Names of the tables; the first four are the defaults of overlay slots 0 to 3, viridis that of probabilities."""


def colour_table(name: str) -> slicer.vtkMRMLColorTableNode:
    """The scene's table of that name (one of `COLOURS`), made where there is none. Raises UsageError for others."""
    raise NotImplementedError


def swatch(name: str) -> tuple[int, int, int]:
    """The table's typical colour, RGB 0-255, for a swatch in the panel."""
    raise NotImplementedError
