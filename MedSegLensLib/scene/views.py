"""Slice views: moving them to a point, and where the reader looks."""


def jump_to(ras: tuple[float, float, float]) -> None:
    """Move all slice views so that they cut through the point (RAS, mm), without panning, and set the crosshair."""
    raise NotImplementedError


def crosshair_ras() -> tuple[float, float, float]:
    """The crosshair's point (RAS, mm): with the Shift key held it follows the mouse."""
    raise NotImplementedError


def visible_points() -> list[tuple[float, float, float]]:
    """A point (RAS, mm) on each visible slice, for `CaseSession.edit(near_ras=...)`."""
    raise NotImplementedError
