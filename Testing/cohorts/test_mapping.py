"""A work on every case of a cohort, in this process: order, failures, and the journal by which a rerun goes on."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from case_works import GivesObjects, LabelCounts, phantom_cases, starts
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from MedSegLensLib.cohorts.journal import Journal
from MedSegLensLib.cohorts.mapping import key_of, map_cases
from MedSegLensLib.errors import Cancelled, CaseError, OutputError, PackError


def counted(mapped) -> dict[str, list[int]]:
    return {case.name: arrays["voxels by label"].tolist() for case, arrays in mapped}


def test_every_case_is_worked_on_in_its_order_and_progress_says_how_many():
    cases, said = phantom_cases(4), []
    mapped = map_cases(LabelCounts(), reversed(cases), progress=lambda stage, share: said.append((stage, share)))
    results = counted(mapped)
    assert list(results) == ["phantom-3", "phantom-2", "phantom-1", "phantom-0"]
    assert all(len(voxels) == 4 and sum(voxels) == 20 * 25 * 21 for voxels in results.values())
    assert said[0] == ("cases, 0 of 4", 0.0) and said[-1] == ("cases, 4 of 4", 1.0)
    assert mapped.failures == [] and len(mapped) == 4


def test_a_case_that_fails_is_reported_with_its_cause_and_does_not_stop_the_others():
    mapped = map_cases(LabelCounts(broken=("phantom-0",), odd=("phantom-2",)), phantom_cases(4))
    assert list(counted(mapped)) == ["phantom-1", "phantom-3"]
    assert [failure.case for failure in mapped.failures] == ["phantom-0", "phantom-2"]
    assert mapped.failures[0].cause == "it has no labels." and mapped.failures[0].remedy == "Add them."
    assert "ZeroDivisionError: a quotient by nothing" in mapped.failures[1].cause


def test_where_no_case_at_all_could_be_used_the_first_cause_is_raised():
    mapped = map_cases(LabelCounts(broken=("phantom-0", "phantom-1")), phantom_cases(2))
    with pytest.raises(CaseError, match="none of 2 could be used; the first, phantom-0: it has no labels"):
        list(mapped)


def test_what_is_wrong_with_the_work_itself_stops_it_at_the_first_case(tmp_path):
    with pytest.raises(PackError, match="some-pack: it is damaged"):
        list(map_cases(LabelCounts(tmp_path, bad_pack=True), phantom_cases(3)))
    assert starts(tmp_path) == ["phantom-0"]


def test_a_work_that_gives_python_objects_fails_in_words():
    with pytest.raises(CaseError, match="GivesObjects gave Python objects as 'words'"):
        list(map_cases(GivesObjects(), phantom_cases(1)))


def test_results_are_iterated_over_once():
    mapped = map_cases(LabelCounts(), phantom_cases(1))
    list(mapped)
    with pytest.raises(RuntimeError, match="iterated over once"):
        list(mapped)


def test_no_cases_give_no_results():
    assert list(map_cases(LabelCounts(), [])) == []


def test_a_rerun_goes_on_where_the_first_was_cancelled(tmp_path):
    log, journal = tmp_path / "log", tmp_path / "journal"
    log.mkdir()

    def stop_after_three(stage: str, share: float) -> None:
        if stage.startswith("cases, 3 of"):
            raise Cancelled

    with pytest.raises(Cancelled):
        list(map_cases(LabelCounts(log), phantom_cases(5), journal, progress=stop_after_three))
    assert starts(log) == ["phantom-0", "phantom-1", "phantom-2"]
    mapped = map_cases(LabelCounts(log), phantom_cases(5), journal)
    again = counted(mapped)
    assert starts(log)[3:] == ["phantom-3", "phantom-4"] and mapped.reused == 3
    assert again == counted(map_cases(LabelCounts(), phantom_cases(5)))


def test_a_failed_case_is_tried_again_by_the_rerun(tmp_path):
    cases, journal = phantom_cases(2), tmp_path / "journal"
    log = tmp_path / "log"
    log.mkdir()
    for _ in range(2):
        list(map_cases(LabelCounts(log, broken=("phantom-1",)), cases, journal))
    assert starts(log) == ["phantom-0", "phantom-1", "phantom-1"]


def test_other_options_or_another_case_are_not_found_in_the_journal(tmp_path):
    cases = phantom_cases(1)
    list(map_cases(LabelCounts(), cases, tmp_path))
    assert reused(LabelCounts(), cases, tmp_path) == 1
    assert reused(LabelCounts(odd=("nobody",)), cases, tmp_path) == 0
    other = replace(cases[0], phantom=replace(cases[0].phantom, tumour=False))
    assert reused(LabelCounts(), [other], tmp_path) == 0


def reused(work, cases, journal: Path) -> int:
    mapped = map_cases(work, cases, journal)
    list(mapped)
    return mapped.reused


@pytest.mark.parametrize("damage", [lambda file: file[: len(file) // 2], lambda file: b"", lambda file: b"PK" + file])
def test_a_damaged_result_is_computed_again(tmp_path, damage):
    cases = phantom_cases(1)
    whole = counted(map_cases(LabelCounts(), cases, tmp_path))
    (file,) = tmp_path.rglob("*.npz")
    file.write_bytes(damage(file.read_bytes()))
    mapped = map_cases(LabelCounts(), cases, tmp_path)
    assert counted(mapped) == whole and mapped.reused == 0


def test_a_pickle_in_the_journal_is_not_opened(tmp_path):
    cases = phantom_cases(1)
    list(map_cases(LabelCounts(), cases, tmp_path))
    (file,) = tmp_path.rglob("*.npz")
    with open(file, "wb") as written:
        np.savez(written, words=np.array([{"a": 1}], object))
    assert reused(LabelCounts(), cases, tmp_path) == 0


def test_a_journal_that_cannot_be_written_is_said_before_the_first_case(tmp_path):
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    log = tmp_path / "log"
    log.mkdir()
    with pytest.raises(OutputError, match="the journal cannot be written there"):
        list(map_cases(LabelCounts(log), phantom_cases(1), tmp_path / "file" / "journal"))
    assert starts(log) == []


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(categories=("L", "N", "Zs", "P"), codec="utf-8"), min_size=1, max_size=20).filter(
            lambda name: not name.startswith("/") and "\\" not in name
        ),
        of_numpy.arrays(
            of_numpy.scalar_dtypes() | of_numpy.unicode_string_dtypes(), of_numpy.array_shapes(min_dims=0, max_dims=3)
        ),
        max_size=4,
    )
)
def test_arrays_of_any_kind_come_back_from_the_journal_as_they_went_in(tmp_path_factory, arrays):
    journal = Journal(tmp_path_factory.mktemp("journal"), "some-work")
    file = journal.file(phantom_cases(1)[0])
    journal.write(file, arrays)
    again = journal.read(file)
    assert list(again) == list(arrays)
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype and again[name].tobytes() == array.tobytes()


def test_a_works_key_holds_every_field_and_refuses_what_it_cannot_tell():
    @dataclass(frozen=True)
    class Work:
        where: Path = Path("a")
        taps: tuple[str, ...] = ("x", "y")
        shares: dict | None = None
        weights: object = None

    keys = {
        key_of(Work()), key_of(Work(Path("b"))), key_of(Work(taps=("x",))), key_of(Work(shares={"x": 0.5})),
        key_of(Work(), "and more"), key_of(LabelCounts()),
    }  # fmt: skip
    assert len(keys) == 6 and key_of(Work()) == key_of(Work(taps=("x", "y")))
    with pytest.raises(TypeError, match="a ndarray has no key"):
        key_of(Work(weights=np.zeros(3)))


def test_mapping_imports_neither_torch_nor_dask():
    import subprocess

    script = (
        "import sys, MedSegLensLib.cohorts.mapping, MedSegLensLib.cohorts.cluster, MedSegLensLib.commands.cluster; "
    )
    script += "print([m for m in ('torch', 'dask', 'distributed', 'torchio') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
