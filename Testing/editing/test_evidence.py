"""Evidence of latents on planted codes: what was planted is what is told, and cases add up."""

import numpy as np
import pytest
import SimpleITK as sitk
from sklearn.metrics import roc_auc_score

from MedSegLensLib.cases.case import Case
from MedSegLensLib.cases.conform import InputSpec, conform
from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.editing.code_histograms import N_BINS, CodeBins, linear_histogram, quantiles
from MedSegLensLib.editing.evidence import BANDS, SUMS, Evidence
from MedSegLensLib.editing.places import brain_tokens, token_box, token_middle
from MedSegLensLib.editing.siblings import Pairs
from MedSegLensLib.editing.tissues import CSF, GREY, WHITE, tissues
from MedSegLensLib.editing.token_facts import (
    BAND_MM,
    BRAIN_EDGE,
    ED,
    EDGE_MM,
    ET,
    NCR,
    UNLABELLED,
    CaseFacts,
    signed_distance,
)
from MedSegLensLib.errors import UsageError
from MedSegLensLib.lenses.codes import Codes
from MedSegLensLib.packs.naming import MODALITIES, N_CLASSES, holds
from MedSegLensLib.segmenters.sampling import Patches, Slices


@pytest.fixture(scope="module")
def case():
    return phantom(1, size=(48, 60, 24), spacing=(3.5, 3.5, 7.0), enhancing=True)


@pytest.fixture(scope="module")
def conformed(case):
    return conform(case, InputSpec(size_divisor=(4, 4, 1)))


@pytest.fixture(scope="module")
def expert(case, conformed):
    return conformed.labels(case.labels)


@pytest.fixture(scope="module")
def facts(conformed, expert):
    return facts_of(conformed, expert)


