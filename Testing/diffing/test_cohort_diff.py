"""Two cohorts of small phantoms read with a tiny pack, from the cases to the comparison."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from MedSegLensLib.cohorts.acquisitions import Acquisition
from MedSegLensLib.cohorts.cohort import Cohort, CohortCase
from MedSegLensLib.cohorts.making import acquired_cohort, phantom_cohort
from MedSegLensLib.diffing import suppression
from MedSegLensLib.diffing.cohort_diff import diff_cohorts
from MedSegLensLib.diffing.cohort_nulls import closest_first
from MedSegLensLib.diffing.comparison import Comparison
from MedSegLensLib.diffing.dictionaries import TapDictionaries, at_work, opened, stack, thresholds_of_equal_rate
from MedSegLensLib.diffing.seeds import SeedLens
from MedSegLensLib.diffing.usage import UsageWork, cohort_usage
from MedSegLensLib.editing.influence import attribute_log_odds
from MedSegLensLib.editing.recipe import Edit, PackReference, Recipe
from MedSegLensLib.editing.session import Session
from MedSegLensLib.editing.splice import dice_by_region
from MedSegLensLib.errors import CaseError, UsageError
from MedSegLensLib.lenses.files import save_lens
from MedSegLensLib.lenses.lens import Lens

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "editing"))
from tiny_packs import write_tiny_pack  # noqa: E402

SMALL = {"size": (40, 48, 12), "spacing": (4.0, 4.0, 11.0)}


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return write_tiny_pack("unet", tmp_path_factory.mktemp("pack") / "tiny")


@pytest.fixture(scope="module")
def seeds(pack, tmp_path_factory):
    """The pack's lens again, its latents in another order, and one of them turned away."""
    import torch

    folder, own = tmp_path_factory.mktemp("seeds"), pack.lens()
    order = np.random.default_rng(0).permutation(own.d_sae)
    rows = own.W_dec.clone()
    rows[3] = torch.nn.functional.normalize(torch.randn(own.d_in, generator=torch.Generator().manual_seed(5)), dim=0)
    again = Lens(
        own.tap, rows.T[:, order].contiguous(), own.b_enc[order], rows[order], own.b_dec, own.threshold[order], own.k
    )
    save_lens(again, folder / "seed-1", "float32")
    return [SeedLens.of(folder / "seed-1")]


@pytest.fixture(scope="module")
def x():
    return phantom_cohort("plain", range(8), **SMALL)


@pytest.fixture(scope="module")
def y(x):
    return acquired_cohort("without-t2", x, Acquisition("missing-t2w"))


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    return tmp_path_factory.mktemp("journal")


@pytest.fixture(scope="module")
def comparison(pack, x, y, seeds, journal):
    return diff_cohorts(pack, x, y, seeds, suppression=False, journal=journal)


# -- usage ----------------------------------------------------------------------------------------------------------


def test_usage_is_what_a_session_of_the_case_says(pack, x, seeds):
    tap = pack.default_tap
    one = TapDictionaries(tap, tuple(seeds), tuple([0.5] * pack.lens().d_sae))
    work = UsageWork.of(pack, [one])
    found = cohort_usage(work, x.of(["phantom-0"])).taps[tap]
    session = Session(x.cases[0].read(), pack, engine=opened(work.pack, work.taps).engine)
    codes, own = session.codes[tap], stack(pack.lens(), one).own
    summary = codes.summary()
    assert found.rate[0, own] == pytest.approx(summary.count / session.brain_tokens[tap].sum(), abs=1e-4)
    fires = summary.count > 20
    assert found.magnitude[0, own][fires] == pytest.approx(
        [codes.latent(j)[1].mean() for j in np.flatnonzero(fires)], rel=1e-2
    )
    token_ml = session.conformed.voxel_ml * session.labels.size / codes.n_tokens
    assert found.extent_ml[0, own] == pytest.approx(summary.count * token_ml, rel=1e-2, abs=3 * token_ml)
    for r, region in enumerate(("WT", "TC", "ET")):
        expected = attribute_log_odds(session, tap).get(region)
        if expected is None:
            assert np.isnan(found.reliance[0, r]).all()
        else:
            assert found.reliance[0, r, own] == pytest.approx(-expected, abs=2e-2 * np.abs(expected).max())


