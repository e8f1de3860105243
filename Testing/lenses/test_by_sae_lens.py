"""Kinds that sae-lens trains, from our tokens: trained there, read here, and the same codes in both."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from lens_samples import planted_tokens

from MedSegLensLib.errors import Cancelled, UsageError
from MedSegLensLib.lenses.by_sae_lens import train_by_sae_lens
from MedSegLensLib.lenses.checkpoint import LossIsNoNumber
from MedSegLensLib.lenses.files import load_lens, save_lens
from MedSegLensLib.lenses.lens_config import SAE_LENS_KINDS, LensConfig
from MedSegLensLib.lenses.sampling import BRAIN, TokenBuffer
from MedSegLensLib.lenses.training import Training


def buffer_of(x, held_out=2000):
    return TokenBuffer({BRAIN: x[held_out:]}, x[:held_out], np.full(held_out, BRAIN, np.int8))


@pytest.mark.saelens
@pytest.mark.parametrize("kind", SAE_LENS_KINDS)
def test_what_sae_lens_trained_runs_here_and_there_alike(kind, tmp_path):
    sae_lens = pytest.importorskip("sae_lens")
    x, _ = planted_tokens(12_000)
    k, steps = (8, 800) if kind == "standard" else (4, 400)  # an L1 penalty shrinks what it keeps: k = 4 needs longer
    lens = train_by_sae_lens(buffer_of(x), LensConfig("tap", 96, k, steps=steps, batch=256, lr=3e-3, kind=kind))
    held_out = lens.metadata["held_out"]
    assert held_out["explained_variance"] > 0.4 and 1 < held_out["l0"] < 12
    json.dumps(lens.metadata, allow_nan=False)
    save_lens(lens, tmp_path)
    theirs, ours = sae_lens.SAE.load_from_disk(tmp_path), load_lens(tmp_path)
    with torch.inference_mode():
        z = theirs.encode(x[:500])
        assert torch.allclose(ours.encode(x[:500]), z, atol=1e-3) and (z > 0).any()
        assert torch.allclose(ours.decode(z), theirs.decode(z), atol=1e-3)


@pytest.mark.saelens
@pytest.mark.parametrize("architecture", ["standard", "gated", "topk", "jumprelu", "matching_pursuit"])
def test_an_sae_of_any_known_architecture_that_saelens_saved_gives_the_same_reconstruction(architecture, tmp_path):
    pytest.importorskip("sae_lens")
    from sae_lens.registry import get_sae_class

    made, config = get_sae_class(architecture)
    own = {"topk": {"k": 5, "rescale_acts_by_decoder_norm": True}, "matching_pursuit": {"max_iterations": 6}}
    torch.manual_seed(0)
    theirs = made(config(d_in=16, d_sae=64, **own.get(architecture, {})))
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.ndim == 1:
                parameter.copy_(0.3 * torch.randn_like(parameter))
                if name == "threshold":
                    parameter.abs_()
    theirs.save_model(tmp_path)
    ours, x = load_lens(tmp_path), torch.randn(200, 16)
    with torch.inference_mode():
        assert torch.allclose(ours.decode(ours.encode(x)), theirs(x), atol=1e-4)
        assert torch.equal(ours.encode(x) > 0, theirs.encode(x) > 0)


@pytest.mark.saelens
@pytest.mark.parametrize("kind", SAE_LENS_KINDS)
def test_a_training_by_sae_lens_that_was_stopped_goes_on_to_the_same_bits(kind, tmp_path):
    pytest.importorskip("sae_lens")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    x, _ = planted_tokens(8000)
    config = LensConfig("tap", 96, 4, steps=60, batch=256, lr=3e-3, kind=kind, log_every=10)
    path = tmp_path / "checkpoint.safetensors"

    def stop(said, share):
        if share > 0.4:
            raise Cancelled("lens training")

    with pytest.raises(Cancelled):
        train_by_sae_lens(buffer_of(x), config, stop, path)
    told = []
    went_on = train_by_sae_lens(buffer_of(x), config, lambda said, share: told.append(share), path, resume=True)
    at_once = train_by_sae_lens(buffer_of(x), config)
    torch.set_num_threads(threads)
    assert told[0] > 0.4
    for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"):
        assert torch.equal(getattr(went_on, name), getattr(at_once, name)), name
    assert went_on.metadata["log"] == at_once.metadata["log"]
    with pytest.raises(UsageError, match="lr was 0.003 and is 0.01"):
        train_by_sae_lens(buffer_of(x), replace(config, lr=0.01), None, path, resume=True)


@pytest.mark.saelens
def test_a_training_by_sae_lens_that_runs_away_leaves_its_account(tmp_path):
    pytest.importorskip("sae_lens")
    x, _ = planted_tokens(8000)
    config = LensConfig("tap", 96, 4, steps=60, batch=256, lr=1e30, warmup=0.0, kind="standard")
    path = tmp_path / "checkpoint.safetensors"
    for _ in range(2):  # the second is told by the account of the first
        with pytest.raises(LossIsNoNumber, match="no number any more at step.*lower lr"):
            train_by_sae_lens(buffer_of(x), config, None, path, resume=True)
        assert (tmp_path / "failed.json").exists()


def test_where_sae_lens_is_absent_the_way_to_have_it_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    x, _ = planted_tokens(3000)
    with pytest.raises(UsageError, match=r"pip install \"medseglens\[train\]\""):
        train_by_sae_lens(buffer_of(x, 500), LensConfig("tap", 64, 4, steps=2, kind="jumprelu"))


def test_its_kinds_are_not_trained_by_our_loop():
    x, _ = planted_tokens(3000)
    with pytest.raises(UsageError, match="trained by sae-lens"):
        Training(buffer_of(x, 500), LensConfig("tap", 64, 4, kind="gated"))