def facts_of(conformed, expert, **options):
    sampling = Slices(conformed.brain.shape)
    grid = tuple(n // 2 for n in conformed.brain.shape[1:])
    brain = brain_tokens(conformed, sampling, grid)
    return CaseFacts(
        conformed,
        MODALITIES,
        expert,
        expert if expert is not None else np.zeros_like(conformed.brain, np.uint8),
        **options,
    ).at(sampling, grid, brain)


def grid_of(conformed):
    return (conformed.brain.shape[0], *(n // 2 for n in conformed.brain.shape[1:]))


def planted(conformed, facts, *latents: np.ndarray) -> Codes:
    """Codes of latents given by their dense values (n,), on the brain only."""
    tokens, values, pointers = [], [], [0]
    for dense in latents:
        dense = np.where(facts.brain, dense, 0).astype(np.float32)
        where = np.flatnonzero(dense > 0)
        tokens.append(where.astype(np.int32))
        values.append(dense[where])
        pointers.append(pointers[-1] + len(where))
    return Codes(np.array(pointers), np.concatenate(tokens), np.concatenate(values), grid_of(conformed))


def evidence_of(conformed, facts, *latents) -> Evidence:
    found = Evidence(CodeBins(np.full(len(latents), 0.1, np.float32)))
    found.add(planted(conformed, facts, *latents), facts, token_ml=0.1)
    return found


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, 1.0, n)


def test_auroc_and_iou_are_those_of_the_codes_themselves(conformed, facts):
    n = len(facts.part)
    codes = np.where(facts.part == ED, 2.0, 0.5) * noise(n) * (noise(n, 1) > 1.0)
    found = evidence_of(conformed, facts, codes)
    measured = found.auroc_of_parts()
    brain = facts.brain
    for name, values in {"ncr": [NCR], "ed": [ED], "et": [ET], "wt": [NCR, ED, ET]}.items():
        truth = np.isin(facts.part, values)[brain]
        assert measured[f"auroc_{name}"][0] == pytest.approx(roc_auc_score(truth, codes[brain]), abs=0.005)
        overlaps = [
            np.sum(truth & (codes[brain] >= t)) / np.sum(truth | (codes[brain] >= t))
            for t in np.unique(codes[codes > 0])
        ]
        assert measured[f"iou_{name}"][0] == pytest.approx(max(overlaps), abs=0.01)


def test_a_latent_that_is_a_region_separates_it_fully_and_noise_does_not(conformed, facts):
    n = len(facts.part)
    found = evidence_of(conformed, facts, (facts.part == ET) * noise(n), noise(n), np.zeros(n))
    measured = found.auroc_of_parts()
    assert measured["auroc_et"][0] == 1 and measured["iou_et"][0] == 1
    assert measured["auroc_et"][1] == pytest.approx(0.5, abs=0.1)
    assert measured["auroc_et"][2] == 0.5 and measured["iou_et"][2] == 0, "what never fires knows nothing"


def test_bands_are_told_from_what_lies_beside_them(conformed, facts):
    bands = [(facts.bands & bit > 0) * noise(len(facts.part)) for bit in BANDS.values()]
    measured = evidence_of(conformed, facts, *bands).auroc_of_bands()
    assert set(measured) == {f"{measure}_{band}" for measure in ("auroc", "iou") for band in BANDS}
    for latent, name in enumerate(BANDS):
        assert measured[f"auroc_{name}"][latent] == measured[f"iou_{name}"][latent] == 1
        others = [band for band in BANDS if band != name]
        assert all(measured[f"{measure}_{other}"][latent] < 1 for measure in ("auroc", "iou") for other in others)


def test_bands_are_measured_as_scikit_learn_does_at_any_code(conformed, facts):
    brain, codes = facts.brain, noise(len(facts.part)) * (facts.part >= NCR) * (noise(len(facts.part)) > 0.4)
    measured = evidence_of(conformed, facts, codes).auroc_of_bands()
    for name, bit in BANDS.items():
        truth = (facts.bands & bit > 0)[brain]
        assert measured[f"auroc_{name}"][0] == pytest.approx(roc_auc_score(truth, codes[brain]), abs=0.005)
        overlaps = [
            np.sum(truth & (codes[brain] >= t)) / np.sum(truth | (codes[brain] >= t))
            for t in np.unique(codes[codes > 0])
        ]
        assert measured[f"iou_{name}"][0] == pytest.approx(max(overlaps), abs=0.01)


def test_borders_are_asked_of_labelled_cases_only(conformed, expert, facts):
    unlabelled = facts_of(conformed, None)
    codes = (facts.bands & BRAIN_EDGE > 0) * noise(len(facts.part))
    one, both = evidence_of(conformed, facts, codes), evidence_of(conformed, facts, codes)
    both.merge(evidence_of(conformed, unlabelled, codes))
    alone, joined = one.auroc_of_bands(), both.auroc_of_bands()
    assert joined["auroc_ed_border"][0] == alone["auroc_ed_border"][0] and joined["auroc_brain_edge"][0] == 1
    assert both.bands[list(BANDS).index("brain_edge")] == 2 * one.bands[list(BANDS).index("brain_edge")]


def test_bands_reach_as_far_as_they_say(conformed, expert, facts):
    mask = np.zeros((20, 20, 20), bool)
    mask[8:12, 8:12, 8:12] = True
    distance = signed_distance(mask, (1.0, 1.0, 2.0))
    assert distance[10, 10, 12] == pytest.approx(1.5) and distance[7, 10, 10] == pytest.approx(0.5)
    assert distance[8, 10, 10] == pytest.approx(-0.5) and distance[0, 0, 0] > BAND_MM
    assert (signed_distance(np.zeros((3, 3, 3), bool), (1, 1, 1)) > BAND_MM).all()
    edge = (facts.bands & BRAIN_EDGE > 0) & facts.brain
    assert 0.1 < edge.sum() / facts.brain.sum() < 0.7 and EDGE_MM == 5


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, -1, 0, 0, 0, 1)], ids=["LPS", "RAS"])
def test_left_is_the_patients_left_whatever_the_files_orientation(direction):
    case = phantom(1, size=(48, 60, 24), spacing=(3.5, 3.5, 7.0), direction=direction)
    # Marked in the world, not in the array: LPS points to the patient's left, so x > 0 is left.
    image = case.images["t1n"]
    index = np.stack(np.meshgrid(*(np.arange(n) for n in image.GetSize()), indexing="ij"), -1).reshape(-1, 3)
    x = np.array(image.GetOrigin())[0] + (index * image.GetSpacing()) @ np.array(direction).reshape(3, 3)[0]
    marked = np.zeros(image.GetSize(), np.uint8)
    marked.reshape(-1)[:] = x > 15
    labels = sitk.GetImageFromArray(np.ascontiguousarray(marked.T))
    labels.CopyInformation(image)
    conformed = conform(case, InputSpec(size_divisor=(4, 4, 1)))
    left = conformed.mask(labels)
    sampling, grid = Slices(conformed.brain.shape), grid_of(conformed)[1:]
    brain = brain_tokens(conformed, sampling, grid)
    facts = CaseFacts(conformed, MODALITIES, None, np.zeros(left.shape, np.uint8)).at(sampling, grid, brain)
    from MedSegLensLib.editing.token_facts import pooled

    on_left = pooled(left, sampling, grid) > 0.5
    found = evidence_of(conformed, facts, on_left * 1.0, (~on_left & (facts.side > 0)) * 1.0, np.ones(len(on_left)))
    assert found.laterality()[0] == -1 and found.laterality()[1] == 1
    assert abs(found.laterality()[2]) < 0.15


