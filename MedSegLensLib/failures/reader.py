"""A simulated reader: points at the largest mistake of a region, and at nothing else of the ground truth.

For experiments only (docs/evidence.md): a real reader points where they please.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from MedSegLensLib.cases.boxes import box_of
from MedSegLensLib.cases.case import region_mask
from MedSegLensLib.editing.places import ras_point
from MedSegLensLib.failures.points import SAME_MM, Point

if TYPE_CHECKING:
    from MedSegLensLib.editing.session import Session


def next_point(
    session: "Session", labels: np.ndarray, truth: np.ndarray, region: str, told: Iterable[Point] = ()
) -> Point | None:
    """The point at the middle of the largest connected mistake in the brain, missed or false; None without one.

    labels, truth: uint8 (Z, Y, X) of the network's grid. The middle is the voxel deepest inside, in mm.
    told: points that came to nothing; a mistake with its middle there is passed over for the next largest.
    """
    ours, theirs = region_mask(labels, region), region_mask(truth, region)
    mistakes = []  # voxels, whether missed, the pieces of its kind, number
    for inside, wrong in ((True, theirs & ~ours), (False, ours & ~theirs)):
        pieces, count = ndimage.label(wrong & session.conformed.brain)
        sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
        mistakes += [(int(size), inside, pieces, number) for number, size in enumerate(sizes, start=1)]
    told = [(point.ras, point.inside) for point in told]
    for _, inside, pieces, number in sorted(mistakes, key=lambda mistake: -mistake[0]):
        place = ras_point(session.conformed, _middle(session, pieces == number))
        if not any(math.dist(place, ras) < SAME_MM and said == inside for ras, said in told):
            return Point(place, inside, region)
    return None


def _middle(session: "Session", piece: np.ndarray) -> tuple[int, int, int]:
    """The voxel deepest inside a piece (bool, Z, Y, X); the middle one of several, as where slices are thick."""
    box = box_of(piece)
    depth = ndimage.distance_transform_edt(np.pad(piece[box], 1), sampling=session.conformed.grid.spacing[::-1])
    deepest = np.argwhere(depth == depth.max()) - 1
    voxel = deepest[np.square(deepest - deepest.mean(0)).sum(1).argmin()]
    return tuple(int(v + b.start) for v, b in zip(voxel, box, strict=True))
