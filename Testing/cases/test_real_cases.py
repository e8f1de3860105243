"""The nine BraTS 2021 cases (CC BY 4.0, doi:10.7937/jc8x-9874), where they are present."""

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegLensLib.cases.case import MODALITIES, Case
from MedSegLensLib.cases.conform import InputSpec, conform
from MedSegLensLib.cases.foreground import looks_unstripped
from MedSegLensLib.cases.reading import read_case

pytestmark = pytest.mark.real_case
NAMES = ["00006", "01476", "01477", "01478", "01479", "01480", "01481", "01483", "01485"]


@pytest.fixture(scope="module")
def case_00006(real_cases_folder) -> Case:
    return read_case(real_cases_folder / "BraTS2021_00006")


def test_a_case_is_read_as_it_is(case_00006):
    assert case_00006.name == "BraTS2021_00006" and tuple(case_00006.images) == MODALITIES
    assert case_00006.notes == () and case_00006.reference.GetSize() == (240, 240, 155)
    counts = np.bincount(sitk.GetArrayFromImage(case_00006.labels).ravel())
    assert counts.tolist() == [8790089, 25506, 85957, 26448]


def test_its_labels_return_to_the_last_voxel(case_00006):
    conformed = conform(case_00006, InputSpec(size_divisor=(32, 32, 1)))
    assert conformed.brain.sum() == 1519600
    back = conformed.to_case(conformed.labels(case_00006.labels))
    assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(case_00006.labels))


@pytest.mark.parametrize("name", NAMES)
def test_none_of_the_cases_is_called_unstripped(real_cases_folder, name):
    folder = real_cases_folder / f"BraTS2021_{name}"
    flair = sitk.ReadImage(str(folder / f"BraTS2021_{name}_flair.nii.gz"), sitk.sitkFloat32)
    values = sitk.GetArrayViewFromImage(flair)
    assert not looks_unstripped(values, 0.001)
    assert not looks_unstripped(values[60:90, 80:160, 80:160], 0.001)  # cropped inside the brain
    assert not looks_unstripped(values[40:120, 30:200, 40:200], 0.001)
