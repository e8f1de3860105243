"""The check of an open case: with and without a reference in its pack, before and after edits."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import SECONDS, recipe_for

from MedSegLensLib.cohorts.cohort import CohortCase
from MedSegLensLib.cohorts.phantoms import PhantomRequest
from MedSegLensLib.errors import RecipeError
from MedSegLensLib.failures.reference import build_reference
from MedSegLensLib.packs.pack import load_pack
from MedSegLensLib.packs.shipped_reference import with_reference


@pytest.fixture(scope="module")
def compared(client, volumes, pack, tmp_path_factory):
    """The case opened with a pack whose reference is one phantom, too few to learn a detector from."""
    small = PhantomRequest(5, size=(40, 48, 14), spacing=(4.0, 4.0, 9.0))
    packed = load_pack(pack)
    reference, _failed = build_reference(packed, [CohortCase("phantom-5", "phantom-5", phantom=small)], detector=False)
    folder = tmp_path_factory.mktemp("with reference") / "pack"
    with_reference(packed, reference.shipped(packed.info), folder)
    session = client.open_case(volumes, "phantom", str(folder)).result(SECONDS)
    yield session
    session.close().result(SECONDS)


def test_without_a_reference_nothing_is_claimed_and_it_is_said_what_to_do(session):
    answer = session.check().result(SECONDS)
    assert answer.check.quality == answer.check.suspects == () and answer.check.shift is None
    assert "medseglens pack add-reference" in answer.check.notes[0]
    assert answer.risk.array.shape == session.opened.labels.shape and not answer.risk.array.any()
    assert np.allclose(answer.risk.ijk_to_ras, session.opened.ijk_to_ras)


def test_with_a_reference_the_shift_is_told_and_progress_too(compared):
    task = compared.check()
    found = task.result(SECONDS).check
    assert found.shift is not None and found.shift.words and found.case and found.seconds > 0
    assert task.stage == "done" and not any("without edits" in note for note in found.notes)


def test_after_edits_it_is_said_that_these_were_not_learned_from(compared):
    after = compared.check(recipe_for(compared.opened, (0, 3.0))).result(SECONDS).check
    assert any("without edits" in note for note in after.notes)
    assert not any(
        "without edits" in n for n in compared.check(recipe_for(compared.opened)).result(SECONDS).check.notes
    )


def test_a_recipe_outlives_another_reference_of_its_pack_and_one_of_another_pack_is_refused(compared, session):
    ours = recipe_for(session.opened, (0, 3.0))
    compared.check(ours).result(SECONDS)
    with pytest.raises(RecipeError):
        compared.check(replace(ours, pack=replace(ours.pack, hash="ab" * 32))).result(SECONDS)
