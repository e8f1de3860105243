"""Numbers in words."""

import pytest

from MedSegLensLib.reports import wording


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (wording.volume(0.0), "absent"),
        (wording.volume(0.001), "under 0.01"),
        (wording.volume(None), "not measured"),
        (wording.signed(-12.34), "−12.3"),
        (wording.signed(0.0), "0"),
        (wording.signed(-0.002), "−0.002"),
        (wording.percent(0, 3), "new"),
        (wording.percent(0, 0), "absent"),
        (wording.percent(10, 0), "−100 %"),
        (wording.percent(10, 10.02), "+0.2 %"),
        (wording.dice(None, 0.0), "absent"),
        (wording.dice(None, None), "not measured"),
        (wording.dice(0.0, 3.0), "0.00"),
        (wording.place((12.4, -3.0, 5.0)), "R 12, P 3, S 5"),
        (wording.seconds(0.0853), "85 ms"),
        (wording.seconds(131.2), "2 min 11 s"),
    ],
)
def test_numbers(said, expected):
    assert said == expected


@pytest.mark.parametrize(
    ("rho", "verdict"),
    [(0.83, "agrees well"), (0.6, "roughly"), (0.3, "weakly"), (0.0, "says nothing"), (-0.7, "contradicts")],
)
def test_the_verdict_follows_the_number(rho, verdict):
    said = wording.agreement(rho, 20, "ET")
    assert verdict in said and f"{abs(rho):.2f} over 20" in said
    assert ("Trust the measured" in said) == (rho < 0.5)
