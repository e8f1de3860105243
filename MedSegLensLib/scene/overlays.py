"""Activation volumes over the anatomy: slot 0 is the slice views' foreground, slots 1 to 3 further layers above it.

overlays = Overlays(owner)
overlays.show(0, overlay, "latent 17 (upcat_3)", reference)    # again for another latent: the same node, in place
overlays.set_opacity(0, 0.6); overlays.set_threshold(0, 0.2)
overlays.hide(0)
"""

import slicer

from MedSegLensLib.worker.client import Overlay


def slots() -> int:
    """How many overlays can be shown at once here: 4, or 1 where slice views have no further layers."""
    raise NotImplementedError


class Overlays:
    """The overlay volumes of an owner, one volume node per slot, updated in place. Holds no state of its own."""

    def __init__(self, owner: slicer.vtkMRMLNode):
        self.owner = owner

    def node(self, slot: int) -> slicer.vtkMRMLScalarVolumeNode | None:
        """The slot's volume node, or None."""
        raise NotImplementedError

    def shown(self, slot: int) -> bool:
        """Whether the slot is shown in the views."""
        raise NotImplementedError

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
        raise NotImplementedError

    def show_again(self, slot: int) -> bool:
        """Show the slot's volume as it last was; False where there is none (deleted, or never shown)."""
        raise NotImplementedError

    def hide(self, slot: int) -> None:
        """Take the slot off the views; its volume stays. What lay in the foreground before comes back."""
        raise NotImplementedError

    def remove(self, slot: int) -> None:
        """Take the slot's volume out of the scene."""
        raise NotImplementedError

    def set_colour(self, slot: int, colour: str) -> None:
        """Choose the slot's colour table."""
        raise NotImplementedError

    def set_threshold(self, slot: int, share: float) -> None:
        """Hide values below this share (0 to 1) of the overlay's maximum."""
        raise NotImplementedError

    def set_opacity(self, slot: int, opacity: float) -> None:
        """0 (clear) to 1."""
        raise NotImplementedError

    def colour(self, slot: int) -> str:
        raise NotImplementedError

    def threshold(self, slot: int) -> float:
        raise NotImplementedError

    def opacity(self, slot: int) -> float:
        raise NotImplementedError

    def key_of(self, slot: int) -> str:
        """The key given to `show`, also after the scene was loaded; "" where the slot has no volume."""
        raise NotImplementedError
