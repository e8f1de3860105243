"""A pack that travels by name and hash, and is opened once in a process."""

import pickle

import pytest
import torch
from tiny_packs import write_tiny_pack

from MedSegLensLib.editing.pack_at_work import PackAtWork
from MedSegLensLib.editing.session import Session
from MedSegLensLib.errors import PackError
from MedSegLensLib.packs.pack import load_pack


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs") / "tiny"
    write_tiny_pack("unet", folder)
    return folder


def test_a_pack_is_opened_once_and_its_engine_chosen_once(folder, small_phantom, monkeypatch):
    at_work = PackAtWork.of(load_pack(folder), folder)
    again = pickle.loads(pickle.dumps(at_work))
    first = again.session(small_phantom, "cpu")
    monkeypatch.setattr("MedSegLensLib.editing.session.choose_engine", None)
    second = at_work.session(small_phantom, "cpu")
    assert second.pack is first.pack is again.open() and second.engine is first.engine


def test_a_session_of_it_is_the_session_of_the_pack(folder, small_phantom):
    pack = load_pack(folder)
    session = PackAtWork.of(pack, folder).session(small_phantom, "cpu")
    plain = Session(small_phantom, pack, "cpu", session.engine)
    assert (session.labels == plain.labels).all()
    tap = pack.default_tap
    assert (session.codes[tap].values == plain.codes[tap].values).all()


def test_another_pack_in_its_place_is_refused(folder, tmp_path):
    at_work = PackAtWork.of(load_pack(folder), folder)
    torch.manual_seed(5)
    write_tiny_pack("segformer", tmp_path / "other")
    moved = PackAtWork(str(tmp_path / "other"), at_work.hash)
    with pytest.raises(PackError, match="it is another pack than the one that was asked for"):
        moved.open()


def test_a_shipped_pack_travels_by_its_name_and_another_by_its_whole_path(folder, monkeypatch):
    pack = load_pack(folder)
    assert PackAtWork.of(load_pack("glioma-unet"), "glioma-unet").source == "glioma-unet"
    monkeypatch.chdir(folder.parent)
    assert PackAtWork.of(pack, folder.name).source == str(folder.resolve())
    (folder.parent / "glioma-unet").mkdir()  # which is no pack
    assert PackAtWork.of(load_pack("glioma-unet"), "glioma-unet").source == "glioma-unet"
