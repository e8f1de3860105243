"""Cohorts that are made, parts of cohorts, and what a comparison asks of them."""

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegLensLib.cases.phantom import SHAPES
from MedSegLensLib.cohorts.acquisitions import Acquisition
from MedSegLensLib.cohorts.checks import (
    labelled_part,
    require_cases,
    require_labels,
    shared_modalities,
    shared_subjects,
)
from MedSegLensLib.cohorts.choosing import chosen
from MedSegLensLib.cohorts.cohort import Cohort, CohortCase
from MedSegLensLib.cohorts.making import acquired_cohort, phantom_cohort
from MedSegLensLib.cohorts.overview import overview, overview_lines
from MedSegLensLib.errors import CaseError, UsageError

SMALL = {"size": (54, 66, 57), "spacing": (3.0, 3.0, 3.0)}


def cohort(*cases: CohortCase, name: str = "clinic") -> Cohort:
    return Cohort(name, "a clinic", "internal", cases)


def case(name: str, modalities: str, labels: bool = True, subject: str | None = None, **facts) -> CohortCase:
    volumes = {m: f"/nowhere/{name}-{m}.nii.gz" for m in modalities.split()}
    return CohortCase(
        name, subject or name, volumes=volumes, labels="/nowhere/seg.nii.gz" if labels else None, facts=facts
    )


A = case("a", "t1n t1c t2w t2f", age=7.0, site="north")
B = case("b", "t1n t2w", labels=False, age=44.0, site="south")
C = case("c", "t1n t2w t2f", age=None, site="north")


def test_cohorts_without_a_common_modality_are_refused_by_name():
    x, y = cohort(case("x", "t1c t2f"), name="contrast"), cohort(case("y", "t1n t2w"), name="plain")
    with pytest.raises(CaseError, match="contrast has t1c, t2f; plain has t1n, t2w"):
        shared_modalities(x, y)
    assert shared_modalities(cohort(A, C), y) == ("t1n", "t2w")
    with pytest.raises(CaseError, match="t2f is needed and missing in b"):
        shared_modalities(cohort(A, B, C), needed=("t1n", "t2f"))


def test_cases_without_labels_are_named_where_labels_are_needed():
    require_labels(cohort(A, C), "to measure a Dice")
    with pytest.raises(CaseError, match="1 of 2 cases have no labels, which are needed to measure a Dice: b"):
        require_labels(cohort(A, B), "to measure a Dice")
    kept, notes = labelled_part(cohort(A, B), "to measure a Dice")
    assert [one.name for one in kept.cases] == ["a"] and "b" in notes[0]
    with pytest.raises(CaseError, match="1 of 1"):
        labelled_part(cohort(B), "to measure a Dice")


def test_two_time_points_of_one_patient_are_one_patient():
    twice = cohort(case("p-1", "t1n", subject="p"), case("p-2", "t1n", subject="p"))
    with pytest.raises(CaseError, match="it has 1 patient, and 2 are the least"):
        require_cases(twice, 2, "for a difference between cohorts")
    require_cases(cohort(A, B), 2, "for a difference between cohorts")


def test_a_simulated_cohort_is_paired_with_the_one_it_is_made_of():
    given = phantom_cohort("given", range(3), **SMALL)
    simulated = acquired_cohort("simulated", given, Acquisition("thick-slices"))
    assert [case.name for case in given.cases] == [f"phantom-{i}" for i in range(3)]
    assert [(c.name, c.subject) for c in simulated.cases] == [(c.name, c.subject) for c in given.cases]
    assert shared_subjects(given, simulated) == given.subjects
    assert simulated.simulated and simulated.invented and not given.simulated
    assert simulated.source.startswith("Simulated from") and "No scanner was measured" in simulated.notes[0]
    with pytest.raises(CaseError, match="already"):
        acquired_cohort("twice", simulated, Acquisition("noise"))


def test_a_modality_that_is_all_a_case_has_cannot_be_left_out():
    with pytest.raises(CaseError, match="no volume is left of x"):
        acquired_cohort("none", cohort(case("x", "t1c")), Acquisition("missing-t1c"))


@pytest.mark.parametrize("shape", SHAPES)
def test_phantoms_of_each_shape_have_labels_where_the_shape_has_its_tumour(shape):
    made = phantom_cohort("shape", [1, 2], shape=shape, **SMALL)
    for one in made.cases:
        read = one.read()
        labels = sitk.GetArrayFromImage(read.labels)
        ml = np.prod(SMALL["spacing"]) / 1000 * np.count_nonzero(labels)
        assert ml > 1
        parts = sitk.ConnectedComponent(sitk.BinaryDilate(read.labels > 0, (1, 1, 1)))
        assert (sitk.GetArrayFromImage(parts).max() > 1) == (shape == "several")
        if shape in ("diffuse", "midline"):
            assert 3 not in labels
        if shape == "midline":
            middle = np.argwhere(labels > 0).mean(0)[2] * 3.0
            assert abs(middle - 81) < 10  # mm from the grid's middle plane
        if shape == "large":
            assert ml > 100
        assert shape == "usual" or f"'{shape}'" in read.notes[0]


def test_healthy_phantoms_are_the_same_brains_without_a_tumour():
    healthy = phantom_cohort("healthy", [4], tumour=False, **SMALL)
    assert healthy.cases[0].healthy and "no tumour" in healthy.source
    assert not sitk.GetArrayFromImage(healthy.cases[0].read().labels).any()


def test_a_part_is_chosen_by_names_facts_modalities_and_labels():
    whole = cohort(A, B, C)

    def names(**asked) -> list[str]:
        return [one.name for one in chosen(whole, **asked).cases]

    assert names(where=["age<18"]) == ["a"]  # an unknown age is not below 18
    assert names(where=["age>=7"]) == ["a", "b"]
    assert names(where=["site=north"]) == ["a", "c"] and names(where=["site != north"]) == ["b"]
    assert names(require=["t2f"]) == ["a", "c"]
    assert names(labelled=True, limit=1) == ["a"]
    assert names(only=["b", "c"]) == ["b", "c"]
    assert "Left out, since not age<18: b, c." in chosen(whole, where=["age<18"]).notes


@pytest.mark.parametrize(
    "asked",
    [
        {"where": ["weight<3"]},
        {"where": ["age"]},
        {"where": ["age<old"]},
        {"where": ["site<3"]},
        {"require": ["ct"]},
        {"limit": 0},
        {"only": ["nobody"]},
    ],
)
def test_what_a_cohort_does_not_have_cannot_be_asked_for(asked):
    with pytest.raises(UsageError):
        chosen(cohort(A, B, C), **asked)


def test_no_case_left_is_an_error():
    with pytest.raises(CaseError, match="no case fulfils 'age<1'"):
        chosen(cohort(A, B, C), where=["age<1"])


def test_an_overview_counts_what_is_there_and_what_is_unknown():
    facts = overview(cohort(A, B, C))
    assert facts["modality_counts"] == {"t1n": 3, "t1c": 1, "t2w": 3, "t2f": 2}
    assert facts["labelled"] == 2
    assert facts["facts"]["age"] == {"unknown": 1, "median": 25.5, "least": 7.0, "most": 44.0}
    text = "\n".join(overview_lines(cohort(A, B, C)))
    assert "t1c in 1 of 3" in text and "unknown in 1" in text and "north (2), south (1)" in text
