"""Two packs on a cohort, without labels."""

import pytest
from bare_pack import without_reference

from MedSegLensLib.cohorts.cohort import Cohort, CohortCase
from MedSegLensLib.cohorts.phantoms import PhantomRequest
from MedSegLensLib.errors import UsageError
from MedSegLensLib.failures.pack_choice import PackOutlook, choose, decided
from MedSegLensLib.packs.pack import load_pack


def outlook(name: str, entropy: float | None, depth_bias: float | None = 1.0) -> PackOutlook:
    return PackOutlook(name, depth_bias, None, entropy, 3)


def test_the_surer_pack_is_chosen_and_a_depth_bias_that_disagrees_is_told():
    found = decided([outlook("a", 0.3), outlook("b", 0.1, 0.5)])
    assert found.better == "b" and found.words.endswith("Its depth bias says otherwise.")
    assert "otherwise" not in decided([outlook("a", 0.3), outlook("b", 0.1, 1.5)]).words


def test_packs_that_are_as_sure_are_not_told_apart_nor_is_one_that_finds_nothing():
    assert decided([outlook("a", 0.100), outlook("b", 0.105)]).better is None
    silent = decided([outlook("a", None, None), outlook("b", 0.1)])
    assert silent.better is None and "a segments nothing" in silent.words


def test_two_packs_on_an_invented_case_and_one_that_cannot_be_read(tmp_path):
    small = PhantomRequest(4, size=(56, 68, 12), spacing=(3.0, 3.0, 12.0))
    cases = (CohortCase("p", "p", phantom=small), CohortCase("gone", "gone", folder=tmp_path / "gone"))
    packs = [load_pack("glioma-unet"), without_reference("glioma-segformer", tmp_path / "bare")]
    found = choose(packs, Cohort("c", "s", "none", cases))
    assert [one.pack for one in found.outlooks] == ["glioma-unet", "glioma-segformer"]
    for one in found.outlooks:
        assert one.cases == 1 and [failure.case for failure in one.failures] == ["gone"]
        assert one.entropy > 0 and one.depth_bias is not None
    assert found.outlooks[0].shift > 0 and found.outlooks[1].shift is None, "which has no reference"
    with pytest.raises(UsageError):
        choose(packs[:1], Cohort("c", "s", "none", cases))
