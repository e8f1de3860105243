"""Lens files: SAELens' layout, equal after saving, and what is refused."""

import json
import os

import pytest
import torch
from lens_samples import random_lens
from safetensors.torch import load_file, save_file

from MedSegLensLib.errors import OutputError, PackError, UsageError
from MedSegLensLib.lenses.files import load_lens, save_lens

TENSORS = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")


@pytest.fixture
def saved(lens, tmp_path):
    folder = tmp_path / "encoder.stage3"
    save_lens(lens, folder)
    return folder


def change_config(folder, **changes):
    path = folder / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes))


def change_weights(folder, **changes):
    tensors = load_file(folder / "sae_weights.safetensors") | changes
    save_file({k: v for k, v in tensors.items() if v is not None}, folder / "sae_weights.safetensors")


def test_float32_comes_back_bit_for_bit(lens, saved):
    loaded = load_lens(saved)
    assert (loaded.tap, loaded.k) == (lens.tap, lens.k)
    assert loaded.metadata["training"] == {"seed": 3}
    for name in TENSORS:
        assert torch.equal(getattr(loaded, name), getattr(lens, name)), name


def test_saving_again_changes_nothing(saved, tmp_path):
    save_lens(load_lens(saved), tmp_path / "again")
    for name in ("cfg.json", "sae_weights.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_float16_is_half_the_size_and_close(lens, saved, tmp_path):
    save_lens(lens, tmp_path / "half", dtype="float16")
    loaded = load_lens(tmp_path / "half")
    weights = "sae_weights.safetensors"
    assert (tmp_path / "half" / weights).stat().st_size < 0.6 * (saved / weights).stat().st_size
    assert load_file(tmp_path / "half" / weights)["W_enc"].dtype == torch.float16
    for name in TENSORS:
        assert getattr(loaded, name).dtype == torch.float32
        assert torch.allclose(getattr(loaded, name), getattr(lens, name), rtol=1e-3, atol=1e-4), name


def test_layout_is_that_of_saelens(lens, saved):
    assert sorted(os.listdir(saved)) == ["cfg.json", "sae_weights.safetensors"]
    config = json.loads((saved / "cfg.json").read_text(encoding="utf-8"))
    expected = {
        "architecture": "jumprelu",
        "d_in": 12,
        "d_sae": 40,
        "dtype": "float32",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    assert expected.items() <= config.items()
    assert config["metadata"]["hook_name"] == "encoder.stage3"
    shapes = {n: tuple(t.shape) for n, t in load_file(saved / "sae_weights.safetensors").items()}
    assert shapes == {"W_enc": (12, 40), "b_enc": (40,), "W_dec": (40, 12), "b_dec": (12,), "threshold": (40,)}


def test_a_decoder_of_any_norm_is_folded(lens, saved):
    x, norm = torch.randn(30, 12), torch.linspace(0.3, 4, 40)
    change_weights(
        saved,
        W_dec=lens.W_dec * norm[:, None],
        W_enc=lens.W_enc / norm,
        b_enc=lens.b_enc / norm,
        threshold=lens.threshold / norm,
    )
    loaded = load_lens(saved)
    assert torch.allclose(loaded.W_dec.norm(dim=1), torch.ones(40), atol=1e-5)
    assert torch.allclose(loaded.encode(x), lens.encode(x), atol=1e-4)


def test_a_lens_that_does_not_subtract_b_dec_is_read_as_one_that_does(lens, saved):
    change_config(saved, apply_b_dec_to_input=False)
    x = torch.randn(30, 12)
    pre = x @ lens.W_enc + lens.b_enc
    assert torch.allclose(load_lens(saved).encode(x), pre * (pre > lens.threshold), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"architecture": "temporal"}, "architecture is 'temporal'.*standard, gated, topk"),
        ({"architecture": "gated"}, "should hold.*b_gate"),
        ({"architecture": ["gated"]}, "not known here"),
        ({"architecture": "topk"}, "k of TopK is 'missing'"),
        ({"architecture": None}, "architecture is None"),
        ({"normalize_activations": "layer_norm"}, "normalize_activations"),
        ({"d_sae": 10**9}, "d_sae is 1000000000"),
        ({"d_sae": -1}, "d_sae is -1"),
        ({"d_in": "12"}, "d_in is '12'"),
        ({"d_in": True}, "d_in is True"),
        ({"d_sae": 41}, "should be a float of shape"),
        ({"metadata": [1]}, "not a SAELens configuration"),
        ({"metadata": {"k": "many"}}, "k is 'many'"),
    ],
)
def test_a_configuration_that_cannot_be_right_is_refused(saved, changes, cause):
    change_config(saved, **changes)
    with pytest.raises(PackError, match=cause) as error:
        load_lens(saved)
    assert error.value.remedy


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_configuration_that_is_not_json_is_refused(saved, content):
    (saved / "cfg.json").write_bytes(content)
    with pytest.raises(PackError, match="cfg.json"):
        load_lens(saved)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"W_dec": torch.zeros(12, 40)}, "W_dec is F32"),
        ({"threshold": None}, "should hold"),
        ({"extra": torch.zeros(3)}, "extra"),
        ({"b_enc": torch.zeros(40, dtype=torch.int64)}, "b_enc is I64"),
        ({"b_enc": torch.full((40,), float("nan"))}, "b_enc holds nan or inf in 40 of 40 values"),
        ({"threshold": torch.full((40,), -1.0)}, "threshold is negative for 40 latents"),
        ({"W_enc": torch.full((12, 40), 1e38)}, "too large to compute with in float32: a latent's code"),
        ({"W_dec": torch.full((40, 12), 1e30)}, "too large to compute with in float32: W_enc holds nan or inf"),
    ],
)
def test_wrong_weights_are_refused(saved, changes, cause):
    change_weights(saved, **changes)
    with pytest.raises(PackError, match=cause):
        load_lens(saved)


