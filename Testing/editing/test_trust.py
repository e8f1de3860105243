"""Trust in a lens: on a tiny pack whose lens is random, so that every measure knows what it should say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.editing.session import Session
from MedSegLensLib.editing.splice import labels_with
from MedSegLensLib.editing.token_sample import TokenSample, sample_tokens
from MedSegLensLib.editing.trust import (
    QUICK,
    Cohort,
    edit_effects,
    examine,
    selectivity,
    share_recovered,
    splice_summary,
    spliced_dice,
    steered,
    with_lens,
)
from MedSegLensLib.editing.verdict import NULLS_OF_FIVE, NULLS_OF_ONE, verdict
from MedSegLensLib.errors import CaseError, UsageError
from MedSegLensLib.lenses.nulls import random_rows

SIZE = {"size": (40, 48, 14), "spacing": (4.0, 4.0, 9.0)}
EFFORT = replace(QUICK, tokens_per_case=3000, null_steps=5, seconds=20)


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    from tiny_packs import write_tiny_pack

    return write_tiny_pack("unet", tmp_path_factory.mktemp("trust") / "tiny-unet")


@pytest.fixture(scope="module")
def tap(pack):
    return pack.default_tap


@pytest.fixture(scope="module")
def cases():
    return [phantom(seed, **SIZE) for seed in (1, 2)]


@pytest.fixture(scope="module")
def whole_session(cases, pack):
    return Session(cases[0], pack)


@pytest.fixture(scope="module")
def facts(pack, tap, cases):
    lens = pack.lens(tap)
    order = torch.randperm(lens.d_sae, generator=torch.Generator().manual_seed(0))
    twin = replace(
        lens,
        W_enc=lens.W_enc[:, order],
        b_enc=lens.b_enc[order],
        W_dec=lens.W_dec[order],
        threshold=lens.threshold[order],
        metadata={"training": {"seed": 9}},
    )
    return examine(with_lens(pack, lens), tap, Cohort(cases[:1], cases[1:]), [twin], EFFORT)


def sampled(pack, cases, per_case, seed=0):
    from MedSegLensLib.segmenters.engine import Engine

    engine = Engine("cpu", torch.float32, False, 4)
    network = engine.prepare(pack.network(), 2)
    return sample_tokens(cases, network, pack.info.segmenter, pack.input_spec(), pack.taps, engine, per_case, seed)


def test_a_sample_of_tokens_is_seeded_and_says_what_each_is(pack, tap, cases):
    whole, some, again = (
        sampled(pack, cases, 10**6)[tap],
        sampled(pack, cases, 500)[tap],
        sampled(pack, cases, 500)[tap],
    )
    assert len(whole.tokens) == whole.total == some.total and len(some.tokens) == 1000
    assert torch.equal(some.tokens, again.tokens) and not torch.equal(
        some.tokens, sampled(pack, cases, 500, 1)[tap].tokens
    )
    targets = whole.targets()
    assert np.array_equal(targets["WT"], targets["NCR"] | targets["ED"] | targets["ET"]) and targets["WT"].any()
    assert not (targets["WT"] & targets["border"]).any() and targets["white"].any()
    assert np.bincount(some.case).tolist() == [500, 500] and some.cases == tuple(c.name for c in cases)


def test_joined_samples_count_their_cases_on(pack, tap, cases):
    one, two = (sampled(pack, [case], 100)[tap] for case in cases)
    both = TokenSample.joined([one, two])
    assert np.bincount(both.case).tolist() == [100, 100] and both.total == one.total + two.total
    assert len(both.some(30).tokens) == 30 == len(both.some(30).tissue)


def test_a_training_mixture_has_the_share_it_should(pack, tap, cases):
    sample = sampled(pack, cases, 5000)[tap]
    lesion = {tuple(t) for t in sample.lesion().tolist()}
    drawn = sample.mixture(2000, {1: 0.4, 2: 0.6})
    assert np.mean([tuple(t) in lesion for t in drawn.tolist()]) == pytest.approx(0.6, abs=0.05)


def test_recovered_is_all_or_nothing_at_its_ends():
    assert share_recovered(0.9, 0.9, 0.1) == 1 and share_recovered(0.9, 0.1, 0.1) == 0
    assert np.isnan(share_recovered(0.5, 0.5, 0.5))


def test_a_spliced_case_stands_beside_zero_and_a_null(whole_session, tap):
    dice = spliced_dice(whole_session, tap, {"random_encoder": whole_session.lenses[tap]})
    assert set(dice) == {"plain", "spliced", "zero", "random_encoder"}
    assert dice["spliced"] == dice["random_encoder"]  # the same lens was given as its own null
    summary = splice_summary({"a": dice})
    lost = [100 * (dice["plain"][r] - dice["spliced"][r]) for r in ("WT", "TC", "ET") if dice["plain"][r] is not None]
    assert summary["loss_pp"] == pytest.approx(max(lost)) and summary["items"] == len(lost)
    assert splice_summary({})["loss_pp"] is None


def test_a_push_along_a_direction_is_what_a_full_pass_gives(whole_session, tap):
    codes, direction = whole_session.codes[tap], 4 * random_rows(1, whole_session.lenses[tap].d_in, 3)
    dense = torch.from_numpy(codes.dense(5))[:, None]
    after = steered(whole_session, tap, direction, {s: dense[s] for s in range(len(dense)) if dense[s].any()})
    lens = whole_session.lenses[tap]
    naive = labels_with(whole_session, tap, lambda x: x + lens.encode(x)[:, 5:6] * direction)
    assert (after != whole_session.labels).any() and (after != naive).sum() <= 3  # but for ties


def test_edits_stand_beside_random_pushes_and_end_in_time(whole_session, tap):
    effects, wanted = edit_effects(whole_session, tap, EFFORT, lambda stage, share: None)
    assert {e.region for e in effects} <= {"WT", "TC", "ET"} and 0 < len(effects) <= wanted
    for e in effects:
        assert e.random_most_ml >= e.random_moved_ml >= 0 <= e.moved_ml
        assert np.isnan(e.target_share) or 0 <= e.target_share <= 1
    summary = selectivity(effects, EFFORT.directions)
    assert 0 <= summary["beats_random"] <= 1 and len(summary["edits"]) == len(effects)
    assert summary["by_chance"] == 0.5  # two equal things, of which either may be the larger
    one, asked = edit_effects(whole_session, tap, replace(EFFORT, seconds=-1.0), lambda stage, share: None)
    assert len(one) == 1 and asked == wanted
    assert selectivity([]) is None


def test_every_measure_of_a_lens_has_its_null(facts):
    assert set(facts["reconstruction"]) == {"lens", "pca", "random_encoder", "random_decoder"}
    assert all("lesion" in by for by in facts["reconstruction"].values())
    assert set(facts["stability"]["nulls"]) == {"random", "start", "tokens"}
    assert "random_encoder" in facts["splice"]["nulls"]
    for probe in facts["probes"].values():
        assert abs(probe["shuffled"] - 0.5) < 0.15 and 0 <= probe["best_latent"] <= 1
        assert 0 < probe["random_direction"] <= 1
        assert max(probe["sparse_5_channels"], probe["sparse_5_components"]) <= probe["dense"] + 0.1
    assert len(facts["cases"]["fit"]) == len(facts["cases"]["score"]) == 1
    known = [g for g in facts["verdict"]["grades"] if g["value"] is not None]
    assert [g["measure"] for g in known if g["null"] is None] == ["dead latents"] and len(known) >= 7


def test_a_permuted_twin_is_wholly_stable(facts):
    stable = facts["stability"]
    assert stable["share"] == 1 and stable["seeds"] == [9] and len(stable["decoder_cosine"]) == 24
    assert stable["activation_share_on_lesion"] == 1 and stable["substitution_kept"] == pytest.approx(1, abs=0.01)
    assert stable["nulls"]["random"]["share"] < 0.5
    for s in facts["substituted"]:
        assert s["replaced_ml"] <= 0.05 * s["removed_ml"] + 0.5  # the twin does what the latent did


def test_a_random_lens_is_not_trusted(facts):
    assert facts["verdict"]["word"] == "Do not trust" and facts["verdict"]["keeps"] == "poor"


def test_facts_are_json_without_nan(facts):
    import json

    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


def test_without_seeds_and_training_cases_it_says_what_is_not_known(pack, tap, cases):
    facts = examine(with_lens(pack, pack.lens(tap)), tap, Cohort([], cases[:1]), [], replace(EFFORT, null_steps=0))
    assert facts["stability"] is None and facts["probes"] is None
    assert any("another seed" in n for n in facts["notes"]) and any("probes" in n for n in facts["notes"])
    assert any("frozen random decoder" in n for n in facts["notes"]) and facts["effort"]["null_steps"] == 0
    assert "not known" in {g["grade"] for g in facts["verdict"]["grades"]}


def test_a_lens_of_another_tap_is_refused(pack, tap):
    lens = pack.lens(tap)
    with pytest.raises(UsageError, match="no tap of this name"):
        with_lens(pack, replace(lens, tap="nowhere"))
    with pytest.raises(UsageError, match="channels"):
        with_lens(pack, replace(lens, W_enc=torch.zeros(3, 24), W_dec=torch.zeros(24, 3), b_dec=torch.zeros(3)))


def test_a_case_without_labels_is_refused(pack, cases):
    with pytest.raises(CaseError, match="no labels"):
        sampled(pack, [replace(cases[0], labels=None)], 10)
    with pytest.raises(CaseError, match="there is none"):
        sampled(pack, [], 10)


def good_facts() -> dict:
    probe = {"best_latent": 0.98, "best_channel": 0.9, "dense": 0.99, "sparse_5": 0.985}
    probe |= dict.fromkeys(NULLS_OF_ONE, 0.85) | dict.fromkeys(NULLS_OF_FIVE, 0.9)
    rebuilt = {"lens": 0.97, "random_encoder": 0.6, "random_decoder": 0.8}
    return {
        "reconstruction": {name: {"lesion": value} for name, value in rebuilt.items()},
        "splice": {"loss_pp": 0.4, "share_recovered": 0.99, "nulls": {"random_encoder": {"share_recovered": 0.3}}},
        "activity": {"dead_share": 0.01},
        "stability": {"share_on_lesion": 0.6, "null_share": 0.1},
        "probes": {"WT": probe, "csf": {**probe, "best_latent": 0.1}},
        "selectivity": {"beats_random": 1.0, "by_chance": 0.25},
    }


def test_the_verdict_is_as_good_as_the_worst_measure():
    facts = good_facts()
    assert verdict(facts)["word"] == "Trust"
    assert verdict({**facts, "stability": None})["word"] == "With care"  # not known is not good
    assert verdict({**facts, "stability": {"share_on_lesion": 0.1, "null_share": 0.0}})["word"] == "Do not trust"
    assert verdict({**facts, "stability": {"share_on_lesion": 0.6, "null_share": 0.7}})["word"] == "With care"
    poor = {**facts, "splice": {**facts["splice"], "loss_pp": 4.0}}
    assert verdict(poor)["keeps"] == "poor" and verdict(poor)["means"] == "good"


def test_what_its_null_reaches_too_was_not_earned():
    facts = good_facts()
    facts["splice"]["nulls"]["random_encoder"] = {"loss_pp": 0.2, "share_recovered": 1.01}
    grades = {g["measure"]: g["grade"] for g in verdict(facts)["grades"]}
    assert grades["Dice lost when spliced in, worst, pp"] == grades["share of Dice recovered"] == "with care"


@pytest.mark.parametrize("null", ["random_direction", "sparse_5_channels"])
def test_a_latent_that_says_no_more_than_a_direction_at_random_was_not_earned(null):
    facts = good_facts()
    facts["probes"]["WT"] = facts["probes"]["WT"] | {null: 0.99}
    assert verdict(facts)["means"] == "with care"


def test_a_quick_look_calls_no_reconstruction_good_whose_nearest_null_was_not_asked():
    facts = good_facts()
    facts["reconstruction"].pop("random_decoder")
    assert verdict(facts)["keeps"] == "with care" and "keeps most of" in verdict(facts)["sentence"]


def test_a_poor_reconstruction_that_the_segmentation_does_not_notice_is_said_as_such():
    facts = good_facts()
    facts["reconstruction"]["lens"]["lesion"] = 0.83
    found = verdict(facts)
    assert found["keeps"] == "poor" and "explained variance on the lesion 0.83" in found["sentence"]