def test_layers_run_from_the_bottom_to_the_top(conformed, facts):
    rows = evidence_of(conformed, facts, (facts.layer == 0) * 1.0, (facts.layer >= 8) * 1.0).rows("tap", np.eye(2))
    assert rows[0]["slice_profile"][0] == 1 and sum(rows[1]["slice_profile"][8:]) == pytest.approx(1)
    assert sum(rows[1]["slice_profile"]) == pytest.approx(1)


def test_tissues_of_a_phantom_are_found_by_intensity(case, conformed, expert):
    found = tissues(conformed, {m: i for i, m in enumerate(MODALITIES)}, expert > 0)
    t1, t2 = conformed.array[0], conformed.array[2]
    assert t2[found == CSF].mean() > t2[found == GREY].mean() > t2[found == WHITE].mean()
    assert t1[found == CSF].mean() < t1[found == GREY].mean() < t1[found == WHITE].mean()
    assert not found[(expert > 0) | ~conformed.brain].any()
    assert tissues(conformed, {"t1c": 1}, expert > 0) is None, "contrast alone does not tell tissues"
    assert (tissues(conformed, {"t1n": 0}, expert > 0) == WHITE).any()


def test_an_atlas_of_the_users_is_taken_at_its_word(case, conformed, expert):
    atlas = sitk.Cast(case.images["t1n"] > 0, sitk.sitkUInt8) * WHITE
    found = tissues(conformed, {"t1n": 0}, expert > 0, atlas)
    assert set(np.unique(found)) == {0, WHITE}
    with pytest.raises(UsageError, match="none of its labels"):
        tissues(conformed, {"t1n": 0}, expert > 0, atlas * 0)


def test_intensities_are_against_healthy_brain(conformed, facts):
    bright = facts.intensity[:, 3] > 1
    found = evidence_of(conformed, facts, bright * 1.0, np.ones(len(bright)))
    assert found.intensity()[0, 3] > 1 and abs(found.intensity()[1]).max() < 0.5


def test_classes_say_what_lies_there(facts):
    inside = facts.brain & (facts.classes >= 0)
    assert inside.sum() == facts.brain.sum()
    for rule, truth in (
        ({"label": ["ET"]}, facts.part == ET),
        ({"label": ["ED"]}, facts.part == ED),
        ({"side": ["right"]}, facts.side > 0),
    ):
        told = np.zeros(len(facts.part), bool)
        told[inside] = holds(rule)[facts.classes[inside]]
        assert told.any() and truth[told].all()