class Payload:
    """Pickled, it would make a file when opened."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("new_zip", [True, False])
def test_a_pickle_is_refused_unopened(saved, tmp_path, new_zip):
    trap = tmp_path / "opened"
    weights = saved / "sae_weights.safetensors"
    torch.save({"W_enc": Payload(trap)}, weights, _use_new_zipfile_serialization=new_zip)
    with pytest.raises(PackError, match="pickle"):
        load_lens(saved)
    assert not trap.exists()


@pytest.mark.parametrize("size", [0, 1, 7, 100, -1])
def test_truncated_weights_are_refused(saved, size):
    path = saved / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(PackError, match="truncated"):
        load_lens(saved)


def test_an_absurd_header_is_refused_before_allocating(saved):
    (saved / "sae_weights.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(PackError, match="truncated"):
        load_lens(saved)


@pytest.mark.parametrize("name", ["cfg.json", "sae_weights.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(PackError, match=f"{name}.*missing"):
        load_lens(saved)


def test_a_lens_that_holds_no_numbers_is_not_written(lens, tmp_path):
    lens.b_enc[3] = float("nan")
    with pytest.raises(UsageError, match="b_enc holds nan or inf in 1 of 40 values.*lower lr"):
        save_lens(lens, tmp_path / "lens")
    assert not (tmp_path / "lens").exists()


def test_weights_beyond_float16_need_float32(lens, tmp_path):
    lens.b_dec[0] = 1e6
    with pytest.raises(UsageError, match="float32"):
        save_lens(lens, tmp_path / "half", dtype="float16")
    assert not (tmp_path / "half").exists()
    with pytest.raises(UsageError, match="int8"):
        save_lens(lens, tmp_path / "half", dtype="int8")


def test_a_folder_that_cannot_be_made_is_an_output_error(lens, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="file"):
        save_lens(lens, tmp_path / "file" / "lens")


@pytest.mark.saelens
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_saelens_loads_it_and_gives_the_same_codes(tmp_path, dtype):
    sae_lens = pytest.importorskip("sae_lens")
    save_lens(random_lens(d_in=48, d_sae=200), tmp_path, dtype=dtype)
    ours, theirs = load_lens(tmp_path), sae_lens.SAE.load_from_disk(tmp_path)
    assert theirs.cfg.architecture() == "jumprelu" and theirs.cfg.metadata.hook_name == "encoder.stage3"
    x = 2 * torch.randn(500, 48)
    with torch.inference_mode():
        z = theirs.encode(x)
        assert torch.allclose(ours.encode(x), z, atol=1e-5)
        assert torch.allclose(ours.decode(z), theirs.decode(z), atol=1e-5)
    assert 0 < (z > 0).double().mean() < 0.5


@pytest.mark.saelens
def test_a_lens_saved_by_saelens_is_read(tmp_path):
    sae_lens = pytest.importorskip("sae_lens")
    config = sae_lens.JumpReLUSAEConfig(d_in=16, d_sae=64)
    theirs = sae_lens.SAE.from_dict(config.to_dict())
    with torch.no_grad():
        theirs.threshold.fill_(0.3)
        theirs.b_dec.normal_()
    theirs.save_model(tmp_path)
    ours, x = load_lens(tmp_path), torch.randn(100, 16)
    with torch.inference_mode():
        assert torch.allclose(ours.decode(ours.encode(x)), theirs(x), atol=1e-4)
