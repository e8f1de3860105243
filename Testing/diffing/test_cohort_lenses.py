"""A lens for each cohort: alike where the cohorts are, apart where one has features that the other lacks."""

import numpy as np
import pytest
import torch

from MedSegLensLib.diffing.cohort_lenses import cohort_lenses, likeness
from MedSegLensLib.diffing.token_samples import TokenSample, TokenWork, sample_tokens
from MedSegLensLib.errors import CaseError
from MedSegLensLib.lenses.lens import Lens

D, WIDTH = 12, 12


def atoms(seed: int, n: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(seed)))[0][:n]


def sample(dictionary: torch.Tensor, seed: int, cases: int = 4) -> TokenSample:
    """Tokens that are sums of two of the atoms each, of some cases. Atoms differ in strength: the lenses start in
    principal components, and those of equal variance are no directions of their own."""
    generator = torch.Generator().manual_seed(seed)
    found = TokenSample()
    for i in range(cases):
        chosen = torch.rand(1500, len(dictionary), generator=generator).topk(2, dim=1).indices
        code = torch.zeros(1500, len(dictionary)).scatter(1, chosen, 1 + torch.rand(1500, 2, generator=generator))
        code *= torch.linspace(4, 1, len(dictionary))
        tokens = code @ dictionary + 0.02 * torch.randn(1500, D, generator=generator)
        found.by_case[f"c{i}"] = {1: tokens[:700], 2: tokens[700:1200]}
        found.natural[f"c{i}"] = tokens[1200:]
        found.natural_strata[f"c{i}"] = np.ones(300, np.int8)
    return found


def like() -> Lens:
    rows = atoms(0, D)
    return Lens("tap", rows.T.contiguous(), torch.zeros(D), rows, torch.zeros(D), torch.full((D,), 0.1), 2)


@pytest.fixture(scope="module")
def alike():
    return cohort_lenses(like(), sample(atoms(1, 10), 1), sample(atoms(1, 10), 2), steps=250)


@pytest.fixture(scope="module")
def apart():
    return cohort_lenses(like(), sample(atoms(1, 10), 1), sample(atoms(7, 10), 3), steps=250)


def test_cohorts_of_the_same_features_share_as_much_as_two_seeds_do(alike):
    for row in alike:
        assert row["shared"] > 0.6 and row["shared"] >= row["null"] - 0.25, row["says"]


def test_cohorts_of_other_features_share_less_than_two_seeds_and_two_halves(apart):
    cosine = next(row for row in apart if row["by"] == "decoder cosine")
    assert cosine["shared"] < min(cosine["null"], cosine["halves"])
    assert "differ beyond that" in cosine["says"]


def test_a_lens_explains_its_own_cohort_better(apart):
    explained = apart[0]["explained_variance"]
    assert explained["x's lens on x"] > explained["x's lens on y"]
    assert explained["y's lens on y"] > explained["y's lens on x"]


def test_both_ways_of_matching_are_told_with_their_nulls(alike):
    assert [row["by"] for row in alike] == ["decoder cosine", "activation correlation"]
    for row in alike:
        low, high = row["shared_range"]
        assert low <= row["shared"] <= high and 0 <= row["null"] <= 1 and row["steps"] == 250


def test_a_lens_is_wholly_like_itself():
    lens = like()
    found = likeness(lens, lens, torch.randn(500, D, generator=torch.Generator().manual_seed(1)))
    assert found.share("cosine", np.ones(D, bool)) == 1 and found.share("correlation", np.ones(D, bool)) == 1
    assert np.isnan(found.share("cosine", np.zeros(D, bool)))


def test_a_cohort_without_tokens_is_refused():
    with pytest.raises(CaseError):
        cohort_lenses(like(), sample(atoms(1, 10), 1), TokenSample(), steps=5)


def test_tokens_of_a_case_are_a_bounded_sample_of_its_strata(tmp_path):
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "editing"))
    from tiny_packs import write_tiny_pack

    from MedSegLensLib.cohorts.making import phantom_cohort
    from MedSegLensLib.diffing.dictionaries import at_work

    pack = write_tiny_pack("unet", tmp_path / "tiny")
    cohort = phantom_cohort("some", range(2), size=(40, 48, 12), spacing=(4.0, 4.0, 11.0))
    work = TokenWork(at_work(pack), (pack.default_tap,), per_case=200, natural=50)
    samples, failures = sample_tokens(work, cohort.cases)
    found = samples[pack.default_tap]
    assert not failures and set(found.by_case) == {"phantom-0", "phantom-1"}
    for name, by_stratum in found.by_case.items():
        assert set(by_stratum) >= {1, 2}  # brain and lesion
        assert sum(len(tokens) for tokens in by_stratum.values()) <= 2 * 200 + 4
        assert 10 < len(found.natural[name]) <= 50 and len(found.natural[name]) == len(found.natural_strata[name])
        assert all(tokens.shape[1] == pack.lens().d_in for tokens in by_stratum.values())
