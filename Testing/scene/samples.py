"""Small studies, labels and overlays whose every voxel is known."""

import numpy as np
import slicer
import slicer.util

from MedSegLensLib.worker.answers import LabelBox, Overlay

LABEL_META = [
    {"value": 1, "name": "NCR", "region": "Necrotic tumour core", "colour": [0, 114, 178],
     "code": {"value": "6574001", "meaning": "Necrosis", "scheme": "SCT"}},
    {"value": 2, "name": "ED", "region": "Peritumoural edema", "colour": [240, 228, 66],
     "code": {"value": "79654002", "meaning": "Edema", "scheme": "SCT"}},
    {"value": 3, "name": "ET", "region": "Enhancing tumour", "colour": [213, 94, 0],
     "code": {"value": "86049000", "meaning": "Malignant neoplasm, primary", "scheme": "SCT"}},
]  # fmt: skip

SHAPE = (30, 40, 50)
COLOUR = {meta["value"]: np.array(meta["colour"]) for meta in LABEL_META}


def oblique(spacing=(1.0, 1.0, 1.0)) -> np.ndarray:
    """IJK to RAS turned by 20 and 10 degrees, its origin somewhere."""
    a, b = np.deg2rad(20), np.deg2rad(10)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return placed(turn * spacing)


def placed(axes) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = axes
    matrix[:3, 3] = (12.0, -7.0, 5.0)
    return matrix


GRIDS = {
    "as scanned": placed(np.diag([-1.0, -1.0, 1.0])),
    "flipped": placed(np.diag([1.0, -1.0, -1.0])),
    "sagittal": placed(np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])),
    "5 mm slices": placed(np.diag([-1.0, -1.0, 5.0])),
    "oblique": oblique(),
    "oblique, 5 mm slices": oblique((1.0, 1.0, 5.0)),
}


def volume(name="t1c", ijk_to_ras=GRIDS["as scanned"], array=None) -> slicer.vtkMRMLScalarVolumeNode:
    if array is None:
        array = np.random.default_rng(0).uniform(20, 60, SHAPE).astype(np.float32)
    node = slicer.util.addVolumeFromArray(array, ijk_to_ras, name)
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevelMinMax(0, 255)
    return node


def tumour() -> np.ndarray:
    """Nested boxes: NCR in ET in ED."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[8:22, 10:30, 14:38] = 2
    labels[11:19, 14:26, 19:33] = 3
    labels[13:17, 17:23, 23:29] = 1
    return labels


def random_box(rng, labels) -> LabelBox:
    lower = [int(rng.integers(0, n - 1)) for n in labels.shape]
    upper = [int(rng.integers(low + 1, n + 1)) for low, n in zip(lower, labels.shape, strict=True)]
    size = [b - a for a, b in zip(lower, upper, strict=True)]
    return LabelBox(tuple(lower), tuple(upper), rng.integers(0, 4, size).astype(np.uint8))


def point_overlay(index, ijk_to_ras, shape=SHAPE, reach=2, value=3.0) -> Overlay:
    """0 everywhere but in a cube around a voxel (k, j, i)."""
    array = np.zeros(shape, np.float32)
    array[tuple(slice(max(0, n - reach), n + reach + 1) for n in index)] = value
    return Overlay(array, np.asarray(ijk_to_ras, float), value)


def ras_of(index, ijk_to_ras) -> np.ndarray:
    """Where voxel (k, j, i) lies."""
    return (np.asarray(ijk_to_ras) @ (*index[::-1], 1))[:3]


def coloured(pixels) -> np.ndarray:
    """Which pixels are not grey."""
    pixels = pixels.astype(int)
    return pixels.max(axis=2) - pixels.min(axis=2) > 25


def centre(mask) -> np.ndarray:
    """Row and column of the middle of a mask's pixels."""
    return np.argwhere(mask).mean(axis=0)
