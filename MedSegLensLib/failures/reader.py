"""A simulated reader: points at the largest mistake of a region, and at nothing else of the ground truth.

For experiments only (docs/evidence.md): a real reader points where they please.
"""

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from MedSegLensLib.cases.case import region_mask
from MedSegLensLib.editing.places import ras_point
from MedSegLensLib.failures.points import Point

if TYPE_CHECKING:
    from MedSegLensLib.editing.session import Session


def next_point(session: "Session", labels: np.ndarray, truth: np.ndarray, region: str) -> Point | None:
    """The point at the middle of the largest connected mistake in the brain, missed or false; None without one.

    labels, truth: uint8 (Z, Y, X) of the network's grid. The middle is the voxel deepest inside, in mm.
    """
    ours, theirs = region_mask(labels, region), region_mask(truth, region)
    best, size = None, 0
    for inside, wrong in ((True, theirs & ~ours), (False, ours & ~theirs)):
        pieces, count = ndimage.label(wrong & session.conformed.brain)
        if not count:
            continue
        sizes = np.bincount(pieces.ravel())[1:]
        if sizes.max() > size:
            best, size = (inside, pieces == sizes.argmax() + 1), sizes.max()
    if best is None:
        return None
    inside, piece = best
    depth = ndimage.distance_transform_edt(np.pad(piece, 1), sampling=session.conformed.grid.spacing[::-1])
    deepest = np.argwhere(depth == depth.max()) - 1
    voxel = deepest[np.square(deepest - deepest.mean(0)).sum(1).argmin()]  # the middle one, where slices are thick
    return Point(ras_point(session.conformed, tuple(voxel)), inside, region)
