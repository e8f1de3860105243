"""A folder as somebody has it becomes a cohort: BraTS's releases, IXI, BIDS, tables."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cases.writing import write_case
from MedSegLensLib.cohorts.layouts import describe
from MedSegLensLib.cohorts.table import fact, facts_by_name
from MedSegLensLib.errors import CaseError, UsageError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cases"))
from dicom_series import write_series  # noqa: E402


def volume(path: Path, seed: int = 0, spacing=(2.0, 2.0, 5.0), values=None, size=(6, 5, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).uniform(20, 900, size[::-1]).astype(np.float32)
    image = sitk.GetImageFromArray(array if values is None else np.resize(np.array(values, np.uint8), size[::-1]))
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))
    return path


def brats(folder: Path, *names: str, labels=(0, 1, 2, 3), endings=("-t1n", "-t1c", "-t2w", "-t2f")) -> None:
    for name in names:
        for i, ending in enumerate(endings):
            volume(folder / name / f"{name}{ending}.nii.gz", i)
        if labels:
            volume(folder / name / f"{name}{'-' if endings[0][0] == '-' else '_'}seg.nii.gz", values=labels)


def test_brats_gli_has_its_source_patients_and_a_cavity_that_is_no_enhancing_tumour(tmp_path):
    brats(tmp_path / "Training", "BraTS-GLI-00005-100", "BraTS-GLI-00005-101", labels=(0, 1, 2, 3, 4))
    cohort = describe(tmp_path / "Training")
    assert "2107.02314" in cohort.source
    assert cohort.subjects == ("BraTS-GLI-00005",)
    values = np.unique(sitk.GetArrayFromImage(cohort.cases[0].read().labels))
    assert values.tolist() == [0, 1, 2, 3]


def test_an_old_brats_release_needs_nothing_but_its_folder(tmp_path):
    brats(tmp_path, "BraTS2021_00001", endings=("_t1", "_t1ce", "_t2", "_flair"), labels=(0, 1, 2, 4))
    cohort = describe(tmp_path, name="old")
    assert cohort.name == "old" and cohort.cases[0].modalities == ("t1n", "t1c", "t2w", "t2f")
    assert 3 in sitk.GetArrayFromImage(cohort.cases[0].read().labels)


def test_a_release_is_found_inside_the_folder_it_was_unpacked_to(tmp_path):
    brats(tmp_path / "BraTS-Africa" / "95_Glioma", "BraTS-SSA-00002-000")
    brats(tmp_path / "BraTS-Africa" / "51_OtherNeoplasms", "BraTS-SSA-00018-000")
    cohort = describe(tmp_path)
    assert [case.facts["group"] for case in cohort.cases] == [
        "BraTS-Africa/51_OtherNeoplasms",
        "BraTS-Africa/95_Glioma",
    ]
    assert "2305.19369" in cohort.source


@pytest.mark.parametrize(("values", "enhancing", "edema"), [((0, 1, 2, 3), 3, 2), ((0, 1, 2, 3, 4), 1, 4)])
def test_brats_ped_is_read_by_the_values_of_its_year(tmp_path, values, enhancing, edema):
    brats(tmp_path, "BraTS-PED-00001-000", "BraTS-PED-00002-000", labels=values)
    cohort = describe(tmp_path)
    case = cohort.cases[0]
    given = sitk.GetArrayFromImage(sitk.ReadImage(str(case.labels)))
    read = sitk.GetArrayFromImage(case.read().labels)
    assert (read[given == enhancing] == 3).all() and (read[given == edema] == 2).all()
    assert any("BraTS-PEDs 20" in note for note in cohort.notes)


def test_ixi_gives_t1_and_t2_of_healthy_people_and_says_what_is_left_out(tmp_path):
    for name in ("IXI002-Guys-0828", "IXI012-HH-1211"):
        volume(tmp_path / "IXI-T1" / f"{name}-T1.nii.gz", 1, (0.9, 0.9, 1.2), size=(15, 14, 18))
        volume(tmp_path / "IXI-T2" / f"{name}-T2.nii.gz", 2)
        volume(tmp_path / "IXI-PD" / f"{name}-PD.nii.gz", 3)
    volume(tmp_path / "IXI-T1" / "IXI035-IOP-0873-T1.nii.gz", 1)
    rows = [
        {"IXI_ID": 2, "SEX_ID (1=m, 2=f)": 2, "HEIGHT": 164, "WEIGHT": 0, "DOB": "1970-01-01", "AGE": 35.8},
        {"IXI_ID": 12, "SEX_ID (1=m, 2=f)": 1, "HEIGHT": 175, "WEIGHT": 70, "DOB": "1966-01-01", "AGE": 38.78},
        {"IXI_ID": 12, "SEX_ID (1=m, 2=f)": 1, "HEIGHT": 175, "WEIGHT": 70, "DOB": "1966-01-01", "AGE": 41.0},
    ]
    with (tmp_path / "IXI.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    cohort = describe(tmp_path)
    assert cohort.modalities == ("t1n", "t2w") and cohort.licence == "CC BY-SA 3.0"
    first, second = cohort.cases
    assert first.subject == "IXI002" and first.facts["field_strength_T"] == 1.5
    assert first.facts["age"] == 35.8 and first.facts["sex"] == "female" and first.facts["weight_kg"] is None
    assert second.facts["age"] is None  # two rows contradict each other
    assert "1970" not in json.dumps([case.to_json() for case in cohort.cases])
    said = " ".join(cohort.notes)
    assert "2 PD files" in said and "IXI035-IOP-0873" in said and "no T1 with contrast" in said
    assert not sitk.GetArrayFromImage(first.read().labels).any()


def test_an_ixi_scan_that_lies_there_twice_is_named(tmp_path):
    for folder in ("IXI-T1", "IXI-T1-bet"):
        volume(tmp_path / folder / "IXI002-Guys-0828-T1.nii.gz")
    with pytest.raises(CaseError, match="lies here twice"):
        describe(tmp_path)


@pytest.fixture
def bids(tmp_path):
    (tmp_path / "dataset_description.json").write_text(
        json.dumps({"Name": "Clinic", "License": "CC0", "BIDSVersion": "1.9.0"}), encoding="utf-8"
    )
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tage\tsex\nsub-01\t61\tF\nsub-02\tn/a\tM\n", encoding="utf-8"
    )
    (tmp_path / "T1w.json").write_text(json.dumps({"Manufacturer": "Siemens"}), encoding="utf-8")
    for session in ("ses-a", "ses-b"):
        anat = tmp_path / "sub-01" / session / "anat"
        for i, kind in enumerate(("T1w", "ce-gadolinium_T1w", "T2w", "acq-fast_T2w", "FLAIR")):
            volume(anat / f"sub-01_{session}_{kind}.nii.gz", i)
        (anat / f"sub-01_{session}_T1w.json").write_text(json.dumps({"MagneticFieldStrength": 3}), encoding="utf-8")
    volume(tmp_path / "sub-02" / "anat" / "sub-02_T1w.nii.gz")
    volume(tmp_path / "sub-02" / "anat" / "sub-02_FLAIR.nii.gz", 2)
    volume(
        tmp_path / "derivatives" / "hand" / "sub-02" / "anat" / "sub-02_desc-tumour_dseg.nii.gz", values=(0, 1, 2, 3)
    )
    (tmp_path / "sub-03" / "func").mkdir(parents=True)
    return tmp_path


def test_bids_gives_a_case_for_each_session_with_the_facts_of_its_participant(bids):
    cohort = describe(bids)
    assert [case.name for case in cohort.cases] == ["sub-01_ses-a", "sub-01_ses-b", "sub-02"]
    assert cohort.source == "Clinic" and cohort.licence == "CC0"
    first, _, last = cohort.cases
    assert first.subject == "sub-01" and first.modalities == ("t1n", "t1c", "t2w", "t2f")
    assert first.volumes["t2w"].name == "sub-01_ses-a_T2w.nii.gz"
    assert first.volumes["t1c"].name == "sub-01_ses-a_ce-gadolinium_T1w.nii.gz"
    assert (
        first.facts["age"] == 61 and first.facts["field_strength_T"] == 3 and first.facts["manufacturer"] == "Siemens"
    )
    assert last.facts["age"] is None and last.labels is not None and last.read().labels is not None
    said = " ".join(cohort.notes)
    assert "sub-03" in said and "acq-fast" in said


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_names_files_patients_and_facts(tmp_path):
    volume(tmp_path / "a" / "t1.nii.gz"), volume(tmp_path / "a" / "fl.nii.gz", 2)
    cohort = describe(table(tmp_path / "c.csv", "case;subject;t1;flair;age\nx;p1;a/t1.nii.gz;a/fl.nii.gz;44\n"))
    case = cohort.cases[0]
    assert case.subject == "p1" and case.facts["age"] == 44 and set(case.read().images) == {"t1n", "t2f"}
    assert any("one case only" in note for note in cohort.notes)


def test_a_table_may_name_folders(tmp_path):
    brats(tmp_path, "A", "B")
    cohort = describe(table(tmp_path / "c.csv", "case,folder,site\none,A,north\ntwo,B,south\n"))
    assert [(case.name, case.facts["site"]) for case in cohort.cases] == [("one", "north"), ("two", "south")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("case,t1n\nx,there.nii.gz\nx,there.nii.gz\n", "more than once: x"),
        ("case,t1n\nx,gone.nii.gz\ny,there.nii.gz\n", r"not there: .*gone.nii.gz \(x\)"),
        ("case,age\nx,4\n", "names no files"),
        ("t1n\nthere.nii.gz\n", "no column `case`"),
        ("case,t1n,t1\nx,there.nii.gz,there.nii.gz\n", "two of its columns are t1n"),
        ("case,t1n,t1n\nx,there.nii.gz,there.nii.gz\n", "one name"),
        ("case,t1n\nx,there.nii.gz,more\n", "row 2 has 3 cells"),
        ("case,t1n\n,there.nii.gz\n", "row 2 names no case"),
        ("case,t1n,t2w\nx,,\n", "names no volume"),
        ("case,t1n\n", "no rows"),
        ("case,t1n\nx,text.nii.gz\n", "header cannot be read"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path, text, said):
    volume(tmp_path / "there.nii.gz")
    (tmp_path / "text.nii.gz").write_text("no volume", encoding="utf-8")
    with pytest.raises(CaseError, match=said):
        describe(table(tmp_path / "c.csv", text))


def test_facts_join_by_case_or_subject(tmp_path):
    brats(tmp_path / "d", "BraTS-PED-00001-000", "BraTS-PED-00002-000", "BraTS-PED-00003-000", labels=None)
    facts = table(tmp_path / "f.csv", "id,age\nBraTS-PED-00001,7\nBraTS-PED-00002-000,9\n")
    cohort = describe(tmp_path / "d", facts=facts)
    assert [case.facts.get("age") for case in cohort.cases] == [7, 9, None]
    assert any("tells nothing of BraTS-PED-00003-000" in note for note in cohort.notes)
    with pytest.raises(CaseError, match="contradict"):
        facts_by_name(table(tmp_path / "g.csv", "id,age\na,7\na,8\n"))
    with pytest.raises(CaseError, match="names a case or subject"):
        describe(tmp_path / "d", facts=table(tmp_path / "h.csv", "id,age\nsomebody,8\n"))


def test_what_cannot_be_used_in_a_folder_is_left_out_and_said(tmp_path):
    brats(tmp_path, "good", "twofold")
    volume(tmp_path / "twofold" / "other-t1.nii.gz")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a-t1n.nii.gz").write_bytes(b"nothing")
    cohort = describe(tmp_path)
    assert [case.name for case in cohort.cases] == ["good"]
    assert any("twofold" in note and "t1n" in note for note in cohort.notes)
    assert any("broken" in note for note in cohort.notes)


def test_a_folder_of_no_cases_says_what_was_looked_for(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(CaseError, match="no case was found"):
        describe(tmp_path)
    brats(tmp_path, "case")
    with pytest.raises(CaseError, match="volumes of one case"):
        describe(tmp_path / "case")
    with pytest.raises(UsageError, match="no layout"):
        describe(tmp_path, layout="nifti")


def test_a_folder_that_may_not_be_looked_at_is_passed_over(tmp_path, monkeypatch):
    brats(tmp_path, "good", "secret")
    before = Path.is_dir

    def refusing(path):
        if path.name == "secret":
            raise PermissionError(13, "Permission denied", str(path))
        return before(path)

    monkeypatch.setattr(Path, "is_dir", refusing)
    assert [case.name for case in describe(tmp_path).cases] == ["good"]
    monkeypatch.setattr("MedSegLensLib.cohorts.layout_folders.subfolders", lambda path: refusing(path / "secret"))
    with pytest.raises(CaseError, match="cannot be looked at"):
        describe(tmp_path)


def test_a_phantom_that_was_written_is_still_an_invented_case(tmp_path):
    write_case(phantom(1, size=(40, 48, 14), spacing=(4.0, 4.0, 9.0)), tmp_path / "d" / "somebody")
    assert describe(tmp_path / "d").invented


def test_folders_of_dicom_series_are_told_by_their_headers(tmp_path):
    for study, name in enumerate(("p1", "p2"), 1):
        for number, text in ((1, "AX T1 PRE"), (2, "AX FLAIR")):
            dicom_series(tmp_path / name / str(number), number, text, f"1.2.3.{study}")
    cohort = describe(tmp_path)
    assert cohort.modalities == ("t1n", "t2f") and [case.name for case in cohort.cases] == ["p1", "p2"]
    assert set(cohort.cases[0].read().images) == {"t1n", "t2f"}


@pytest.mark.parametrize("nested", [True, False])
def test_the_series_of_one_dicom_study_are_one_case(tmp_path, nested):
    for number, text in ((1, "AX T1 PRE"), (2, "AX FLAIR")):
        dicom_series(tmp_path / "p1" / (f"series-{number}" if nested else ""), number, text, "1.2.3")
    (tmp_path / "p1" / "README").write_text("exported", encoding="utf-8")
    (case,) = describe(tmp_path / "p1").cases
    assert (case.name, case.modalities, case.facts) == ("p1", ("t1n", "t2f"), {})
    assert set(case.read().images) == {"t1n", "t2f"}
    assert [case.name for case in describe(tmp_path).cases] == ["p1"]


def test_folders_whose_dicom_files_name_no_study_are_not_taken_for_one(tmp_path):
    for number, name in enumerate(("p1", "p2"), 1):
        dicom_series(tmp_path / name, number, "AX FLAIR", " ")
    assert [case.name for case in describe(tmp_path).cases] == ["p1", "p2"]


def dicom_series(folder: Path, number: int, description: str, study: str) -> None:
    image = sitk.GetImageFromArray(np.random.default_rng(number).integers(50, 900, (4, 8, 8)).astype(np.int16))
    image.SetSpacing((1.0, 1.0, 5.0))
    write_series(image, folder, number, description, study=study)


@given(st.text())
def test_a_cell_is_a_finite_number_a_text_or_unknown(text):
    value = fact(text)
    assert value is None or value == text.strip() or (isinstance(value, float) and np.isfinite(value))
