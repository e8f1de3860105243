"""The simulated reader of the experiments."""

from types import SimpleNamespace

import numpy as np
import pytest

from MedSegLensLib.cases.conform import InputSpec, conform
from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.failures.reader import next_point
from MedSegLensLib.failures.repair import voxel_at

SPEC = InputSpec(("t1n", "t1c", "t2w", "t2f"), size_divisor=(8, 8, 1))


@pytest.fixture(scope="module")
def session():
    return SimpleNamespace(conformed=conform(phantom(2, size=(60, 70, 20), spacing=(3.0, 3.0, 5.0)), SPEC))


def cube(session, *corner, size=5, value=2):
    labels = np.zeros(session.conformed.brain.shape, np.uint8)
    labels[tuple(slice(c, c + size) for c in corner)] = value
    return labels


def middle(session):
    return tuple(n // 2 for n in session.conformed.brain.shape)


def test_it_points_at_the_middle_of_what_was_missed(session):
    z, y, x = middle(session)
    truth = cube(session, z, y, x)
    point = next_point(session, np.zeros_like(truth), truth, "WT")
    assert point.inside and point.region == "WT" and voxel_at(session, point) == (z + 2, y + 2, x + 2)


def test_it_points_at_what_is_falsely_called_tumour(session):
    z, y, x = middle(session)
    labels = cube(session, z, y, x)
    point = next_point(session, labels, np.zeros_like(labels), "WT")
    assert not point.inside and voxel_at(session, point) == (z + 2, y + 2, x + 2)


def test_the_larger_mistake_comes_first(session):
    z, y, x = middle(session)
    truth, labels = cube(session, z, y, x, size=3), cube(session, z - 6, y, x, size=5)
    assert not next_point(session, labels, truth, "WT").inside
    assert next_point(session, cube(session, z - 6, y, x, size=2), truth, "WT").inside


def test_without_a_mistake_it_says_nothing(session):
    truth = cube(session, *middle(session))
    assert next_point(session, truth, truth, "WT") is None
    assert next_point(session, truth, truth, "ET") is None
