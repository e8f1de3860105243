"""Bad packs: each is refused with the file, the cause and a remedy; every problem is found; nothing is executed."""

import json
import os
import pickle
import struct
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_lens import TAPS

from MedSegLensLib.errors import MedSegLensError, PackError
from MedSegLensLib.packs.build import zip_pack
from MedSegLensLib.packs.checked_json import parse_json
from MedSegLensLib.packs.info import SCHEMA, PackInfo
from MedSegLensLib.packs.pack import LensPack, load_pack
from MedSegLensLib.packs.verify import verify

WEIGHTS = "segmenter.safetensors"


def refused(path, file: str, cause: str):
    """The pack is refused, `file` and `cause` being among its errors; returns them."""
    errors = [finding for finding in verify(path) if finding.severity == "error"]
    assert any(file in e.file and cause in e.cause for e in errors), [str(e) for e in errors]
    assert all(e.cause and e.remedy for e in errors)
    with pytest.raises(PackError) as raised:
        load_pack(path)
    assert raised.value.cause == errors[0].cause and errors[0].file in raised.value.subject
    return errors


def test_not_a_pack_at_all(tmp_path):
    refused(tmp_path / "absent", "absent", "does not exist")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "pack.json", "missing")
    (tmp_path / "text.zip").write_text("hello")
    refused(tmp_path / "text.zip", "text.zip", "not a readable zip")


def test_bad_json(pack):
    text = (pack / "pack.json").read_text(encoding="utf-8")
    (pack / "pack.json").write_text(text[:-20])
    refused(pack, "pack.json", "not valid JSON")
    (pack / "pack.json").write_text(text.replace('"version"', '"name"', 1))
    refused(pack, "pack.json", "'name' twice")
    (pack / "pack.json").write_bytes(b"\xff\xfe\x00")
    refused(pack, "pack.json", "UTF-8")
    (pack / "pack.json").write_text("[" * 100_000)
    refused(pack, "pack.json", "nested")
    (pack / "pack.json").write_text("[]")
    refused(pack, "pack.json", "not a MedSegLens pack")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_are_none(pack, number):
    text = (pack / "pack.json").read_text(encoding="utf-8")
    (pack / "pack.json").write_text(text.replace("0.5", number, 1))
    refused(pack, "pack.json", number)


@pytest.mark.parametrize("version", [2, 0, "1", None, True, [1]])
def test_unknown_version(pack, change, version):
    change(lambda d: d.update(medseglens_pack=version))
    errors = refused(pack, "pack.json", "format version")
    assert len(errors) == 1


@pytest.mark.parametrize(
    ("edit", "pointer"),
    [
        (lambda d: d["lenses"][1].update(d_sae="8"), "/lenses/1/d_sae"),
        (lambda d: d["lenses"][1].update(d_sae=8.0), "/lenses/1/d_sae"),
        (lambda d: d["lenses"][0].update(d_in=10**12), "/lenses/0/d_in"),
        (lambda d: d["lenses"][0].update(default=True), "/lenses"),
        (lambda d: d["lenses"][0].update(tap=TAPS[1]), "/lenses"),
        (lambda d: d.pop("labels"), "labels"),
        (lambda d: d["labels"][0].update(value=2), "/labels"),
        (lambda d: d["labels"][2].update(colour=[0, 0, 256]), "/labels/2/colour/2"),
        (lambda d: d["labels"][1]["code"].pop("meaning"), "/labels/1/code"),
        (lambda d: d["input"].update(modalities=["t1n", "flair"]), "/input/modalities/1"),
        (lambda d: d["input"].update(modalities=["t1c", "t1c"]), "/input/modalities"),
        (lambda d: d["input"].update(orientation="LLS"), "/input/orientation"),
        (lambda d: d["input"].update(spacing=[0, 1, 1]), "/input/spacing/0"),
        (lambda d: d["segmenter"].update(architecture="os.system"), "/segmenter/architecture"),
        (lambda d: d["segmenter"].update(arguments={"features": [10**9]}), "/segmenter/arguments/features"),
        (lambda d: d["segmenter"].update(sampling="patches"), "/segmenter/"),
        (lambda d: d.update(name="Tiny UNet"), "/name"),
        (lambda d: d.update(name="tiny\n"), "/name"),
        (lambda d: d.update(extra=1), "extra"),
        (lambda d: d["files"][WEIGHTS].update(bytes=1.0), "/files/segmenter.safetensors/bytes"),
        (lambda d: d["files"].pop(WEIGHTS), WEIGHTS),
    ],
)
def test_bad_fields_are_named(pack, change, edit, pointer):
    change(edit)
    refused(pack, "pack.json", pointer)


def test_every_problem_is_found(pack, change):
    change(lambda d: d["labels"][0].pop("name"))
    (pack / "MODEL_CARD.md").unlink()
    (pack / WEIGHTS).write_bytes((pack / WEIGHTS).read_bytes()[:-1] + b"x")
    (pack / "catalogue.parquet").write_bytes(b"")
    assert {f.file for f in verify(pack)} == {"pack.json", "MODEL_CARD.md", WEIGHTS, "catalogue.parquet"}


