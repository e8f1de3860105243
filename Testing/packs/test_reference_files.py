"""The reference cohort that a pack is shipped with: written, read again, and checked before it is believed."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_lens import TAPS

from MedSegLensLib.errors import OutputError, PackError
from MedSegLensLib.packs.build import zip_pack
from MedSegLensLib.packs.pack import load_pack
from MedSegLensLib.packs.reference_files import DOCUMENT, USAGE, ShippedReference
from MedSegLensLib.packs.shipped_reference import document_of, shipped_reference, with_reference
from MedSegLensLib.packs.verify import verify

CASES = ["case-1", "case-3", "case-4"]


def reference_for(info) -> ShippedReference:
    rng = np.random.default_rng(0)
    arrays = {"graph": rng.normal(size=(3, 20)), "inputs": rng.normal(size=(3, 4, 12)), "present": np.ones((3, 4))}
    for number, lens in enumerate(info.lenses):
        arrays |= {f"{what}.{number}": rng.random((3, lens.d_sae)) for what in ("rate", "magnitude")}
        arrays[f"weight.{number}"] = np.full(lens.d_sae, 1 / lens.d_sae)
    arrays = {name: array.astype(np.float16) for name, array in arrays.items()}
    taps = [lens.tap for lens in info.lenses]
    modalities = ["t1n", "t1c", "t2w", "t2f"]
    return ShippedReference(document_of(info, "training", CASES, taps, modalities, ["Small."], None), arrays)


@pytest.fixture
def checked(pack, tmp_path):
    """The tiny pack with a reference, and its folder."""
    opened = load_pack(pack)
    folder = tmp_path / "checked" / "tiny-unet"
    with_reference(opened, reference_for(opened.info), folder)
    return folder


def causes(folder) -> list[str]:
    return [finding.cause for finding in verify(folder) if finding.severity == "error"]


def listed_anew(folder, name: str) -> None:
    """List a changed file with its present hash and size, as a forger would."""
    import hashlib

    data = (folder / name).read_bytes()
    document = json.loads((folder / "pack.json").read_text(encoding="utf-8"))
    document["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "pack.json").write_text(json.dumps(document), encoding="utf-8")


def test_what_is_shipped_is_read_again(checked, pack, tmp_path):
    opened = load_pack(checked)
    again, given = shipped_reference(opened), reference_for(opened.info)
    assert again.document == given.document and again.document["cases"] == CASES
    assert again.arrays.keys() == given.arrays.keys()
    assert all(np.array_equal(again.arrays[name], given.arrays[name]) for name in given.arrays)
    assert shipped_reference(load_pack(pack)) is None
    zip_pack(checked, tmp_path / "tiny.mslp")
    assert shipped_reference(load_pack(tmp_path / "tiny.mslp")).document == given.document


def test_all_else_of_the_pack_stays_as_it_was_and_its_hash_is_another(checked, pack):
    before, after = load_pack(pack), load_pack(checked)
    kept = {name: file for name, file in after.info.files.items() if not name.startswith("reference/")}
    assert kept == before.info.files and after.hash != before.hash


def test_a_new_reference_takes_the_place_of_the_old_one(checked):
    opened = load_pack(checked)
    given = reference_for(opened.info)
    with pytest.raises(OutputError):
        with_reference(opened, given, checked)
    with_reference(opened, replace(given, document=given.document | {"cohort": "another"}), checked, True)
    assert shipped_reference(load_pack(checked)).document["cohort"] == "another"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda arrays: arrays.pop("graph"), "is missing"),
        (lambda arrays: arrays.update(rate=np.zeros(3)), "does not belong there"),
        (lambda arrays: arrays.update({"rate.0": arrays["rate.0"][:, :-1]}), "has the shape"),
        (lambda arrays: arrays.update({"inputs": arrays["inputs"][:2]}), "has the shape"),
        (lambda arrays: arrays["magnitude.1"].__setitem__((0, 0), np.inf), "not finite"),
    ],
)
def test_numbers_that_do_not_fit_the_pack_are_refused(checked, damage, said):
    arrays = load_file(checked / USAGE)
    damage(arrays)
    save_file(arrays, checked / USAGE)
    listed_anew(checked, USAGE)
    assert any(said in cause for cause in causes(checked))
    with pytest.raises(PackError):
        load_pack(checked)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda document: document["cases"].append(document["cases"][0]), "twice"),
        (lambda document: document["lenses"][0].update(hash="0" * 64), "does not have (any more)"),
        (lambda document: document["lenses"][1].update(tap="elsewhere"), "does not have (any more)"),
        (lambda document: document.update(modalities=["t1n"]), "modalities"),
        (lambda document: document.update(detector=3), "it is no reference"),
        (lambda document: document.update(voxels=[1]), "it is no reference"),
    ],
)
def test_a_document_that_does_not_fit_the_pack_is_refused(checked, damage, said):
    document = json.loads((checked / DOCUMENT).read_text(encoding="utf-8"))
    damage(document)
    (checked / DOCUMENT).write_text(json.dumps(document), encoding="utf-8")
    listed_anew(checked, DOCUMENT)
    assert any(said in cause for cause in causes(checked))


def test_half_a_reference_is_none(checked):
    document = json.loads((checked / "pack.json").read_text(encoding="utf-8"))
    del document["files"][USAGE]
    (checked / "pack.json").write_text(json.dumps(document), encoding="utf-8")
    (checked / USAGE).unlink()
    assert any("no file more or less" in cause for cause in causes(checked))


def test_a_damaged_file_is_told_once(checked):
    (checked / USAGE).write_bytes((checked / USAGE).read_bytes()[:-8])
    assert len(causes(checked)) == 1


def test_the_lenses_of_a_reference_are_the_packs_own(checked):
    assert [lens["tap"] for lens in shipped_reference(load_pack(checked)).document["lenses"]] == list(TAPS)