def test_without_labels_nothing_is_said_of_regions(conformed):
    facts = facts_of(conformed, None)
    assert (facts.part == UNLABELLED).all() and (facts.classes == -1).all() and not facts.labelled
    found = evidence_of(conformed, facts, noise(len(facts.part)))
    row = found.rows("tap", np.eye(1))[0]
    assert "auroc_wt" not in row and "share_ed" not in row and "auroc_wt_border" not in row
    assert row["auroc_brain_edge"] == pytest.approx(0.5, abs=0.05) and row["fires_share"] == 1


def test_cases_add_up_in_any_order_and_with_unlabelled_ones(conformed, expert, facts):
    n = len(facts.part)
    dense = [noise(n, s) * (noise(n, s + 9) > 2) for s in range(3)]
    other = facts_of(conformed, None)

    def one(f, latents):
        return evidence_of(conformed, f, *latents)

    both = one(facts, dense)
    both.add(planted(conformed, other, *dense[::-1]), other, token_ml=0.1)
    merged = one(other, dense[::-1])
    merged.merge(one(facts, dense))
    for name in SUMS:
        np.testing.assert_allclose(getattr(merged, name), getattr(both, name), rtol=1e-5, err_msg=name)
    for a, b in zip(merged.rows("t", np.eye(3)), both.rows("t", np.eye(3)), strict=True):
        for key in ("fires_share", "mean", "max", "auroc_ed", "iou_wt", "quantiles", "n_cases", "extent_ml"):
            assert a[key] == pytest.approx(b[key], rel=1e-5), key
    with pytest.raises(ValueError, match="two lenses"):
        merged.merge(Evidence(CodeBins(np.full(3, 0.2, np.float32))))


def test_rows_hold_the_numbers_of_the_codes(conformed, facts):
    codes = (noise(len(facts.part)) + 0.1) * (facts.part == ED)  # at or above the threshold, as codes are
    row = evidence_of(conformed, facts, codes, np.zeros(len(codes))).rows("tap", np.eye(2), np.array([0.9, 0.2]))[0]
    fired = codes[facts.brain & (codes > 0)]
    assert row["mean"] == pytest.approx(fired.mean(), rel=1e-5) and row["max"] == pytest.approx(fired.max(), rel=1e-5)
    assert row["quantiles"] == pytest.approx(np.quantile(fired, [0, 0.25, 0.5, 0.75, 0.9, 0.99, 1]), rel=0.1)  # a bin
    assert sum(row["histogram"]) == len(fired) and len(row["histogram"]) == 20
    assert row["share_ed"] == 1 and row["extent_ml"] == pytest.approx(0.1 * len(fired))
    assert row["stability"] == pytest.approx(0.9)


def test_bins_hold_any_code_and_quantiles_lie_within_them():
    bins = CodeBins.of(np.array([0.5, 0.0], np.float32), largest=12.8)
    assert bins.base[1] == pytest.approx(0.1)
    index = bins.index(np.array([0, 0, 0, 1]), np.array([0.5, 1e9, 0.51, 1e-9], np.float32))
    assert index.tolist() == [0, N_BINS - 1, 0, 0]
    counts = np.zeros((1, N_BINS), int)
    counts[0, 8] = 10
    edges = CodeBins(np.array([1.0], np.float32)).edges()
    low, high = np.array([2.0]), np.array([2.1])
    assert quantiles(counts, edges, low, high, (0.0, 1.0))[0] == pytest.approx([2.0, 2.1], rel=0.1)
    assert linear_histogram(counts, edges, high, 4)[0].tolist() == [0, 0, 0, 10]


