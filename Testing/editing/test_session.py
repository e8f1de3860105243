"""A session: the segmentation, and what edits make of it, against full passes with hooks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from MedSegLensLib.editing.latent_edits import LatentEdits
from MedSegLensLib.editing.places import ras_coordinate, tokens_of, voxels_of
from MedSegLensLib.editing.recipe import Box, Edit, PackReference, Recipe, RegionOf, SliceRange, VoxelMask
from MedSegLensLib.editing.session import Session, best_label
from MedSegLensLib.editing.splice import dice, labels_with, spliced_labels
from MedSegLensLib.errors import RecipeError, UsageError
from MedSegLensLib.segmenters.sampling import whole


def recipe_of(session, *edits) -> Recipe:
    return Recipe("test", PackReference.of(session.pack), edits)


def strongest(session, tap, count=3):
    return [int(j) for j in np.argsort(-session.codes[tap].summary().total)[:count]]


def naive_scale(session, tap, gains):
    """The definition, word for word: x + decode(z') - decode(z), every token, whole network."""
    lens = session.lenses[tap]

    def change(tokens):
        z = lens.encode(tokens)
        edited = z.clone()
        for latent, gain in gains.items():
            edited[:, latent] *= gain
        return tokens + lens.decode(edited) - lens.decode(z)

    return labels_with(session, tap, change)


def test_the_segmentation_is_that_of_the_plain_network(session):
    plain = labels_with(session, session.pack.default_tap, lambda tokens: tokens)
    assert session.labels.dtype == np.uint8 and session.labels.shape == session.conformed.brain.shape
    assert_equal_but_for_ties(session, session.labels, plain)


def assert_equal_but_for_ties(session, labels, others):
    """Equal to the voxel, but where two labels are so near a tie that float32 sums in another order decide it."""
    top = session.sampling.merge(session.replay.logits, whole(labels.shape)).topk(2, dim=0).values
    margin = (top[0] - top[1]).numpy()
    assert (margin[labels != others] < 1e-4).all() and (labels != others).sum() <= 3


def test_a_recipe_without_edits_changes_nothing(session):
    edited = session.edit(recipe_of(session))
    assert np.array_equal(edited.labels, session.labels) and edited.box is None and edited.samples == ()


def test_scaling_by_one_changes_nothing(session):
    tap = session.pack.default_tap
    edited = session.edit(recipe_of(session, Edit(tap, strongest(session, tap)[0], "scale", 1.0)))
    assert np.array_equal(edited.labels, session.labels) and edited.box is None


@pytest.mark.parametrize("which", [0, 1])
def test_edited_labels_equal_the_naive_edited_pass(session, which):
    tap = session.pack.taps[which]
    first, second, third = strongest(session, tap)
    gains = {first: 0.0, second: 4.0, third: 0.3}
    edited = session.edit(recipe_of(session, *(Edit(tap, j, "scale", g) for j, g in gains.items())))
    naive = naive_scale(session, tap, gains)
    assert (naive != session.labels).any(), "the edit must do something, or the test shows nothing"
    assert np.count_nonzero(edited.labels != naive) <= 3, "but for ties, see above"
    outside = edited.labels != session.labels
    outside[edited.box] = False
    assert not outside.any()


def test_edits_at_two_taps_follow_one_another(session):
    late, early = session.pack.taps
    recipe = recipe_of(session, *(Edit(tap, strongest(session, tap)[0], "scale", 0.0) for tap in (late, early)))
    gains = {tap: strongest(session, tap)[0] for tap in (late, early)}

    def change_of(tap):
        lens = session.lenses[tap]

        def change(x):
            tokens = x.flatten(2).transpose(1, 2)
            z = lens.encode(tokens.flatten(0, 1))
            z_new = z.clone()
            z_new[:, gains[tap]] = 0
            change = (lens.decode(z_new) - lens.decode(z)).view(tokens.shape).transpose(1, 2).reshape(x.shape)
            return x + change * torch.from_numpy(session.brain_tokens[tap][current])[None, None]

        return change

    from MedSegLensLib.segmenters.sampling import whole
    from MedSegLensLib.segmenters.taps import changed

    volume = torch.from_numpy(session.conformed.array)
    logits = []
    with torch.no_grad(), changed(session.network, {tap: change_of(tap) for tap in (late, early)}):
        for current in range(session.sampling.count):
            sample = current
            logits.append(session.network(session.engine.place(session.sampling.inputs(volume, [sample]))))
    naive = session.labels_of(torch.cat(logits), whole(session.labels.shape))
    assert (naive != session.labels).any()
    assert np.mean(session.edit(recipe).labels != naive) < 1e-5  # codes at the later tap may round over a threshold


def test_asked_for_slices_come_alone(session):
    tap = session.pack.default_tap
    recipe = recipe_of(session, Edit(tap, strongest(session, tap)[0], "scale", 0.0))
    everywhere = session.edit(recipe)
    one = session.edit(recipe, samples=[everywhere.samples[-1]])
    assert one.samples == everywhere.samples[-1:]
    if not session.sampling.overlapping:
        z = everywhere.samples[-1]
        assert np.array_equal(one.labels[z], everywhere.labels[z])
        others = np.arange(len(one.labels)) != z
        assert np.array_equal(one.labels[others], session.labels[others])


def test_add_and_clamp_act_on_the_brain_and_inside_a_mask(session):
    tap = session.pack.default_tap
    latent = strongest(session, tap)[0]
    codes = session.codes[tap]
    dense = codes.dense(latent)
    brain = session.brain_tokens[tap]

    def changed_map(edit):
        edits = LatentEdits(session, tap, [edit])
        result = np.zeros_like(dense)
        for sample, rows in edits.maps().items():
            result[sample] = rows[0]
        return result

    np.testing.assert_allclose(changed_map(Edit(tap, latent, "add", 1.5)), 1.5 * brain, atol=1e-5)
    np.testing.assert_allclose(changed_map(Edit(tap, latent, "clamp", 2.0)), np.where(brain, 2.0 - dense, 0), atol=1e-5)
    taken = changed_map(Edit(tap, latent, "add", -1e3))
    np.testing.assert_allclose(taken, np.where(brain, -dense, 0), atol=1e-5)  # a code is never negative
    inside = SliceRange(*sorted(float(ras_coordinate(session.conformed, 2)[z].ravel()[0]) for z in (3, 6)))
    place = brain & tokens_of(voxels_of(inside, session.conformed, session.labels), session.sampling, codes.grid[1:])
    assert place.any() and not place.all()
    np.testing.assert_allclose(changed_map(Edit(tap, latent, "add", 1.5, inside)), 1.5 * place, atol=1e-5)


def test_edits_of_one_latent_at_different_places_follow_one_another(session):
    tap = session.pack.default_tap
    latent = strongest(session, tap)[0]
    z = [float(v) for v in np.sort(ras_coordinate(session.conformed, 2).ravel())]
    low, high = SliceRange(z[0], z[len(z) // 2]), SliceRange(z[0], z[-1])
    edits = [Edit(tap, latent, "scale", 0.0, low), Edit(tap, latent, "add", 1.0, high)]
    codes = session.codes[tap]
    both = LatentEdits(session, tap, edits)
    below, above = (
        session.brain_tokens[tap]
        & tokens_of(voxels_of(place, session.conformed, session.labels), session.sampling, codes.grid[1:])
        for place in (low, high)
    )
    dense = codes.dense(latent)
    for sample, rows in both.maps().items():
        expected = np.where(below[sample], 0, dense[sample]) + above[sample] - dense[sample]
        np.testing.assert_allclose(rows[0].numpy(), expected, atol=1e-5)


def ball(session, radius_mm, off_mm=0.0):
    """A mask around the middle of the brain, moved along a row by `off_mm`."""
    spacing = np.array(session.conformed.grid.spacing[::-1])
    middle = np.argwhere(session.conformed.brain).mean(0) + (0, 0, off_mm / spacing[2])
    apart = np.linalg.norm((np.indices(session.labels.shape).T - middle) * spacing, axis=-1).T
    return VoxelMask.from_image(session.conformed.to_image(apart < radius_mm))


def written(session, number, where, exact=True):
    """An edit that no network overlooks: one of the latents that fire most, set to fifty times its maximum."""
    tap = session.pack.default_tap
    latent = strongest(session, tap)[number]
    return Edit(tap, latent, "clamp", 50 * float(session.codes[tap].summary().maximum[latent]), where, exact)


def test_an_exact_edit_shows_in_its_place_alone(session):
    where = ball(session, 12)
    exact, plain = (session.edit(recipe_of(session, written(session, 0, where, e))).labels for e in (True, False))
    inside = session.voxels_in(where)
    assert (exact != session.labels).any() and np.array_equal(exact[~inside], session.labels[~inside])
    assert (plain != session.labels)[~inside].any(), "it must reach beyond its place, or the test shows nothing"
    logits = session.logits(recipe_of(session, written(session, 0, where)))
    assert np.array_equal(session.labels_of(logits, whole(session.labels.shape)), exact)


def test_what_one_exact_place_shows_stays_beside_a_later_one(session):
    near, far = ball(session, 10, -9), ball(session, 10, 9)
    one, two = written(session, 0, near), written(session, 1, far)
    alone, both = session.edit(recipe_of(session, one)).labels, session.edit(recipe_of(session, one, two)).labels
    later = session.voxels_in(far)
    assert (alone != session.labels).any() and (both != alone).any()
    assert np.array_equal(both[~later], alone[~later])


def test_an_edit_that_is_not_exact_reaches_as_far_beside_exact_ones(session):
    where = ball(session, 12)
    everywhere = written(session, 1, None, exact=False)
    alone = session.edit(recipe_of(session, everywhere)).labels
    both = session.edit(recipe_of(session, everywhere, written(session, 0, where))).labels
    inside = session.voxels_in(where)
    assert (alone != session.labels)[~inside].any() and (both != alone).any()
    assert np.array_equal(both[~inside], alone[~inside])


def test_places_are_where_the_patient_has_them(session, case):
    labels = session.conformed.labels(case.labels)
    r, a, s = (np.broadcast_to(ras_coordinate(session.conformed, axis), labels.shape) for axis in range(3))
    centre = [float(c[labels == 3].mean()) for c in (r, a, s)]
    true = np.argwhere(np.asarray(labels == 3)).mean(0)
    box = Box(tuple(c - 20 for c in centre), tuple(c + 20 for c in centre))
    inside = voxels_of(box, session.conformed, labels)
    assert inside[tuple(np.round(true).astype(int))] and inside.sum() < inside.size
    # SimpleITK says the same of the case's own image
    on_case = session.to_case(inside.astype(np.uint8))
    index = on_case.TransformPhysicalPointToIndex((-centre[0], -centre[1], centre[2]))
    assert on_case[index] == 1
    mask = VoxelMask.from_image(on_case)
    assert np.array_equal(voxels_of(mask, session.conformed, labels), session.conformed.mask(on_case))
    grown = voxels_of(RegionOf("ET", 8.0), session.conformed, labels)
    assert grown[labels == 3].all() and grown.sum() > (labels == 3).sum()


def test_an_activation_volume_lies_where_the_codes_fire(session):
    tap = session.pack.default_tap
    latent = strongest(session, tap)[0]
    volume = session.activation_volume(tap, latent)
    assert volume.shape == session.labels.shape and volume.dtype == np.float32
    assert volume.max() == pytest.approx(session.codes[tap].summary().maximum[latent], rel=0.6)
    assert session.to_case(volume, "linear").GetSize() == session.case.reference.GetSize()


def test_a_probability_is_the_softmax_of_the_merged_logits(session):
    total = sum(session.probability(region) for region in ("NCR", "ED", "ET"))
    assert (total >= 0).all() and (total <= 1 + 1e-5).all()
    assert np.allclose(session.probability("WT"), total, atol=1e-5)


def test_splicing_a_lens_in_is_not_an_edit(session):
    spliced = spliced_labels(session, session.pack.default_tap)
    assert spliced.shape == session.labels.shape and (spliced != session.labels).any()


def test_another_packs_recipe_is_refused(session):
    tap = session.pack.default_tap
    other = replace(PackReference.of(session.pack), name="other", hash="0" * 64)
    with pytest.raises(RecipeError, match="other"):
        session.edit(Recipe("r", other, (Edit(tap, 0, "scale", 0.0),)))
    with pytest.raises(UsageError, match="latent 99999"):
        session.edit(recipe_of(session, Edit(tap, 99999, "scale", 0.0)))
    with pytest.raises(UsageError, match="no lens at"):
        session.codes_at("conv_nowhere")


def test_a_missing_modality_is_said(case, pack):
    from MedSegLensLib.cases.case import Case

    without = Case("without t1n", {m: i for m, i in case.images.items() if m != "t1n"})
    session = Session(without, pack)
    assert any("t1n" in note or "T1" in note for note in session.notes)


def test_best_label_is_argmax():
    logits = torch.randn(4, 7, 9)
    assert np.array_equal(best_label(logits), logits.argmax(0).numpy())
    assert np.array_equal(best_label(torch.zeros(4, 2, 2)), np.zeros((2, 2)))  # ties go to the lower label


def test_dice_of_an_absent_region_is_none():
    empty, full = np.zeros((2, 2, 2), np.uint8), np.full((2, 2, 2), 3, np.uint8)
    assert dice(full, empty, "ET") is None
    assert dice(full, full, "ET") == 1.0 and dice(empty, full, "ET") == 0.0
