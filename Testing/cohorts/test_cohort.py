"""A cohort's description: made once, kept, found by name, read case by case."""

import pickle

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cases.writing import write_case
from MedSegLensLib.cohorts.acquisitions import Acquisition
from MedSegLensLib.cohorts.cohort import Cohort, CohortCase, find_cohort
from MedSegLensLib.cohorts.phantoms import PhantomRequest
from MedSegLensLib.cohorts.registry import FOLDER_VARIABLE, register
from MedSegLensLib.errors import CaseError, UsageError

SMALL = {"size": (40, 48, 14), "spacing": (4.0, 4.0, 9.0)}


@pytest.fixture(autouse=True)
def own_registry(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "registry"))


@pytest.fixture
def folder(tmp_path):
    """Two cases as BraTS lays them out, of one patient at two times."""
    for seed, name in enumerate(("BraTS-GLI-00001-000", "BraTS-GLI-00001-001")):
        case = phantom(seed, **SMALL)
        object.__setattr__(case, "name", name)
        write_case(case, tmp_path / "data" / name)
    return tmp_path / "data"


def phantoms(*seeds, **more) -> Cohort:
    cases = (CohortCase(f"phantom-{s}", f"phantom-{s}", phantom=PhantomRequest(s, **SMALL, **more)) for s in seeds)
    return Cohort("invented", "Phantoms", "CC0-1.0", tuple(cases))


def test_a_described_cohort_is_the_same_after_saving(tmp_path, folder):
    cohort = find_cohort(folder)
    cohort.save(tmp_path / "a.json")
    assert Cohort.load(tmp_path / "a.json") == cohort
    assert cohort.modalities == ("t1n", "t1c", "t2w", "t2f")
    assert cohort.subjects == ("BraTS-GLI-00001",)


def test_a_description_beside_its_data_moves_with_it(tmp_path, folder):
    find_cohort(folder).save(folder / "cohort.json")
    folder.rename(tmp_path / "elsewhere")
    case = Cohort.load(tmp_path / "elsewhere" / "cohort.json").cases[0].read()
    assert case.name == "BraTS-GLI-00001-000" and case.labels is not None


def test_a_case_survives_the_way_to_another_process(folder):
    case = find_cohort(folder).cases[0]
    assert pickle.loads(pickle.dumps(case)) == case
    assert pickle.loads(pickle.dumps(case)).key() == case.key()


def test_a_case_has_another_key_when_its_file_changes(folder):
    case = find_cohort(folder).cases[0]
    before = case.key()
    image = sitk.ReadImage(str(case.volumes["t2w"]))
    sitk.WriteImage(image + 1, str(case.volumes["t2w"]))
    assert case.key() != before


def test_a_registered_cohort_is_found_by_its_name():
    cohort = phantoms(1, 2)
    register(cohort)
    assert find_cohort("invented") == cohort
    with pytest.raises(CaseError, match="Registered are: invented"):
        find_cohort("unheard-of")


def test_a_name_is_meant_before_a_folder_of_that_name(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    cohort = phantoms(1)
    register(Cohort("data", "Phantoms", "CC0-1.0", cohort.cases))
    assert find_cohort("data").cases == cohort.cases
    assert find_cohort("./data").subjects == ("BraTS-GLI-00001",)


def test_phantoms_are_made_when_read_and_say_what_they_are():
    cohort = phantoms(3, tumour=False)
    case = cohort.cases[0].read()
    assert cohort.invented and case.invented
    assert not sitk.GetArrayViewFromImage(case.labels).any()


def test_a_simulated_case_keeps_its_name_and_says_what_was_done():
    plain = CohortCase("phantom-1", "phantom-1", phantom=PhantomRequest(1, **SMALL))
    simulated = CohortCase("phantom-1", "phantom-1", phantom=plain.phantom, acquisition=Acquisition("missing-t1c"))
    assert simulated.modalities == ("t1n", "t2w", "t2f")
    case = simulated.read()
    assert case.name == "phantom-1" and "t1c" not in case.images
    assert any(note.startswith("Simulated: missing-t1c") for note in case.notes)
    assert simulated.key() != plain.key()


def test_a_healthy_case_has_labels_of_background_alone(folder):
    files = find_cohort(folder).cases[0].volumes
    case = CohortCase("healthy", "healthy", volumes=files, healthy=True).read()
    assert case.labels.GetSize() == case.reference.GetSize()
    assert not sitk.GetArrayViewFromImage(case.labels).any()


def test_labels_with_other_values_become_those_of_brats_2023(folder):
    described = find_cohort(folder).cases[0]
    right = sitk.GetArrayFromImage(described.read().labels)
    other = np.choose(right, [0, 2, 4, 1]).astype(np.uint8)  # as BraTS-PED 2024 has them
    image = sitk.GetImageFromArray(other)
    image.CopyInformation(sitk.ReadImage(str(described.labels)))
    sitk.WriteImage(image, str(described.labels))
    values = {1: 3, 2: 1, 3: 1, 4: 2}
    case = CohortCase("a", "a", volumes=described.volumes, labels=described.labels, label_values=values).read()
    assert np.array_equal(sitk.GetArrayFromImage(case.labels), right)
    with pytest.raises(CaseError, match="value 4"):
        CohortCase("a", "a", volumes=described.volumes, labels=described.labels, label_values={1: 1, 2: 1}).read()


def test_another_time_point_of_a_trained_patient_counts_as_seen(folder):
    case = find_cohort(folder).cases[1]
    assert case.seen_in(["BraTS-GLI-00001-000"])
    assert not case.seen_in(["BraTS-GLI-00002-000"])
    assert case.seen_in(["BraTS2021_00001"])  # BraTS 2023 has these cases again


def test_a_file_that_went_away_is_named(folder):
    case = find_cohort(folder).cases[0]
    case.volumes["t1c"].unlink()
    with pytest.raises(CaseError, match="not there any more"):
        case.read()


def test_two_cases_of_one_name_are_refused():
    case = CohortCase("a", "a", phantom=PhantomRequest(1))
    with pytest.raises(CaseError, match="such as a"):
        Cohort("c", "s", "l", (case, case))


def test_a_part_of_a_cohort_is_asked_for_by_names():
    assert [case.name for case in phantoms(1, 2, 3).of(["phantom-2"]).cases] == ["phantom-2"]
    with pytest.raises(UsageError, match="no such case"):
        phantoms(1).of(["phantom-9"])


@pytest.mark.parametrize(
    "text",
    [
        "nothing",
        "[]",
        "{}",
        '{"medseglens_cohort": 2}',
        '{"medseglens_cohort": 1, "name": "a", "source": "", "licence": "", "cases": []}',
        '{"medseglens_cohort": 1, "name": "a", "source": "", "licence": "", "cases": [{"name": "x"}]}',
        '{"medseglens_cohort": 1, "name": "a", "source": "", "licence": "", "cases": [7]}',
        '{"medseglens_cohort": 1, "name": "a", "source": "", "licence": "", "cases": '
        '[{"name": "x", "subject": "x", "acquisition": {"kind": "sunshine"}}]}',
    ],
)
def test_a_file_that_is_no_description_is_refused(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CaseError, match="Describe the cohort again"):
        Cohort.load(path)
