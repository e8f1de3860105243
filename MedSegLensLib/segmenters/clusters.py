"""Which boxes to run for an edit that acts in several places of one slice."""

import math

import numpy as np
import torch
from scipy import ndimage

from MedSegLensLib.segmenters.locality import Locality
from MedSegLensLib.segmenters.sampling import Box, box_of, union


def clusters(touched: torch.Tensor, local: Locality, call: int) -> list[Box]:
    """Boxes of the tap's grid that together hold every touched cell, chosen so that their crops are cheap to run.

    touched: bool (*tap grid), somewhere true; call: what one more run of the tail costs, as output voxels computed in
    the same time. Cells nearer than the reach of the tail share a crop in any case; of the clusters that remain, two
    are merged for as long as one crop around both costs less than two.
    """
    everything = box_of(touched)
    if _price(everything, local, call) <= 2 * call:  # no two crops can be cheaper; most slices of a cheap tail end here
        return [everything]
    mask = touched.cpu().numpy()
    reach = max(1, min((b + h) // s for (b, _), (h, _), s in zip(local.spread, local.halo, local.step, strict=True)))
    around = ndimage.binary_dilation(mask, np.ones((3,) * mask.ndim, bool), iterations=reach)
    parts, _ = ndimage.label(around)
    boxes = [box for box in ndimage.find_objects(np.where(mask, parts, 0)) if box is not None]
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


def _price(box: Box, local: Locality, call: int) -> int:
    return call + math.prod(b.stop - b.start for b in local.crop(local.core(box)))
