"""Attribution is a derivative, so it must agree with a small finite step; suppression is what an edit does."""

import numpy as np
import pytest

from MedSegLensLib.editing.influence import Influence, attribute, influence, suppress
from MedSegLensLib.editing.recipe import Edit, PackReference, Recipe
from MedSegLensLib.errors import UsageError
from MedSegLensLib.segmenters.sampling import whole

STEP = 0.1  # smaller steps change the sum over some 50,000 float32 voxels by less than its rounding


def soft_volume(session, latent, tap, gain) -> float:
    """Soft volume of WT in mL when a latent is scaled, from logits merged as labels are."""
    logits = session.replay.logits.clone()
    recipe = Recipe("step", PackReference.of(session.pack), (Edit(tap, latent, "scale", gain),))
    for sample, box, values in session._run(recipe, None):
        logits[(sample, slice(None), *box)] = values
    if session.sampling.overlapping:  # the sum that `attribute` differentiates: windows by their say
        shares = [session.sampling.say(s) for s in range(session.sampling.count)]
        each = [(logits[s].double().softmax(0)[1:].sum(0) * shares[s]).sum() for s in range(session.sampling.count)]
        return float(sum(each)) * session.conformed.voxel_ml
    merged = session.sampling.merge(logits, whole(session.labels.shape))
    return float(merged.double().softmax(0)[1:].sum()) * session.conformed.voxel_ml


@pytest.mark.parametrize("which", [0, 1])
def test_attribution_is_the_slope_of_the_soft_volume(session, which):
    tap = session.pack.taps[which]
    attribution = attribute(session, tap, "WT")
    latents = np.argsort(-np.abs(attribution))[:3]
    assert np.abs(attribution[latents]).min() > 0
    for latent in map(int, latents):
        slope = (soft_volume(session, latent, tap, 1 - STEP) - soft_volume(session, latent, tap, 1 + STEP)) / (2 * STEP)
        assert attribution[latent] == pytest.approx(slope, rel=0.1, abs=1e-2 * np.abs(attribution).max())


def test_silent_latents_have_no_influence(session):
    tap = session.pack.default_tap
    silent = session.codes[tap].summary().count == 0
    assert (attribute(session, tap, "WT")[silent] == 0).all()


def test_measured_suppression_is_the_change_in_volume(session):
    tap = session.pack.default_tap
    found = influence(session, tap, "WT", measured=3)
    assert list(found.suppressed_ml) == [int(j) for j in found.ranked()[:3]]
    for latent, change in found.suppressed_ml.items():
        after = session.region_ml(session.edit(suppress(session, tap, latent)).labels, "WT")
        assert change == pytest.approx(after - session.region_ml(session.labels, "WT"))


def test_rank_correlation_is_spearmans():
    none = np.zeros(4, bool)
    found = Influence("tap", "ET", np.array([4.0, -3.0, 2.0, 0.0]), none, {0: 40.0, 1: -1.0, 2: 3.0})
    assert found.rank_correlation() == pytest.approx(1.0)
    assert found.most_influential() == 0
    nothing = Influence("tap", "ET", np.zeros(3), np.zeros(3, bool), {})
    assert nothing.rank_correlation() is None and nothing.most_influential() is None


def test_latents_that_fire_nearly_everywhere_are_not_ranked():
    found = Influence("tap", "ET", np.array([9.0, -3.0, 2.0]), np.array([True, False, False]), {})
    assert found.ranked().tolist() == [1, 2] and found.most_influential() == 1


def test_an_unknown_region_is_named(session):
    with pytest.raises(UsageError, match="XX"):
        attribute(session, session.pack.default_tap, "XX")
