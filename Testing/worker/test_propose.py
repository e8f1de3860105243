"""A point through the worker is the point through the engine, on the case's own grid; looking at it applies nothing."""

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import SECONDS, recipe_for

from MedSegLensLib.editing.session import Session
from MedSegLensLib.errors import RecipeError, UsageError
from MedSegLensLib.failures.points import Point
from MedSegLensLib.failures.repair import propose
from MedSegLensLib.packs.pack import load_pack
from MedSegLensLib.segmenters.engine import Engine


@pytest.fixture(scope="module")
def engine_session(session, case, pack):
    """The same case in this process, with the worker's engine."""
    import torch

    told = session._engine
    engine = Engine(told["device"], getattr(torch, told["dtype"]), told["channels_last"], told["batch"])
    return Session(case, load_pack(pack), engine=engine)


@pytest.fixture(scope="module")
def asked(session, engine_session):
    """A point, the worker's answer and the engine's: the first place of some where latents do something."""
    labels, brain = session.opened.labels, sitk.GetArrayFromImage(engine_session.case.images["t2f"]) > 0
    voxels = np.argwhere((labels > 0) & brain)
    for z, y, x in voxels[np.linspace(0, len(voxels) - 1, 24).astype(int)]:
        region = {1: "NCR", 2: "ED", 3: "ET"}[int(labels[z, y, x])]
        point = Point(tuple((session.opened.ijk_to_ras @ [x, y, z, 1])[:3]), False, region)
        answer = session.propose(point, recipe_for(session.opened)).result(SECONDS)
        if answer.edits:
            return point, answer, propose(engine_session, point)
    raise AssertionError("no latent does anything at any of these places")


def painted(session, box) -> np.ndarray:
    labels = session.opened.labels.copy()
    if box is not None:
        labels[box.slices] = box.labels
    return labels


def test_the_answer_is_the_engines_proposal(session, engine_session, asked):
    point, answer, proposal = asked
    assert [(e.tap, e.latent) for e in answer.edits] == [(g.tap, g.latent) for g in proposal.gains]
    assert [e.value for e in answer.edits] == pytest.approx([g.value for g in proposal.gains], rel=1e-3)
    assert answer.tissue_ml == pytest.approx(proposal.tissue_ml) and answer.reason == ""
    after = engine_session.to_case(engine_session.edit(answer.after).labels)
    assert np.array_equal(painted(session, answer.box), sitk.GetArrayFromImage(after))
    assert answer.tissue.labels.sum() * session.opened.voxel_ml == pytest.approx(answer.tissue_ml)
    assert answer.point == point and answer.words


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.0])
def test_at_a_strength_it_is_the_engines_recipe(asked, strength):
    _point, answer, proposal = asked
    ours, theirs = answer.at(strength), proposal.at(strength)
    values = {(e.tap, e.latent): e.value for e in theirs.edits}
    assert {(e.tap, e.latent): e.value for e in ours.edits} == pytest.approx(values if strength else {}, rel=2e-3)


def test_what_is_only_looked_at_leaves_the_next_edit_whole(session, asked):
    """Edits are written box by box over what is shown: a trial in between must not be taken for shown."""
    _point, answer, _proposal = asked
    strong = recipe_for(session.opened, (0, 4.0))
    shown = painted(session, session.edit(strong).result(SECONDS).box)
    trial = session.trial(answer.at(2.0)).result(SECONDS)
    assert np.array_equal(
        painted(session, session.trial(answer.after).result(SECONDS).box), painted(session, answer.box)
    )
    back = session.edit(recipe_for(session.opened)).result(SECONDS)
    if back.box is not None:
        shown[back.box.slices] = back.box.labels
    assert np.array_equal(shown, session.opened.labels) and trial.regions_ml.keys() == answer.regions_ml.keys()


def test_points_that_cannot_be_asked_about_are_refused(session, asked):
    point, answer, _proposal = asked
    nothing = recipe_for(session.opened)
    to_ras, (depth, rows, _columns) = session.opened.ijk_to_ras, session.opened.labels.shape
    beside = Point(tuple((to_ras @ [-40, 0, 0, 1])[:3]), True)
    air = Point(tuple((to_ras @ [0, rows - 1, depth - 1, 1])[:3]), True)
    contrary = Point(point.ras, True, point.region)
    for wrong, earlier, said in (
        (beside, (), "outside the volume"),
        (air, (), "outside the (head|brain)"),
        (contrary, (point,), "within 1.5 mm"),
    ):
        with pytest.raises(UsageError, match=said):
            session.propose(wrong, nothing, earlier).result(SECONDS)
    other = type(nothing)("other", type(nothing.pack)("other", "1", "f" * 64))
    with pytest.raises(RecipeError):
        session.propose(point, other).result(SECONDS)
    assert session.propose(point, nothing).result(SECONDS).edits == answer.edits, "the session goes on"


def test_a_point_that_is_right_already_has_nothing_to_propose(session, asked):
    point, _answer, _proposal = asked
    answer = session.propose(Point(point.ras, True, point.region), recipe_for(session.opened)).result(SECONDS)
    assert "already says" in answer.reason and answer.edits == () and answer.tissue is None
    assert answer.before == answer.after and answer.box is None
