"""Categories of latents on tables of usage whose truth is known."""

import numpy as np
import pytest

from MedSegLensLib.diffing.cohort_categories import MEASURES, Bounds, contrast, verdict
from MedSegLensLib.diffing.cohort_pairs import pair_up
from MedSegLensLib.diffing.usage import TapUsage

ALIKE, MORE, STRONGER, RELIED, SILENT, RARE = range(6)


def usage(n: int, seed: int, changed: bool) -> TapUsage:
    """Six latents over n cases; in the changed cohort one fires 8 times as often, one twice as strongly, one holds WT
    up, one never fires, and one fires in a single case."""
    rng = np.random.default_rng(seed)
    rate = 0.02 * np.exp(0.2 * rng.normal(size=(n, 6)))
    magnitude = np.exp(0.1 * rng.normal(size=(n, 6)))
    reliance = 0.05 * rng.normal(size=(n, 3, 6))
    rate[:, SILENT] = 0
    rate[1:, RARE] = 0
    if changed:
        rate[:, MORE] *= 8
        magnitude[:, STRONGER] *= 2
        reliance[:, 0, RELIED] += 1
    magnitude[rate == 0] = np.nan
    return TapUsage(rate, magnitude, 1200 * rate, reliance)


def bounds(split: float = 0.9, random: float = 0.0) -> Bounds:
    return Bounds({m.name: split for m in MEASURES}, {m.name: random for m in MEASURES})


def read(n: int = 10, paired: bool = False, seeds: int = 2, random: float = 0.0, seeds_show: bool = True):
    own = contrast(usage(n, 1, False), usage(n, 2, True), paired)
    others = [contrast(usage(n, 3 + i, False), usage(n, 8 + i, seeds_show), paired) for i in range(seeds)]
    return verdict(own, bounds(random=random), others)


@pytest.mark.parametrize("paired", [True, False])
def test_what_differs_in_any_measure_is_specific_and_what_does_not_is_backbone(paired):
    found = read(paired=paired)
    assert found.categories.tolist() == ["backbone", "specific", "specific", "specific", "never fires", "undecided"]
    assert [MEASURES[i].name for i in found.by[[MORE, STRONGER, RELIED]]] == ["rate", "magnitude", "reliance_wt"]


def test_what_no_other_seed_shows_is_not_told_from_seed_noise():
    found = read(seeds_show=False)
    assert set(found.categories[[MORE, STRONGER, RELIED]]) == {"not distinguishable from seed noise"}
    assert found.categories[ALIKE] == "backbone"


def test_without_other_seeds_nothing_is_claimed():
    found = read(seeds=0)
    assert not {"specific", "backbone"} & set(found.categories)
    assert found.categories[MORE] == "not distinguishable from seed noise"


def test_what_random_latents_reach_too_is_undecided():
    assert "specific" not in read(random=1e9).categories


def test_with_four_cases_each_all_is_too_few():
    found = read(n=4)
    assert set(np.delete(found.categories, SILENT)) == {"too few cases"}


def test_a_likeness_with_wide_intervals_is_undecided():
    x, y = usage(5, 1, False), usage(5, 2, False)
    x.rate[:, ALIKE] *= [0.1, 1, 1, 1, 8]
    own = contrast(x, y, False)
    assert verdict(own, bounds(), [own]).categories[ALIKE] == "undecided"


def test_a_latent_of_few_cases_is_no_backbone():
    found = read()
    assert found.categories[RARE] == "undecided"


def test_bounds_come_from_the_cohorts_own_parts_and_from_random_latents():
    x, y = usage(10, 1, False), usage(10, 2, True)
    random = contrast(x, y, False)
    found = Bounds.of(x, y, False, random)
    assert all(0 < found.split[m.name] < 3 for m in MEASURES)
    g = np.abs(random.effects["rate"].g)
    assert found.random["rate"] == pytest.approx(np.quantile(g[np.isfinite(g)], 0.99))
    assert Bounds.of(x, y, False, None).random["rate"] == 0


def test_patients_in_both_cohorts_are_paired_and_others_left_out():
    found = pair_up(["a", "b", "c", "d"], ["c", "b", "e"])
    assert found.paired and found.x == found.y == ("b", "c") and found.left_out == (2, 1)
    assert any("left out" in note for note in found.notes("X", "Y"))


def test_a_single_common_patient_makes_no_pairs():
    found = pair_up(["a", "b", "c"], ["c", "d", "e"])
    assert not found.paired and found.x == ("a", "b", "c")
    assert "1 patients are in both" in found.notes("X", "Y")[0]
