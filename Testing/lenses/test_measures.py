"""Measures, streamed, against their definitions."""

import numpy as np
import pytest
import torch

from MedSegLensLib.lenses.measures import dead_share, explained_variance, hyperactive_share, l0, measure_lens


def test_explained_variance_at_its_landmarks():
    x = torch.randn(500, 6) + 100
    assert explained_variance(x, x) == 1
    assert explained_variance(x, x.mean(0).expand_as(x)) == pytest.approx(0, abs=1e-6)
    assert np.isnan(explained_variance(torch.ones(4, 2), torch.ones(4, 2)))


def test_shares_of_latents():
    counts = np.array([0, 1, 5, 50, 100])
    assert dead_share(counts) == 0.2
    assert hyperactive_share(counts, 100) == 0.4


def test_streamed_measures_equal_the_definitions(lens):
    x = 2 * torch.randn(6000, lens.d_in) + 50
    x[:2000] += 3
    lens.b_dec += 50
    strata = np.repeat([0, 2, 7], 2000)
    measures = measure_lens(lens, [(x[:2500], strata[:2500]), (x[2500:], strata[2500:])])
    z = lens.encode(x)
    assert measures.n_tokens == 6000
    assert measures.explained_variance == pytest.approx(explained_variance(x, lens.decode(z)), abs=1e-5)
    assert measures.l0 == pytest.approx(l0(z))
    assert np.array_equal(measures.counts, (z > 0).sum(0).numpy())
    assert measures.dead_share == dead_share(measures.counts)
    for stratum, name in ((0, "air"), (2, "lesion"), (7, "7")):
        mine = torch.from_numpy(strata == stratum)
        expected = explained_variance(x[mine], lens.decode(z[mine]))
        assert measures.explained_variance_by[name] == pytest.approx(expected, abs=1e-5)
        assert measures.l0_by[name] == pytest.approx(l0(z[mine]))
        assert measures.n_tokens_by[name] == 2000


def test_tokens_all_alike_have_no_explained_variance(lens):
    measures = measure_lens(lens, [(torch.full((100, lens.d_in), 0.1), np.zeros(100, int))], {0: "air"})
    assert np.isnan(measures.explained_variance_by["air"])
    assert measures.to_json()["explained_variance_by"] == {"air": None}
    with pytest.raises(ValueError, match="no tokens"):
        measure_lens(lens, [])
