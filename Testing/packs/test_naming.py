"""Names follow from evidence: the same evidence the same name, no name without it, each name a rule to be tested."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from MedSegLensLib.packs.catalogue import UNCLEAR
from MedSegLensLib.packs.naming import (
    COST_OF_A_TERM,
    LEAST_SCORE,
    N_CLASSES,
    VALUES,
    Evidence,
    against_others,
    candidates,
    chance,
    class_facts,
    holds,
    name_of,
    names_of,
    prediction,
)

RNG = np.random.default_rng(0)


def brain() -> np.ndarray:
    """Tokens of a brain with a tumour: a few per cent of each label, every class filled."""
    tokens = RNG.integers(20, 40, N_CLASSES)
    for label, share in (("NCR", 8), ("ED", 20), ("ET", 8)):
        tokens[holds({"label": [label]})] //= 40 // share
    return tokens


TOKENS = brain()


def evidence(inside: np.ndarray, share: float = 0.95, **other) -> Evidence:
    """A latent with this share of its energy in some classes, evenly, and the rest elsewhere."""
    energy = np.where(inside, TOKENS * share / TOKENS[inside].sum(), TOKENS * (1 - share) / TOKENS[~inside].sum())
    facts = {"effective_tokens": 500.0, "n_cases": 5, "effective_cases": 4.0, "stability": 0.9} | other
    return Evidence(energy, TOKENS, **facts)


@pytest.mark.parametrize(
    "rule, name",
    [
        ({"label": ["ET"]}, "Enhancing tumour"),
        ({"label": ["NCR"]}, "Necrotic or non-enhancing core"),
        ({"label": ["ED"]}, "Edema"),
        ({"label": ["ED"], "near": ["enhancement"]}, "Rim outside the enhancing tumour"),
        (
            {"label": ["ED"], "near": ["enhancement"], "t2f": ["bright"]},
            "FLAIR-bright rim outside the enhancing tumour",
        ),
        ({"label": ["NCR", "ET"]}, "Tumour core"),
        ({"tissue": ["csf"], "depth": ["edge"]}, "CSF at the brain's edge"),
        ({"tissue": ["vessel"]}, "Vessel-like structures"),
        ({"tissue": ["white"], "depth": ["deep"]}, "Deep white matter"),
    ],
)
def test_a_latent_is_named_by_where_it_fires(rule, name):
    found = name_of(evidence(holds(rule)))
    assert found.words == name
    assert found.rule == rule and json.loads(found.rule_json) == rule
    assert found.score > 0.6
    assert "% of its firing" in found.evidence and "5 cases" in found.evidence


def test_brightness_alone_is_a_name_where_it_holds_in_and_outside_the_tumour():
    inside = holds({"t1c": ["bright"]})
    energy = inside * chance(TOKENS)
    assert name_of(Evidence(energy, TOKENS, 500.0, 5, 4.0, 0.9)).words == "T1c-bright areas"


def test_a_side_is_named_only_where_several_cases_show_it():
    lateral = holds({"tissue": ["white"], "side": ["left"]})
    assert name_of(evidence(lateral, laterality=-0.9)).words == "Left-sided white matter"
    for doubt in ({"laterality": -0.3}, {"laterality": None}, {"laterality": -0.9, "n_cases": 2}, {"laterality": 0.9}):
        assert "sided" not in name_of(evidence(lateral, **doubt)).words


@pytest.mark.parametrize(
    "doubt, said",
    [
        ({"stability": None}, "stability is unknown"),
        ({"stability": 0.69}, "too low"),
        ({"n_cases": 1}, "1 case"),
        ({"effective_cases": 1.1}, "on one of 5 cases"),
        ({"effective_tokens": 10.0}, "about 10 tokens"),
        ({"share": 0.3}, "No name covers it"),
    ],
)
def test_weak_evidence_gives_no_name_and_says_why(doubt, said):
    found = name_of(evidence(holds({"label": ["ET"]}), **doubt))
    assert found.words == UNCLEAR and found.rule is None and found.rule_json is None
    assert said in found.evidence


def test_nothing_is_named_that_never_fires():
    silent = Evidence(np.zeros(N_CLASSES), TOKENS, 500.0, 5, 4.0, 1.0)
    assert name_of(silent).words == UNCLEAR and name_of(silent).score == 0
    assert name_of(Evidence(np.zeros(N_CLASSES), np.zeros(N_CLASSES), 0.0, 0, 0.0, None)).rule is None


def test_a_latent_that_fires_everywhere_alike_is_unclear():
    everywhere = Evidence(TOKENS.astype(float), TOKENS, 1e6, 9, 9.0, 1.0)
    assert name_of(everywhere).words == UNCLEAR


def test_every_candidate_is_a_rule_that_holds_somewhere_and_is_named_once():
    words = [candidate.words for candidate in candidates()]
    assert len(set(words)) == len(words)
    for candidate in candidates():
        assert holds(candidate.rule).any(), candidate.words
        assert not holds(candidate.rule).all(), candidate.words


def test_facts_of_classes_are_what_a_rule_asks_for():
    facts = class_facts()
    inside = holds({"label": ["ED"], "t2f": ["bright", "middle"]})
    assert set(facts["label"][inside]) == {VALUES["label"].index("ED")}
    assert VALUES["t2f"].index("dark") not in facts["t2f"][inside]
    assert (holds({"label": ["none"]}) | holds({"label": ["NCR", "ED", "ET"]})).all()


@pytest.mark.parametrize("rule", [{"colour": ["red"]}, {"label": ["GBM"]}, {"label": []}])
def test_a_rule_that_says_nothing_known(rule):
    with pytest.raises(ValueError):
        holds(rule)


def test_chance_is_half_in_the_tumour_and_around_it():
    near = ~holds({"near": ["far"]})
    assert chance(TOKENS).sum() == pytest.approx(1) and chance(TOKENS)[near].sum() == pytest.approx(0.5)
    healthy = np.where(near, 0, TOKENS)
    assert chance(healthy).sum() == pytest.approx(1)


def test_prediction_is_balanced_accuracy_and_shuffled_names_do_worse():
    rules = np.stack([holds({"label": ["ET"]}), holds({"tissue": ["csf"]})])
    strong = np.stack([np.where(rules[0], TOKENS, 0), np.where(rules[1], TOKENS // 2, 0)])
    accuracy = prediction(rules, strong, TOKENS)
    assert accuracy[0, 0] == 1.0
    outside = TOKENS.sum() - strong[1].sum()
    assert accuracy[1, 1] == pytest.approx((1 + 1 - (TOKENS[rules[1]].sum() - strong[1].sum()) / outside) / 2)
    assert accuracy[0, 1] < 0.5 and accuracy[1, 0] < 0.5
    assert np.isnan(prediction(rules, np.zeros_like(strong), TOKENS)).all()


def test_against_others_is_a_rank():
    assert against_others(np.float64(2), np.array([1.0, 2.0, 3.0, np.nan])) == 0.5
    assert np.isnan(against_others(np.float64(2), np.array([])))


classes = st.lists(st.integers(0, N_CLASSES - 1), min_size=1, max_size=12, unique=True)
energies = st.lists(st.floats(0, 1e4, width=32), min_size=12, max_size=12)


def planted(where: list[int], energy: list[float]) -> np.ndarray:
    found = np.zeros(N_CLASSES)
    found[where] = energy[: len(where)]
    return found


@settings(max_examples=15, deadline=None)
@given(classes, energies, st.floats(0, 100), st.integers(0, 6), st.one_of(st.none(), st.floats(-1, 1)))
def test_no_name_without_evidence(where, energy, effective, n_cases, stability):
    found = name_of(Evidence(planted(where, energy), TOKENS, effective, n_cases, 2.0, stability))
    if found.words != UNCLEAR:
        covered = planted(where, energy)
        assert stability is not None and stability >= 0.7 and n_cases >= 2 and effective >= 30
        assert covered[holds(found.rule)].sum() / covered.sum() > LEAST_SCORE
    assert (found.words == UNCLEAR) == (found.rule is None) and 0 <= found.score <= 1 and found.evidence.endswith(".")


@settings(max_examples=15, deadline=None)
@given(classes, energies, st.floats(0.01, 1e3))
def test_the_same_evidence_gives_the_same_name_whatever_its_scale_and_company(where, energy, scale):
    energy = planted(where, energy)
    if energy.sum() < 1e-3:
        return
    facts = (TOKENS, 100.0, 4, 3.0, 0.9)
    alone = name_of(Evidence(energy, *facts))
    others = [Evidence(planted([5], [1.0]), *facts), Evidence(energy * scale, *facts), Evidence(energy, *facts)]
    assert names_of(others)[2] == alone
    assert names_of(others)[1].score == pytest.approx(alone.score, abs=1e-3)


@settings(max_examples=15, deadline=None)
@given(classes, energies, st.floats(0.3, 0.9), st.floats(0.0, 0.3))
def test_a_stricter_threshold_never_names_more(where, energy, least, more):
    one = Evidence(planted(where, energy), TOKENS, 100.0, 4, 3.0, 0.9)
    loose, strict = name_of(one, least), name_of(one, least + more)
    assert strict.words in (UNCLEAR, loose.words)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(candidates()), st.floats(0.5, 0.9), st.floats(0.0, 0.1))
def test_more_of_its_firing_in_a_place_raises_the_score(candidate, share, more):
    inside = holds(candidate.rule)
    lower, higher = (name_of(evidence(inside, share + m, laterality=None)).score for m in (0.0, more))
    assert higher >= lower - 3 * COST_OF_A_TERM, "but for the choice of a simpler name"
