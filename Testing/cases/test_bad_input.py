"""Every bad input ends in an error that names the file, the cause and the remedy."""

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegLensLib.cases.case import Case
from MedSegLensLib.cases.reading import read_case, read_volumes
from MedSegLensLib.errors import CaseError


def refused(path_in_error, cause, call, *arguments):
    """The call raises a CaseError whose subject names the path and whose cause holds the words."""
    with pytest.raises(CaseError) as caught:
        call(*arguments)
    assert str(path_in_error) in caught.value.subject, caught.value.subject
    assert cause in caught.value.cause, caught.value.cause
    assert len(caught.value.remedy) > 10
    return caught.value


def image_with(values, like):
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(like)
    return image


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.98])
def test_a_truncated_file(small_phantom, tmp_path, suffix, share):
    path = tmp_path / f"a_t1{suffix}"
    sitk.WriteImage(small_phantom.images["t1n"], str(path), useCompression=True)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    refused(path, "truncated", read_case, tmp_path)


def test_damaged_compressed_data(small_phantom, tmp_path):
    path = tmp_path / "a_t1.nii.gz"
    sitk.WriteImage(small_phantom.images["t1n"], str(path))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    refused(path, "damaged", read_case, tmp_path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_file_that_is_no_image(tmp_path, suffix):
    path = tmp_path / f"a_t1{suffix}"
    path.write_text("Dear colleague, please find attached the report.")
    refused(path, "cannot be read", read_case, tmp_path)


def test_a_format_that_is_not_read(tmp_path):
    path = tmp_path / "t1.jpg"
    path.write_bytes(b"x")
    refused(path, "format", read_volumes, {"t1n": path})


def test_a_file_or_folder_that_is_not_there(tmp_path):
    refused(tmp_path / "no.nii", "no such file", read_volumes, {"t1n": tmp_path / "no.nii"})
    refused(tmp_path / "no", "no such folder", read_case, tmp_path / "no")
    (tmp_path / "file.nii").write_text("")
    refused(tmp_path / "file.nii", "not a folder", read_case, tmp_path / "file.nii")
    refused(tmp_path, "a folder, not a file", read_volumes, {"t1n": tmp_path})


def test_a_2d_image(small_phantom, tmp_path):
    path = tmp_path / "a_t1.nii.gz"
    for flat in (small_phantom.images["t1n"][:, :, 20], small_phantom.images["t1n"][:, :, 20:21]):
        sitk.WriteImage(flat, str(path))
        refused(path, "2D", read_case, tmp_path)


def test_a_4d_series(small_phantom, tmp_path):
    path = tmp_path / "a_t1.nii.gz"
    sitk.WriteImage(sitk.JoinSeries([small_phantom.images["t1n"]] * 3), str(path))
    refused(path, "4D with 3 volumes", read_case, tmp_path)


def test_a_colour_image(small_phantom, tmp_path):
    path = tmp_path / "a_t1.nrrd"
    sitk.WriteImage(sitk.Compose([small_phantom.images["t1n"]] * 3), str(path))
    refused(path, "3 values per voxel", read_case, tmp_path)


def test_complex_voxels(small_phantom, tmp_path):
    path = tmp_path / "a_t1.nii.gz"
    sitk.WriteImage(sitk.RealAndImaginaryToComplex(*[small_phantom.images["t1n"]] * 2), str(path))
    refused(path, "complex", read_case, tmp_path)


@pytest.mark.parametrize("scale", [0.001, 1000])
def test_a_header_in_other_units_than_millimetres(small_phantom, tmp_path, scale):
    image = sitk.Image(small_phantom.images["t1n"])
    image.SetSpacing([scale * s for s in image.GetSpacing()])
    path = tmp_path / "a_t1.nii.gz"
    sitk.WriteImage(image, str(path))
    refused(path, "by its header a voxel is", read_case, tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers(small_phantom, tmp_path, value):
    values = sitk.GetArrayFromImage(small_phantom.images["t1n"])
    values[3, 4, 5:7] = value
    path = tmp_path / "a_t1.nii.gz"
    sitk.WriteImage(image_with(values, small_phantom.reference), str(path))
    refused(path, "2 of its 84000 voxels are NaN or infinite", read_case, tmp_path)


@pytest.mark.parametrize(("value", "cause"), [(0, "every voxel is zero"), (7.5, "every voxel is 7.5")])
def test_a_volume_of_one_value(small_phantom, tmp_path, value, cause):
    path = tmp_path / "a_t1.nii.gz"
    values = np.full(small_phantom.reference.GetSize()[::-1], value, np.float32)
    sitk.WriteImage(image_with(values, small_phantom.reference), str(path))
    refused(path, cause, read_case, tmp_path)


def test_grids_that_do_not_overlap(small_phantom, tmp_path):
    far = sitk.Image(small_phantom.images["t2f"])
    far.SetOrigin([o + 500 for o in far.GetOrigin()])
    sitk.WriteImage(small_phantom.images["t1n"], str(tmp_path / "a_t1.nii.gz"))
    sitk.WriteImage(far, str(tmp_path / "a_flair.nii.gz"))
    error = refused(tmp_path / "a_flair.nii.gz", "hardly overlaps", read_case, tmp_path)
    assert "a_t1.nii.gz" in error.cause


def test_two_volumes_that_claim_one_modality(small_phantom, tmp_path):
    for name in ("a_t1ce.nii.gz", "a-t1c.nii.gz"):
        sitk.WriteImage(small_phantom.images["t1c"], str(tmp_path / name))
    error = refused(tmp_path, "both claim to be t1c", read_case, tmp_path)
    assert "a_t1ce.nii.gz" in error.cause and "a-t1c.nii.gz" in error.cause and "--t1c" in error.remedy


def test_one_file_given_as_two_modalities(small_phantom, tmp_path):
    path = tmp_path / "one.nii.gz"
    sitk.WriteImage(small_phantom.images["t1c"], str(path))
    refused(path, "both as t1n and as t1c", read_volumes, {"t1n": path, "t1c": path})


def test_a_folder_with_none_of_the_modalities(small_phantom, tmp_path):
    refused(tmp_path, "holds no volume", read_case, tmp_path)
    sitk.WriteImage(small_phantom.images["t1c"], str(tmp_path / "scan_0001.nii.gz"))
    assert "scan_0001" in refused(tmp_path, "names a modality", read_case, tmp_path).cause
    sitk.WriteImage(small_phantom.labels, str(tmp_path / "a_seg.nii.gz"))
    refused(tmp_path, "names a modality", read_case, tmp_path)


def test_a_label_file_given_as_image(small_phantom, tmp_path):
    path = tmp_path / "a_t1.nii.gz"
    sitk.WriteImage(small_phantom.labels, str(path))
    refused(path, "labels or a mask", read_case, tmp_path)


def test_an_image_given_as_labels(small_phantom, tmp_path):
    sitk.WriteImage(small_phantom.images["t1n"], str(tmp_path / "a_t1.nii.gz"))
    sitk.WriteImage(small_phantom.images["t1c"], str(tmp_path / "a_seg.nii.gz"))
    refused(tmp_path / "a_seg.nii.gz", "no BraTS labels", read_case, tmp_path)


def test_a_coloured_segmentation(small_phantom, tmp_path):
    sitk.WriteImage(small_phantom.images["t1n"], str(tmp_path / "a_t1.nrrd"))
    sitk.WriteImage(sitk.Compose([small_phantom.labels] * 3), str(tmp_path / "a_seg.nrrd"))
    refused(tmp_path / "a_seg.nrrd", "3 values per voxel", read_case, tmp_path)


def test_labels_with_both_3_and_4(small_phantom, tmp_path):
    labels = sitk.GetArrayFromImage(small_phantom.labels)
    labels[0, 0, 0] = 4
    sitk.WriteImage(small_phantom.images["t1n"], str(tmp_path / "a_t1.nii.gz"))
    sitk.WriteImage(image_with(labels, small_phantom.labels), str(tmp_path / "a_seg.nii.gz"))
    refused(tmp_path / "a_seg.nii.gz", "both 3 and 4", read_case, tmp_path)


def test_a_case_that_is_put_together_wrongly(small_phantom):
    t1n = small_phantom.images["t1n"]
    refused("x", "no volume", Case, "x", {})
    refused("x", "not a modality", Case, "x", {"t1": t1n})
    refused("x", "voxels", Case, "x", {"t1n": t1n, "t1c": t1n[1:, :, :]})
