"""`medseglens pack add-reference` on a tiny pack that names a case it is judged by."""

import json
from dataclasses import replace

import pytest

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cases.writing import write_case
from MedSegLensLib.failures.detector import Detector
from MedSegLensLib.failures.reference import reference_of
from MedSegLensLib.packs.pack import load_pack

SIZE = {"size": (40, 48, 14), "spacing": (4.0, 4.0, 9.0)}


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    for seed, name in enumerate(("one", "two", "three", "judged"), 1):
        write_case(phantom(seed, **SIZE), folder / name)
    return folder


@pytest.fixture(scope="module")
def judging(pack):
    """The tiny pack, held out: the case 'judged'."""
    info = load_pack(pack).info
    info = replace(info, trained_on=replace(info.trained_on, held_out=("judged",)))
    (pack / "pack.json").write_text(json.dumps(info.to_json()), encoding="utf-8")
    return pack


def test_cases_that_the_pack_is_judged_by_are_left_out_of_its_reference(run, judging, cases, tmp_path):
    out = tmp_path / "checked"
    code, data = run("pack", "add-reference", judging, "--cases", cases, "--no-detector", "--out", out)
    assert code == 0 and data["cases"] == ["one", "three", "two"] and data["detector"] is False
    assert any("judged" in note and "Left out" in note for note in data["notes"])
    assert reference_of(load_pack(out)).cases == ("one", "three", "two")


def test_a_reference_of_nothing_but_held_out_cases_is_refused(run, judging, cases, tmp_path):
    code, data = run("pack", "add-reference", judging, "--cases", cases / "judged", "--out", tmp_path / "checked")
    assert code != 0 and "holds all of its cases out" in str(data)
    assert not (tmp_path / "checked").exists()


def test_labels_that_lie_in_the_cases_folders_teach_a_detector(run, judging, cases, tmp_path):
    out = tmp_path / "checked"
    code, data = run("pack", "add-reference", judging, "--cases", cases, "--out", out)
    assert code == 0 and data["detector"] is True
    facts = Detector.from_json(reference_of(load_pack(out)).detector).facts
    assert facts, "it says what it was fitted on"
    code, data = run("check", cases / "judged", "--pack", out)
    assert code == 0 and data["quality"]
