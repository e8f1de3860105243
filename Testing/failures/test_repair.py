"""Repair by pointing, with a shipped pack on an invented case."""

import numpy as np
import pytest
from scipy import ndimage

from MedSegLensLib.cases.case import region_mask
from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.editing.places import ras_point
from MedSegLensLib.editing.session import Session
from MedSegLensLib.errors import UsageError
from MedSegLensLib.failures.points import Point
from MedSegLensLib.failures.repair import Settings, propose, voxel_at
from MedSegLensLib.failures.tissue import tissue_at
from MedSegLensLib.packs.pack import load_pack

ANY = Settings(least_change=0.05)
"""Takes what moves little, too: the packs know the middle of a tumour well, where these tests say that it is none."""


@pytest.fixture(scope="module", params=["glioma-segformer", "glioma-unet"])
def session(request):
    return Session(phantom(3, size=(80, 100, 40), spacing=(2.0, 2.0, 4.0)), load_pack(request.param))


@pytest.fixture(scope="module")
def inside_tumour(session):
    """A point in the middle of what is called tumour, that says that it is none."""
    depth = ndimage.distance_transform_edt(session.labels > 0)
    return Point(ras_point(session.conformed, np.unravel_index(depth.argmax(), depth.shape)), False)


@pytest.fixture(scope="module")
def proposal(session, inside_tumour):
    return propose(session, inside_tumour, settings=ANY)


def test_a_point_finds_its_voxel_again(session):
    for voxel in np.argwhere(session.conformed.brain)[::5000]:
        point = Point(ras_point(session.conformed, tuple(voxel)), True)
        assert voxel_at(session, point) == tuple(voxel)


def test_few_latents_make_the_tissue_at_the_point_what_it_says(session, inside_tumour, proposal):
    assert 1 <= len(proposal.gains) <= 5 and proposal.moved > 0.05
    tissue = session.conformed.mask(proposal.where.to_image())
    assert tissue[voxel_at(session, inside_tumour)]
    assert np.count_nonzero(proposal.after[tissue] > 0) < np.count_nonzero(proposal.before[tissue] > 0)
    assert proposal.moved == pytest.approx(np.mean(proposal.after[tissue] == 0))


def test_what_would_move_too_little_is_not_proposed(session, inside_tumour, proposal):
    refused = propose(session, inside_tumour, settings=Settings(least_change=proposal.moved + 0.01))
    assert not refused.gains and "too little" in refused.reason and refused.where == proposal.where
    assert np.array_equal(refused.after, session.labels) and refused.recipe.edits == ()


def test_nothing_changes_outside_the_tissue(session, proposal):
    tissue = session.conformed.mask(proposal.where.to_image())
    assert np.array_equal(proposal.after[~tissue], proposal.before[~tissue])
    assert all(edit.exact for edit in proposal.recipe.edits)


def test_a_second_opinion_that_agrees_with_the_point_is_its_tissue(session, inside_tumour):
    voxel = voxel_at(session, inside_tumour)
    opinion = session.labels.copy()
    z, y, x = voxel
    opinion[z - 1 : z + 2, y - 3 : y + 4, x - 3 : x + 4] = 0
    found = propose(session, inside_tumour, settings=ANY, opinion=opinion)
    assert np.array_equal(
        session.conformed.mask(found.where.to_image()), (opinion != session.labels) & session.conformed.brain
    )


def test_a_second_opinion_that_sees_no_region_at_all_is_not_followed(session, inside_tumour, proposal):
    nothing = np.zeros_like(session.labels)
    found = propose(session, inside_tumour, settings=ANY, opinion=nothing)
    assert found.where == proposal.where and found.recipe == proposal.recipe
    agreeing = propose(session, inside_tumour, settings=ANY, opinion=session.labels)
    assert agreeing.recipe == proposal.recipe


def test_what_is_proposed_is_what_its_recipe_does(session, proposal):
    assert np.array_equal(session.edit(proposal.recipe).labels, proposal.after)
    assert proposal.at(1.0).edits == proposal.recipe.edits


def test_strength_nothing_changes_nothing(session, proposal):
    assert np.array_equal(session.edit(proposal.at(0.0)).labels, proposal.before)


def test_the_other_way_a_point_asks_for_more_tumour(session):
    outside = ndimage.distance_transform_edt(session.labels == 0)
    rim = np.argwhere((outside > 1) & (outside <= 2) & session.conformed.brain)
    point = Point(ras_point(session.conformed, tuple(rim[len(rim) // 2])), True)
    found = propose(session, point)
    if found.gains:
        assert np.count_nonzero(found.after) > np.count_nonzero(found.before)
    else:
        assert found.reason and np.array_equal(found.after, session.labels)


def test_a_second_point_goes_on_from_the_first(session, proposal):
    left = region_mask(proposal.after, "WT")
    if not left.any():
        pytest.skip("the first point already took all of it")
    depth = ndimage.distance_transform_edt(left)
    point = Point(ras_point(session.conformed, np.unravel_index(depth.argmax(), depth.shape)), False)
    second = propose(session, point, proposal.recipe, labels=proposal.after)
    assert second.recipe.edits[: len(proposal.recipe.edits)] == proposal.recipe.edits
    assert np.count_nonzero(second.after) <= np.count_nonzero(proposal.after)


def test_a_point_that_says_what_is_shown_changes_nothing(session, inside_tumour):
    found = propose(session, Point(inside_tumour.ras, True))
    assert not found.gains and "already" in found.reason


@pytest.mark.parametrize(("place", "says"), [((500, 0, 0), "outside the head"), ((0, 0, 0), "outside the brain")])
def test_a_point_outside_the_head_or_brain_is_refused(session, place, says):
    if says == "outside the brain":
        air = np.argwhere(~session.conformed.brain)[0]
        place = ras_point(session.conformed, tuple(air))
    with pytest.raises(UsageError, match=says):
        propose(session, Point(place, True))


def test_tissue_is_one_piece_around_the_point_of_what_is_allowed(session, inside_tumour, proposal):
    voxel = voxel_at(session, inside_tumour)
    allowed = session.labels > 0
    tissue, like = tissue_at(session, proposal.tap, voxel, allowed, reach_mm=20)
    assert tissue[voxel] and like[voxel] == 1 and not tissue[~allowed].any()
    assert ndimage.label(tissue, np.ones((3, 3, 3)))[1] == 1
    distance = np.linalg.norm((np.argwhere(tissue) - voxel) * session.conformed.grid.spacing[::-1], axis=1)
    assert distance.max() <= 20
    assert ((like > 0) <= tissue).all() and like.max() <= 1