def test_stacked_lenses_stand_where_the_stack_says(pack, seeds):
    one = TapDictionaries(pack.default_tap, tuple(seeds), tuple([0.5] * pack.lens().d_sae))
    together = stack(pack.lens(), one)
    for run, lens in ((together.own, pack.lens()), (together.seeds[0], seeds[0].lens())):
        assert np.array_equal(together.lens.W_dec[run].numpy(), lens.W_dec.numpy())
    assert together.random is not None
    assert together.lens.W_dec[together.random].norm(dim=1).numpy() == pytest.approx(1.0, abs=1e-5)


def test_random_latents_fire_as_often_as_those_they_imitate(pack):
    import torch

    from MedSegLensLib.diffing.dictionaries import random_latents

    lens = pack.lens()
    tokens = lens.b_dec + 3 * torch.randn(4000, lens.d_in, generator=torch.Generator().manual_seed(1))
    random = random_latents(lens, thresholds_of_equal_rate(lens, tokens))
    own, theirs = ((one.encode(tokens) > 0).float().mean(0).numpy() for one in (lens, random))
    known = (own >= 1e-3) & (own < 0.4)  # above that a threshold of 0 is the lowest there is
    assert known.sum() > 5
    assert theirs[known] == pytest.approx(own[known], abs=2e-3)


def test_the_most_alike_are_partners_whatever_it_costs_the_others():
    similarity = np.array([[0.99, 0.95], [0.72, 0.1], [0.5, 0.6]])
    assert closest_first(similarity).tolist() == [0, -1, 1]


# -- the comparison -------------------------------------------------------------------------------------------------


def test_a_comparison_says_of_every_latent_what_it_is_and_beside_which_null(comparison, pack, y):
    assert len(comparison.findings) == pack.lens().d_sae
    for finding in comparison.findings:
        assert finding.side == "a" and finding.tap == pack.default_tap and finding.evidence.endswith(".")
        if finding.category == "specific":
            assert abs(finding.measure) > finding.null and finding.p_adjusted <= 0.05
            assert finding.specific_to in ("plain", y.name) and "partner" in finding.evidence
    assert comparison.summary["paired"] and comparison.summary["cases"] == [8, 8]
    assert {row["null"] for row in comparison.summary["nulls"]} >= {
        "random splits",
        "random latents",
        "other seeds, same cohort",
        "random pairs of latents",
    }


def test_a_missing_modality_is_seen(comparison):
    """The network reads a channel of zeros in place of T2: some latents cannot fire as before."""
    changed = [f for f in comparison.findings if f.p_adjusted is not None and f.p_adjusted <= 0.05]
    assert len(changed) >= 3
    assert any("t2w" in note for note in comparison.notes)


def test_what_was_compared_is_named_as_what_it_is(comparison, pack):
    assert comparison.a.invented and comparison.b.simulated and comparison.pack.hash == pack.hash
    assert any("phantoms" in note for note in comparison.notes) and any("simulated" in n for n in comparison.notes)
    assert comparison.thresholds["least pairs"] == 7


def test_a_comparison_survives_its_table_and_its_json(comparison, tmp_path):
    comparison.save(tmp_path)
    assert Comparison.load(tmp_path / "comparison.parquet") == comparison
    assert Comparison.load(tmp_path / "comparison.json") == comparison


def test_shares_stand_beside_their_nulls(comparison):
    by = {share.category: share for share in comparison.shares}
    assert sum(s.n for c, s in by.items()) == len(comparison.findings)
    assert by["backbone"].null is not None and by["backbone"].null_is
    # Of eight pairs seven are left when one is taken away: just enough for an interval.
    low, high = by["backbone"].interval
    assert low <= by["backbone"].share <= high


def test_the_same_again_comes_from_the_journal(pack, x, y, seeds, journal, comparison):
    before = {path: path.stat().st_mtime_ns for path in journal.rglob("*") if path.is_file()}
    again = diff_cohorts(pack, x, y, seeds, suppression=False, journal=journal)
    assert {path: path.stat().st_mtime_ns for path in journal.rglob("*") if path.is_file()} == before
    assert again.findings == comparison.findings


def test_without_other_seeds_nothing_is_claimed(pack, x, y, journal):
    found = diff_cohorts(pack, x, y, [], suppression=False, journal=journal)
    assert not {"specific", "backbone"} & {f.category for f in found.findings}
    assert any("No other seed" in note for note in found.notes)


# -- what rests on the latents --------------------------------------------------------------------------------------