def test_wrong_hash_missing_and_unlisted_files(pack):
    weights = (pack / WEIGHTS).read_bytes()
    (pack / WEIGHTS).write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    refused(pack, WEIGHTS, "SHA-256")
    (pack / WEIGHTS).write_bytes(weights[:-1])
    refused(pack, WEIGHTS, "pack.json says")
    (pack / WEIGHTS).unlink()
    refused(pack, WEIGHTS, "missing")
    (pack / WEIGHTS).write_bytes(weights)
    (pack / "notes.txt").write_text("mine")
    assert [(f.severity, f.file) for f in verify(pack)] == [("warning", "notes.txt")]
    assert load_pack(pack).warnings[0].file == "notes.txt"


@pytest.mark.parametrize(
    "path", ["../outside.json", "a/../../outside.json", "/etc/passwd", "C:/x.json", "..\\x.json", "\\\\host\\x", "~/x"]
)
def test_listed_paths_that_leave_the_folder(pack, change, path):
    (pack.parent / "outside.json").write_text("{}")
    change(lambda d: d["files"].__setitem__(path, {"sha256": "0" * 64, "bytes": 2}))
    refused(pack, path, "leads out")


@pytest.mark.parametrize("path", ["a//b.json", "./a.json", "aux.txt", "a.", "a b.txt", "pack.json", "é.txt", ""])
def test_listed_paths_that_are_not_portable(pack, change, path):
    change(lambda d: d["files"].__setitem__(path, {"sha256": "0" * 64, "bytes": 2}))
    refused(pack, path, "may not have")


def test_lens_folder_that_leaves_the_pack(pack, change):
    change(lambda d: d["lenses"][0].update(folder="../other"))
    refused(pack, "pack.json", "../other/cfg.json is not listed")


def test_links(pack, relist):
    secret = pack.parent / "secret.md"
    secret.write_text("secret")
    (pack / "MODEL_CARD.md").unlink()
    (pack / "MODEL_CARD.md").symlink_to(secret)
    relist("MODEL_CARD.md")
    refused(pack, "MODEL_CARD.md", "link")


def test_linked_folder_and_pipe(pack):
    (pack / "more").symlink_to("/")
    refused(pack, "more", "link")
    (pack / "more").unlink()
    os.mkfifo(pack / "pipe")
    refused(pack, "pipe", "regular")


