"""What the reader points at: two lists of Slicer's markups, one for "this is tumour", one for "this is not".

points = ReaderPoints(owner)
points.watch(changed)                          # called when a point was placed, moved or removed
points.begin_placing(inside=False, words="not ET")    # the next click in a view places one

The label of a control point is what it says, as `medseglens repair --points` reads it from the saved list; its
description says what became of it. So a point and its fate are saved with the scene.
"""

from collections.abc import Callable
from dataclasses import dataclass

import slicer
import slicer.util

from MedSegLensLib.scene.ownership import found, owned
from MedSegLensLib.scene.views import Point

NAMES = {True: "tumour", False: "not tumour"}
"""Of the lists; a point whose own label says nothing says this."""
_COLOURS = {True: (0, 220, 255), False: (255, 150, 0)}
_GLYPHS = {
    True: slicer.vtkMRMLMarkupsDisplayNode.Sphere3D,
    False: slicer.vtkMRMLMarkupsDisplayNode.ThickCross2D,
}
"""Told apart by shape too, and seen over what a proposal adds (green) and removes (violet), where points lie."""


@dataclass(frozen=True)
class Placed:
    """A control point. key: finds it again while the scene is open. fate: "" where nothing was decided yet, else the
    caller's own mark."""

    key: tuple[bool, str]
    ras: Point
    label: str
    fate: str

    @property
    def inside(self) -> bool:
        return self.key[0]


class ReaderPoints:
    """The points of an owner. Holds no state but what it observes."""

    def __init__(self, owner: slicer.vtkMRMLNode):
        self.owner = owner
        self._observed: list[tuple[slicer.vtkMRMLNode, int]] = []
        self._changed: Callable[[], None] | None = None

    def node(self, inside: bool) -> slicer.vtkMRMLMarkupsFiducialNode | None:
        """The list of points that say "this is" or "this is not", or None."""
        return found(self.owner, _role(inside))

    def all(self) -> list[Placed]:
        """The points that are placed, in the order of each list; those that say "this is" come first."""
        return [point for inside in (True, False) for point in self._of(inside)]

    def undecided(self) -> list[Placed]:
        """Those of which nothing was decided yet."""
        return [point for point in self.all() if not point.fate]

    def find(self, key: tuple[bool, str]) -> Placed | None:
        """The point of that key; None where the reader deleted it."""
        return next((point for point in self.all() if point.key == key), None)

    def begin_placing(self, inside: bool, words: str) -> None:
        """Let the next click in a view place a point that says `words`."""
        node = self._made(inside)
        node.SetControlPointLabelFormat(words)  # without %: each label is just that
        node.GetDisplayNode().SetVisibility(True)
        selection, interaction = _singleton("Selection"), _singleton("Interaction")
        selection.SetReferenceActivePlaceNodeClassName(node.GetClassName())
        selection.SetActivePlaceNodeID(node.GetID())
        interaction.SwitchToSinglePlaceMode()

    def end_placing(self) -> None:
        """Clicks place nothing any more."""
        _singleton("Interaction").SwitchToViewTransformMode()

    @property
    def placing(self) -> bool | None:
        """Which list the next click adds to (True: "this is"); None where it adds to neither."""
        interaction = _singleton("Interaction")
        if interaction.GetCurrentInteractionMode() != interaction.Place:
            return None
        active = _singleton("Selection").GetActivePlaceNodeID()
        return next((i for i in (True, False) if self.node(i) is not None and self.node(i).GetID() == active), None)

    def add(self, ras: Point, inside: bool, words: str) -> Placed:
        """Place a point without a click."""
        node = self._made(inside)
        return self._at(inside, node.AddControlPoint(list(ras), words))

    def decide(self, key: tuple[bool, str], fate: str) -> None:
        """Mark a point and lock it where it lies."""
        node, number = self._number(key)
        if number is not None:
            with slicer.util.NodeModify(node):
                node.SetNthControlPointDescription(number, fate)
                node.SetNthControlPointLocked(number, True)

    def show(self, key: tuple[bool, str], on: bool) -> None:
        node, number = self._number(key)
        if number is not None and bool(node.GetNthControlPointVisibility(number)) != on:
            node.SetNthControlPointVisibility(number, on)

    def remove(self, key: tuple[bool, str]) -> None:
        """Take a point away."""
        node, number = self._number(key)
        if number is not None:
            node.RemoveNthControlPoint(number)

    # -- observing --------------------------------------------------------------------------------------------------

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever a point was placed, moved (once it is let go) or removed, or clicks begin or cease to
        place points, until `unwatch`."""
        self.unwatch()
        self._changed = changed
        interaction = _singleton("Interaction")
        if interaction is not None:
            self._listen(interaction, interaction.InteractionModeChangedEvent)
        for inside in (True, False):
            if self.node(inside) is not None:
                self._observe(self.node(inside))

    def unwatch(self) -> None:
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed, self._changed = [], None

    def _observe(self, node: slicer.vtkMRMLMarkupsFiducialNode) -> None:
        for event in (node.PointPositionDefinedEvent, node.PointEndInteractionEvent, node.PointRemovedEvent):
            self._listen(node, event)

    def _listen(self, node: slicer.vtkMRMLNode, event: int) -> None:
        self._observed.append((node, node.AddObserver(event, lambda *_: self._changed())))

    def _made(self, inside: bool) -> slicer.vtkMRMLMarkupsFiducialNode:
        node = self.node(inside)
        if node is not None:
            return node
        node = owned(self.owner, _role(inside), "vtkMRMLMarkupsFiducialNode", NAMES[inside])
        display = node.GetDisplayNode()
        with slicer.util.NodeModify(display):
            colour = tuple(part / 255 for part in _COLOURS[inside])
            display.SetColor(*colour)
            display.SetSelectedColor(*colour)
            display.SetActiveColor(*colour)  # under the mouse; Slicer's own is green, as if it said "tumour"
            display.SetGlyphType(_GLYPHS[inside])
            display.SetGlyphScale(2.0)
            display.SetTextScale(3.0)
            display.GetTextProperty().SetBold(True)
        if self._changed is not None:
            self._observe(node)
        return node

    def _of(self, inside: bool) -> list[Placed]:
        node = self.node(inside)
        if node is None:
            return []
        numbers = range(node.GetNumberOfControlPoints())
        defined = [n for n in numbers if node.GetNthControlPointPositionStatus(n) == node.PositionDefined]
        return [self._at(inside, n) for n in defined]

    def _at(self, inside: bool, number: int) -> Placed:
        node, ras = self.node(inside), [0.0, 0.0, 0.0]
        node.GetNthControlPointPositionWorld(number, ras)
        label, fate = node.GetNthControlPointLabel(number), node.GetNthControlPointDescription(number)
        return Placed((inside, node.GetNthControlPointID(number)), tuple(ras), label or "", fate or "")

    def _number(self, key: tuple[bool, str]) -> tuple[slicer.vtkMRMLMarkupsFiducialNode | None, int | None]:
        node = self.node(key[0])
        number = -1 if node is None else node.GetNthControlPointIndexByID(key[1])
        return node, number if number >= 0 else None


def _singleton(what: str) -> slicer.vtkMRMLNode:
    """The application's selection or interaction node."""
    return slicer.mrmlScene.GetNodeByID(f"vtkMRML{what}NodeSingleton")


def _role(inside: bool) -> str:
    return "pointsInside" if inside else "pointsOutside"
