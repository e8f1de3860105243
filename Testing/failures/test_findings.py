"""What a check says comes back from JSON as it went, and nonsense is refused."""

import json
from dataclasses import replace

import pytest

from MedSegLensLib.failures.findings import Check, Quality, Reason, Shift, Suspect

REASON = Reason("model.1", 7, "bright FLAIR along the ventricle wall", 2.5, 0.25)
SUSPECT = Suspect("missed", "boundary", "WT", 0.75, (1.5, -2.0, 30.0), 1.25, (REASON,), "Missed, likely.")
SHIFT = Shift(3.5, 0.02, {"usage": 3.0, "graph": 0.5}, "t1n", "T1 differs most.")
CHECK = Check("case", "pack", (Quality("ET", 0.8, 0.5, 0.9),), SHIFT, (SUSPECT,), ("A note.",), 0.5)


@pytest.mark.parametrize("check", [CHECK, replace(CHECK, shift=None, quality=(), suspects=())])
def test_a_check_comes_back_from_json(check):
    assert Check.from_json(json.loads(json.dumps(check.to_json()))) == check


def test_a_suspect_is_of_a_known_kind_and_its_risk_a_probability():
    for wrong in ({"kind": "wrong"}, {"form": "voxel"}, {"risk": 1.5}, {"risk": float("nan")}):
        with pytest.raises(ValueError, match="suspect|risk"):
            replace(SUSPECT, **wrong)


def test_a_likely_dice_lies_in_its_interval():
    with pytest.raises(ValueError, match="order"):
        Quality("ET", 0.8, 0.85, 0.9)
