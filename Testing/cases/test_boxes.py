"""The box around a mask is the smallest that holds all of it."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from MedSegLensLib.cases.boxes import box_of, boxes_of, widened

masks = arrays(bool, array_shapes(min_dims=1, max_dims=3, max_side=6), elements=st.booleans())


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(masks)
def test_the_box_holds_every_voxel_and_touches_one_on_each_side(mask):
    box = box_of(mask)
    if box is None:
        assert not mask.any()
        return
    assert mask[box].sum() == mask.sum()
    for axis in range(mask.ndim):
        along = np.moveaxis(mask[box], axis, 0)
        assert along[0].any() and along[-1].any()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(arrays(bool, (4, 5, 3), elements=st.booleans()))
def test_many_boxes_at_once_are_the_same(masks):
    first, last = boxes_of(masks)
    for mask, low, high in zip(masks, first, last, strict=True):
        box = box_of(mask)
        assert (tuple(map(slice, low, high)) == box) if box else not high.any()


def test_a_box_is_wider_by_its_margin_and_ends_with_the_grid():
    box = (slice(3, 5), slice(0, 2), slice(7, 9))
    assert widened(box, (1, 2, 4), (10, 10, 10)) == (slice(2, 6), slice(0, 4), slice(3, 10))
