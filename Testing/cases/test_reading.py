"""Reading a case: names, formats, grids, labels and what is said about them."""

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegLensLib.cases.case import MODALITIES
from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cases.reading import read_case, read_volumes
from MedSegLensLib.cases.writing import write_case, write_image, write_labels

BRATS_2021 = {"t1n": "_t1", "t1c": "_t1ce", "t2w": "_t2", "t2f": "_flair", "seg": "_seg"}
BRATS_2023 = {"t1n": "-t1n", "t1c": "-t1c", "t2w": "-t2w", "t2f": "-t2f", "seg": "-seg"}


def array(image):
    return sitk.GetArrayFromImage(image)


def write_named(case, folder, names, suffix):
    for modality, image in case.images.items():
        sitk.WriteImage(image, str(folder / f"Case7{names[modality]}{suffix}"))
    sitk.WriteImage(case.labels, str(folder / f"Case7{names['seg']}{suffix}"))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("names", [BRATS_2021, BRATS_2023], ids=["BraTS 2021 names", "BraTS 2023 names"])
def test_a_folder_is_read_by_its_file_names(small_phantom, tmp_path, names, suffix):
    write_named(small_phantom, tmp_path, names, suffix)
    case = read_case(tmp_path)
    assert tuple(case.images) == MODALITIES and case.missing == () and case.notes == ()
    for modality in MODALITIES:
        assert np.array_equal(array(case.images[modality]), array(small_phantom.images[modality]))
        assert case.images[modality].GetPixelID() == sitk.sitkFloat32
    assert np.array_equal(array(case.labels), array(small_phantom.labels))


def test_plain_names_in_capitals_and_mixed_formats_are_read(small_phantom, tmp_path):
    sitk.WriteImage(small_phantom.images["t1n"], str(tmp_path / "T1.nii.gz"))
    sitk.WriteImage(small_phantom.images["t2f"], str(tmp_path / "FLAIR.nrrd"))
    (tmp_path / "report.txt").write_text("not a volume")
    case = read_case(tmp_path)
    assert tuple(case.images) == ("t1n", "t2f")
    assert case.name == tmp_path.name


def test_missing_modalities_are_noted(small_phantom, tmp_path):
    sitk.WriteImage(small_phantom.images["t2f"], str(tmp_path / "a_flair.nii.gz"))
    case = read_case(tmp_path)
    assert case.missing == ("t1n", "t1c", "t2w")
    assert any("t1c" in note and "missing" in note for note in case.notes)


def test_label_4_of_brats_2021_is_read_as_enhancing_tumour(small_phantom, tmp_path):
    write_case(small_phantom, tmp_path, convention="brats2021")
    written = sitk.ReadImage(str(tmp_path / "phantom-1-seg.nii.gz"))
    assert set(np.unique(array(written))) == {0, 1, 2, 4}
    assert np.array_equal(array(read_case(tmp_path).labels), array(small_phantom.labels))


def test_a_written_case_is_read_back_the_same(small_phantom, tmp_path):
    files = write_case(small_phantom, tmp_path / "new" / "folder")
    case = read_case(files[0].parent)
    assert np.array_equal(array(case.images["t1c"]), array(small_phantom.images["t1c"]))
    assert np.allclose(case.reference.GetOrigin(), small_phantom.reference.GetOrigin(), atol=1e-4)
    assert np.array_equal(array(case.labels), array(small_phantom.labels))


def test_volumes_on_other_grids_come_onto_the_finest_one_and_this_is_said_with_names(small_phantom, tmp_path):
    fine = small_phantom.images["t1c"]
    coarse = sitk.Resample(small_phantom.images["t2f"], [20, 25, 42], sitk.Transform(), sitk.sitkLinear,
                           fine.GetOrigin(), (8.0, 8.0, 4.0), fine.GetDirection())  # fmt: skip
    write_image(fine, tmp_path / "a_t1ce.nii.gz")
    write_image(coarse, tmp_path / "a_flair.nii.gz")
    write_labels(small_phantom.labels[:, :, 3:-2], tmp_path / "a_seg.nii.gz")
    case = read_case(tmp_path)
    assert case.images["t2f"].GetSize() == case.reference.GetSize() == fine.GetSize()
    said = next(note for note in case.notes if "a_flair.nii.gz" in note)
    assert "a_t1ce.nii.gz" in said and "8 x 8 x 4 mm" in said
    # The labels kept their place although their file covers fewer slices.
    assert np.array_equal(array(case.labels)[3:-2], array(small_phantom.labels)[3:-2])
    assert set(np.unique(array(case.labels))) <= {0, 1, 2, 3}


