"""A user's notes: kept apart from the pack, found again by its lens, never half-written, and exported."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_lens import TAPS

from MedSegLensLib.errors import OutputError, PackError, UsageError
from MedSegLensLib.packs.notes import MAX_NAME, Note, Notes, lens_hash, notes_of, notes_path
from MedSegLensLib.packs.pack import load_pack

HASHES = {"a": "0" * 64, "b": "f" * 64}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSEGLENS_NOTES", str(tmp_path / "notes"))
    return tmp_path / "notes"


def test_what_is_noted_is_found_again_and_the_pack_is_not_touched(pack, folder):
    before = load_pack(pack).hash
    notes = notes_of(load_pack(pack))
    notes.set(TAPS[0], 3, name="  my   rim ", comment="seen in two cases", favourite=True)
    notes.set(TAPS[0], 3, favourite=False)
    notes.save()
    again = notes_of(load_pack(pack))
    assert again.get(TAPS[0], 3) == Note("my rim", "seen in two cases", False)
    assert again.name(TAPS[1], 3) is None and again.get(TAPS[1], 3) == Note()
    assert load_pack(pack).hash == before
    assert [p.name for p in folder.iterdir()] == ["tiny-unet.notes.json"]


def test_notes_belong_to_the_lens_and_not_to_the_number(pack):
    first = Notes.load(notes_path("tiny-unet"), "tiny-unet", HASHES)
    first.set("a", 1, name="rim")
    first.save()
    retrained = Notes.load(first.path, "tiny-unet", HASHES | {"a": "1" * 64})
    assert retrained.name("a", 1) is None and not retrained.all()
    retrained.set("a", 1, name="another")
    retrained.save()
    assert Notes.load(first.path, "tiny-unet", HASHES).name("a", 1) == "rim", "old notes stay in the file"
    info = load_pack(pack).info
    assert lens_hash(info, TAPS[0]) != lens_hash(info, TAPS[1])


def test_an_emptied_note_is_gone():
    notes = Notes(notes_path("p"), "p", HASHES)
    notes.set("a", 1, name="rim", favourite=True)
    notes.set("a", 1, name="", favourite=False)
    assert not notes.all()


@pytest.mark.parametrize(
    "tap, latent, name", [("z", 1, "x"), ("a", -1, "x"), ("a", 1, "x" * (MAX_NAME + 1)), ("a", 1, "\x07")]
)
def test_what_cannot_be_noted(tap, latent, name):
    with pytest.raises(UsageError):
        Notes(notes_path("p"), "p", HASHES).set(tap, latent, name=name)


def test_export_as_csv_and_json_and_import_again(tmp_path):
    notes = Notes(notes_path("p"), "p", HASHES)
    notes.set("b", 2, name='with "quotes", a comma', comment="two\nlines", favourite=True)
    notes.set("a", 7, favourite=True)
    rows = list(csv.DictReader(io.StringIO(notes.export("csv"))))
    assert [(row["tap"], row["latent"]) for row in rows] == [("a", "7"), ("b", "2")]
    assert rows[1]["name"] == 'with "quotes", a comma' and rows[1]["comment"] == "two\nlines"
    assert rows[1]["favourite"] == "yes" and rows[1]["pack"] == "p"
    notes.export_to(tmp_path / "mine.json")
    other = Notes(notes_path("p"), "p", HASHES)
    other.set("a", 7, name="stays not")
    assert other.import_from(tmp_path / "mine.json") == 2
    assert other.all() == notes.all()
    with pytest.raises(UsageError, match="csv or json"):
        notes.export("xml")
    with pytest.raises(PackError, match="no such file"):
        other.import_from(tmp_path / "absent.json")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        json.dumps({"medseglens_notes": 1, "pack": "other", "notes": []}).encode(),
        json.dumps({"medseglens_notes": 2, "pack": "p", "notes": []}).encode(),
        json.dumps({"medseglens_notes": 1, "pack": "p", "notes": [{"tap": "a"}]}).encode(),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused_and_left_as_it_is(folder, content):
    folder.mkdir()
    path = notes_path("p")
    path.write_bytes(content)
    with pytest.raises(PackError, match="Move the file away"):
        Notes.load(path, "p", HASHES)
    assert path.read_bytes() == content


def test_nothing_is_left_half_written(folder, monkeypatch):
    notes = Notes(notes_path("p"), "p", HASHES)
    notes.set("a", 1, name="first")
    notes.save()
    before = notes.path.read_bytes()
    notes.set("a", 1, name="second")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OutputError, match="disk is full"):
        notes.save()
    monkeypatch.undo()
    assert notes.path.read_bytes() == before and len(list(folder.iterdir())) == 1


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    notes = Notes(notes_path("p", tmp_path / "file" / "deeper"), "p", HASHES)
    with pytest.raises(OutputError):
        notes.save()


words = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30)


@given(st.dictionaries(st.tuples(st.sampled_from("ab"), st.integers(0, 999)), st.tuples(words, words, st.booleans())))
def test_any_notes_round_trip(tmp_path_factory, noted):
    path = notes_path("p", tmp_path_factory.getbasetemp() / "round")
    notes = Notes(path, "p", HASHES)
    for (tap, latent), (name, comment, favourite) in noted.items():
        notes.set(tap, latent, name, comment, favourite)
    notes.save()
    assert Notes.load(path, "p", HASHES).all() == notes.all()
