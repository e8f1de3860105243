"""Tokens with the tissue they lie in."""

import numpy as np
import pytest
import torch

from MedSegLensLib.editing.harvest import BORDER_MM, harvest, tissue_of, token_values
from MedSegLensLib.lenses.sampling import AIR, BORDER, BRAIN, LESION


def test_tissue_is_told_by_brain_labels_and_distance(session, case):
    labels = session.conformed.labels(case.labels)
    tissue = tissue_of(session.conformed, labels)
    assert (tissue[labels > 0] == LESION).all()
    assert (tissue[~session.conformed.brain & (labels == 0)] == AIR).all()
    border = np.argwhere(tissue == BORDER)
    lesion = np.argwhere(labels > 0)
    spacing = np.array(session.conformed.grid.spacing[::-1])
    nearest = min(np.linalg.norm((lesion - border[len(border) // 2]) * spacing, axis=1))
    assert 0 < nearest <= BORDER_MM
    assert set(np.unique(tissue_of(session.conformed, None))) == {AIR, BRAIN}


def test_harvested_tokens_are_those_the_codes_were_made_of(session, case):
    tap = session.pack.default_tap
    config, spec = session.pack.info.segmenter, session.pack.input_spec()
    chunks = list(harvest(case, session.network, config, spec, tap, session.engine))
    brain = session.brain_tokens[tap]
    assert sum(len(x) for x, _ in chunks) == brain.sum() < session.codes[tap].n_tokens
    z = session.lenses[tap].encode(torch.cat([x for x, _ in chunks])).numpy()
    latent = int(np.argmax(session.codes[tap].summary().total))
    dense = session.codes[tap].dense(latent)
    np.testing.assert_allclose(z[:, latent], dense[brain], atol=2e-3)
    assert not dense[~brain].any(), "a lens does not read air"
    assert set(np.unique(np.concatenate([s for _, s in chunks]))) <= {AIR, BRAIN, LESION, BORDER}


def test_a_token_has_the_value_of_most_of_its_voxels(session):
    if session.sampling.overlapping:
        pytest.skip("told by slices; patches use the same pooling in 3D")
    volume = np.zeros(session.labels.shape, np.int8)
    volume[0, :, : volume.shape[2] // 2] = 2
    grid = (2, 2)
    assert token_values(volume, session.sampling, 0, grid, 4).tolist() == [[2, 0], [2, 0]]
