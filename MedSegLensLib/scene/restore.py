"""A loaded scene looks as it was saved, before anything is computed."""

import slicer


def restore(owner: slicer.vtkMRMLNode) -> list[str]:
    """Show again what the owner's nodes say was shown: overlays with layers and opacities, difference, comparison.

    Gives one sentence for each node of ours that is missing, with what to do. Also to be called when the layout has
    changed: new slice views get the overlays.
    """
    raise NotImplementedError


def owners() -> list[slicer.vtkMRMLNode]:
    """All nodes in the scene that own nodes of ours."""
    raise NotImplementedError


def forget_all(owner: slicer.vtkMRMLNode) -> None:
    """Take everything that we made for the owner out of the scene (a new case is opened)."""
    raise NotImplementedError
