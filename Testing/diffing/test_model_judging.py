"""Latents whose likeness is known are put into the right categories, and none is called specific without its null."""

import numpy as np
import pytest

from MedSegLensLib.diffing.comparison import CohortSide, Comparison, PackSide
from MedSegLensLib.diffing.judging import (
    Layout,
    judge,
    shared_between_seeds,
    shared_with_seed_instead,
    specific_between_seeds,
)
from MedSegLensLib.diffing.matching import (
    Margins,
    categories,
    found_again,
    match,
    random_null,
    telling,
    thresholds,
)
from MedSegLensLib.diffing.model_findings import findings_of, shares, summary_of
from MedSegLensLib.diffing.pooling import GROUPS, Pool, correlation

N, VOXELS, CASES, RANDOMS = 24, 1500, 6, 60
SHARED, PARTLY, SPECIFIC, NOISE = range(0, 8), range(8, 12), range(12, 17), range(17, 22)
SILENT, ONE_CASE = 22, 23
NAMES = {"a": "one", "b": "two"}
LAYOUT = Layout(("early", "late"), (12, 12), ((12, 12), (12, 12)), RANDOMS // 2)


def sparse_signals(rng, n, voxels=VOXELS):
    return np.where(rng.random((n, voxels)) < 0.15, rng.gamma(2.0, size=(n, voxels)), 0.0)


def as_sums(a, b, seeds_a, seeds_b, random_a, random_b, lesion):
    """What `Meeting` gives for activations (latents, voxels)."""
    sums = {"voxels": np.array([a.shape[1], lesion.sum()], float)}
    sums["ab"] = np.stack([a @ b.T, a[:, lesion] @ b[:, lesion].T]).astype(np.float32)
    for side, own, seeds, random, other in (("a", a, seeds_a, random_a, b), ("b", b, seeds_b, random_b, a)):
        sums[f"{side}_sum"] = np.stack([own.sum(1), own[:, lesion].sum(1)])
        sums[f"{side}_square"] = np.stack([(own**2).sum(1), (own[:, lesion] ** 2).sum(1)])
        for name, values in (("seed", seeds), ("random", random)):
            sums[f"{side}_{name}_sum"], sums[f"{side}_{name}_square"] = values.sum(1), (values**2).sum(1)
            sums[f"{side}_{name}_{'b' if side == 'a' else 'a'}"] = values @ other.T
        products = own @ seeds.T
        products[:12, 24:], products[12:, :24] = 0, 0  # seeds are of one tap
        sums[f"{side}_seeds"] = products
        sums[f"{side}_grid_product"] = (own**2).sum(1)[None]
        sums[f"{side}_grid_sum"], sums[f"{side}_grid_square"] = own.sum(1)[None], (own**2).sum(1)[None]
        sums[f"{side}_tokens"], sums[f"{side}_random_tokens"] = (own > 0).sum(1), (random > 0).sum(1)
        sums[f"{side}_brain_tokens"] = np.full(len(own), a.shape[1])
        sums[f"{side}_influence"] = np.stack([own.mean(1)] * 3)
    return sums


def planted_pool(cases=CASES, seed=0):
    """Two sides of 24 latents: b has a's shared ones permuted and scaled, a part of the partly shared ones, and its own
    in place of the others; seeds of either side have all but the noise, permuted."""
    rng = np.random.default_rng(seed)
    pool, order = Pool(), np.random.default_rng(99).permutation(N)
    for case in range(cases):
        a, b = sparse_signals(rng, N), sparse_signals(rng, N)
        b[list(SHARED)] = 3.0 * a[list(SHARED)] + 0.1 * rng.random((8, VOXELS))
        kept = rng.random((4, VOXELS)) < 0.6
        b[list(PARTLY)] = np.where(kept, a[list(PARTLY)], b[list(PARTLY)])
        for own in (a, b):
            own[SILENT] = 0
            if case != 2:
                own[ONE_CASE] = 0
        seeds = []
        for own in (a, b):
            again = [own + 0.05 * rng.random(own.shape) for _ in range(2)]
            for one in again:
                one[list(NOISE)] = sparse_signals(rng, len(NOISE))
            # by tap, then seed
            seeds.append(np.concatenate([again[0][:12], again[1][:12], again[0][12:], again[1][12:]]))
        random = [mixtures(own, rng) for own in (a, b)]
        lesion = np.arange(VOXELS) < 300
        pool.add(f"case {case}", as_sums(a, b[order], *(seeds[0], reorder_seeds(seeds[1], order)), *random, lesion))
    return pool, order


def mixtures(own, rng):
    """Random directions of a network hold some of many things: here of four shared latents each."""
    mixed = np.stack([own[rng.permutation(8)[:4]].sum(0) for _ in range(RANDOMS)])
    return mixed * (mixed > np.quantile(mixed, 0.7, axis=1, keepdims=True))


def reorder_seeds(seeds, order):
    """b's latents lie in another order over its taps, and so do its seeds'."""
    first = np.concatenate([seeds[:12], seeds[24:36]])[order]
    second = np.concatenate([seeds[12:24], seeds[36:]])[order]
    return np.concatenate([first[:12], second[:12], first[12:], second[12:]])


@pytest.fixture(scope="module")
def judged():
    pool, order = planted_pool()
    return judge(pool, {"a": LAYOUT, "b": LAYOUT}, draws=60, halves=10), pool, order


def test_planted_latents_fall_into_their_categories(judged):
    judgement, _, order = judged
    for side, at in (("a", np.arange(N)), ("b", order)):
        kinds = judgement.sides[side].category
        for places, name in (
            (SHARED, "shared"),
            (PARTLY, "partly shared"),
            (SPECIFIC, "specific"),
            (NOISE, "not distinguishable from seed noise"),
            ([SILENT], "never fires"),
            ([ONE_CASE], "too few cases"),
        ):
            assert {kinds[np.flatnonzero(at == place)[0]] for place in places} == {name}, (side, name)


def test_shared_latents_are_matched_with_what_was_permuted(judged):
    judgement, _, order = judged
    m = judgement.sides["a"].matches
    for j in SHARED:
        assert order[m.one_partner[j]] == j and m.mutual[j] and m.one[j] > 0.95


def test_every_finding_has_its_null_and_its_sentence(judged):
    judgement, pool, _ = judged
    found = [f for side in "ab" for f in findings_of(side, judgement, pool, NAMES)]
    assert len(found) == 2 * N
    for f in found:
        assert f.evidence.endswith(".")
        if f.category == "specific":
            assert f.specific_to == NAMES[f.side] and f.null > f.measure and f.numbers["found_again"] >= 0.7
            assert "finds it again" in f.evidence
        if f.category == "shared":
            assert f.null < f.interval[0] <= f.measure and f.p_adjusted < 0.05 and f.numbers["lesion_correlation"] > 0.9
            assert f.numbers["influence_overlap"] > 0.99


def test_the_whole_comparison_is_kept_by_its_table(judged):
    judgement, pool, _ = judged
    pack, cohort = PackSide("one", "1", "0" * 64, {"early": "0" * 64}), CohortSide("c", "s", CASES)
    found = tuple(f for side in "ab" for f in findings_of(side, judgement, pool, NAMES))
    summary = summary_of(judgement, pool, NAMES)
    comparison = Comparison("models", pack, pack, found, cohort, None, thresholds(), summary)
    assert Comparison.from_table(comparison.to_table()) == comparison
    assert summary["influence"]["by_region"]["WT"]["rho"] > 0.5
    assert all("nan" not in sentence for sentence in summary["says"])


def test_shares_stand_with_interval_and_null(judged):
    judgement = judged[0]
    found = {(s.side, s.tap, s.category): s for s in shares(judgement)}
    shared, specific = found["a", None, "shared"], found["a", None, "specific"]
    assert (shared.n, shared.total) == (8, 23) and shared.null == 0 and "random" in shared.null_is
    assert shared.interval[0] <= shared.share <= shared.interval[1]
    assert specific.n == 5 and specific.null == 0 and "seed" in specific.null_is
    assert sum(found["a", "early", c].n for c in ("shared", "partly shared")) == 12


def test_between_its_own_seeds_the_rule_says_nothing_is_specific(judged):
    judgement = judged[0]
    side, seeds = judgement.sides["a"], judgement.pooled.with_seeds("a")
    assert np.nanmax(specific_between_seeds(side, seeds)) == 0
    assert shared_between_seeds(side, seeds) == pytest.approx(18 / 23, abs=0.01)
    instead = shared_with_seed_instead(side, judgement.pooled.across("a", "seed"), judgement.sides["b"].alive)
    assert len(instead) == 2 and all(0.2 < share < 0.5 for share in instead)


def test_without_seeds_nothing_is_specific():
    pool, _ = planted_pool(3)
    for name in list(pool.total):
        if "seed" in name:
            drop_seeds(pool.total, name)
            for group in pool.groups:
                if name in group:
                    drop_seeds(group, name)
    bare = Layout(LAYOUT.taps, LAYOUT.sizes, ((), ()), LAYOUT.randoms)
    judgement = judge(pool, {"a": bare, "b": bare}, draws=10)
    kinds = judgement.sides["a"].category
    assert "specific" not in kinds and (kinds == "shared").sum() == len(SHARED)
    assert specific_between_seeds(judgement.sides["a"], judgement.pooled.with_seeds("a")) is None


def drop_seeds(sums, name):
    array = sums[name]
    sums[name] = array[:, :0] if name.endswith("_seeds") else array[:0]


def test_without_random_directions_nothing_is_alike():
    matches = match(np.eye(3), np.ones(3, bool), np.ones(3, bool))[0]
    none = np.full(3, np.nan)
    likely, never = np.ones(3, bool), np.zeros(3, bool)
    kinds = categories(matches, Margins.none(3), none, likely, never, np.ones(3), np.ones(3), np.full(3, 5))
    assert set(kinds) == {"undecided"}


def test_a_latent_that_the_other_grid_cannot_show_is_not_called_specific():
    matches = match(np.eye(2) * 0.2, np.ones(2, bool), np.ones(2, bool))[0]
    common = (Margins.none(2), np.full(2, 0.3), np.zeros(2, bool))
    limit, cases = np.array([0.9, 0.5]), np.full(2, 5)
    kinds = categories(matches, *common, np.ones(2, bool), np.ones(2), limit, cases)
    assert kinds.tolist() == ["specific", "undecided"]
    kinds = categories(matches, *common, np.zeros(2, bool), np.ones(2), limit, cases)
    assert kinds.tolist() == ["undecided", "undecided"], "random directions have no match either"


def test_to_have_no_match_tells_something_only_where_most_have_one():
    found, best, taps = np.ones(8), np.array([0.9, 0.8, 0.6, 0.1, 0.5, 0.1, 0.1, 0.1]), np.repeat([0, 1], 4)
    told = telling(best > 0.3, best, found, np.array([1, 1, 1, 1, 1, 1, 1, 0.01]), taps)
    assert told.tolist() == [True] * 4 + [False, False, False, True]
    assert not telling(best > 0.3, best, found * 0, np.ones(8), taps).any(), "no seed finds anything again"


def test_what_random_directions_reach_is_not_called_shared():
    rng = np.random.default_rng(0)
    best, density = np.full(5, 0.75), np.full(5, 0.1)
    taps, random_taps = np.zeros(5, int), np.zeros(80, int)
    null = random_null(best, density, taps, rng.uniform(0.6, 0.9, 80), np.full(80, 0.1), random_taps)
    assert (null.bound > 0.85).all() and (null.p > 0.2).all()
    far = random_null(best, density, taps, rng.uniform(0.05, 0.15, 80), np.full(80, 0.1), random_taps)
    assert (far.bound < 0.2).all() and (far.p < 1e-4).all() and (far.p_low > 0.99).all()
    less = random_null(np.full(5, 0.1), density, taps, rng.uniform(0.6, 0.9, 80), np.full(80, 0.1), random_taps)
    assert (less.low > 0.6).all() and (less.p_low < 1e-4).all()


def test_a_latent_is_held_against_directions_that_fire_as_often():
    densities = np.repeat([0.01, 0.3], 150)
    reached = np.where(densities > 0.1, 0.6, 0.1) + np.random.default_rng(0).normal(0, 0.01, 300)
    null = random_null(np.full(2, 0.5), np.array([0.01, 0.3]), np.zeros(2, int), reached, densities, np.zeros(300, int))
    assert null.bound[0] < 0.2 < 0.5 < null.bound[1] and null.p[0] < 0.01 < 0.5 < null.p[1]


def test_silent_latents_are_nobodys_partner():
    r = np.array([[0.9, 0.2], [0.8, 0.1], [0.7, 0.6]])
    ours, theirs = match(r, np.array([False, True, True]), np.array([True, True]))
    assert ours.one_partner.tolist() == [-1, 0, 1] and theirs.one_partner.tolist() == [1, 2]
    assert ours.one[0] == 0 and theirs.mutual.tolist() == [True, False]


def test_found_again_is_the_worst_over_the_other_seeds_of_the_same_tap():
    r = np.array([[0.9, 0.1, 0.3, 0.5], [0.2, 0.8, 0.1, 0.95]])
    found = found_again(r, [(0, 2, 0, 2), (0, 2, 2, 4)])
    assert found.tolist() == [0.5, 0.8]
    assert np.isnan(found_again(r[:, :2], [(0, 1, 0, 2)])[1])


def test_correlation_is_that_of_the_values():
    rng = np.random.default_rng(0)
    x, y = rng.random((3, 500)), rng.random((4, 500))
    y[1] = 2 * x[0] + 1
    x[2] = 7.0
    sums, squares = (x.sum(1), y.sum(1)), ((x**2).sum(1), (y**2).sum(1))
    found = correlation((x @ y.T).astype(np.float32), 500, sums, squares)
    np.testing.assert_allclose(found[:2], np.corrcoef(x[:2], y)[:2, 2:], atol=1e-5)
    assert (found[2] == 0).all() and found[0, 1] == pytest.approx(1)


def test_memory_does_not_grow_with_the_cases():
    pool = Pool()
    one = planted_pool(1)[0].total
    for case in range(GROUPS + 9):
        pool.add(f"case {case}", {**one, "a_influence": np.ones((3, N)), "b_influence": np.ones((3, N))})
    assert len(pool.groups) == GROUPS
    np.testing.assert_allclose(pool.drawn(np.ones(GROUPS, int)).between(), pool.pooled().between(), atol=1e-5)
