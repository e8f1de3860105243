"""Our own colour tables: Slicer's perceptual ones belong to its application and are absent elsewhere.

A table of an overlay runs from a mid tone to a light one (starting at black draws a dark rim), lightness rising
throughout, so that it reads in grey and with any colour vision.
"""

import numpy as np
import slicer
import slicer.util

from MedSegLensLib.errors import UsageError

RAMPS = {
    "heat": ((101, 21, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)),
    "sky": ((20, 70, 140), (60, 150, 230), (150, 215, 255)),
    "green": ((0, 90, 65), (0, 170, 110), (110, 245, 170)),
    "purple": ((115, 40, 95), (205, 90, 170), (255, 170, 225)),
    "viridis": ((58, 60, 130), (38, 130, 142), (53, 183, 121), (253, 231, 37)),
}
"""RGB, evenly spaced from 0 to the overlay's maximum. None ends in white, which bright anatomy would swallow."""

RISK_STEPS = ((0.25, (140, 70, 10)), (0.5, (235, 135, 20)), (0.75, (255, 230, 100)))
"""From which risk on which colour: three steps of rising lightness, told apart from an activation's smooth ramp at a
glance and with any colour vision. What lies below the first is clear."""

COLOURS = tuple(RAMPS)
"""Names of the tables; the first four are the defaults of overlay slots 0 to 3, viridis that of probabilities."""

STEPS = 256
TABLE = "MedSegLens.Colours"
"""Attribute of a table of ours: its name here."""


def colour_table(name: str) -> slicer.vtkMRMLColorTableNode:
    """The scene's table of that name (one of `COLOURS`), made where there is none. Raises UsageError for others."""
    _check(name)
    return _table(name, f"MedSegLens {name}", [(f"{n / (STEPS - 1):.3f}", colour) for n, colour in _ramp(name)])


def risk_table() -> slicer.vtkMRMLColorTableNode:
    """The scene's table of the risk map, 0 to 1 in the steps of `RISK_STEPS`."""
    levels = np.arange(STEPS) / (STEPS - 1)
    entries = [(f"{level:.3f}", next((rgb for least, rgb in RISK_STEPS[::-1] if level >= least), None))
               for level in levels]  # fmt: skip
    return _table("risk", "MedSegLens risk", entries)


def label_table(name: str, labels: dict[int, tuple[str, tuple[int, int, int]]]) -> slicer.vtkMRMLColorTableNode:
    """A table of labels for a label layer. labels: name and RGB by value; all other values are clear.

    A table of that name in the scene is brought up to date.
    """
    entries = [("", None)] * (max(labels) + 1)
    for value, entry in labels.items():
        entries[value] = entry
    return _table(name, f"MedSegLens {name}", entries, always=True)


def swatch(name: str) -> tuple[int, int, int]:
    """The table's typical colour, RGB 0-255, for a swatch in the panel. Raises UsageError for an unknown name."""
    _check(name)
    return tuple(int(part) for part in _ramp(name)[STEPS * 2 // 3][1])


def _check(name: str) -> None:
    if name not in RAMPS:
        raise UsageError(str(name), "there is no such colour table.", f"Use one of {', '.join(COLOURS)}.")


def _ramp(name: str) -> list[tuple[int, np.ndarray]]:
    points = np.array(RAMPS[name], float)
    at = np.linspace(0, len(points) - 1, STEPS)
    rgb = np.stack([np.interp(at, np.arange(len(points)), points[:, part]) for part in range(3)], axis=1)
    return list(enumerate(rgb))


def _table(name: str, node_name: str, entries: list, always: bool = False) -> slicer.vtkMRMLColorTableNode:
    """The scene's table with the attribute `name`; entries: name and RGB 0-255 (None: clear) for each value from 0."""
    tables = slicer.util.getNodesByClass("vtkMRMLColorTableNode")
    table = next((node for node in tables if node.GetAttribute(TABLE) == name), None)
    if table is not None and not always:
        return table
    if table is None:
        table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", node_name)
        table.SetTypeToUser()
        table.SetAttribute(TABLE, name)
        table.SetHideFromEditors(False)
    with slicer.util.NodeModify(table):
        table.SetNumberOfColors(len(entries))
        for value, (text, colour) in enumerate(entries):
            rgba = (0, 0, 0, 0) if colour is None else (*(part / 255 for part in colour), 1)
            table.SetColor(value, text or "none", *rgba)
        table.GetLookupTable().SetRange(0, len(entries) - 1)
    return table