def test_examples_are_the_strongest_places_of_several_cases(conformed, facts):
    found = evidence_of(conformed, facts, noise(len(facts.part)))
    found.add_examples("a", [[(9.0, 50, 1, 2), (8.9, 51, 1, 2), (8.0, 60, 3, 4), (7.0, 70, 0, 0)]], spacing=1.0)
    found.add_examples("b", [[(5.0, 10, 1, 2)]], spacing=1.0)
    kept = found.examples[0]
    assert [place[0] for place in kept] == [9.0, 8.0, 7.0, 5.0], "51 lies beside 50"
    found.add_examples("c", [[(6.0 - i, 10 * i, 0, 0) for i in range(4)]], spacing=1.0)
    cases = [place[1] for place in found.examples[0]]
    assert len(cases) == 5 and set(cases) == {"a", "b", "c"} and cases.count("a") <= 2


def test_siblings_are_told_by_support_and_direction():
    rng = np.random.default_rng(0)
    n = 1500
    parent = rng.random(n) < 0.2
    child = parent & (rng.random(n) < 0.3)
    twin = parent ^ (rng.random(n) < 0.02)
    alone = rng.random(n) < 0.2
    supports = [parent, child, twin, alone]
    tokens = np.concatenate([np.flatnonzero(s) for s in supports]).astype(np.int32)
    pointers = np.concatenate([[0], np.cumsum([s.sum() for s in supports])])
    pairs = Pairs(4)
    pairs.add(pointers, tokens, np.ones(n, bool), seed=1)
    assert np.array_equal(np.diag(pairs.together), [s.sum() for s in supports])
    assert pairs.together[0, 1] == (parent & child).sum()
    decoder = np.array([[1.0, 0, 0], [0.5, 1, 0], [1, 0.1, 0], [0, 0, 1]])
    found = pairs.relations(decoder)
    assert found[0]["children"] == [1] and 0 in found[1]["parents"]
    assert found[0]["near_duplicates"] == [2] and found[0]["co_firing"][0] == 2
    assert found[3] == {"co_firing": [], "near_duplicates": [], "children": [], "parents": []}


def test_memory_of_evidence_does_not_grow_with_cases(conformed, facts):
    codes = noise(len(facts.part))
    found = evidence_of(conformed, facts, codes)

    def size():
        arrays = [v for v in vars(found).values() if isinstance(v, np.ndarray)]
        return sum(a.nbytes for a in arrays) + found.pairs.together.nbytes

    first = size()
    for _ in range(3):
        found.add(planted(conformed, facts, codes), facts, token_ml=0.1)
    assert size() == first and found.n_cases[0] == 4


def test_a_tokens_box_is_where_its_voxels_are():
    slices = Slices((5, 8, 12))
    grid = (5, 4, 6)
    token = int(np.ravel_multi_index((3, 2, 5), grid))
    assert token_box(token, slices, grid) == (slice(3, 4), slice(4, 6), slice(10, 12))
    assert token_middle(token, slices, grid) == (3.0, 4.5, 10.5)
    patches = Patches((24, 16, 16), (16, 16, 16), 0.5)
    grid = (patches.count, 4, 4, 4)
    token = int(np.ravel_multi_index((1, 1, 0, 3), grid))
    start = patches.windows[1][0].start
    assert token_box(token, patches, grid) == (slice(start + 4, start + 8), slice(0, 4), slice(12, 16))


def test_case_without_a_modality_still_tells_how_latents_fire(case):
    lacking = Case(case.name, {m: i for m, i in case.images.items() if m != "t2f"}, case.labels)
    conformed = conform(lacking, InputSpec(size_divisor=(4, 4, 1), may_be_missing=MODALITIES))
    facts = facts_of(conformed, conformed.labels(case.labels))
    row = evidence_of(conformed, facts, noise(len(facts.part))).rows("tap", np.eye(1))[0]
    assert "intensity_t2f" not in row and "intensity_t1c" in row and "auroc_ed" in row
    assert (facts.classes == -1).all() and N_CLASSES > 4000
