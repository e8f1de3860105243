"""Where commands find their cases: a folder of folders, one case's own folder, DICOM, or a cohort; and broken cases."""

import shutil
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cases.writing import write_case
from MedSegLensLib.cohorts.origin import origin_notes
from MedSegLensLib.commands.cohort_cases import ReadCases, cases_in, cohort_given
from MedSegLensLib.errors import CaseError
from MedSegLensLib.lenses.files import load_lens

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cases"))
from dicom_series import write_series  # noqa: E402

SIZE = {"size": (40, 48, 10), "spacing": (4.0, 4.0, 12.0)}
TAP = "upcat_3"


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    """Three phantoms as files, and a fourth whose volume is damaged."""
    folder = tmp_path_factory.mktemp("cases")
    for i in range(4):
        write_case(phantom(i, enhancing=True, **SIZE), folder / f"case-{i}")
    next((folder / "case-3").glob("*t2w*")).write_bytes(b"not a volume")
    return folder


def dicom_case(folder: Path, study: str, nested: bool = True) -> None:
    """A case of four series, each in a folder of its own, or all in one."""
    words = {"t1n": "AX T1", "t1c": "AX T1 POST GD", "t2w": "AX T2", "t2f": "AX FLAIR"}
    for number, (modality, image) in enumerate(phantom(1, **SIZE).images.items(), start=1):
        place = folder / f"series-{number}" if nested else folder
        write_series(image, place, number, words[modality], study=study)


def names(folder: Path) -> list[str]:
    return [case.name for case in cases_in(folder)]


def test_a_folder_of_case_folders_and_a_cases_own_folder(cases, tmp_path):
    assert names(cases) == ["case-0", "case-1", "case-2", "case-3"]
    assert names(cases / "case-1") == ["case-1"]
    with pytest.raises(CaseError, match="no case in it"):
        cases_in(tmp_path)
    with pytest.raises(CaseError, match="no such folder"):
        cases_in(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(CaseError, match="it is a file"):
        cases_in(tmp_path / "file")


def test_what_lies_beside_case_folders_makes_them_no_single_case(cases, tmp_path):
    shutil.copytree(cases / "case-0", tmp_path / "case-0")
    shutil.copy(next((cases / "case-0").glob("*t1n*")), tmp_path / "template.nii.gz")
    (tmp_path / "licence.txt").write_text("as you like", encoding="utf-8")
    (tmp_path / ".cache").mkdir()
    assert names(tmp_path) == ["case-0"]


@pytest.mark.parametrize("nested", [True, False])
def test_a_dicom_case_is_one_case_whether_its_series_lie_in_folders_or_together(tmp_path, nested):
    dicom_case(tmp_path / "somebody", "1.2.3", nested)
    (tmp_path / "somebody" / "README").write_text("exported", encoding="utf-8")
    assert names(tmp_path / "somebody") == ["somebody"]
    assert list(cases_in(tmp_path / "somebody")[0].read().images) == ["t1n", "t1c", "t2w", "t2f"]


def test_dicom_cases_of_several_studies_are_several(tmp_path):
    dicom_case(tmp_path / "one", "1.2.3")
    dicom_case(tmp_path / "two", "1.2.4")
    assert names(tmp_path) == ["one", "two"]


def test_cases_are_read_when_they_are_asked_for(cases):
    read = ReadCases(cases_in(cases))
    assert len(read) == 4 and read[1].labels is not None and [c.name for c in read[1:3]] == ["case-1", "case-2"]
    with pytest.raises(CaseError, match="t2w"):
        read[3]


def test_a_cohort_serves_in_place_of_a_folder(run, cases, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSEGLENS_COHORTS", str(tmp_path))
    code, _ = run("cohort", "create", "everybody", cases)
    assert code == 0
    cohort = cohort_given(Namespace(cohort="everybody", cases=None))
    assert [case.name for case in cohort.cases][:3] == ["case-0", "case-1", "case-2"] and cohort.invented
    assert "phantoms" in origin_notes(cohort)[0]


def test_a_broken_case_does_not_stop_a_harvest_and_is_not_among_the_lenss_cases(run, pack, cases, tmp_path):
    arguments = ("--width", 48, "--k", 4, "--steps", 12, "--batch", 256, "--tokens", 4000, "--device", "cpu")
    code, data = run(
        "train", "lens", "--pack", pack, "--tap", TAP, "--cases", cases, "--out", tmp_path / "lens", *arguments
    )  # fmt: skip
    assert code == 0 and [note for note in data["notes"] if note.startswith("Left out: case-3: ") and "t2w" in note]
    assert load_lens(tmp_path / "lens").metadata["cases"] == ["case-0", "case-1", "case-2"]


def test_a_harvest_of_broken_cases_alone_says_why(run, pack, cases, tmp_path):
    code, data = run(
        "train", "lens", "--pack", pack, "--tap", TAP, "--cases", cases / "case-3", "--out", tmp_path / "l",
        "--device", "cpu",
    )  # fmt: skip
    assert code == CaseError.exit_code and data["error"]["subject"] == "case-3" and "t2w" in data["error"]["cause"]


def test_a_broken_case_does_not_stop_a_catalogue(run, pack, cases, tmp_path):
    code, data = run(
        "catalogue", "--pack", pack, "--cases", cases, "--unseen", "case-2", "--interventions", 0, "--csv",
        tmp_path / "c.csv", "--device", "cpu",
    )  # fmt: skip
    assert code == 0 and data["cases"] == ["case-0", "case-1"] and data["unseen"] == ["case-2"]
    assert [failure["case"] for failure in data["failures"]] == ["case-3"]
    assert any(note.startswith("Left out: case-3: ") for note in data["notes"])


def test_a_broken_case_among_the_unseen_does_not_stop_a_catalogue_either(run, pack, cases, tmp_path):
    code, data = run(
        "catalogue", "--pack", pack, "--cases", cases, "--only", "case-0", "--unseen", "case-3", "--interventions", 0,
        "--csv", tmp_path / "c.csv", "--device", "cpu",
    )  # fmt: skip
    assert code == 0 and data["unseen"] == [] and [failure["case"] for failure in data["failures"]] == ["case-3"]


def test_an_atlas_of_a_cohort_names_what_it_left_out(run, pack, cases, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSEGLENS_COHORTS", str(tmp_path / "cohorts"))
    run("cohort", "create", "everybody", cases)
    code, data = run("atlas", "--pack", pack, "--cohort", "everybody", "--out", tmp_path / "atlas", "--examples", 1)
    assert code == 0 and data["cases"][:3] == ["case-0", "case-1", "case-2"] and set(data["left_out"]) == {"case-3"}


def test_cases_and_a_cohort_together_are_wrong_use(run, pack, cases, tmp_path):
    code, data = run("atlas", "--pack", pack, "--cases", cases, "--cohort", "x", "--out", tmp_path / "a")
    assert code == 2 and "not allowed with" in data["error"]["cause"]
