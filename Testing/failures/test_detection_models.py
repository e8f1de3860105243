"""The small models of detection: what they learn on made-up numbers, and that they come back from JSON."""

import json

import numpy as np
import pytest

from MedSegLensLib.failures.drivers import Drivers
from MedSegLensLib.failures.features import EXPECTED, columns
from MedSegLensLib.failures.place_model import Penalty, PlaceModel, calibrate, fit_place_model, simplest
from MedSegLensLib.failures.quality import FLOOR, PRIOR_CASES, QualityModel, fit_quality, interval_of

NAMES = [f"latent tap {j}" for j in range(30)]


@pytest.fixture(scope="module")
def places():
    """1000 places of 30 features; the third and the seventh alone decide what is wrong."""
    rng = np.random.default_rng(0)
    features = rng.gamma(1.0, size=(1000, 30))
    odds = 2.5 * features[:, 3] - 2.5 * features[:, 7] - 2
    return features, rng.random(1000) < 1 / (1 + np.exp(-odds))


def test_the_classifier_takes_the_features_that_decide(places):
    model = fit_place_model(NAMES, *places, Penalty(0.03, 1.0))
    largest = np.argsort(-np.abs(model.coefficients))[:2]
    assert {model.names[i] for i in largest} == {"latent tap 3", "latent tap 7"}
    assert len(model.names) < 15, "the penalty leaves few"


def test_the_segmenters_own_doubt_stays_and_the_others_of_no_weight_are_left_out(places):
    names = ["entropy", *NAMES[1:]]
    assert fit_place_model(names, *places, Penalty(0.3, 0.0)).names == ("entropy",)
    full, weighed = (fit_place_model(names, *places, Penalty(0.03, weight)) for weight in (1.0, 0.3))
    moved = [np.ptp(model.contributions(names, places[0]).sum(1)) for model in (full, weighed)]
    assert moved[1] < moved[0], "latents of less weight move the score less"


def test_of_models_that_are_as_good_the_simplest_is_taken():
    patients = np.repeat(["a", "b", "c", "d"], 50)
    rng = np.random.default_rng(3)
    base = rng.random(200)
    assert simplest([base, base + 0.01 * rng.normal(size=200) - 0.0001, base + 1], patients) == 0
    assert simplest([base, base - 0.2, base - 0.3], patients) == 2


def test_calibrated_risks_are_as_frequent_as_they_say(places):
    features, wrong = places
    model = fit_place_model(NAMES, features[:500], wrong[:500], Penalty(0.3, 1.0))
    scores = model.contributions(NAMES, features[500:]).sum(1) + model.intercept
    risks = calibrate(model, 3 * scores, wrong[500:]).calibrated(3 * scores)
    high = risks > 0.5
    assert risks.mean() == pytest.approx(wrong[500:].mean(), abs=0.01)
    assert risks[high].mean() == pytest.approx(wrong[500:][high].mean(), abs=0.08)


def test_with_hardly_any_wrong_place_the_risk_is_how_frequent_they_are(places):
    features, _ = places
    wrong = np.zeros(len(features), bool)
    wrong[:3] = True
    model = fit_place_model(NAMES, features, wrong, Penalty(0.1, 1.0))
    assert model.names == () and np.allclose(model.risks(NAMES, features), 4 / 1002)


def test_a_score_that_says_nothing_out_of_fold_is_dropped(places):
    features, wrong = places
    model = fit_place_model(NAMES, features, wrong, Penalty(0.1, 1.0))
    scores = model.contributions(NAMES, features).sum(1)
    assert np.allclose(calibrate(model, -scores, wrong).risks(NAMES, features), wrong.mean())


def test_the_models_come_back_from_json(places):
    model = calibrate(fit_place_model(NAMES, *places, Penalty(0.1, 1.0)), places[0][:, 3], places[1])
    again = PlaceModel.from_json(json.loads(json.dumps(model.to_json())))
    assert np.allclose(again.risks(NAMES, places[0]), model.risks(NAMES, places[0]), atol=1e-4)
    quality = fit_quality("ET", [EXPECTED, *NAMES[1:]], places[0][:50], np.linspace(0.1, 0.9, 50), ("",), 10.0)
    back = QualityModel.from_json(json.loads(json.dumps(quality.to_json())))
    assert np.allclose(back.dice(places[0]), quality.dice(places[0]), atol=1e-4)


def test_the_dice_is_what_the_probabilities_expect_moved_by_what_the_cases_were():
    rng = np.random.default_rng(3)
    expected = rng.normal(1, 1, size=60)
    worse = 1 / (1 + np.exp(-(expected - 0.9)))
    model = fit_quality("WT", [EXPECTED], expected[:, None], worse, (), 1.0)
    assert model.names == (EXPECTED,)
    moved = 60 / (60 + PRIOR_CASES) * 0.9
    assert np.allclose(model.dice(expected[:, None]), 1 / (1 + np.exp(-(expected - moved))))
    one = fit_quality("WT", [EXPECTED], expected[:1, None], worse[:1], (), 1.0)
    assert np.allclose(one.dice(expected[:1, None]), 1 / (1 + np.exp(-(expected[:1] - 0.9 / (1 + PRIOR_CASES)))))


def test_with_further_features_the_dice_is_learned_and_stays_one():
    rng = np.random.default_rng(1)
    features = np.hstack([np.ones((200, 1)), rng.normal(size=(200, 3))])
    dice = 1 / (1 + np.exp(-(1 + 1.5 * features[:, 1] + 0.5 * features[:, 3])))
    names = [EXPECTED, "volume", "entropy", "unusual"]
    model = fit_quality("WT", names, features, dice, ("",), 1.0)
    assert np.corrcoef(model.dice(features), dice)[0, 1] > 0.9
    assert model.names == tuple(names)
    assert model.coefficients[3] == 0, "what is more unusual is never better, whatever these cases say"
    far = model.quality(np.array([1, 1e6, 0, 0]))
    assert 0 <= far.low <= far.dice <= far.high <= 1
    some = fit_quality("WT", names, features, dice, ("volume",), 1.0)
    assert some.names == (EXPECTED, "volume") and np.allclose(columns(names, some.names, features), features[:, :2])


def test_the_interval_leaves_out_a_tenth_on_either_side():
    likely = np.full(99, 0.75)
    dice = likely + (0.25 + FLOOR) * np.linspace(-0.49, 0.49, 99)
    low, high = interval_of(likely, dice)
    assert (low, high) == (pytest.approx(-0.40), pytest.approx(0.40))


def test_a_later_latent_is_told_by_the_earlier_one_that_it_follows():
    rng = np.random.default_rng(2)
    early = rng.gamma(1.0, size=(400, 6))
    late = np.stack([2 * early[:, 4] + 0.1 * rng.normal(size=400), rng.gamma(1.0, size=400)], 1)
    drivers = Drivers.fit(early, late)
    assert drivers.latents[0, 0] == 4 and drivers.weights[0, 0] == pytest.approx(2, abs=0.1)
    assert (drivers.latents[1] == -1).all(), "what goes with nothing has no driver"
    excess = np.zeros(6)
    assert drivers.driver(0, excess) is None
    excess[4] = 1.0
    assert drivers.driver(0, excess) == 4
    usual = drivers.unaccounted(early, late)
    assert usual.std(0) == pytest.approx([1, 1], abs=0.1)
    broken = late.copy()
    broken[:, 0] += 2
    assert drivers.unaccounted(early, broken)[:, 0].mean() > 5
    again = Drivers.from_json(json.loads(json.dumps(drivers.to_json())))
    assert np.allclose(again.unaccounted(early, late), usual, atol=0.02)
