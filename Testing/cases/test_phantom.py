"""The phantom: the same for the same seed, plausible, exact labels, on any grid."""

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegLensLib.cases.case import MODALITIES
from MedSegLensLib.cases.conform import InputSpec, conform
from MedSegLensLib.cases.phantom import phantom

SMALL = {"size": (80, 100, 84), "spacing": (2.0, 2.0, 2.0)}


def array(image):
    return sitk.GetArrayFromImage(image)


@pytest.fixture(scope="module")
def tumours():
    return [phantom(seed, **SMALL) for seed in range(4)]


def test_a_seed_decides_every_voxel(tumours):
    again = phantom(2, **SMALL)
    assert again.name == "phantom-2" and "not a patient" in again.notes[0]
    for modality in MODALITIES:
        assert np.array_equal(array(again.images[modality]), array(tumours[2].images[modality]))
    assert np.array_equal(array(again.labels), array(tumours[2].labels))
    assert not np.array_equal(array(again.labels), array(tumours[3].labels))


def test_leaving_a_modality_out_does_not_change_the_others(tumours):
    some = phantom(1, modalities=("t2f", "t1c"), **SMALL)
    assert tuple(some.images) == ("t1c", "t2f")
    assert np.array_equal(array(some.images["t2f"]), array(tumours[1].images["t2f"]))


def test_the_brain_has_a_human_size_and_is_zero_outside(tumours):
    for case in tumours:
        brain = array(case.images["t1n"]) > 0
        assert 1100 < brain.sum() * 0.008 < 1800
        assert all(np.array_equal(array(image) > 0, brain) for image in case.images.values())
        assert not array(case.labels)[~brain].any()


def test_the_lesion_looks_like_a_glioma(tumours):
    """Edema is bright on FLAIR, the enhancing rim on T1 with contrast, necrosis dark on T1 and inside the rim."""
    seen = set()
    for case in tumours:
        conformed = conform(case, InputSpec())
        labels = conformed.labels(case.labels)
        t1n, t1c, t2w, t2f = conformed.array
        seen |= set(np.unique(labels))
        assert (labels == 2).sum() > 100
        assert t2f[labels == 2].mean() > 1 and t2w[labels == 2].mean() > 0.3
        if (labels == 3).sum() > 50:
            assert t1c[labels == 3].mean() > 1.5 > t1c[labels == 2].mean()
        if (labels == 1).sum() > 50:
            assert t1n[labels == 1].mean() < 0.3
    assert seen == {0, 1, 2, 3}


def test_a_healthy_brain_has_no_lesion():
    healthy = phantom(2, tumour=False, **SMALL)
    assert not array(healthy.labels).any() and "without a tumour" in healthy.notes[0]


def test_enhancement_can_be_asked_for():
    assert 3 not in array(phantom(1, enhancing=False, **SMALL).labels)
    assert 3 in array(phantom(1, enhancing=True, **SMALL).labels)


def test_any_grid_samples_the_same_brain(tumours):
    """Also a turned and an oblique one: the labels agree with those of the straight grid up to partial volume."""
    truth = tumours[1].labels
    c, s = np.cos(0.3), np.sin(0.3)
    for direction in [(0, 0, -1, 1, 0, 0, 0, -1, 0), (c, -s, 0, s, c, 0, 0, 0, 1)]:
        other = phantom(1, size=(110, 110, 110), spacing=(2.0, 2.0, 2.0), direction=direction)
        back = sitk.Resample(other.labels, truth, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
        a, b = array(back) > 0, array(truth) > 0
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.9


def test_a_grid_smaller_than_the_brain_crops_it():
    part = phantom(1, size=(20, 20, 20), spacing=(2.0, 2.0, 2.0))
    assert part.reference.GetSize() == (20, 20, 20) and array(part.reference).all()
