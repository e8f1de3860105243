"""What is like a point: in brightness, and how far it may widen."""

from types import SimpleNamespace

import numpy as np
import pytest

from MedSegLensLib.cases.conform import InputSpec, conform
from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.failures.tissue import SMALLEST, box_around, brightness_apart, liker_than, widened

SPEC = InputSpec(("t1n", "t1c", "t2w", "t2f"), size_divisor=(8, 8, 1))
GRID = {"size": (60, 70, 20), "spacing": (3.0, 3.0, 5.0)}


@pytest.fixture(scope="module")
def session():
    return SimpleNamespace(conformed=conform(phantom(2, **GRID), SPEC))


@pytest.fixture(scope="module")
def places(session):
    """A voxel of the tumour and one of the brain beside it."""
    case = phantom(2, **GRID)
    truth, brain = session.conformed.labels(case.labels), session.conformed.brain
    tumour = np.argwhere(truth > 0)
    healthy = np.argwhere(brain & (truth == 0))
    return tuple(int(i) for i in tumour[len(tumour) // 2]), tuple(int(i) for i in healthy[len(healthy) // 2])


def test_a_point_is_like_itself_and_less_like_other_tissue(session, places):
    tumour, healthy = places
    box = tuple(slice(0, n) for n in session.conformed.brain.shape)
    apart = brightness_apart(session, tumour, box)
    assert apart[tumour] == pytest.approx(0, abs=1e-4) and apart[healthy] > 0.3 and (apart >= 0).all()


def test_a_modality_that_the_case_lacks_says_nothing(session, places):
    tumour, _ = places
    lacking = session.conformed.array.copy()
    lacking[1] = 0
    box = box_around(session, tumour, 15)
    others = SimpleNamespace(array=lacking[[0, 2, 3]], brain=session.conformed.brain)
    without = SimpleNamespace(array=lacking, brain=session.conformed.brain)
    assert np.array_equal(
        brightness_apart(SimpleNamespace(conformed=without), tumour, box),
        brightness_apart(SimpleNamespace(conformed=others), tumour, box),
    )


def test_what_is_liker_to_another_point_is_left_to_it(session, places):
    tumour, healthy = places
    mine, theirs = liker_than(session, tumour, [healthy], 200), liker_than(session, healthy, [tumour], 200)
    assert mine[tumour] and not mine[healthy] and theirs[healthy] and not (mine & theirs).any()


def line(*lengths):
    """Candidates along a line, and how far apart each is: `lengths` voxels of 0.1, then of 0.4, then of 0.8."""
    values = np.concatenate([np.full(n, v) for n, v in zip(lengths, (0.1, 0.4, 0.8), strict=True)])[:, None, None]
    return np.ones(values.shape, bool), values


def test_tissue_widens_as_long_as_it_grows_little(session):
    assert widened(*line(30, 30, 60), (0, 0, 0), (0.2, 0.5, 0.9)).sum() == 120


def test_tissue_stops_where_it_leaks():
    assert widened(*line(30, 30, 900), (0, 0, 0), (0.2, 0.5, 0.9)).sum() == 60
    assert widened(*line(30, 900, 9), (0, 0, 0), (0.2, 0.5, 0.9)).sum() == 30


def test_a_few_voxels_are_not_counted_as_a_leak():
    assert widened(*line(1, SMALLEST, 1), (0, 0, 0), (0.2, 0.5, 0.9)).sum() == SMALLEST + 2


def test_only_what_is_connected_belongs_to_it():
    candidates, apart = line(10, 10, 10)
    candidates[5] = False
    assert widened(candidates, apart, (0, 0, 0)).sum() == 5
