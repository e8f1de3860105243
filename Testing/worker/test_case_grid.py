"""The two grids of a case: what the worker looks up is what resampling gives, in every orientation and spacing."""

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegLensLib.cases.conform import InputSpec, conform
from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.errors import UsageError
from MedSegLensLib.worker.case_grid import CaseGrid

ANGLE = np.radians(25)
OBLIQUE = np.array([[1, 0, 0], [0, np.cos(ANGLE), -np.sin(ANGLE)], [0, np.sin(ANGLE), np.cos(ANGLE)]])
DIRECTIONS = {
    "straight": np.eye(3),
    "flipped": np.diag([-1.0, 1.0, -1.0]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "sagittal": np.array([[0, 0, -1.0], [1, 0, 0], [0, -1, 0]]),
    "oblique": OBLIQUE,
}
# None of them puts a voxel just between two others, where rounding errors decide.
SPACINGS = {"own": (None, None, None), "finer": (2.8317, 2.8317, None), "coarser": (5.2271, 5.2271, 6.1139)}


@pytest.fixture(scope="module", params=[(d, s) for d in DIRECTIONS for s in SPACINGS], ids="-".join)
def conformed(request):
    direction, spacing = request.param
    case = phantom(2, size=(40, 46, 44), spacing=(4.0, 4.2, 4.1), direction=tuple(DIRECTIONS[direction].ravel()))
    return conform(case, InputSpec(spacing=SPACINGS[spacing], size_divisor=(8, 8, 1)))


def labels_like(conformed) -> np.ndarray:
    return np.random.default_rng(3).integers(1, 4, conformed.brain.shape).astype(np.uint8)


def test_labels_on_the_cases_grid_are_those_of_resampling(conformed):
    labels = labels_like(conformed)
    ours, theirs = CaseGrid(conformed).values(labels), sitk.GetArrayFromImage(conformed.to_case(labels))
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    assert (ours != theirs).mean() <= (0.001 if conformed.grid.resampled else 0)


def test_a_changed_box_painted_over_is_the_whole_painted_anew(conformed):
    grid, old = CaseGrid(conformed), labels_like(conformed)
    new = old.copy()
    new[3:9, 5:12, 8:20] = 0
    new[10, 10, 10] = 0
    shown = grid.values(old)
    box = grid.changed(old, new, (slice(1, 14), slice(2, 30), slice(5, 30)))
    shown[box.slices] = box.labels
    assert np.array_equal(shown, grid.values(new))


def test_nothing_changed_is_no_box(conformed):
    grid, labels = CaseGrid(conformed), labels_like(conformed)
    assert grid.changed(labels, labels.copy(), (slice(0, 5),) * 3) is None
    assert grid.changed(labels, labels, None) is None


def test_a_place_has_one_index_on_both_grids(conformed):
    grid = CaseGrid(conformed)
    middle = np.array(conformed.brain.shape) // 2
    ras = (grid.network_ijk_to_ras @ [*middle[::-1], 1])[:3]
    assert grid.index(tuple(ras)) == tuple(middle)
    marked = np.zeros(conformed.brain.shape, np.uint8)
    marked[tuple(middle)] = 1
    for voxel in np.argwhere(grid.values(marked)):
        apart = (grid.ijk_to_ras @ [*voxel[::-1], 1])[:3] - ras
        assert np.abs(apart).max() < 5.3
    with pytest.raises(UsageError, match="outside the volume"):
        grid.index((500.0, 0.0, 0.0))
