"""The page of an adaptation says what was found, what was not, and nothing that is not known."""

import re
from dataclasses import dataclass

import numpy as np
import pytest

from MedSegLensLib.reports.adapt_page import interval, render_adapt_page

OURS, THEIRS = "gains of latents", "retuned threshold"


def of_case(name: str, before: float | None, after: float | None, fitted_on: bool = False) -> dict:
    dices = [None if d is None else {"WT": d, "TC": d / 2, "ET": None} for d in (before, after)]
    ml = {"WT": 12.0, "TC": 3.0, "ET": 0.0}
    return {
        "case": name,
        "fitted_on": fitted_on,
        "trained": False,
        "simulated": False,
        "invented": False,
        "before": dices[0],
        "after": {OURS: dices[1], THEIRS: dices[1]},
        "ml": {"": ml, OURS: ml, THEIRS: ml},
    }


def of_method(name: str, why: str = "") -> dict:
    setting = None if why else {"latents": 2, "stay": 0.3, "mix": 1.0}
    trials = [{"latents": 2, "stay": 0.3, "mix": 1.0, "dice_gain": 0.03}]
    return {"method": name, "setting": setting, "share": 0.5, "left_out_gain": trials, "why": why}


@pytest.fixture
def facts() -> dict:
    gain = {"cases": 3, "mean": 0.02, "interval": [-0.01, 0.05]}
    return {
        "headline": "a-pack adapted to elsewhere on 2 labelled cases: 2 latents are scaled.",
        "pack": {"name": "a-pack", "version": "1.0", "hash": "0" * 64},
        "tap": "up.1",
        "cohort": {"name": "elsewhere", "source": "A <hospital>", "cases": 3, "simulated": False, "invented": False},
        "fitted_on": ["one"],
        "latents": [
            {"latent": 7, "gain": 0.25, "name": "edema", "fires_share": 0.4},
            {"latent": 9, "gain": 3.0, "name": None, "fires_share": None},
        ],
        "methods": {OURS: of_method(OURS), THEIRS: of_method(THEIRS)},
        "judged": "3 cases, 2 of them never trained on",
        "rest": {OURS: gain, THEIRS: gain},
        "unseen": {m: {"cases": 2, "mean": -0.004, "interval": None} for m in (OURS, THEIRS)},
        "cases": [of_case("one", 0.5, 0.6, True), of_case("two", 0.7, 0.72), of_case("three", None, None)],
        "failures": [],
        "notes": ["Two cases are few."],
    }


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_what_was_found_is_said(facts):
    page = render_adapt_page(facts)
    said = text_of(page)
    assert facts["headline"] in said and "2 latents scaled for elsewhere" in said and "Two cases are few." in said
    assert "40.0 % of the brain" in said and "not known" in said and "Only 50 %" in said
    assert "0.50 → 0.60" in said and "no labels" in said and "absent" in said
    assert "A &lt;hospital&gt;" in page and "http://" not in page and "https://" not in page


def test_patients_never_trained_on_stand_apart_where_there_are_others(facts):
    assert "Patients never trained on (2)" in text_of(render_adapt_page(facts))
    facts["unseen"] = facts["rest"]
    assert "Patients never trained on" not in text_of(render_adapt_page(facts))


def test_where_no_latent_does_it_nothing_is_claimed(facts):
    facts |= {"latents": [], "headline": "no latent does this, and nothing was changed."}
    facts["methods"][OURS] = of_method(OURS, "On left-out cases no setting gained enough.")
    said = text_of(render_adapt_page(facts))
    assert "No latent does this" in said and "no setting gained enough" in said and "latents scaled" not in said


def test_where_nobody_else_has_labels_the_gain_is_not_known(facts):
    facts |= {"rest": {}, "unseen": {}}
    assert "whether it helps on others is not known" in text_of(render_adapt_page(facts))


def test_a_case_without_labels_is_not_in_the_chart(facts):
    chart = re.search(r"<svg class=.chart.*?</svg>", render_adapt_page(facts), re.S).group()
    assert "two" in chart and "one *" in chart and "three" not in chart


def test_the_largest_changes_are_shown_with_their_place(facts):
    @dataclass
    class Picture:
        case: str = "two"
        modality: str = "t2f"
        slice: int = 4
        slices: int = 20
        image: np.ndarray = None
        brain: np.ndarray = None
        before: np.ndarray = None
        after: np.ndarray = None
        reference: np.ndarray = None
        spacing: tuple = (2.0, 2.0, 5.0)
        height_mm: float = -12.0
        changed: int = 1234

    image = np.random.default_rng(0).random((1, 40, 36), np.float32)
    labels = np.zeros((1, 40, 36), np.uint8)
    labels[:, 10:20, 10:20] = 2
    picture = Picture(image=image, brain=image > -1, before=labels, after=np.roll(labels, 4, 2))
    page = render_adapt_page(facts, [picture])
    assert page.count("data:image/jpeg") == 2 and "1,234 voxels" in page and "axial slice 5 of 20" in page
    picture.reference = labels
    assert render_adapt_page(facts, [picture]).count("data:image/jpeg") == 3


def test_a_mean_without_an_interval_stands_alone():
    assert interval({"mean": 0.02, "interval": None}) == "+0.020"
    assert interval({"mean": 0.02, "interval": [-0.01, 0.05]}) == "+0.020 (−0.010 to +0.050)"
    assert interval({"mean": None, "interval": None}) == "not known"
