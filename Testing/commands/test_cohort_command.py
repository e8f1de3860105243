"""`medseglens cohort` as a user types it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cases.writing import write_case
from MedSegLensLib.cohorts.cohort import find_cohort

TINY = ["--size", 40, 48, 14, "--spacing", 4, 4, 9]


@pytest.fixture(autouse=True)
def own_registry(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSEGLENS_COHORTS", str(tmp_path / "registry"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for seed in (1, 2, 3):
        write_case(phantom(seed, size=(40, 48, 14), spacing=(4.0, 4.0, 9.0)), folder / f"patient-{seed}")
    (folder / "patient-3" / "phantom-3-seg.nii.gz").unlink()
    return folder


def test_a_folder_gets_a_name_that_is_listed_shown_and_forgotten(run, folder):
    code, made = run("cohort", "create", "clinic", folder, "--licence", "internal")
    assert code == 0 and made["cases"] == 3 and made["labelled"] == 2 and made["licence"] == "internal"
    assert find_cohort("clinic").cases[0].name == "patient-1"
    assert [row["name"] for row in run("cohort", "list")[1]["cohorts"]] == ["clinic"]
    shown = run("cohort", "show", "clinic")[1]
    assert [case["name"] for case in shown["case_list"]] == ["patient-1", "patient-2", "patient-3"]
    assert run("cohort", "remove", "clinic")[0] == 0
    assert run("cohort", "list")[1]["cohorts"] == []
    assert run("cohort", "remove", "clinic")[0] == 2


def test_a_name_is_not_taken_twice_without_saying_so(run, folder):
    assert run("cohort", "create", "clinic", folder)[0] == 0
    code, said = run("cohort", "create", "clinic", folder, "--labelled")
    assert code == 2 and "--replace" in said["error"]["remedy"]
    code, made = run("cohort", "create", "clinic", folder, "--labelled", "--replace")
    assert code == 0 and made["cases"] == 2


def test_a_cohort_under_another_acquisition_is_written_and_says_what_it_is(run, folder, tmp_path):
    run("cohort", "create", "clinic", folder)
    code, made = run("cohort", "create", "noisy", "--of", "clinic", "--acquisition", "noise", "--only", "patient-1")
    assert code == 0 and made["simulated"] and made["cases"] == 1
    code, written = run("cohort", "write", "noisy", "--out", tmp_path / "look")
    assert code == 0 and all("simulated-noise" in name for name in written["files"])
    again = find_cohort(tmp_path / "look")
    assert again.invented and again.cases[0].read().labels is not None


def test_a_simulated_patient_is_known_again_from_the_files(run, tmp_path):
    image = sitk.GetImageFromArray(
        sitk.GetArrayFromImage(phantom(1, size=(40, 48, 14), spacing=(4, 4, 9)).images["t2w"])
    )
    (tmp_path / "d" / "p").mkdir(parents=True)
    sitk.WriteImage(image, str(tmp_path / "d" / "p" / "p-t2w.nii.gz"))  # nothing in it says that it is a phantom
    run("cohort", "create", "real", tmp_path / "d")
    run("cohort", "create", "thick", "--of", "real", "--acquisition", "thick-slices", "--strength", 2, "--seed", 5)
    run("cohort", "write", "thick", "--out", tmp_path / "look")
    cohort = find_cohort(tmp_path / "look")
    assert cohort.simulated and not cohort.invented
    assert any(note.startswith("Simulated: thick-slices, strength 2, seed 5") for note in cohort.cases[0].read().notes)


def test_phantoms_are_asked_for_by_shape_and_modality(run):
    code, made = run(
        "cohort", "create", "p", "--phantoms", 2, "--shape", "midline", "--modalities", "t2f", "t1n", *TINY
    )
    assert code == 0 and made["invented"] and made["modalities"] == ["t1n", "t2f"]
    assert made["facts"]["tumour"]["values"] == {"midline": 2}
    healthy = run("cohort", "create", "h", "--phantoms", 1, "--healthy", "--first-seed", 9, *TINY)[1]
    assert healthy["healthy"] == 1 and find_cohort("h").cases[0].name == "phantom-9"


def test_a_description_goes_to_a_file_where_one_is_asked_for(run, folder, tmp_path):
    code, made = run("cohort", "create", "clinic", folder, "--out", tmp_path / "c.json")
    assert code == 0 and json.loads((tmp_path / "c.json").read_text())["name"] == "clinic"
    assert run("cohort", "list")[1]["cohorts"] == []
    assert run("cohort", "create", "clinic", folder, "--out", tmp_path / "c.txt")[0] == 2
    assert run("cohort", "create", "clinic", folder, "--out", tmp_path / "none" / "c.json")[0] == 6


def test_a_table_with_a_case_twice_or_absent_is_refused(run, folder, tmp_path):
    path = tmp_path / "c.csv"
    path.write_text(f"case,folder\nx,{folder}/patient-1\nx,{folder}/patient-2\n", encoding="utf-8")
    code, said = run("cohort", "create", "c", path)
    assert code == 3 and "more than once: x" in said["error"]["cause"]
    path.write_text(f"case,folder\nx,{folder}/patient-1\ny,{folder}/patient-9\n", encoding="utf-8")
    code, said = run("cohort", "create", "c", path)
    assert code == 3 and "patient-9 (y)" in said["error"]["cause"]
    assert run("cohort", "list")[1]["cohorts"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["c"],
        ["c", "FOLDER", "--phantoms", 2],
        ["c", "FOLDER", "--shape", "large"],
        ["c", "FOLDER", "--acquisition", "noise"],
        ["c", "--phantoms", 2, "--licence", "mine"],
        ["c", "--phantoms", 0],
        ["c", "--phantoms", 1, "--healthy", "--shape", "large"],
        ["c", "--phantoms", 1, "--shape", "square"],
        ["c", "--phantoms", 1, "--size", 1, 2, 3],
        ["c", "--phantoms", 1, "--spacing", 0, 1, 1],
        ["c", "--phantoms", 1, "--modalities", "ct"],
        ["c", "--phantoms", 1, "--first-seed", -3],
        ["c", "--of", "FOLDER", "--strength", 2],
        ["c", "--of", "FOLDER", "--acquisition", "sunshine"],
        ["c", "--of", "FOLDER", "--healthy"],
        ["c", "FOLDER", "--label-values", "4"],
        ["c", "FOLDER", "--label-values", "4=7"],
        ["c", "FOLDER", "--layout", "nifti"],
        ["../c", "FOLDER"],
        ["c.csv", "FOLDER"],
    ],
)
def test_what_makes_no_sense_is_wrong_use_and_leaves_nothing(run, folder, arguments):
    code, said = run("cohort", "create", *[folder if a == "FOLDER" else a for a in arguments])
    assert code == 2 and said["error"]["remedy"]
    assert run("cohort", "list")[1]["cohorts"] == []


def test_a_description_that_is_spoilt_is_listed_as_such(run, folder, tmp_path):
    run("cohort", "create", "clinic", folder)
    (tmp_path / "registry" / "bad.json").write_text("{}", encoding="utf-8")
    rows = run("cohort", "list")[1]["cohorts"]
    assert [("problem" in row, row["name"]) for row in rows] == [(True, "bad"), (False, "clinic")]
    assert run("cohort", "show", "bad")[0] == 3


def test_help_names_every_acquisition():
    from MedSegLensLib.cohorts.acquisitions import kinds
    from MedSegLensLib.commands.cohort import ACQUISITIONS

    assert ACQUISITIONS.split(", ") == kinds()


def test_describing_needs_no_torch(folder):
    code = (
        "import sys; from MedSegLensLib.cohorts.cohort import find_cohort; "
        f"find_cohort({str(folder)!r}); assert not {{'torch', 'torchio', 'monai', 'dask'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
