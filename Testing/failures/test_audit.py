"""A whole cohort checked: the riskiest case comes first, what cannot be read stops nothing, failures are grouped."""

import json
from dataclasses import replace

import numpy as np
import pytest
from bare_pack import without_reference

from MedSegLensLib.cohorts.cohort import Cohort, CohortCase
from MedSegLensLib.cohorts.phantoms import PhantomRequest
from MedSegLensLib.errors import UsageError
from MedSegLensLib.failures.audit import audit
from MedSegLensLib.failures.failure_groups import LEAST_RISK, failure_groups
from MedSegLensLib.failures.findings import Check, Reason, Suspect
from MedSegLensLib.failures.reference import build_reference
from MedSegLensLib.failures.suspect_slices import BRAIN, LABELS, TRUTH
from MedSegLensLib.packs.pack import load_pack
from MedSegLensLib.packs.shipped_reference import with_reference

SMALL = {"size": (56, 68, 12), "spacing": (3.0, 3.0, 12.0)}


def case_of(seed: int) -> CohortCase:
    return CohortCase(f"p{seed}", f"p{seed}", phantom=PhantomRequest(seed, **SMALL))


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """A shipped pack with a reference of three invented cases, without a detector."""
    shipped = load_pack("glioma-unet")
    known, _ = build_reference(shipped, [case_of(seed) for seed in (11, 12, 13)], detector=False)
    folder = tmp_path_factory.mktemp("audit") / "pack"
    with_reference(shipped, known.shipped(shipped.info), folder)
    return load_pack(folder)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Cohort:
    gone = CohortCase("gone", "gone", folder=tmp_path_factory.mktemp("cases") / "gone")
    without = replace(case_of(21), name="p21-again")
    return Cohort("ward", "invented", "none", (case_of(21), gone, case_of(22), without))


@pytest.fixture(scope="module")
def found(pack, cohort, tmp_path_factory):
    return audit(pack, cohort, journal=tmp_path_factory.mktemp("journal"))


def test_cases_come_riskiest_first_and_one_that_cannot_be_read_is_told_of(found):
    assert {one.name for one in found.cases} == {"p21", "p22", "p21-again"}
    risks = [one.risk for one in found.cases]
    assert risks == sorted(risks, reverse=True) and all(0 <= risk <= 1 for risk in risks)
    assert [failure.case for failure in found.failures] == ["gone"]


def test_without_a_detector_cases_are_ranked_by_their_shift_and_that_is_said(found):
    assert all(one.check.shift is not None and not one.check.quality for one in found.cases)
    assert any("ranked by how unusual" in note for note in found.notes)
    assert any("phantoms" in note for note in found.notes) and found.agreement is None


def test_true_dice_stands_beside_where_there_are_labels(found):
    assert all(0.3 < one.dice["WT"] <= 1 for one in found.cases)
    assert all(one.acquisition == "phantom" for one in found.cases)


def test_each_case_has_a_slice_to_look_at(found):
    for one in found.cases:
        part = one.slices[0]
        assert part.layers.dtype == np.uint8 and part.layers[BRAIN].any() and part.modality == "t2f"
        assert set(np.unique(part.layers[LABELS])) <= {0, 1, 2, 3} and part.layers[TRUTH].max() <= 3
        assert part.suspect == -1  # the slice with most tumour: nothing is known of what is wrong


def test_what_is_written_as_json_can_be_read_again(found):
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert Check.from_json(document["cases"][0]["check"]) == found.cases[0].check


def test_a_pack_without_a_reference_is_refused(cohort, tmp_path):
    with pytest.raises(UsageError, match="no reference cohort"):
        audit(without_reference("glioma-unet", tmp_path / "bare"), cohort)


# -- kinds of failure -----------------------------------------------------------------------------------------------


def suspect(kind: str, region: str, latents: dict[int, tuple[float, float]], risk=0.8, ml=1.0) -> Suspect:
    reasons = tuple(Reason("tap", j, f"name {j}", value, usual) for j, (value, usual) in latents.items())
    return Suspect(kind, "component", region, risk, (0, 0, 0), ml, reasons, "words")


def check(*suspects: Suspect) -> Check:
    return Check("c", "p", (), None, suspects, (), 0.1)


def test_places_with_other_reasons_or_of_another_kind_are_other_groups():
    bright = {3: (2.0, 0.1), 5: (1.0, 0.2)}
    checked = [
        ("a", "as acquired", check(suspect("false positive", "ED", bright), suspect("missed", "ET", {9: (0.1, 2.0)}))),
        ("b", "noise (simulated)", check(suspect("false positive", "ED", bright, ml=5.0))),
        ("c", "noise (simulated)", check(suspect("false positive", "ED", {7: (3.0, 0.1), 8: (2.0, 0.1)}, ml=0.1))),
    ]
    groups = failure_groups(checked)
    assert [(group.kind, group.cases) for group in groups] == [
        ("false positive", ("b", "a")),
        ("missed", ("a",)),
        ("false positive", ("c",)),
    ]
    assert groups[0].members == (("b", 0), ("a", 0)) and groups[0].ml == pytest.approx(0.8 * 6)
    assert {one.latent for one in groups[0].latents} == {3, 5} and "name 3 (latent 3)" in groups[0].words


def test_places_that_are_likely_right_are_in_no_group():
    assert failure_groups([("a", "", check(suspect("missed", "WT", {1: (1, 0)}, risk=LEAST_RISK - 0.01)))]) == []
    assert failure_groups([]) == []


def test_a_place_without_reasons_is_grouped_by_what_it_is():
    groups = failure_groups([("a", "", check(suspect("missed", "WT", {}), suspect("missed", "WT", {})))])
    assert len(groups) == 1 and groups[0].latents == () and "WT missed: 2 places in 1 of 1 cases" in groups[0].words