def test_suppression_is_measured_as_an_edit_of_each_case(pack, x):
    tap, gains = pack.default_tap, ((1, 0.0), (2, 0.0))
    cohort = x.of(["phantom-0"])
    asked = [suppression.Question("suppressed", cohort, gains)]
    rate = np.full(pack.lens().d_sae, 0.1)
    rows = suppression.measure(at_work(pack), tap, asked, [1, 2], rate, sets=2)
    # The same through the other way to run an edit: the whole network again.
    session = opened(at_work(pack), (TapDictionaries(tap),)).session(x.cases[0].read(), edits=False)
    reference = session.conformed.labels(session.case.labels)
    recipe = Recipe("r", PackReference.of(pack), tuple(Edit(tap, j, "scale", g) for j, g in gains))
    before, after = (dice_by_region(v, reference) for v in (session.labels, session.edit(recipe).labels))
    wt = next(row for row in rows if row["region"] == "WT")
    assert wt["change"] == pytest.approx(after["WT"] - before["WT"], abs=1e-3)
    assert wt["n"] == 1 and wt["random_sets"] == 2 and wt["interval"] is None
    assert wt["beyond_random"] == pytest.approx(wt["change"] - wt["random_change"])
    assert "2 specific latents" in wt["says"]


def test_random_sets_hold_others_that_fire_about_as_often():
    rate = np.concatenate([np.full(20, 0.01), np.full(20, 0.2)])
    sets = suppression.random_sets(((0, 0.0), (21, 0.5)), [0, 21, 1], rate, sets=6)
    assert len(sets) == 6
    for chosen in sets:
        (a, gain_a), (b, gain_b) = chosen
        assert rate[a] == 0.01 and rate[b] == 0.2 and (gain_a, gain_b) == (0.0, 0.5)
        assert not {a, b} & {0, 21, 1}
    assert len({tuple(chosen) for chosen in sets}) > 1
    assert suppression.random_sets(((0, 0.0), (1, 0.0)), [0, 1], np.array([0.1, 0.1, 0.1])) == []


def test_restoring_gives_a_latent_the_strength_it_has_in_the_other_cohort(x, y):
    def table(rate):
        n = len(rate)
        return suppression.TapUsage(rate, np.ones_like(rate), rate, np.zeros((n, 3, rate.shape[1])))

    asked = suppression.questions(
        x, y, [0], [1], table(np.array([[0.2, 0.01, 0.1]] * 4)), table(np.array([[0.1, 0.04, 0.1]] * 4))
    )
    assert [(q.what, q.cohort.name) for q in asked] == [
        ("suppressed", y.name),
        ("suppressed", x.name),
        ("restored", y.name),
    ]
    assert dict(asked[2].gains) == pytest.approx({1: 0.25, 0: 2.0})


def test_cases_without_labels_have_no_dice_to_lose(pack, x):
    nobody = replace(x.cases[0], phantom=None)
    cohort = Cohort("unlabelled", "nobody", "none", (nobody,))
    asked = [suppression.Question("suppressed", cohort, ((1, 0.0),))]
    assert suppression.measure(at_work(pack), pack.default_tap, asked, [1], np.full(24, 0.1)) == []


# -- what cannot be compared ----------------------------------------------------------------------------------------


def test_one_case_in_a_cohort_is_refused_before_anything_is_read(pack, x):
    with pytest.raises(CaseError, match="1 patient"):
        diff_cohorts(pack, x, x.of(["phantom-3"]))


def test_the_same_cases_are_refused(pack, x):
    with pytest.raises(UsageError, match="same cases"):
        diff_cohorts(pack, x, replace(x, name="again"))


def test_cohorts_without_a_common_modality_are_refused(pack):
    a = phantom_cohort("a", range(2), modalities=("t1c", "t2f"), **SMALL)
    b = phantom_cohort("b", range(2, 4), modalities=("t2w",), **SMALL)
    with pytest.raises(CaseError, match="no modality"):
        diff_cohorts(pack, a, b)


def test_a_tap_without_a_lens_is_refused(pack, x, y):
    with pytest.raises(UsageError, match="no lens"):
        diff_cohorts(pack, x, y, taps=["conv_0"])


def test_a_case_that_cannot_be_read_is_left_out_and_said(pack, x, seeds, journal):
    gone = CohortCase(
        "gone", "gone", volumes={m: Path("/nowhere") / f"{m}.nii.gz" for m in ("t1n", "t1c", "t2w", "t2f")}
    )
    other = phantom_cohort("others", range(10, 13), **SMALL)
    cohort = replace(other, cases=(*other.cases, gone))
    found = diff_cohorts(pack, x.of([c.name for c in x.cases[:3]]), cohort, seeds, suppression=False, journal=journal)
    assert any("gone" in note and "Left out" in note for note in found.notes)
    assert {f.category for f in found.findings} <= {"too few cases", "never fires"}
    assert any("Too few cases" in note for note in found.notes)
