"""Writing leaves either the whole file or what was there before."""

import errno
import os
import tempfile

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegLensLib.cases import writing
from MedSegLensLib.cases.case import Case
from MedSegLensLib.cases.reading import read_case
from MedSegLensLib.cases.writing import atomic_path, write_case, write_image, write_labels
from MedSegLensLib.errors import OutputError, UsageError


def test_the_file_appears_under_its_name_with_usual_permissions(tmp_path):
    target = tmp_path / "result.nii.gz"
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path and temporary.name.endswith(".nii.gz") and not target.exists()
        temporary.write_text("whole")
    assert target.read_text() == "whole" and os.listdir(tmp_path) == ["result.nii.gz"]
    (tmp_path / "other").write_text("")
    assert target.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_an_error_on_the_way_leaves_what_was_there(tmp_path):
    target = tmp_path / "result.json"
    target.write_text("before")
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as temporary:
        temporary.write_text("hal")
        raise KeyboardInterrupt
    assert target.read_text() == "before" and os.listdir(tmp_path) == ["result.json"]


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (errno.EACCES, "may not be written to"),
        (errno.EROFS, "read-only"),
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
    ],
)
def test_a_folder_that_takes_no_file(tmp_path, monkeypatch, small_phantom, code, cause):
    def fail(*arguments, **named):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tempfile, "mkstemp", fail)
    with pytest.raises(OutputError) as caught:
        write_image(small_phantom.reference, tmp_path / "a.nii.gz")
    assert cause in caught.value.cause and "folder" in caught.value.remedy.lower()
    assert str(tmp_path / "a.nii.gz") == caught.value.subject


def test_a_disk_that_fills_while_writing(tmp_path, monkeypatch, small_phantom):
    """SimpleITK says nothing when a NIfTI file does not fit on the disk, so the file is looked at."""
    real = sitk.WriteImage

    def fill(image, name, **named):
        real(image, name, **named)
        with open(name, "r+b") as file:
            file.truncate(os.path.getsize(name) // 2)

    monkeypatch.setattr(writing.sitk, "WriteImage", fill)
    with pytest.raises(OutputError) as caught:
        write_image(small_phantom.reference, tmp_path / "a.nii.gz")
    assert "in full" in caught.value.cause or "disk is full" in caught.value.cause
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_folder(tmp_path, small_phantom):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="may not be written to"):
            write_image(small_phantom.reference, tmp_path / "a.nii.gz")
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_does_not_exist_or_is_a_file(tmp_path, small_phantom):
    with pytest.raises(OutputError, match="does not exist"):
        write_image(small_phantom.reference, tmp_path / "no" / "a.nii.gz")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        write_case(small_phantom, tmp_path / "file" / "case")
    (tmp_path / "taken.nii.gz").mkdir()
    with pytest.raises(OutputError):
        write_image(small_phantom.reference, tmp_path / "taken.nii.gz")
    assert sorted(os.listdir(tmp_path)) == ["file", "taken.nii.gz"]


def test_a_format_or_convention_that_is_not_written(tmp_path, small_phantom):
    with pytest.raises(OutputError, match="format"):
        write_image(small_phantom.reference, tmp_path / "a.png")
    with pytest.raises(UsageError, match="brats2021"):
        write_labels(small_phantom.labels, tmp_path / "a.nii.gz", convention="brats1999")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_what_is_written_is_read_back(tmp_path, small_phantom, suffix):
    write_image(small_phantom.labels, tmp_path / f"a{suffix}")
    back = sitk.ReadImage(str(tmp_path / f"a{suffix}"))
    assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(small_phantom.labels))
    assert back.GetPixelID() == sitk.sitkUInt8
    assert np.allclose(back.GetOrigin(), small_phantom.labels.GetOrigin())


def test_a_phantom_is_still_named_as_one_when_it_is_read_back(tmp_path, small_phantom):
    write_case(small_phantom, tmp_path / "phantom")
    back = read_case(tmp_path / "phantom")
    assert back.invented and [note for note in back.notes if "not a patient" in note] == list(back.notes)[:1]
    write_case(Case("somebody", small_phantom.images), tmp_path / "patient")
    assert not read_case(tmp_path / "patient").invented