def test_of_equally_fine_grids_the_first_modality_is_the_reference(small_phantom, tmp_path):
    shifted = sitk.Image(small_phantom.images["t2w"])
    shifted.SetOrigin([o + 1.5 for o in shifted.GetOrigin()])
    case = read_volumes(
        {
            "t2w": write(shifted, tmp_path / "second.nii.gz"),
            "t1n": write(small_phantom.images["t1n"], tmp_path / "first.nii.gz"),
        },
        name="shifted",
    )
    assert np.allclose(case.reference.GetOrigin(), small_phantom.reference.GetOrigin(), atol=1e-4)
    assert any("second.nii.gz" in note and "onto the grid of first.nii.gz" in note for note in case.notes)


def test_rounding_in_a_header_is_not_another_grid(small_phantom, tmp_path):
    rounded = sitk.Image(small_phantom.images["t2w"])
    rounded.SetOrigin([o + 1e-3 for o in rounded.GetOrigin()])
    rounded.SetDirection((1, 1e-6, 0, -1e-6, 1, 0, 0, 0, 1))
    write_image(small_phantom.images["t1n"], tmp_path / "a-t1n.nii.gz")
    write_image(rounded, tmp_path / "a-t2w.nii.gz")
    case = read_case(tmp_path)
    assert not any("resampled" in note for note in case.notes)
    assert case.images["t2w"].GetOrigin() == case.images["t1n"].GetOrigin()


def test_a_4d_file_with_one_time_point_is_taken_and_said(small_phantom, tmp_path):
    sitk.WriteImage(sitk.JoinSeries([small_phantom.images["t1n"]]), str(tmp_path / "a_t1.mha"))
    case = read_case(tmp_path)
    assert np.array_equal(array(case.images["t1n"]), array(small_phantom.images["t1n"]))
    assert any("4D" in note for note in case.notes)


def test_a_nifti_header_with_a_shear_is_made_orthonormal_and_said(small_phantom, tmp_path):
    import nibabel

    image = small_phantom.images["t1n"]
    affine = np.array([[4, 0.1, 0, -80], [0, 4, 0.1, -100], [0, 0, 4, -84], [0, 0, 0, 1.0]])
    nifti = nibabel.Nifti1Image(array(image).T, affine)
    nifti.set_qform(None, code=0)
    nifti.set_sform(affine, code=1)
    nibabel.save(nifti, tmp_path / "a_t1.nii.gz")
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(tmp_path / "a_t1.nii.gz"))
    case = read_case(tmp_path)
    assert any("not perpendicular" in note for note in case.notes)
    axes = np.array(case.reference.GetDirection()).reshape(3, 3)
    assert np.allclose(axes @ axes.T, np.eye(3), atol=1e-6)
    middle = [(n - 1) / 2 for n in image.GetSize()]
    ras = affine @ [*middle, 1]
    assert np.allclose(case.reference.TransformContinuousIndexToPhysicalPoint(middle), [-ras[0], -ras[1], ras[2]])


def test_a_head_with_its_skull_is_noticed(tmp_path):
    brain = phantom(3, size=(60, 64, 56), spacing=(4.0, 4.0, 4.0)).images["t1n"]
    values = array(brain)
    z, y, x = np.indices(values.shape)
    head = ((x - 30) / 22) ** 2 + ((y - 32) / 27) ** 2 + ((z - 28) / 25) ** 2 < 1
    air = np.abs(np.random.default_rng(0).normal(0, 3, values.shape))
    masked = sitk.GetImageFromArray(np.where(head & (values == 0), 150, values).astype(np.float32))
    noisy = sitk.GetImageFromArray((array(masked) + air).astype(np.float32))
    for name, image in {"masked": masked, "noisy": noisy, "stripped": brain}.items():
        image.CopyInformation(brain)
        case = read_volumes({"t1n": write(image, tmp_path / f"{name}.nii.gz")})
        assert any("not skull-stripped" in note for note in case.notes) == (name != "stripped"), name


def test_a_stripped_volume_cropped_to_or_into_the_brain_is_not_called_unstripped(tmp_path):
    brain = phantom(2, size=(80, 100, 84), spacing=(2.0, 2.0, 2.0)).images["t1n"]
    for name, part in {"close": brain[10:70, 12:88, 14:74], "inside": brain[25:55, 30:70, 44:60]}.items():
        case = read_volumes({"t1n": write(part, tmp_path / f"{name}.nii.gz")})
        assert not any("skull" in note for note in case.notes), name


def write(image, path):
    write_image(image, path)
    return path


def test_hidden_files_are_no_volumes(tmp_path, small_phantom):
    sitk.WriteImage(small_phantom.images["t1c"], str(tmp_path / "a_t1ce.nii.gz"))
    (tmp_path / "._a_t1ce.nii.gz").write_bytes(b"what macOS puts beside a file that it copies")
    assert list(read_case(tmp_path).images) == ["t1c"]
