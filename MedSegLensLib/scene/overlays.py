"""Activation volumes over the anatomy: slot 0 is the slice views' foreground, slots 1 to 3 further layers above it.

overlays = Overlays(owner)
overlays.show(0, overlay, "latent 17 (upcat_3)", reference)    # again for another latent: the same node, in place
overlays.set_opacity(0, 0.6); overlays.set_threshold(0, 0.2)
overlays.hide(0)
"""

import numpy as np
import slicer
import slicer.util

from MedSegLensLib.errors import UsageError
from MedSegLensLib.scene import layers
from MedSegLensLib.scene.colours import COLOURS, colour_table
from MedSegLensLib.scene.grid import put_under
from MedSegLensLib.scene.ownership import found, owned, remove, set_beside
from MedSegLensLib.scene.views import at_once
from MedSegLensLib.worker.answers import Overlay

KEY, COLOUR, THRESHOLD, OPACITY, MAXIMUM = (
    f"MedSegLens.{name}" for name in ("Key", "Colour", "Threshold", "Opacity", "Maximum")
)
"""Attributes of a slot's volume: what it shows, and how; from them a loaded scene is shown as it was."""

DEFAULT_THRESHOLD, DEFAULT_OPACITY = 0.15, 0.6
LEAST_THRESHOLD = 1e-3
"""Share of the maximum that is hidden at least: where a latent does not fire the anatomy is left alone."""


def slots() -> int:
    """How many overlays can be shown at once here: 4, or 1 where slice views have no further layers."""
    return 4 if layers.has_additional_layers() else 1


