"""What cannot be compared is said before the first case is opened."""

from dataclasses import replace

import pytest

from MedSegLensLib.cohorts.cohort import Cohort, CohortCase
from MedSegLensLib.cohorts.phantoms import PhantomRequest
from MedSegLensLib.diffing.dictionaries import at_work
from MedSegLensLib.diffing.model_diff import check_meeting
from MedSegLensLib.diffing.seeds import seeds_of
from MedSegLensLib.errors import CaseError, UsageError
from MedSegLensLib.packs.pack import load_pack


@pytest.fixture(scope="module")
def packs():
    return load_pack("glioma-unet"), load_pack("glioma-segformer")


def cohort_of(*modalities):
    cases = [CohortCase(f"p{i}", f"p{i}", phantom=PhantomRequest(i, modalities=m)) for i, m in enumerate(modalities)]
    return Cohort("some", "phantoms", "none", tuple(cases))


def needing(pack, modalities, may_be_missing=()):
    return replace(
        pack,
        hash=f"{pack.hash[:-2]}00",
        info=replace(
            pack.info, input={**pack.info.input, "modalities": list(modalities), "may_be_missing": list(may_be_missing)}
        ),
    )


def test_packs_that_may_lack_all_but_one_modality_meet_on_what_there_is(packs):
    check_meeting(*packs, cohort_of(("t1c",), ("t2f", "t1n")))


def test_a_pack_that_needs_what_no_case_has_is_named(packs):
    one = needing(packs[0], ("t1c", "t2f"))
    with pytest.raises(UsageError, match="glioma-unet: it needs t2f.*has t1c.*cannot meet"):
        check_meeting(one, packs[1], cohort_of(("t1c",), ("t1c", "t2w")))


def test_one_case_that_lacks_something_does_not_stop_the_others(packs):
    one = needing(packs[0], ("t1c", "t2f"))
    check_meeting(one, packs[1], cohort_of(("t1c",), ("t1c", "t2f"), ("t1c", "t2f")))


def test_packs_without_a_modality_in_common_meet_where_cases_have_both(packs):
    one, two = needing(packs[0], ("t1c",)), needing(packs[1], ("t2f",))
    check_meeting(one, two, cohort_of(("t1c", "t2f"), ("t1c", "t2f")))
    with pytest.raises(UsageError, match="no case of the cohort some has what both packs need"):
        check_meeting(one, two, cohort_of(("t1c",), ("t2f",)))


def test_the_same_pack_and_one_case_are_refused(packs):
    with pytest.raises(UsageError, match="same pack twice"):
        check_meeting(packs[0], packs[0], cohort_of(("t1c",), ("t1c",)))
    with pytest.raises(CaseError, match="one case"):
        check_meeting(*packs, cohort_of(("t1c",)))


def test_shipped_packs_are_known_by_name_to_other_processes_and_have_other_seeds(packs):
    for pack in packs:
        assert at_work(pack).source == pack.info.name
        seeds = seeds_of(pack)
        assert {seed.tap for seed in seeds} == set(pack.taps) and len(seeds) == 2 * len(pack.taps)
        assert all(seed.lens().d_in == pack.lens(seed.tap).d_in for seed in seeds)


def test_a_folder_without_lenses_holds_no_seeds(packs, tmp_path):
    with pytest.raises(UsageError, match="no lens of another seed"):
        seeds_of(packs[0], tmp_path)
