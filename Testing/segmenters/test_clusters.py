"""The boxes that are run hold every touched cell, and cost no more than one box around them all."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from MedSegLensLib.cases.boxes import box_of
from MedSegLensLib.segmenters.clusters import _price, clusters
from MedSegLensLib.segmenters.locality import Locality

LOCAL = Locality(unit=(4, 4), step=(4, 4), spread=((6, 6), (6, 6)), halo=((9, 9), (9, 9)), shape=(160, 192))
CALL = 2500
cells = st.lists(st.tuples(st.integers(0, 39), st.integers(0, 47)), min_size=1, max_size=30)


@given(cells)
@settings(max_examples=60, deadline=None)
def test_every_touched_cell_is_in_a_box(places):
    touched = np.zeros((40, 48), bool)
    for y, x in places:
        touched[y, x] = True
    boxes = clusters(touched, LOCAL, CALL)
    covered = np.zeros_like(touched)
    for box in boxes:
        covered[box] = True
    assert (covered | ~touched).all()
    assert sum(_price(box, LOCAL, CALL) for box in boxes) <= _price(box_of(touched), LOCAL, CALL)


def test_two_far_corners_are_run_apart():
    touched = np.zeros((40, 48), bool)
    touched[1, 1] = touched[38, 46] = True
    assert len(clusters(touched, LOCAL, CALL)) == 2