class Overlays:
    """The overlay volumes of an owner, one volume node per slot, updated in place. Holds no state of its own."""

    def __init__(self, owner: slicer.vtkMRMLNode):
        self.owner = owner

    def node(self, slot: int) -> slicer.vtkMRMLScalarVolumeNode | None:
        """The slot's volume node, or None."""
        return found(self.owner, _role(slot))

    def shown(self, slot: int) -> bool:
        """Whether the slot is shown in the views."""
        node = self.node(slot)
        return node is not None and node.GetAttribute(layers.SHOWN) is not None

    def show(
        self,
        slot: int,
        overlay: Overlay,
        name: str,
        reference: slicer.vtkMRMLVolumeNode | None = None,
        colour: str | None = None,
        threshold: float | None = None,
        opacity: float | None = None,
        key: str = "",
    ) -> slicer.vtkMRMLScalarVolumeNode:
        """Fill the slot's volume and show it in all slice views.

        name: of the node, as the reader sees it. reference: the input, beside which it stands in the subject hierarchy.
        colour: one of `colours.COLOURS`; threshold, opacity: 0 to 1, the threshold as a share of the overlay's maximum.
        None keeps the slot's last choice. key: the caller's own mark (say "upcat_3/17"), given back by `key_of`.
        Raises UsageError for a slot that is not there, or a value out of range.
        """
        colour = self.colour(slot) if colour is None else colour
        threshold = self.threshold(slot) if threshold is None else _share("threshold", threshold)
        opacity = self.opacity(slot) if opacity is None else _share("opacity", opacity)
        table = colour_table(colour)
        node = owned(self.owner, _role(slot), "vtkMRMLScalarVolumeNode", name)
        array = np.ascontiguousarray(overlay.array, np.float32)
        with at_once(node, node.GetDisplayNode()):
            node.SetName(name)
            to_local = slicer.util.vtkMatrixFromArray(put_under(node, reference, overlay.ijk_to_ras))
            node.SetIJKToRASMatrix(to_local)
            write_voxels(node, array)
            display = node.GetDisplayNode()
            display.SetAndObserveColorNodeID(table.GetID())
            display.SetInterpolate(True)
            for attribute, value in (
                (KEY, key), (COLOUR, colour), (THRESHOLD, threshold), (OPACITY, opacity), (MAXIMUM, overlay.maximum)
            ):  # fmt: skip
                node.SetAttribute(attribute, str(value))
            _set_window(node)
            set_beside(node, reference)
            self._set_shown(slot, True)
        return node

    def show_again(self, slot: int) -> bool:
        """Show the slot's volume as it last was; False where there is none (deleted, or never shown)."""
        if self.node(slot) is None:
            return False
        self._set_shown(slot, True)
        return True

    def hide(self, slot: int) -> None:
        """Take the slot off the views; its volume stays. What lay in the foreground before comes back."""
        if self.node(slot) is not None:
            self._set_shown(slot, False)

    def remove(self, slot: int) -> None:
        """Take the slot's volume out of the scene."""
        self.hide(slot)
        remove(self.owner, _role(slot))

    def set_colour(self, slot: int, colour: str) -> None:
        """Choose the slot's colour table. Raises UsageError for an unknown one, or an empty slot."""
        node = self._filled(slot)
        table = colour_table(colour)
        node.SetAttribute(COLOUR, colour)
        node.GetDisplayNode().SetAndObserveColorNodeID(table.GetID())

    def set_threshold(self, slot: int, share: float) -> None:
        """Hide values below this share (0 to 1) of the overlay's maximum. Raises UsageError as `set_colour`."""
        node = self._filled(slot)
        node.SetAttribute(THRESHOLD, str(_share("threshold", share)))
        _set_window(node)

    def set_opacity(self, slot: int, opacity: float) -> None:
        """0 (clear) to 1. Raises UsageError as `set_colour`."""
        self._filled(slot).SetAttribute(OPACITY, str(_share("opacity", opacity)))
        self.lay_out()

    def colour(self, slot: int) -> str:
        """The slot's colour table, one of `colours.COLOURS`."""
        return str(self._kept(slot, COLOUR, COLOURS[slot]))

    def threshold(self, slot: int) -> float:
        """The share of the maximum below which the slot's values are hidden."""
        return float(self._kept(slot, THRESHOLD, DEFAULT_THRESHOLD))

    def opacity(self, slot: int) -> float:
        """The slot's opacity, 0 to 1."""
        return float(self._kept(slot, OPACITY, DEFAULT_OPACITY))

    def key_of(self, slot: int) -> str:
        """The key given to `show`, also after the scene was loaded; "" where the slot has no volume."""
        return str(self._kept(slot, KEY, ""))

    def lay_out(self) -> None:
        """Put the shown slots on the layers of all slice views that there are now, and take the others off."""
        first = self.node(0)
        if first is not None:
            if self.shown(0):
                layers.occupy(layers.FOREGROUND, first, self.opacity(0))
            else:
                layers.leave(layers.FOREGROUND, first)
        if layers.has_additional_layers():
            further = [slot for slot in range(1, slots()) if self.node(slot) is not None]
            shown = {self.node(slot).GetID(): self.opacity(slot) for slot in further if self.shown(slot)}
            layers.stack([self.node(slot) for slot in further], shown)

    def _set_shown(self, slot: int, on: bool) -> None:
        self.node(slot).SetAttribute(layers.SHOWN, "1" if on else None)
        with slicer.util.RenderBlocker():
            self.lay_out()

    def _filled(self, slot: int) -> slicer.vtkMRMLScalarVolumeNode:
        node = self.node(slot)
        if node is None:
            cause = "nothing was shown in it, or its volume was deleted."
            raise UsageError(f"overlay {slot + 1}", cause, "Show a latent first.")
        return node

    def _kept(self, slot: int, attribute: str, default: object) -> object:
        node = self.node(slot)
        kept = None if node is None else node.GetAttribute(attribute)
        return default if kept is None else kept


def write_voxels(node: slicer.vtkMRMLVolumeNode, array: np.ndarray) -> None:
    """Set the node's voxels (Z, Y, X), without a new allocation while shape and type stay."""
    if node.GetImageData() is not None and node.GetImageData().GetPointData().GetScalars() is not None:
        there = slicer.util.arrayFromVolume(node)
        if there.shape == array.shape and there.dtype == array.dtype:
            there[:] = array
            slicer.util.arrayFromVolumeModified(node)
            return
    slicer.util.updateVolumeFromArray(node, array)


def _role(slot: int) -> str:
    if not 0 <= slot < slots():
        raise UsageError("overlay", f"there is no slot {slot}.", f"Use 0 to {slots() - 1}.")
    return f"overlay{slot}"


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:  # nan too
        raise UsageError(name, f"{value} is not between 0 and 1.", "Use 0 to 1.")
    return float(value)


def _set_window(node: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Colours run from 0 to the overlay's maximum; what lies below the threshold is clear."""
    maximum = float(node.GetAttribute(MAXIMUM))
    maximum = maximum if maximum > 0 else 1.0  # a latent that does not fire: nothing is shown
    lower = max(float(node.GetAttribute(THRESHOLD)), LEAST_THRESHOLD) * maximum
    display = node.GetDisplayNode()
    with slicer.util.NodeModify(display):
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(0.0, maximum)
        display.AutoThresholdOff()
        display.SetThreshold(lower, float(np.finfo(np.float32).max))
        display.ApplyThresholdOn()
