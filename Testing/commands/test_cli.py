"""The command line as a user meets it: a case and a pack in, files and words out; and every failure said plainly."""

import csv
import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegLensLib.cli import main
from MedSegLensLib.commands.common import progress_bar


def same_grid(path, case) -> bool:
    image, reference = sitk.ReadImage(str(path)), sitk.ReadImage(str(next(case.glob("*t1c*"))))
    return image.GetSize() == reference.GetSize() and np.allclose(image.GetDirection(), reference.GetDirection())


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for command in ("segment", "latents", "edit", "recipe", "train", "pack", "phantom", "doctor", "demo"):
        assert command in text


def test_segment_writes_labels_on_the_cases_grid(run, case, pack, tmp_path):
    out = tmp_path / "seg.nii.gz"
    code, data = run("segment", case, "--pack", pack, "--out", out, "--probability", "WT")
    assert code == 0 and same_grid(out, case)
    values = set(np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(out)))))
    assert values <= {0, 1, 2, 3}
    probability = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "seg-probability-WT.nii.gz")))
    assert probability.min() >= 0 and probability.max() <= 1.001
    assert set(data["volumes_ml"]) == {"WT", "TC", "ET", "NCR", "ED"}


def test_brats2021_labels_write_enhancing_tumour_as_4(run, case, pack, tmp_path):
    run("segment", case, "--pack", pack, "--out", tmp_path / "a.nii.gz")
    run("segment", case, "--pack", pack, "--out", tmp_path / "b.nii.gz", "--labels", "brats2021")
    ours, theirs = (sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"{n}.nii.gz"))) for n in "ab")
    assert np.array_equal(np.where(ours == 3, 4, ours), theirs)


def test_single_volumes_serve_instead_of_a_folder(run, case, pack, tmp_path):
    volumes = [x for m in ("t1c", "t2f", "t1n", "t2w") for x in (f"--{m}", next(case.glob(f"*{m}*")))]
    code, single = run("segment", *volumes, "--pack", pack, "--out", tmp_path / "s.nii.gz")
    _, folder = run("segment", case, "--pack", pack, "--out", tmp_path / "f.nii.gz")
    assert code == 0 and single["volumes_ml"] == folder["volumes_ml"]


def test_latents_ranks_and_writes(run, case, pack, tmp_path):
    out = tmp_path / "latents"
    code, data = run("latents", case, "--pack", pack, "--region", "WT", "--measure", 4, "--volumes", 2, "--out", out)
    assert code == 0
    with open(out / "latents.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 4 and sum(row["suppressed_ml"] != "" for row in rows) == 4
    assert len(list(out.glob("activation-*.nii.gz"))) == 2
    assert all(same_grid(path, case) for path in out.glob("activation-*.nii.gz"))
    assert data["latents"][0]["suppressed_ml"] is not None


def test_an_edit_and_its_recipe_do_the_same(run, case, pack, tmp_path):
    arguments = ["--latent", 3, "--latent", 5, "--scale", 0]
    code, edited = run(
        "edit", case, "--pack", pack, *arguments, "--out", tmp_path / "e.nii.gz", "--save-recipe", tmp_path / "r.json"
    )
    assert code == 0 and len(edited["recipe"]["edits"]) == 2
    code, again = run("edit", case, "--pack", pack, "--recipe", tmp_path / "r.json", "--out", tmp_path / "a.nii.gz")
    assert code == 0 and again["volumes_ml_after"] == edited["volumes_ml_after"]
    first, second = (sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / n))) for n in ("e.nii.gz", "a.nii.gz"))
    assert np.array_equal(first, second)


