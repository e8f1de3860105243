"""Effect sizes between cohorts: right where the answer is known, honest where cases are few."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from MedSegLensLib.diffing.effects import (
    adjusted,
    cliffs_delta,
    compare,
    enough_cases,
    mean_interval,
    random_parts,
    split_effects,
)


def normal(n: int, m: int, mean: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.0, (n, m))


def test_hedges_g_of_a_known_example():
    x, y = np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([[3.0], [5.0], [7.0], [9.0], [11.0]])
    pooled = math.sqrt((3 * np.var(x, ddof=1) + 4 * np.var(y, ddof=1)) / 7)
    found = compare(x, y, paired=False)
    assert found.g[0] == pytest.approx((1 - 3 / (4 * 7 - 1)) * (7.0 - 2.5) / pooled)
    assert found.difference[0] == pytest.approx(4.5)


def test_pairs_are_measured_in_deviations_between_patients():
    x = normal(9, 1, seed=3)
    found = compare(x, x + 0.5, paired=True)
    assert found.g[0] == pytest.approx((1 - 3 / 31) * 0.5 / x.std(ddof=1))
    assert found.p[0] == pytest.approx(2 / 2**9)


@pytest.mark.parametrize("paired", [True, False])
def test_intervals_hold_the_truth_as_often_as_they_say_with_nine_cases(paired):
    x = normal(9, 700, seed=1)
    y = x + 0.5 + 0.5 * normal(9, 700, seed=2) if paired else normal(9, 700, 0.5, seed=2)
    found = compare(x, y, paired, draws=800)
    for (low, high), nominal in ((found.interval, 0.95), (found.inner, 0.90)):
        assert np.mean((low <= 0.5) & (high >= 0.5)) == pytest.approx(nominal, abs=0.035)


@pytest.mark.parametrize("paired", [True, False])
def test_p_is_below_five_percent_one_time_in_twenty_where_nothing_differs(paired):
    found = compare(normal(8, 800, seed=4), normal(8, 800, seed=5), paired, draws=50)
    assert np.mean(found.p <= 0.05) == pytest.approx(0.05, abs=0.03)


def test_cases_apart_have_the_smallest_p_that_so_many_can_have():
    x, y = np.arange(4.0)[:, None], 10 + np.arange(4.0)[:, None]
    assert compare(x, y, paired=False).p[0] == pytest.approx(2 / math.comb(8, 4))
    assert cliffs_delta(x, y)[0] == 1.0


def test_with_many_cases_permutations_are_drawn_and_the_own_one_counts():
    found = compare(normal(30, 3, seed=6), normal(30, 3, 5.0, seed=7), paired=False, draws=50)
    assert found.p == pytest.approx(np.full(3, 1e-4))


def test_few_cases_are_said_to_be_too_few():
    assert not compare(normal(6, 2), normal(6, 2, seed=1), paired=True).possible.any()
    assert compare(normal(7, 2), normal(7, 2, seed=1), paired=True).possible.all()
    assert enough_cases(5, 5, paired=False) and not enough_cases(4, 40, paired=False)


def test_a_case_without_the_number_is_left_out_of_it_alone():
    x, y = normal(6, 2, seed=8), normal(7, 2, 1.0, seed=9)
    x[2, 1] = np.nan
    found, without = compare(x, y, paired=False), compare(np.delete(x, 2, 0), y, paired=False)
    whole = compare(x[:, :1], y[:, :1], paired=False)
    assert found.n_x.tolist() == [6, 5]
    assert found.g[1] == pytest.approx(without.g[1]) and found.delta[1] == pytest.approx(without.delta[1])
    assert found.p[0] == pytest.approx(whole.p[0])


def test_a_number_that_one_case_alone_has_gives_nothing():
    x = np.array([[1.0], [np.nan], [np.nan], [np.nan]])
    found = compare(x, normal(4, 1), paired=False)
    assert np.isnan(found.g[0]) and np.isnan(found.p[0]) and np.isnan(found.interval).all()


def test_no_spread_gives_no_effect_without_end():
    x, y = np.zeros((6, 1)), np.full((6, 1), 0.01)
    assert compare(x, y, paired=False, least_sd=0.1).g[0] == pytest.approx(0.1 * (1 - 3 / 39))


@given(seed=st.integers(0, 10_000), shift=st.floats(-5, 5), n=st.integers(4, 7), m=st.integers(4, 7))
@settings(max_examples=25, deadline=None)
def test_the_other_way_round_every_effect_changes_its_sign(seed, shift, n, m):
    x, y = normal(n, 3, seed=seed), normal(m, 3, shift, seed=seed + 1)
    there, back = compare(x, y, False, draws=20), compare(y, x, False, draws=20)
    assert there.g == pytest.approx(-back.g) and there.delta == pytest.approx(-back.delta)
    assert there.p == pytest.approx(back.p)


def test_benjamini_and_hochberg_count_the_known_alone():
    p = np.array([[0.001, np.nan], [0.02, 0.6]])
    assert adjusted(p)[np.isfinite(p)] == pytest.approx(false_discovery_control([0.001, 0.02, 0.6]))
    assert np.isnan(adjusted(p)[0, 1]) and np.isnan(adjusted(np.array([np.nan]))).all()


@pytest.mark.parametrize("paired", [True, False])
def test_random_parts_show_what_cohorts_without_a_difference_show(paired):
    x, y = normal(10, 400, seed=11), normal(10, 400, seed=12)
    own = np.quantile(np.abs(compare(x, y, paired, draws=20).g), 0.95)
    assert np.quantile(split_effects(x, y, paired), 0.95) == pytest.approx(own, rel=0.2)


def test_parts_are_of_one_cohort_or_swap_the_pair():
    rng = np.random.default_rng(0)
    a, b = random_parts(9, 5, False, rng)
    assert sorted([*a, *b]) == list(range(9))
    a, b = random_parts(6, 6, True, rng)
    assert sorted(zip(np.minimum(a, b), np.maximum(a, b), strict=True)) == [(i, i + 6) for i in range(6)]


def test_the_interval_of_a_mean_is_wider_for_fewer_cases():
    values = normal(40, 1, seed=13)[:, 0]
    widths = [high - low for _, low, high in (mean_interval(values[:n]) for n in (4, 10, 40))]
    assert widths == sorted(widths, reverse=True)
    assert math.isnan(mean_interval(np.array([1.0]))[1]) and mean_interval(np.array([1.0]))[0] == 1.0
