"""Training on tokens whose dictionary is known."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from lens_samples import planted_tokens

from MedSegLensLib.errors import Cancelled, UsageError
from MedSegLensLib.lenses.checkpoint import CHECKPOINT_NAME
from MedSegLensLib.lenses.lens_config import LensConfig
from MedSegLensLib.lenses.measures import explained_variance, measure_lens
from MedSegLensLib.lenses.ranks import ranks_of_environment
from MedSegLensLib.lenses.sampling import BRAIN, TokenBuffer
from MedSegLensLib.lenses.training import Training, train_lens, train_lenses

HELD_OUT = 4000


def buffer_of(x):
    return TokenBuffer({BRAIN: x[HELD_OUT:]}, x[:HELD_OUT], np.full(HELD_OUT, BRAIN, np.int8))


CONFIG = LensConfig("tap", width=64, k=4, steps=800, batch=256, lr=1e-2, dead_after=20_000, log_every=100)


@pytest.fixture(scope="module")
def trained():
    x, directions = planted_tokens(24_000)
    return train_lens(buffer_of(x), CONFIG), x, directions


def test_the_planted_dictionary_is_recovered(trained):
    lens, _, directions = trained
    best = (directions @ lens.W_dec.T).max(1).values
    assert best.mean() > 0.93  # 0.941 to 0.959 over four seeds
    assert torch.allclose(lens.W_dec.norm(dim=1), torch.ones(64), atol=1e-5)


def test_inference_l0_is_k_on_tokens_never_seen(trained):
    lens, *_ = trained
    held_out = lens.metadata["held_out"]
    assert held_out["l0"] == pytest.approx(4, rel=0.01)
    fresh, _ = planted_tokens(30_000)  # the first 24 000 draws differ from those of a smaller sample
    measures = measure_lens(lens, [(fresh, np.full(30_000, BRAIN))])
    assert measures.l0 == pytest.approx(4, rel=0.05)
    # 0.849 to 0.859 over four seeds. 64 directions in 32 dimensions cannot be read off exactly: the planted dictionary
    # itself, with its transpose as encoder and the best of three biases, reaches 0.67.
    assert measures.explained_variance > 0.83
    assert measures.dead_share < 0.08  # 0 to 0.063 over four seeds


def test_the_log_tells_of_the_training(trained):
    lens, *_ = trained
    log = lens.metadata["log"]
    assert [entry["step"] for entry in log] == [*range(0, 800, 100), 799]
    assert log[-1]["explained_variance"] > log[0]["explained_variance"]
    assert set(log[0]) == {"step", "loss", "l0", "dead_share", "explained_variance", "threshold"}
    assert lens.metadata["training"]["seed"] == 0
    assert lens.metadata["threshold"] == pytest.approx(lens.metadata["threshold_running"], rel=0.1)
    json.dumps(lens.metadata, allow_nan=False)


def test_scale_and_offset_of_the_tap_do_not_matter():
    x, _ = planted_tokens(8000)
    config = LensConfig("tap", 64, 4, steps=60, batch=256, lr=1e-2)
    plain, other = (train_lens(buffer_of(tokens), config).metadata for tokens in (x, 1000 * x - 7))
    ev = [m["held_out"]["explained_variance"] for m in (plain, other)]
    assert ev[0] == pytest.approx(ev[1], abs=0.02) and ev[0] > 0.3
    assert other["threshold"] == pytest.approx(1000 * plain["threshold"], rel=0.1)


def test_the_same_seed_gives_the_same_lens():
    x, _ = planted_tokens(6000)
    few = LensConfig("tap", width=32, k=3, steps=20, batch=128)
    first, second = (train_lens(buffer_of(x), few) for _ in range(2))
    assert torch.equal(first.W_enc, second.W_enc) and torch.equal(first.threshold, second.threshold)


def test_the_auxiliary_loss_revives_dead_latents():
    x, _ = planted_tokens(12_000, atoms=200, k=6)
    shares = []
    for weight in (0.0, 1 / 32):
        config = LensConfig("tap", 256, 6, steps=250, batch=256, lr=1e-2, aux_weight=weight, dead_after=5000)
        shares.append(train_lens(buffer_of(x), config).metadata["held_out"]["dead_share"])
    assert shares[1] <= shares[0]


def test_progress_is_told_and_may_cancel():
    x, _ = planted_tokens(6000)
    told = []

    def progress(stage, fraction):
        told.append(fraction)
        if fraction > 0.4:
            raise Cancelled("lens training")

    with pytest.raises(Cancelled):
        train_lens(buffer_of(x), LensConfig("tap", 32, 3, steps=20, batch=64, log_every=5), progress)
    assert told == sorted(told) and told[-1] < 0.6


@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_tokens_with_nothing_to_learn_are_refused(value):
    with pytest.raises(UsageError, match="alike or not finite"):
        train_lens(buffer_of(torch.full((6000, 8), value)), LensConfig("tap", 32, 3, steps=2))


@pytest.mark.parametrize("wrong", [{"k": 0}, {"k": 64}, {"steps": 0}, {"lr": float("nan")}])
def test_a_configuration_that_cannot_work_is_refused(wrong):
    with pytest.raises(UsageError):
        LensConfig("tap", **({"width": 64, "k": 4} | wrong))


def test_the_first_latents_of_a_matryoshka_lens_reconstruct_alone():
    x, _ = planted_tokens(24_000)
    nested = train_lens(buffer_of(x), dataclasses.replace(CONFIG, prefixes=(8, 24)))
    plain = train_lens(buffer_of(x), CONFIG)

    def explained_by_the_first(lens, n):
        z = lens.encode(x[:HELD_OUT])
        z[:, n:] = 0
        return explained_variance(x[:HELD_OUT], lens.decode(z))

    assert explained_by_the_first(nested, 24) > explained_by_the_first(plain, 24) + 0.1
    assert nested.metadata["held_out"]["explained_variance"] > 0.7


@pytest.mark.parametrize("prefixes", [(0, 8), (24, 8), (64,), (8, 8)])
def test_prefixes_that_do_not_ascend_below_the_width_are_refused(prefixes):
    with pytest.raises(UsageError, match="ascending"):
        dataclasses.replace(CONFIG, prefixes=prefixes)


KINDS_TRIED = [{"kind": "batch_topk"}, {"kind": "topk"}, {"kind": "matryoshka"}, {"kind": "archetypal"}]


@pytest.mark.parametrize("kind", [*KINDS_TRIED, {"init": "centroids", "noise": 0.0}], ids=str)
def test_every_kind_learns_and_has_k_active_latents(kind):
    x, _ = planted_tokens(12_000)
    lens = train_lens(buffer_of(x), dataclasses.replace(CONFIG, steps=300, **kind))
    held_out = lens.metadata["held_out"]
    assert held_out["explained_variance"] > 0.6
    assert held_out["l0"] == pytest.approx(4, rel=0.02)
    assert torch.allclose(lens.W_dec.norm(dim=1), torch.ones(64), atol=1e-4)
    assert lens.activation == ("topk" if kind.get("kind") == "topk" else "jumprelu")


def test_a_topk_lens_keeps_k_latents_of_each_token_in_its_sparse_codes_and_its_files_too(tmp_path):
    from MedSegLensLib.lenses.codes import encode_tokens
    from MedSegLensLib.lenses.files import load_lens, save_lens

    x, _ = planted_tokens(6000)
    save_lens(train_lens(buffer_of(x), dataclasses.replace(CONFIG, steps=50, kind="topk")), tmp_path)
    lens = load_lens(tmp_path)
    z = lens.encode(x[:60])
    assert ((z > 0).sum(1) == 4).all()
    assert torch.equal(lens.encode_latents(x[:60].view(6, 10, -1), [5, 2]), z[:, [5, 2]].view(6, 10, 2))
    codes = encode_tokens(lens, [x[:60]], grid=(1, 6, 10))
    latent = int(z.sum(0).argmax())
    np.testing.assert_allclose(codes.dense(latent).ravel(), z[:, latent].numpy(), atol=1e-6)


def test_the_rows_of_an_archetypal_lens_stay_near_the_hull_of_its_centroids():
    from scipy.optimize import nnls

    x, _ = planted_tokens(6000, d=8, atoms=12, k=2)
    config = dataclasses.replace(CONFIG, width=24, steps=200, kind="archetypal", centroids=40, relaxation=0.0)
    training = Training(buffer_of(x), config)
    train_lenses([training])
    cone = training.dictionary.centroids.T.double().numpy()
    for row in training.dictionary.rows().detach().double().numpy():
        assert nnls(cone, row)[1] < 1e-3  # a non-negative mixture of centroids, to rounding


@pytest.mark.parametrize("kind", KINDS_TRIED, ids=str)
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(kind, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    x, _ = planted_tokens(8000)
    config = dataclasses.replace(CONFIG, steps=30, dead_after=1000, log_every=5, **kind)

    def stop(stage, share):
        if share > 0.3:
            raise Cancelled("lens training")

    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Cancelled):
        train_lens(buffer_of(x), config, stop, checkpoint=path)
    went_on = train_lens(buffer_of(x), config, checkpoint=path, resume=True)
    at_once = train_lens(buffer_of(x), config)
    torch.set_num_threads(threads)
    for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"):
        assert torch.equal(getattr(went_on, name), getattr(at_once, name)), name
    assert went_on.metadata["log"] == at_once.metadata["log"]


def test_a_training_goes_on_only_with_its_own_configuration_and_tokens(tmp_path):
    x, _ = planted_tokens(8000)
    few, path = dataclasses.replace(CONFIG, steps=4), tmp_path / "checkpoint.safetensors"
    train_lens(buffer_of(x), few, checkpoint=path)
    with pytest.raises(UsageError, match="lr was 0.01 and is 0.02"):
        train_lens(buffer_of(x), dataclasses.replace(few, lr=0.02), checkpoint=path, resume=True)
    with pytest.raises(UsageError, match="other tokens"):
        train_lens(buffer_of(3 * x), few, checkpoint=path, resume=True)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UsageError, match="not a checkpoint"):
        train_lens(buffer_of(x), few, checkpoint=path, resume=True)


def test_several_lenses_side_by_side_become_what_each_becomes_alone():
    x, _ = planted_tokens(8000)
    base = dataclasses.replace(CONFIG, steps=25)
    configs = [base, dataclasses.replace(base, seed=1), dataclasses.replace(base, width=96, k=6, steps=15)]
    together = train_lenses([Training(buffer_of(x), config) for config in configs])
    for config, lens in zip(configs, together, strict=True):
        alone = train_lens(buffer_of(x), config)
        assert torch.allclose(lens.W_dec, alone.W_dec, atol=1e-6) and lens.d_sae == config.width
    assert not torch.allclose(together[0].W_dec, together[1].W_dec, atol=1e-2)


def test_a_loss_that_is_no_number_any_more_names_the_step_and_the_way_out(tmp_path):
    x, _ = planted_tokens(8000)
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(UsageError, match=r"at step \d+.*lower lr.*it was 1e\+20") as error:
        train_lens(buffer_of(x), dataclasses.replace(CONFIG, lr=1e20, warmup=0.0), checkpoint=path)
    assert error.value.exit_code == 2 and not path.exists()


RUNS_AWAY = {"lr": 1e20, "warmup": 0.0}


def test_a_loss_that_is_no_number_any_more_ends_that_lens_alone(tmp_path):
    x, _ = planted_tokens(8000)
    base = dataclasses.replace(CONFIG, steps=25, products="dense")
    configs = [base, dataclasses.replace(base, **RUNS_AWAY), dataclasses.replace(base, seed=1)]
    told = []
    trainings = [Training(buffer_of(x), c, tmp_path / str(i) / CHECKPOINT_NAME) for i, c in enumerate(configs)]
    for i in range(3):
        (tmp_path / str(i)).mkdir()
    lenses = train_lenses(trainings, lambda said, share: told.append((said, share)), checkpoint_every=1)
    assert [lens is None for lens in lenses] == [t.failed is not None for t in trainings] == [False, True, False]
    for i in (0, 2):
        assert torch.equal(lenses[i].W_dec, train_lens(buffer_of(x), configs[i]).W_dec)
    shares = [share for _, share in told]
    assert "training 2 lenses (1 stopped" in told[-1][0] and shares == sorted(shares) and shares[-1] == 1

    account = json.loads((tmp_path / "1" / "failed.json").read_text(encoding="utf-8"))
    assert "no number any more at step" in account["cause"] and account["config"]["lr"] == 1e20
    assert not (tmp_path / "1" / CHECKPOINT_NAME).exists() and not (tmp_path / "0" / "failed.json").exists()


def test_a_resumed_sweep_knows_which_lens_had_stopped(tmp_path, monkeypatch):
    x, _ = planted_tokens(8000)
    base = dataclasses.replace(CONFIG, steps=25, products="dense")
    configs = [base, dataclasses.replace(base, **RUNS_AWAY)]

    def trainings(configs, resume):
        found = []
        for i, config in enumerate(configs):
            (tmp_path / str(i)).mkdir(exist_ok=True)
            found.append(Training(buffer_of(x), config, tmp_path / str(i) / CHECKPOINT_NAME))
            if resume:
                found[-1].resume()
        return found

    def stop(said, share):
        if share > 0.5:
            raise Cancelled("lens training")

    with pytest.raises(Cancelled):
        train_lenses(trainings(configs, False), stop)
    sound, failed = trainings(configs, True)
    assert sound.done > 0 and not sound.failed and failed.done == 0
    assert "lower lr (it was 1e+20)" in failed.failed.remedy
    first, none = train_lenses([sound, failed])
    assert none is None and torch.equal(first.W_dec, train_lens(buffer_of(x), base).W_dec)
    again = trainings([base, dataclasses.replace(base, seed=2)], True)[1]  # another configuration is another lens
    assert not again.failed


@pytest.mark.parametrize("kind", KINDS_TRIED, ids=str)
def test_weights_that_the_last_step_spoilt_are_no_lens(kind):
    x, _ = planted_tokens(8000)
    training = Training(buffer_of(x), dataclasses.replace(CONFIG, steps=1, **RUNS_AWAY, **kind))
    lens = train_lenses([training])[0]
    if lens is None:
        assert "no number" in training.failed.cause
    else:  # some kinds keep their numbers in one step, however long
        assert all(torch.isfinite(getattr(lens, name)).all() for name in ("W_enc", "b_enc", "W_dec", "b_dec"))


def _one_of_two(rank, port, folder):
    import os

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    torch.set_num_threads(1)
    x, _ = planted_tokens(8000)
    training = Training(buffer_of(x), dataclasses.replace(CONFIG, steps=120), ranks=ranks_of_environment("cpu"))
    lens = train_lenses([training])[0]
    torch.save({"W_dec": lens.W_dec, "ev": lens.metadata["held_out"]["explained_variance"]}, f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


def test_two_processes_train_one_lens(tmp_path):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_one_of_two, (port, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / str(rank)) for rank in range(2))
    assert torch.equal(first["W_dec"], second["W_dec"])
    x, _ = planted_tokens(8000)
    alone = train_lens(buffer_of(x), dataclasses.replace(CONFIG, steps=120))
    assert first["ev"] == pytest.approx(alone.metadata["held_out"]["explained_variance"], abs=0.08)
