"""`medseglens check` on a tiny pack: with a reference of phantoms, and without one."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cli import main
from MedSegLensLib.diffing.dictionaries import at_work
from MedSegLensLib.failures.detector import fit, reading_session
from MedSegLensLib.failures.findings import Check
from MedSegLensLib.failures.place_readings import read_places
from MedSegLensLib.failures.reference import Reference, Workings, workings_of
from MedSegLensLib.packs.pack import load_pack
from MedSegLensLib.packs.shipped_reference import with_reference


@pytest.fixture(scope="module")
def checked(pack, tmp_path_factory):
    """The tiny pack with a reference of three phantoms and a detector of what their truth says is wrong."""
    opened, readings, rows = load_pack(pack), [], []
    for seed in (1, 2, 3):
        session = reading_session(at_work(opened), phantom(seed, size=(40, 48, 14), spacing=(4.0, 4.0, 9.0)))
        truth = session.conformed.labels(session.case.labels)
        rows.append(workings_of(session).to_arrays())
        readings += [read_places(session, labels)[1] for labels in (truth, truth[::-1], session.labels)]
    detector = fit(readings, [f"phantom-{seed}" for seed in (1, 2, 3) for _ in range(3)]).to_json()
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    workings = Workings.from_arrays(stacked, opened.taps)
    reference = Reference(
        ("1", "2", "3"), workings, tuple(opened.info.input["modalities"]), detector=json.loads(json.dumps(detector))
    )
    folder = tmp_path_factory.mktemp("checked") / "tiny-unet"
    with_reference(opened, reference.shipped(opened.info), folder, False)
    return folder


def test_a_check_is_a_table_a_json_and_a_risk_map(run, checked, case, tmp_path, capsys):
    risk, out = tmp_path / "risk.nii.gz", tmp_path / "check.json"
    code, data = run("check", case, "--pack", checked, "--risk", risk, "--out", out)
    assert code == 0 and data["shift"] is not None and data["files"] == [str(risk), str(out)]
    found = Check.from_json(json.loads(out.read_text(encoding="utf-8")))
    assert len(found.suspects) == len(data["suspects"]) > 0
    volume, own = sitk.ReadImage(str(risk)), sitk.ReadImage(str(next(case.glob("*t1c*.nii.gz"))))
    assert volume.GetSize() == own.GetSize() and 0 <= sitk.GetArrayFromImage(volume).max() <= 1
    assert main(["check", str(case), "--pack", str(checked), "--most", "1"]) == 0
    said = capsys.readouterr().out
    assert f"the worst 1 of {len(found.suspects)} places" in said and found.suspects[0].words in said


def test_a_pack_without_a_reference_is_no_failure_and_says_how_to_add_one(run, pack, case):
    code, data = run("check", case, "--pack", pack)
    assert code == 0 and data["suspects"] == [] and data["quality"] == [] and data["shift"] is None
    assert "add-reference" in data["notes"][0]


def test_a_risk_map_that_cannot_be_written_is_refused_before_the_case_is_opened(run, pack, case, tmp_path):
    code, data = run("check", case, "--pack", pack, "--risk", tmp_path / "risk.txt")
    assert code == 6 and "risk.txt" in data["error"]["subject"]
