"""A folder of DICOM series becomes a case, and says which series was taken for what."""

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_series import write_series

from MedSegLensLib.cases.dicom import modality_of
from MedSegLensLib.cases.reading import read_case
from MedSegLensLib.errors import CaseError


@pytest.fixture(scope="module")
def thin():
    from MedSegLensLib.cases.phantom import phantom

    return phantom(1, size=(40, 50, 12), spacing=(4.0, 4.0, 12.0))


def test_series_are_matched_by_their_description_and_this_is_said(thin, tmp_path):
    write_series(thin.images["t1n"], tmp_path / "a", 3, "AX T1")
    write_series(thin.images["t1c"], tmp_path / "a", 7, "AX T1", agent="Gadovist")
    write_series(thin.images["t2w"], tmp_path / "b", 4, "t2_tse_tra")
    write_series(thin.images["t2f"], tmp_path / "b", 5, "Ax T2 FLAIR")
    write_series(thin.images["t2w"], tmp_path / "c", 9, "ep2d_diff_trace")
    case = read_case(tmp_path)
    for modality, image in thin.images.items():
        assert np.array_equal(sitk.GetArrayFromImage(case.images[modality]), sitk.GetArrayFromImage(image))
    assert np.allclose(case.reference.GetOrigin(), thin.reference.GetOrigin(), atol=1e-3)
    assert np.allclose(case.reference.GetSpacing(), thin.reference.GetSpacing(), atol=1e-3)
    said = " ".join(case.notes)
    assert 'Series 7 "AX T1" (12 slices) was taken as t1c.' in said
    assert "Not used" in said and "ep2d_diff_trace" in said


def test_two_series_for_one_modality_are_an_error_that_names_them(thin, tmp_path):
    write_series(thin.images["t2f"], tmp_path, 5, "AX FLAIR")
    write_series(thin.images["t2f"], tmp_path, 8, "COR FLAIR")
    with pytest.raises(CaseError) as caught:
        read_case(tmp_path)
    assert '"AX FLAIR"' in caught.value.cause and '"COR FLAIR"' in caught.value.cause
    assert "--t2f" in caught.value.remedy


def test_series_that_name_no_modality_are_an_error_that_names_them(thin, tmp_path):
    write_series(thin.images["t2f"], tmp_path, 5, "Series A")
    with pytest.raises(CaseError, match="Series A"):
        read_case(tmp_path)


def test_a_missing_slice_is_an_error(thin, tmp_path):
    write_series(thin.images["t2f"], tmp_path, 5, "AX FLAIR", skip=(6,))
    with pytest.raises(CaseError, match="not evenly spaced"):
        read_case(tmp_path)


@pytest.mark.parametrize(
    ("description", "agent", "modality"),
    [
        ("AX T1", "", "t1n"),
        ("AX T1 PRE", "Gadovist", "t1n"),
        ("t1_mprage_sag_p2_iso", "", "t1n"),
        ("t1_mprage_sag_KM", "", "t1c"),
        ("AX T1 POST GD", "", "t1c"),
        ("AX T1 +C", "", "t1c"),
        ("T1CE", "", "t1c"),
        ("T1Gd", "", "t1c"),
        ("SAG 3D SPGR", "MAGNEVIST", "t1c"),
        ("T1 FLAIR SAG", "", "t1n"),
        ("AX T2 FSE", "", "t2w"),
        ("t2_tse_tra", "Gadovist", "t2w"),
        ("Ax T2 FLAIR", "", "t2f"),
        ("t2_tirm_tra_dark-fluid", "", "t2f"),
        ("FLAIR POST GD", "Gadovist", "t2f"),
        ("Ax T2* GRE", "", None),
        ("ADC (10^-6 mm2/s)", "", None),
        ("3-plane loc", "", None),
        ("T1 subtraction", "", None),
        ("", "", None),
    ],
)
def test_a_description_names_a_modality(description, agent, modality):
    assert modality_of(description, agent) == modality