class Bomb:
    """Leaves a trace if it is ever unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


@pytest.mark.parametrize("name", [WEIGHTS, f"lenses/{TAPS[0]}/sae_weights.safetensors", "MODEL_CARD.md"])
@pytest.mark.parametrize("kind", ["pickle", "torch", "torch-legacy"])
def test_pickles_in_place_of_safetensors(pack, relist, tmp_path, name, kind):
    trace = tmp_path / "executed"
    if kind == "pickle":
        (pack / name).write_bytes(pickle.dumps(Bomb(trace)))
    else:
        torch.save(Bomb(trace), pack / name, _use_new_zipfile_serialization=kind == "torch")
    relist(name)
    refused(pack, name, "pickle")
    assert not trace.exists()


@pytest.mark.parametrize("name", ["extra.pt", "extra.PTH", "lenses/extra.bin", "extra.pkl", "extra.npy"])
def test_files_that_may_be_pickles_even_unlisted(pack, name):
    (pack / name).write_bytes(b"harmless")
    refused(pack, name, "pickle")


@pytest.mark.parametrize("name", ["network.py", "lenses/__init__.py", "ops.so", "model.ts", "run.SH"])
def test_programs_even_unlisted(pack, name):
    (pack / name).write_text("print('hello')")
    refused(pack, name, "program")


def test_a_header_that_begins_like_a_pickle_is_none(pack, relist):
    header = json.dumps({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode().ljust(640)
    (pack / WEIGHTS).write_bytes(struct.pack("<Q", 640) + header + b"\1")
    relist(WEIGHTS)
    assert verify(pack) == []


def safetensors_file(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "no sensible length"),
        (safetensors_file({}, length=2**62), "no sensible length"),
        (safetensors_file(b"not json"), "not JSON"),
        (safetensors_file(b'{"a": '), "damaged"),
        (safetensors_file({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}, b"1234"), "declares"),
        (safetensors_file({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}, b"1234"), "do not fill"),
        (safetensors_file({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"1234"), "shape"),
        (safetensors_file({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, b"1234"), "place"),
        (safetensors_file({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"12345678"), "gaps"),
        (safetensors_file({"a": {"dtype": "object", "shape": [1], "data_offsets": [0, 4]}}, b"1234"), "type"),
        (safetensors_file({"a": {"dtype": [], "shape": [1], "data_offsets": [0, 4]}}, b"1234"), "type"),
        (safetensors_file({"a": 1}, b"1234"), "not declared"),
        (safetensors_file({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}, b"12345"), "declares"),
    ],
)
def test_safetensors_headers(pack, relist, content, cause):
    (pack / WEIGHTS).write_bytes(content)
    relist(WEIGHTS)
    refused(pack, WEIGHTS, cause)


def test_lens_of_another_size_than_declared(pack, change):
    change(lambda d: d["lenses"][0].update(d_sae=16))
    errors = refused(pack, f"lenses/{TAPS[0]}/sae_weights.safetensors", "W_enc has the shape [4, 8]")
    assert any("cfg.json" in e.file for e in errors)


def test_an_absurdly_large_file_is_not_read(pack, change):
    with open(pack / WEIGHTS, "r+b") as file:
        file.truncate(3 * 2**30)  # sparse: takes no disk
    change(lambda d: d["files"][WEIGHTS].update(bytes=3 * 2**30))
    refused(pack, WEIGHTS, "too many for a pack")
    with open(pack / "another.txt", "wb") as file:
        file.truncate(3 * 2**30)
    refused(pack, "tiny-unet", "too many for a pack")


def zipped(tmp_path, built):
    path = tmp_path / "tiny.mslp"
    zip_pack(built, path)
    return path


@pytest.mark.parametrize("name", ["../evil.md", "/tmp/evil.md", "a/../../evil.md", "C:\\evil.md", "..\\evil.md"])
def test_zip_entries_that_leave_the_folder(built, tmp_path, name):
    path = zipped(tmp_path, built)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"evil")
    refused(path, "evil.md", "leads out")
    assert not list(tmp_path.rglob("evil*")) and not list(tmp_path.parent.glob("evil*"))


def test_zip_with_a_link_and_with_a_name_twice(built, tmp_path):
    path = zipped(tmp_path, built)
    link = zipfile.ZipInfo("link.md")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, b"/etc/passwd")
        with pytest.warns(UserWarning):
            archive.writestr(WEIGHTS, b"other")
    refused(path, "link.md", "link")
    refused(path, WEIGHTS, "twice")


def test_zip_bomb(built, tmp_path, monkeypatch):
    monkeypatch.setattr("MedSegLensLib.packs.container.SMALL_BYTES", 2**18)
    path = zipped(tmp_path, built)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.txt", bytes(2**20))
    refused(path, "zeros.txt", "zip bomb")


def test_zip_that_declares_a_huge_table_of_contents(built, tmp_path):
    data = bytearray(zipped(tmp_path, built).read_bytes())
    end = data.rfind(b"PK\5\6")
    data[end + 12 : end + 16] = (2**31).to_bytes(4, "little")
    (tmp_path / "huge.zip").write_bytes(data)
    refused(tmp_path / "huge.zip", "huge.zip", "table of contents")


def test_a_zip_cut_anywhere_is_refused(built, tmp_path):
    data = zipped(tmp_path, built).read_bytes()
    for end in range(0, len(data), len(data) // 25):
        (tmp_path / "cut.zip").write_bytes(data[:end])
        with pytest.raises(PackError):
            load_pack(tmp_path / "cut.zip")


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_zip_with_any_bytes_changed_is_the_pack_or_refused(built, tmp_path, places):
    original = tmp_path / "tiny.mslp"
    if not original.exists():
        zip_pack(built, original)
    data = bytearray(original.read_bytes())
    for place, value in places:
        data[int(place * len(data))] = value
    (tmp_path / "fuzzed.mslp").write_bytes(data)
    try:
        pack = load_pack(tmp_path / "fuzzed.mslp")
    except MedSegLensError:
        return
    assert pack.hash == load_pack(built).hash


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def paths_of(document, path=()):
    yield path
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        yield from paths_of(value, (*path, key))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_pack_json_is_a_pack_or_refused(pack, built, data):
    document = json.loads((built / "pack.json").read_text(encoding="utf-8"))
    for _ in range(data.draw(st.integers(1, 2))):
        *above, last = data.draw(st.sampled_from(list(paths_of(document))[1:]))
        target = document
        for key in above:
            target = target[key]
        if data.draw(st.booleans()):
            target[last] = data.draw(json_values)
        else:
            del target[last]
        if not document:
            break
    (pack / "pack.json").write_text(json.dumps(document))
    findings = verify(pack)
    try:
        opened = load_pack(pack)
    except MedSegLensError:
        assert any(f.severity == "error" for f in findings)
        return
    assert all(f.severity == "warning" for f in findings)
    assert isinstance(opened, LensPack) and opened.input_spec() is not None
    assert PackInfo.from_json(opened.info.to_json()) == opened.info


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=60) | json_values.map(lambda v: json.dumps(v).encode()))
def test_parse_json_gives_a_document_or_value_error(content):
    try:
        document = parse_json(content)
    except ValueError as problem:
        assert str(problem)
        return
    assert document == json.loads(content.decode("utf-8-sig"))


def test_the_schema_is_one():
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(json.loads(SCHEMA.read_text(encoding="utf-8")))