def test_recipes_are_made_shown_and_checked(run, pack, tmp_path, capsys):
    file = tmp_path / "recipe.json"
    code, made = run(
        "recipe", "make", "--pack", pack, "--latent", 2, "--scale", 0.5, "--in-region", "WT+5", "--out", file
    )
    assert code == 0 and made["edits"][0]["value"] == 0.5
    code, made = run("recipe", "make", "--pack", pack, "--latent", 4, "--add", 1, "--append", "--out", file)
    assert [e["latent"] for e in made["edits"]] == [2, 4]
    assert run("recipe", "check", file, "--pack", pack)[0] == 0
    assert main(["recipe", "show", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "latent 2 at upcat_3: x0.5 inside WT + 5 mm" in shown


def test_a_mask_may_hold_any_values(run, pack, tmp_path):
    mask = sitk.Image(4, 4, 4, sitk.sitkUInt8)
    mask[1, 2, 3] = 255
    sitk.WriteImage(mask, str(tmp_path / "mask.nrrd"))
    arguments = ["--pack", pack, "--latent", 2, "--in-mask", tmp_path / "mask.nrrd", "--out", tmp_path / "r.json"]
    code, made = run("recipe", "make", *arguments)
    assert code == 0 and made["edits"][0]["where"]["shape"] == [1, 1, 1]


def test_packs_are_shown_and_verified(run, pack, tmp_path):
    code, shown = run("pack", "show", pack, "--taps")
    taps = {tap["name"]: tap for tap in shown["taps"]}
    assert code == 0 and taps["upcat_3"]["grid"] == [40, 48] and 0 < taps["upcat_3"]["tail_share"] < 1
    assert taps["down_4"]["tail_share"] > taps["upcat_3"]["tail_share"]
    assert run("pack", "verify", pack) == (0, {"ok": True, "findings": []})
    broken = tmp_path / "broken"
    shutil.copytree(pack, broken)
    (broken / "segmenter.safetensors").write_bytes(b"no weights")
    code, data = run("pack", "verify", broken)
    assert code == 4 and not data["ok"]


def test_the_demo_writes_all_it_promises(run, case, pack, tmp_path):
    code, data = run("demo", case, "--pack", pack, "--out", tmp_path, "--region", "WT")
    assert code == 0 and data["phantom"], "a phantom read from files is still named as one"
    names = {path.name for path in tmp_path.iterdir()}
    assert {"segmentation.nii.gz", "edited.nii.gz", "latents.csv", "timings.json", "report.html"} <= names
    assert len([n for n in names if n.startswith("activation-")]) == 5
    assert json.loads((tmp_path / "timings.json").read_text(encoding="utf-8"))["total"] > 0


def test_phantom_writes_a_case_that_can_be_read(run, tmp_path):
    from MedSegLensLib.cases.reading import read_case

    code, data = run("phantom", "--seed", 3, "--out", tmp_path / "p")
    assert code == 0 and set(read_case(tmp_path / "p").images) == {"t1n", "t1c", "t2w", "t2f"}


def test_doctor_says_what_there_is(run):
    code, data = run("doctor")
    assert code in (0, 7) and any("torch" in finding["name"].lower() for finding in data["findings"])


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["segment", "{tmp}/nowhere"], 3, "nowhere"),
        (["segment", "{case}", "--pack", "no-such-pack"], 4, "no-such-pack"),
        (["segment"], 2, "no case"),
        (["segment", "{case}", "--t1c", "x.nii"], 2, "both"),
        (["segment", "{case}", "--probability", "XX"], 2, "XX"),
        (["segment", "{case}", "--out", "{tmp}/missing/seg.nii.gz"], 6, "folder"),
        (["segment", "{case}", "--device", "cuda:99"], 2, "cuda:99"),
        (["latents", "{case}", "--tap", "nowhere"], 2, "nowhere"),
        (["latents", "{case}", "--region", "XX"], 2, "XX"),
        (["latents", "{case}", "--volumes", "-2"], 2, "negative"),
        (["phantom", "--seed", "-1", "--out", "{tmp}/p"], 2, "negative"),
        (["demo", "{case}", "--region", "XX"], 2, "XX"),
        (["edit", "{case}"], 2, "--latent"),
        (["edit", "{case}", "--recipe", "{tmp}/none.json", "--scale", "2"], 2, "recipe"),
        (["edit", "{case}", "--latent", "999"], 2, "999"),
        (["edit", "{case}", "--latent", "1", "--scale", "much"], 2, "not a number"),
        (["edit", "{case}", "--latent", "1", "--scale", "nan"], 2, "nan"),
        (["edit", "{case}", "--latent", "1", "--scale=-1"], 2, "negative"),
        (["edit", "{case}", "--recipe", "{tmp}/none.json"], 5, "none.json"),
        (["edit", "{case}", "--latent", "1", "--in-region", "XX"], 2, "XX"),
        (["recipe", "show", "{case}"], 5, "somebody"),
        (
            ["train", "segmenter", "--config", "{tmp}/none.json", "--cases", "{case}", "--out", "{tmp}/t"],
            2,
            "none.json",
        ),
        (["train", "lens", "--config", "{list}", "--segmenter", "x", "--cases", "x", "--out", "{tmp}/t"], 2, "names"),
    ],
)
def test_each_failure_names_cause_and_remedy(arguments, code, says, case, pack, tmp_path, capsys):
    (tmp_path / "list.json").write_text("[1]")
    filled = [a.format(tmp=tmp_path, case=case, list=tmp_path / "list.json") for a in arguments]
    if filled[0] in ("segment", "latents", "edit", "demo"):
        if "--pack" not in filled:
            filled += ["--pack", str(pack)]
        if "--out" not in filled:
            filled += ["--out", str(tmp_path / "out.nii.gz")]
    assert main([*filled, "--json"]) == code
    out = capsys.readouterr()
    error = json.loads(out.out)["error"]
    assert says in f"{error['subject']} {error['cause']} {error['remedy']}" and error["remedy"]
    assert "Traceback" not in out.err
    assert not (tmp_path / "out.nii.gz").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["segment", "{case}", "--out", "{tmp}/seg.txt"], 6),
        (["segment", "{case}", "--out", "{tmp}/missing/seg.nii.gz"], 6),
        (["segment", "{case}", "--out", "{tmp}"], 6),
        (["edit", "{case}", "--latent", "1", "--out", "{tmp}/e.nii.gz", "--save-recipe", "{tmp}/missing/r.json"], 6),
        (["latents", "{case}", "--out", "{tmp}/file/latents"], 6),
        (["latents", "{case}", "--out", "{tmp}/new", "--tap", "nowhere"], 2),
        (["latents", "{case}", "--out", "{tmp}/new", "--region", "XX"], 2),
        (["demo", "{case}", "--out", "{tmp}/file"], 6),
        (["demo", "{tmp}/nowhere", "--out", "{tmp}/new"], 3),
    ],
)
def test_what_is_wrong_is_said_before_a_case_is_opened(arguments, code, case, pack, tmp_path, monkeypatch):
    from MedSegLensLib.editing.session import Session

    monkeypatch.setattr(Session, "__init__", lambda *_, **__: pytest.fail("the case was opened"))
    (tmp_path / "file").write_text("")
    assert main([*(a.format(tmp=tmp_path, case=case) for a in arguments), "--pack", str(pack)]) == code
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_stage_that_lasts_is_drawn_though_it_says_nothing(capsys):
    with progress_bar() as progress:
        progress("thinking", 0.0)
        time.sleep(1.7)
        progress("a short one", 0.0)
    drawn = capsys.readouterr().err
    assert "thinking" in drawn and "a short one" not in drawn
    assert drawn.endswith("\r") and not drawn.split("\r")[-2].strip(), "the line is wiped away"
    with progress_bar(quiet=True) as progress:
        progress("thinking", 0.0)
    assert not capsys.readouterr().err


def test_the_correlation_is_not_called_agreement_where_it_is_none():
    from MedSegLensLib.commands.latents import correlation_line

    assert "agree well" in correlation_line(0.93, 20) and "do not agree" in correlation_line(-0.2, 20)


def test_a_reader_that_has_seen_enough_is_no_fault():
    command = [sys.executable, "-m", "MedSegLensLib.cli", "pack", "show"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 0


def test_debug_shows_where(case, pack, tmp_path, capsys):
    assert main(["segment", str(tmp_path / "nowhere"), "--pack", str(pack), "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err
