"""Measures of failure detection against values worked out by hand."""

import numpy as np
import pytest

from MedSegLensLib.failures.risk_coverage import aurc, e_aurc, failure_auroc, rank_correlation

RISK = [0.1, 0.2, 0.6, 0.3]


def test_the_area_is_the_mean_of_the_mean_risks_of_the_surest():
    """Surest first: 0.1, 0.6, 0.2, 0.3. Mean risks of the first k: 0.1, 0.35, 0.3, 0.3; their mean is 0.2625."""
    assert aurc(RISK, [4, 2, 3, 1]) == pytest.approx(0.2625)


def test_a_perfect_order_has_no_excess():
    """0.1, 0.2, 0.3, 0.6: 0.1, 0.15, 0.2, 0.3; their mean is 0.1875, and 0.2625 exceeds it by 0.075."""
    assert aurc(RISK, [4, 3, 1, 2]) == pytest.approx(0.1875)
    assert e_aurc(RISK, [4, 3, 1, 2]) == pytest.approx(0) and e_aurc(RISK, [4, 2, 3, 1]) == pytest.approx(0.075)


def test_a_confidence_that_says_nothing_gives_the_mean_risk():
    assert aurc(RISK, [1, 1, 1, 1]) == pytest.approx(np.mean(RISK))


def test_cases_of_equal_confidence_count_as_in_random_order():
    """First 0.1 and 0.6 in either order: (0.1 + 0.6) / 2 at k = 1, 0.35 at 2; then 0.3, 0.3: the mean is 0.325."""
    both = [aurc(RISK, order) for order in ([4, 2, 3, 1], [3, 2, 4, 1])]
    assert aurc(RISK, [3, 2, 3, 1]) == pytest.approx(np.mean(both)) == pytest.approx(0.325)


def test_failures_are_the_cases_below_dice_seven_tenths():
    """One failure (0.6), less sure than one of three others: 1 / 3; a tie counts half."""
    assert failure_auroc(RISK, [4, 2, 3, 1]) == pytest.approx(1 / 3)
    assert failure_auroc(RISK, [4, 3, 3, 1]) == pytest.approx(1 / 2 / 3 + 1 / 3)
    assert failure_auroc([0.1, 0.2], [1, 2]) is None


def test_confidence_that_rises_with_dice_correlates():
    assert rank_correlation(RISK, [4, 3, 1, 2]) == pytest.approx(1)
    assert rank_correlation(RISK, [1, 2, 4, 3]) == pytest.approx(-1)
    assert rank_correlation(RISK, [1, 1, 1, 1]) is None


def test_a_case_without_a_number_is_refused():
    with pytest.raises(ValueError, match="finite"):
        aurc([0.1, float("nan")], [1, 2])
