"""Between the box that the network computes on and the case's own grid, in both directions, box by box.

The two grids share their axes, in another order, sense or spacing (cases/network_grid.py). So nearest neighbour is
three look-ups, one per axis, and a changed box of the one is a box of the other: a whole case takes 5 ms, where
resampling it takes 300.
"""

import numpy as np

from MedSegLensLib.cases.conform import Conformed
from MedSegLensLib.errors import UsageError
from MedSegLensLib.segmenters.sampling import Box
from MedSegLensLib.worker.answers import LabelBox, Point

RAS = np.array([-1.0, -1.0, 1.0])


class CaseGrid:
    """Boxes are (z, y, x) slices; 'network' means the conformed box, 'case' the case's own grid.

    shape: (Z, Y, X) of the case's grid; ijk_to_ras: (4, 4) of it.
    """

    def __init__(self, conformed: Conformed):
        self.conformed = conformed
        grid, reference = conformed.grid, conformed.reference
        self.shape = reference.GetSize()[::-1]
        self.ijk_to_ras = _affine(
            reference.GetDirection(), reference.GetSpacing(), np.array(reference.GetOrigin())
        )
        self.network_ijk_to_ras = _affine(grid.direction, grid.spacing, np.array(grid.point(conformed.start)))
        # For each numpy axis of the case: the numpy axis of the network, and the network's index (-1: outside the box).
        self._axes: list[int] = [0, 0, 0]
        self._index: list[np.ndarray] = [np.empty(0)] * 3
        for a in range(3):  # x, y, z of the network
            c = grid.permutation[a]
            count, old, new = reference.GetSize()[c], reference.GetSpacing()[c], grid.spacing[a]
            along = np.arange(count)
            if grid.flips[a]:
                along = count - 1 - along
            whole = np.floor((along * old - (new - old) / 2) / new + 0.5 + 1e-9).astype(np.int64)
            box = whole - conformed.start[a]
            box[(box < 0) | (box >= conformed.brain.shape[2 - a])] = -1
            self._axes[2 - c], self._index[2 - c] = 2 - a, box

    @property
    def axis_of_slices(self) -> int:
        """The numpy axis of the case along which the network's slices (its numpy axis 0) follow each other."""
        return self._axes.index(0)

    @property
    def inside(self) -> Box:
        """The part of the network's box that lies in the volume; the rest is padding."""
        starts, shape, sizes = self.conformed.start[::-1], self.conformed.brain.shape, self.conformed.grid.size[::-1]
        return tuple(
            slice(max(0, -start), min(n, size - start)) for start, n, size in zip(starts, shape, sizes, strict=True)
        )

    def box_on_case(self, box: Box) -> Box | None:
        """The case's voxels that take their value from a box of the network; None where there are none."""
        found = []
        for axis, index in zip(self._axes, self._index, strict=True):
            inside = np.flatnonzero((index >= box[axis].start) & (index < box[axis].stop))
            if not len(inside):
                return None
            found.append(slice(int(inside[0]), int(inside[-1]) + 1))
        return tuple(found)

    def values(self, array: np.ndarray, box: Box | None = None) -> np.ndarray:
        """An array of the network's box at the case's voxels (nearest), in a box of the case or all of it; 0 outside
        the network's box."""
        box = box or tuple(slice(0, n) for n in self.shape)
        index = [i[b] for i, b in zip(self._index, box, strict=True)]
        turned = array.transpose(self._axes)  # the case's order of axes
        out = np.zeros(tuple(len(i) for i in index), array.dtype)
        spans = [_span(i) for i in index]
        if any(span is None for span in spans):
            return out
        if all(step is not None for _, step in spans):  # axes only reordered or reversed: a copy
            out[tuple(inside for inside, _ in spans)] = turned[tuple(step for _, step in spans)]
        else:
            inside = tuple(inside for inside, _ in spans)
            out[inside] = turned[np.ix_(*(i[s] for i, s in zip(index, inside, strict=True)))]
        return out

    def labels(self, array: np.ndarray, box: Box) -> LabelBox:
        """The labels of a box of the case."""
        return LabelBox(tuple(b.start for b in box), tuple(b.stop for b in box), self.values(array, box))

    def changed(self, old: np.ndarray, new: np.ndarray, within: Box | None) -> LabelBox | None:
        """The smallest box of the case where two arrays of the network's box differ, with the new values.

        within: the network's box where they can differ.
        """
        if within is None:
            return None
        different = old[within] != new[within]
        tight = []
        for axis in range(3):
            where = np.flatnonzero(different.any(axis=tuple(a for a in range(3) if a != axis)))
            if not len(where):
                return None
            start = within[axis].start
            tight.append(slice(start + int(where[0]), start + int(where[-1]) + 1))
        box = self.box_on_case(tuple(tight))
        return None if box is None else self.labels(new, box)

    def index(self, ras: Point) -> tuple[int, int, int]:
        """The network's voxel (z, y, x) at a place. Raises UsageError outside the case; a point of the case that is
        outside the network's box (air) gets the nearest voxel of it."""
        place = np.array([*ras, 1.0])
        own = np.linalg.solve(self.ijk_to_ras, place)[:3][::-1]
        if not all(-0.5 - 1e-6 <= i <= n - 0.5 + 1e-6 for i, n in zip(own, self.shape, strict=True)):
            words = ", ".join(f"{c:.1f}" for c in ras)
            raise UsageError(f"point ({words})", "it lies outside the volume.", "Put the crosshair on the anatomy.")
        index = np.floor(np.linalg.solve(self.network_ijk_to_ras, place)[:3][::-1] + 0.5).astype(int)
        return tuple(int(np.clip(i, 0, n - 1)) for i, n in zip(index, self.conformed.brain.shape, strict=True))


def _affine(direction, spacing, origin: np.ndarray) -> np.ndarray:
    """From index (x, y, z) to RAS mm, of a grid in LPS."""
    affine = np.eye(4)
    affine[:3, :3] = RAS[:, None] * np.reshape(direction, (3, 3)) * np.array(spacing)
    affine[:3, 3] = RAS * origin
    return affine


def _span(index: np.ndarray) -> tuple[slice, slice | None] | None:
    """Where an axis's look-up lies inside the network's box (None: nowhere), and the same as a slice of the network
    where it goes in steps of one."""
    inside = np.flatnonzero(index >= 0)
    if not len(inside):
        return None
    first, last = int(inside[0]), int(inside[-1])
    here = slice(first, last + 1)
    values = index[here]
    steps = np.diff(values)
    if (steps == 1).all():
        return here, slice(int(values[0]), int(values[-1]) + 1)
    if (steps == -1).all():
        stop = int(values[-1]) - 1
        return here, slice(int(values[0]), stop if stop >= 0 else None, -1)
    return here, None
