"""A pack written, opened, listed, zipped: what comes out is what went in."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from tiny_lens import TAPS

from MedSegLensLib.errors import PackError, UsageError
from MedSegLensLib.packs import installed
from MedSegLensLib.packs.build import write_pack, zip_pack
from MedSegLensLib.packs.installed import list_packs
from MedSegLensLib.packs.pack import load_pack
from MedSegLensLib.packs.verify import verify


def test_a_pack_gives_back_what_was_written(built, info, state_dict, lenses, catalogue):
    pack = load_pack(built)
    assert verify(built) == [] and pack.warnings == ()
    assert pack.info.name == info.name and pack.info.labels == info.labels and pack.info.segmenter == info.segmenter
    assert pack.info.quality == info.quality
    assert pack.taps == TAPS and pack.default_tap == TAPS[1]
    assert pack.model_card == "# Tiny\n"
    assert pack.catalogue().equals(catalogue)
    assert pack.input_spec().to_json() == info.input
    lens = pack.lens(TAPS[0])
    assert lens is pack.lens(TAPS[0]) and lens.tap == TAPS[0]
    assert torch.allclose(lens.W_enc, lenses[0].W_enc, rtol=1e-3, atol=1e-6)
    assert pack.lens().tap == TAPS[1]


def test_weights_keep_their_precision_where_it_matters(built, state_dict):
    loaded = load_pack(built).state_dict()
    assert set(loaded) == set(state_dict)
    for name in ("conv.huge", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked"):
        assert torch.equal(loaded[name], state_dict[name]) and loaded[name].dtype == state_dict[name].dtype
    assert loaded["conv.weight"].dtype == torch.float32
    assert torch.equal(loaded["conv.weight"], state_dict["conv.weight"].half().float())
    assert (built / "segmenter.safetensors").stat().st_size < 1500


def test_the_hash_does_not_depend_on_layout_but_on_content(built, pack, change):
    original = load_pack(built).hash
    change(lambda document: None)  # written without indentation
    assert load_pack(pack).hash == original
    change(lambda document: document["limits"].append("And one more."))
    assert load_pack(pack).hash != original


def test_recipes_know_a_pack_by_what_edits_depend_on_alone(built, pack, change):
    original = load_pack(built).edits_hash
    change(lambda document: document["limits"].append("And one more."))
    assert load_pack(pack).edits_hash == original
    change(lambda document: document["labels"][0].update(name="edema"))
    assert load_pack(pack).edits_hash != original


@pytest.mark.parametrize("suffix", [".zip", ".mslp"])
def test_a_zip_is_the_same_pack(built, tmp_path, suffix):
    path = tmp_path / f"tiny{suffix}"
    zip_pack(built, path)
    pack = load_pack(path)
    folder = pack.folder
    assert pack.hash == load_pack(built).hash
    assert pack.lens().d_sae == 8 and "conv.weight" in pack.state_dict()
    again = tmp_path / f"again{suffix}"
    zip_pack(built, again)
    assert again.read_bytes() == path.read_bytes()
    del pack
    assert not folder.exists()


def test_a_zip_made_by_a_file_manager_opens_with_a_warning(built, tmp_path):
    path = tmp_path / "by-hand.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(built.rglob("*")):
            archive.write(file, Path("tiny-unet") / file.relative_to(built))
        archive.writestr("__MACOSX/tiny-unet/._pack.json", b"\0\5")
    pack = load_pack(path)
    assert pack.hash == load_pack(built).hash
    assert [w.severity for w in pack.warnings] == ["warning"]


def test_names_are_looked_up(built, tmp_path, monkeypatch):
    monkeypatch.setattr(installed, "pack_folders", lambda: (built.parent, tmp_path / "absent", tmp_path))
    zip_pack(built, tmp_path / "zipped.mslp")
    zip_pack(built, tmp_path / "tiny-unet.zip")
    assert list_packs() == {"tiny-unet": built, "zipped": tmp_path / "zipped.mslp"}
    assert load_pack("tiny-unet").folder == built
    assert load_pack("zipped").hash == load_pack(built).hash
    with pytest.raises(PackError, match="tiny-unet, zipped"):
        load_pack("unheard-of")


def test_a_folder_that_only_has_the_name_of_a_pack_does_not_hide_it(built, tmp_path, monkeypatch):
    monkeypatch.setattr(installed, "pack_folders", lambda: (built.parent,))
    (tmp_path / "tiny-unet").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_pack("tiny-unet").folder == built


def test_unknown_taps_name_the_known_ones(built):
    with pytest.raises(UsageError, match="down_4, upcat_3"):
        load_pack(built).lens("nowhere")


def test_a_pack_without_a_lens_opens_with_a_warning(tmp_path, info, state_dict):
    write_pack(tmp_path / "bare", info, state_dict, [], None, "card")
    pack = load_pack(tmp_path / "bare")
    assert "no lens" in pack.warnings[0].cause and pack.catalogue() is None
    with pytest.raises(UsageError, match="no lens"):
        pack.lens()


def test_network_is_built_with_its_weights(tmp_path, info, state_dict):
    from MedSegLensLib.segmenters.architectures import build_network

    network = build_network(info.segmenter).eval()
    write_pack(tmp_path / "unet", info, network.state_dict(), [], None, "card")
    loaded = load_pack(tmp_path / "unet").network()
    x = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(loaded(x), network(x), atol=1e-2)
    write_pack(tmp_path / "other", info, state_dict, [], None, "card")
    with pytest.raises(PackError, match="do not fit"):
        load_pack(tmp_path / "other").network()


def test_describing_a_pack_does_not_import_torch(built):
    code = f"""
import sys
from MedSegLensLib.packs.installed import list_packs
from MedSegLensLib.packs.pack import load_pack
from MedSegLensLib.editing.recipe import Recipe, PackReference
pack = load_pack({str(built)!r})
list_packs(), pack.info, pack.input_spec(), pack.catalogue(), PackReference.of(pack)
assert "torch" not in sys.modules, "torch"
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert run.returncode == 0, run.stderr
