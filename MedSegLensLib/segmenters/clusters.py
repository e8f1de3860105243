"""Which boxes to run for an edit that acts in several places of a slice."""

import math

import numpy as np
from scipy import ndimage

from MedSegLensLib.cases.boxes import Box, box_of
from MedSegLensLib.segmenters.locality import Locality
from MedSegLensLib.segmenters.sampling import union

MOST_CLUSTERS = 8
"""Of one group of slices: weighing pairs of more of them costs more than they save."""


def clusters(mask: np.ndarray, local: Locality, call: int) -> list[Box]:
    """Boxes of the tap's grid that together hold every touched cell, chosen so that their crops are cheap to run.

    mask: bool (*tap grid), somewhere true; call: what one more run of the tail costs, as output voxels computed in
    the same time. Cells nearer than the reach of the tail share a crop in any case; of the clusters that remain, two
    are merged for as long as one crop around both costs less than two.
    """
    everything = box_of(mask)
    if _price(everything, local, call) <= 2 * call:  # no two crops can be cheaper; many slices of a cheap tail end here
        return [everything]
    # Clusters are told apart in blocks, at first as wide as a cell reaches to both sides, wider until they are few.
    sides = zip(local.spread, local.halo, local.step, strict=True)
    width = 2 * max(1, min((before + halo) // step for (before, _), (halo, _), step in sides))
    parts, count = _parts(mask, width)
    while count > MOST_CLUSTERS:
        width *= 2
        parts, count = _parts(mask, width)
    boxes = []
    for part in ndimage.find_objects(parts):
        coarse = tuple(slice(b.start * width, b.stop * width) for b in part)
        inner = box_of(mask[coarse])
        boxes.append(tuple(slice(c.start + i.start, c.start + i.stop) for c, i in zip(coarse, inner, strict=True)))
    prices = [_price(box, local, call) for box in boxes]
    merged = True
    while merged and len(boxes) > 1:
        merged = False
        for i in range(len(boxes)):
            for j in range(i + 1, len(boxes)):
                both = union([boxes[i], boxes[j]])
                price = _price(both, local, call)
                if price <= prices[i] + prices[j]:
                    boxes[i], prices[i] = both, price
                    del boxes[j], prices[j]
                    merged = True
                    break
            if merged:
                break
    # Pairs alone can miss that a single crop is cheapest.
    return boxes if sum(prices) < _price(everything, local, call) else [everything]


def _parts(mask: np.ndarray, width: int) -> tuple[np.ndarray, int]:
    """Connected blocks of `width` cells with anything in them, corners included: numbered, and how many."""
    padded = np.pad(mask, [(0, -n % width) for n in mask.shape])
    blocks = padded.reshape([n for size in padded.shape for n in (size // width, width)])
    return ndimage.label(blocks.any(axis=tuple(range(1, blocks.ndim, 2))), np.ones((3,) * mask.ndim))


def _price(box: Box, local: Locality, call: int) -> int:
    return call + math.prod(b.stop - b.start for b in local.crop(local.core(box)))
