"""`medseglens audit` on invented cases, as a user runs it."""

import csv
import json

from MedSegLensLib.cli import main
from MedSegLensLib.cohorts.cohort import Cohort, CohortCase
from MedSegLensLib.cohorts.phantoms import PhantomRequest

SMALL = {"size": (56, 68, 12), "spacing": (3.0, 3.0, 12.0)}


def cohort(path, *seeds: int):
    cases = tuple(CohortCase(f"p{s}", f"p{s}", phantom=PhantomRequest(s, **SMALL)) for s in seeds)
    Cohort("ward", "invented", "none", cases).save(path)
    return str(path)


def test_a_cohort_is_audited_into_a_page_a_table_and_json(tmp_path, capsys):
    known, judged, pack = cohort(tmp_path / "known.json", 11, 12, 13), cohort(tmp_path / "judged.json", 21), "pack"
    reference = ["--cohort", known, "--no-detector", "--out", str(tmp_path / pack)]
    assert main(["pack", "add-reference", "glioma-unet", *reference]) == 0
    out = tmp_path / "audit"
    capsys.readouterr()
    beside = ["--beside", "glioma-segformer", "--out", str(out), "--json"]
    assert main(["audit", "--cohort", judged, "--pack", str(tmp_path / pack), *beside]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["pack"] for one in said["choice"]["packs"]] == ["glioma-unet", "glioma-segformer"]
    assert all(one["shift"] > 0 for one in said["choice"]["packs"])
    assert [one["case"] for one in said["cases"]] == ["p21"] and said["reference"] == ["p11", "p12", "p13"]
    assert "invented anatomy" in (out / "index.html").read_text(encoding="utf-8")
    with open(out / "audit.csv", encoding="utf-8", newline="") as file:
        assert [row["case"] for row in csv.DictReader(file)] == ["p21"]
    assert json.loads((out / "audit.json").read_text(encoding="utf-8"))["pack"] == "glioma-unet"


def test_a_pack_without_a_reference_and_a_cohort_that_is_not_there_are_told(pack, tmp_path, capsys):
    judged = cohort(tmp_path / "judged.json", 21)
    assert main(["audit", "--cohort", judged, "--pack", str(pack), "--out", str(tmp_path / "a")]) == 2
    assert "add-reference" in capsys.readouterr().err
    assert main(["audit", "--cohort", "nowhere", "--out", str(tmp_path / "a")]) == 3
