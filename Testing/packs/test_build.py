"""Writing packs: whole or not at all."""

import dataclasses

import pytest
import torch
from tiny_lens import tiny_lens

from MedSegLensLib.errors import OutputError, PackError, UsageError
from MedSegLensLib.packs.build import write_pack, zip_pack
from MedSegLensLib.packs.pack import load_pack
from MedSegLensLib.packs.verify import verify


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_fails_leaves_nothing(tmp_path, info, state_dict, lenses):
    target = tmp_path / "new"
    bad = [
        (dataclasses.replace(info, name="Not A Name"), state_dict, PackError),
        (dataclasses.replace(info, quality={"dice": float("nan")}), state_dict, PackError),
        (dataclasses.replace(info, quality={"dice": object()}), state_dict, PackError),
        (info, {"w": torch.tensor([float("inf")])}, PackError),
    ]
    for some_info, weights, error in bad:
        with pytest.raises(error):
            write_pack(target, some_info, weights, lenses, None, "card")
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="down_4"):
        write_pack(target, info, state_dict, lenses, None, "card", default_tap="nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_crash_while_writing_leaves_the_old_pack(pack, info, state_dict, lenses, monkeypatch):
    before = contents(pack)
    monkeypatch.setattr("MedSegLensLib.lenses.files.save_lens", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OutputError, match="full"):
        write_pack(pack, info, state_dict, lenses, None, "card", replace_existing=True)
    assert contents(pack) == before and list(pack.parent.iterdir()) == [pack]


def test_replacing(pack, info, state_dict, lenses, tmp_path):
    with pytest.raises(OutputError, match="already"):
        write_pack(pack, info, state_dict, lenses, None, "card")
    (pack / "old.txt").write_text("old")
    write_pack(pack, info, state_dict, lenses, None, "new card", replace_existing=True)
    assert load_pack(pack).model_card == "new card" and not (pack / "old.txt").exists()
    assert list(pack.parent.iterdir()) == [pack]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(OutputError, match="not a pack"):
        write_pack(tmp_path / "mine", info, state_dict, lenses, None, "card", replace_existing=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text(encoding="utf-8") == "irreplaceable"


def test_taps_become_folders_of_their_own(tmp_path, info, state_dict):
    taps = ["a/b", "a_b", "A_B", "../..", "é", "model.decode_head[0]"]
    written = write_pack(
        tmp_path / "p", info, state_dict, [tiny_lens(t, 0) for t in taps], None, "card", lens_dtype="float32"
    )
    assert verify(tmp_path / "p") == []
    assert len({lens.folder.lower() for lens in written.lenses}) == len(taps)
    pack = load_pack(tmp_path / "p")
    assert [pack.lens(tap).tap for tap in taps] == taps
    assert torch.equal(pack.lens("é").W_enc, tiny_lens("é", 0).W_enc)


def test_tied_and_sliced_weights(tmp_path, info):
    shared = torch.arange(12.0).reshape(3, 4)
    write_pack(tmp_path / "p", info, {"a": shared, "b": shared, "c": shared.T[1:]}, [], None, "card")
    loaded = load_pack(tmp_path / "p").state_dict()
    assert torch.equal(loaded["a"], shared) and torch.equal(loaded["c"], shared.T[1:])


def test_a_bad_pack_is_not_zipped(pack, tmp_path):
    (pack / "MODEL_CARD.md").write_text("changed")
    with pytest.raises(PackError):
        zip_pack(pack, tmp_path / "bad.mslp")
    assert not list(tmp_path.glob("*bad*")) and not list(tmp_path.glob(".unf*"))
