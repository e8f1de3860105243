"""The normalisations of foreign segmenters give what MONAI's own transforms give; the way back stays exact."""

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegLensLib.cases.case import Case
from MedSegLensLib.cases.conform import InputSpec, conform
from MedSegLensLib.cases.normalisation import Normalisation
from MedSegLensLib.errors import PackError


@pytest.fixture
def case():
    random = np.random.default_rng(0)
    images = {}
    for modality in ("t1n", "t1c", "t2w", "t2f"):
        array = np.zeros((10, 12, 14), np.float32)
        array[2:8, 2:10, 3:12] = random.uniform(50, 900, (6, 8, 9))
        images[modality] = sitk.GetImageFromArray(array)
    return Case("made", images)


def in_the_box(conformed, array: np.ndarray) -> np.ndarray:
    """A whole volume (Z, Y, X of the case's grid), in the conformed box; the box lies within the volume here."""
    x, y, z = conformed.start
    depth, height, width = conformed.brain.shape
    return conformed.grid.oriented(array)[z : z + depth, y : y + height, x : x + width]


LINE = {"from": [1, 99], "to": [-1.0, 1.0], "clip": True}


@pytest.mark.parametrize(
    ("normalisation", "transform", "arguments"),
    [
        ("zscore_nonzero", "NormalizeIntensity", {"nonzero": True}),
        ("zscore_volume", "NormalizeIntensity", {}),
        (
            {"kind": "range", "from": [100, 700], "to": [0.0, 2.0], "clip": False},
            "ScaleIntensityRange",
            {"a_min": 100, "a_max": 700, "b_min": 0.0, "b_max": 2.0},
        ),
        (
            {"kind": "percentiles"} | LINE,
            "ScaleIntensityRangePercentiles",
            {"lower": 1, "upper": 99, "b_min": -1, "b_max": 1, "clip": True},
        ),
    ],
)
@pytest.mark.parametrize("orientation", ["LPS", "SAR"])
def test_like_monai(case, normalisation, transform, arguments, orientation):
    import monai.transforms

    conformed = conform(case, InputSpec(normalisation=normalisation, orientation=orientation))
    theirs = getattr(monai.transforms, transform)(**arguments)
    for channel, image in zip(conformed.array, case.images.values(), strict=True):
        expected = np.asarray(theirs(sitk.GetArrayFromImage(image)))
        assert np.allclose(channel, in_the_box(conformed, expected), atol=1e-4)
    labels = conformed.brain.astype(np.uint8)
    back = conformed.to_case(labels)
    assert np.array_equal(conformed.labels(back), labels)


@pytest.mark.parametrize(
    "value",
    [
        "none",
        None,
        {"kind": "range"},
        {"kind": "zscore_brain", "from": [0, 1], "to": [0, 1], "clip": True},
        {"kind": "range", "from": [1, 1], "to": [0, 1], "clip": True},
        {"kind": "range", "from": [0, float("nan")], "to": [0, 1], "clip": True},
        {"kind": "range", "from": [0, 1], "to": [0, 1], "clip": 1},
        {"kind": "percentiles", "from": [-1, 50], "to": [0, 1], "clip": True},
        {"kind": "percentiles", "from": [0, 100], "to": [0, 1], "clip": True, "more": 1},
    ],
)
def test_what_is_not_known_is_refused(value):
    with pytest.raises(PackError):
        Normalisation.of(value)


def test_a_constant_volume_does_not_become_infinite():
    image = sitk.GetImageFromArray(np.full((4, 4, 4), 7, np.float32))
    for value in ("zscore_nonzero", "zscore_volume", {"kind": "percentiles"} | LINE):
        array = conform(Case("flat", {"t1n": image}), InputSpec(("t1n",), normalisation=value)).array
        assert np.isfinite(array).all()
