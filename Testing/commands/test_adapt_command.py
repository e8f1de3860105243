"""`medseglens adapt` as a user meets it: a cohort in, a recipe out that the other commands read; bad input is said."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cases.reading import read_case
from MedSegLensLib.cases.writing import write_case
from MedSegLensLib.commands.adapt import file_name
from MedSegLensLib.diffing.adaptation import no_worse
from MedSegLensLib.diffing.applying import mean_dice
from MedSegLensLib.editing.recipe import Edit, PackReference, Recipe, load_recipe
from MedSegLensLib.editing.session import Session
from MedSegLensLib.packs.pack import load_pack

DICES = (lambda case: case["before"], lambda case: case["after"]["gains of latents"])
SIZE = {"size": (40, 48, 14), "spacing": (4.0, 4.0, 9.0)}


@pytest.fixture(scope="module")
def cohort(pack, tmp_path_factory) -> Path:
    """Three phantoms, labelled with what the segmenter would say, were its most influential latent suppressed; and one
    without labels."""
    folder, opened = tmp_path_factory.mktemp("cohort"), load_pack(pack)
    tap, latent, engine = opened.default_tap, None, None
    for seed in (1, 2, 3):
        case = phantom(seed, **SIZE)
        session = Session(case, opened, engine=engine)
        engine = session.engine

        def labels(j, session=session):
            return session.edit(Recipe("r", PackReference.of(opened), (Edit(tap, j, "scale", 0.0),))).labels

        if latent is None:
            latent = max(range(24), key=lambda j: np.count_nonzero(labels(j) != session.labels))
        planted = sitk.Cast(session.to_case(labels(latent)), sitk.sitkUInt8)
        write_case(replace(case, name=f"somebody-{seed}", labels=planted), folder / f"somebody-{seed}")
    shutil.copytree(folder / "somebody-3", folder / "unlabelled")
    for file in (folder / "unlabelled").iterdir():
        file.rename(file.with_name(file.name.replace("somebody-3", "unlabelled")))
    next((folder / "unlabelled").glob("*seg*")).unlink()
    return folder


@pytest.fixture(scope="module")
def adapted(pack, cohort, tmp_path_factory) -> tuple[Path, dict]:
    """Fitted on two of them, compared with nothing; what was written and what was said."""
    import contextlib
    import io

    from MedSegLensLib.cli import main

    out, said = tmp_path_factory.mktemp("out") / "adapted", io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main(
            ["adapt", "--pack", str(pack), "--to", str(cohort), "--labelled", "somebody-1", "somebody-2"]
            + ["--out", str(out), "--json"]
        )
    assert code == 0, said.getvalue()
    return out, json.loads(said.getvalue())


def test_the_recipe_is_one_that_the_other_commands_read(adapted, pack, cohort, run, tmp_path):
    out, facts = adapted
    recipe = load_recipe(out / "recipe.json")
    assert 1 <= len(recipe.edits) <= 8 and {e.kind for e in recipe.edits} == {"scale"}
    assert "somebody-1" in recipe.comment and len(facts["latents"]) == len(recipe.edits)
    assert run("recipe", "check", out / "recipe.json", "--pack", pack)[0] == 0
    again = tmp_path / "again.nii.gz"
    recipe_file = out / "recipe.json"
    assert run("edit", cohort / "somebody-3", "--pack", pack, "--recipe", recipe_file, "--out", again)[0] == 0
    first, second = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        for path in (again, out / "segmentations" / "somebody-3.nii.gz")
    )
    assert np.array_equal(first, second)


def test_every_case_is_segmented_and_judged_where_it_can_be(adapted, cohort):
    out, facts = adapted
    assert {p.name for p in (out / "segmentations").iterdir()} == {
        f"{name}.nii.gz" for name in ("somebody-1", "somebody-2", "somebody-3", "unlabelled")
    }
    cases = {c["case"]: c for c in facts["cases"]}
    assert [name for name, c in cases.items() if c["fitted_on"]] == ["somebody-1", "somebody-2"]
    assert cases["unlabelled"]["before"] is None and cases["unlabelled"]["after"] == {"gains of latents": None}
    assert facts["rest"]["gains of latents"]["cases"] == 1
    gain = facts["rest"]["gains of latents"]["mean"]
    case = cases["somebody-3"]
    before, after = (
        np.mean([d for d in c.values() if d is not None]) for c in (case["before"], *case["after"].values())
    )
    assert gain == pytest.approx(after - before) and gain > 0
    assert f"{gain:+.3f}" in facts["headline"]
    with open(out / "adaptation.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [r["case"] for r in rows] == list(cases) and rows[0]["fitted_on"] == "True"
    assert float(rows[2]["dice_WT_after"]) == pytest.approx(case["after"]["gains of latents"]["WT"], abs=1e-4)
    assert rows[3]["dice_WT_after"] == "" and float(rows[3]["ml_WT_after"]) > 0


def test_what_has_to_be_known_beside_it_is_said(adapted):
    out, facts = adapted
    assert any("too few" in note for note in facts["notes"]) and any("phantoms" in note for note in facts["notes"])
    page = (out / "adaptation.html").read_text(encoding="utf-8")
    assert facts["headline"] in page and "too few" in page and "somebody-3" in page
    assert "data:image/jpeg" in page and "http" not in page.replace("http-equiv", "")
    assert "Fitted on somebody-1, somebody-2" in page


def test_the_labelled_cases_are_not_worse(adapted):
    _, facts = adapted
    before, after = ({c["case"]: mean_dice(d(c)) for c in facts["cases"] if c["fitted_on"]} for d in DICES)
    assert len(before) == 2 and no_worse(before, after)


@pytest.mark.slow
def test_what_it_must_beat_stands_beside_it(pack, cohort, run, tmp_path):
    code, facts = run(
        "adapt", "--pack", pack, "--to", cohort, "--labelled", "1", "--seed", "1", "--compare", "--out", tmp_path / "o"
    )
    assert code == 0 and len(facts["fitted_on"]) == 1
    assert set(facts["rest"]) == {
        "gains of latents",
        "retuned threshold",
        "difference-in-means steering",
        "random latents",
        "batch-norm statistics",
        "fine-tuned head",
    }
    page = (tmp_path / "o" / "adaptation.html").read_text(encoding="utf-8")
    assert "no change" in page and all(method in page for method in facts["rest"])


def test_labels_that_are_the_segmentation_leave_nothing_to_do(pack, run, tmp_path):
    """Then no latent does this: the recipe has no edit, and the segmentation is the unedited one."""
    opened = load_pack(pack)
    case = phantom(1, **SIZE)
    session = Session(case, opened)
    truth = sitk.Cast(session.to_case(session.labels), sitk.sitkUInt8)
    write_case(replace(case, name="same", labels=truth), tmp_path / "cohort" / "same")
    code, facts = run("adapt", "--pack", pack, "--to", tmp_path / "cohort", "--labelled", "same", "--out", tmp_path)
    assert code == 0 and facts["latents"] == [] and "no latent does this" in facts["headline"]
    recipe = load_recipe(tmp_path / "recipe.json")
    assert recipe.edits == () and "No latent does this" in recipe.comment
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "segmentations" / "same.nii.gz")))
    assert np.array_equal(written, sitk.GetArrayFromImage(truth))
    assert "No latent does this" in (tmp_path / "adaptation.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "labelled, exit_code, words",
    [
        (["unlabelled"], 3, "no labels"),
        (["nobody"], 2, "no such case"),
        (["9"], 3, "3 patients with labels"),
        (["0"], 2, "not from 1"),
    ],
)
def test_labelled_cases_that_cannot_be_used(pack, cohort, run, tmp_path, labelled, exit_code, words):
    code, said = run("adapt", "--pack", pack, "--to", cohort, "--labelled", *labelled, "--out", tmp_path / "o")
    assert code == exit_code and words in said["error"]["cause"] and said["error"]["remedy"]
    assert not (tmp_path / "o" / "recipe.json").exists()


def test_a_cohort_or_tap_that_is_not_there(pack, cohort, run, tmp_path):
    assert run("adapt", "--pack", pack, "--to", tmp_path / "nowhere", "--out", tmp_path / "o")[0] == 3
    assert run("adapt", "--pack", pack, "--to", cohort, "--tap", "nowhere", "--out", tmp_path / "o")[0] == 2


@pytest.mark.slow
def test_a_broken_case_does_not_stop_the_others(pack, cohort, run, tmp_path):
    shutil.copytree(cohort, tmp_path / "cohort")
    for file in (tmp_path / "cohort" / "unlabelled").glob("*.nii.gz"):
        image = sitk.ReadImage(str(file)) * 0
        sitk.WriteImage(image, str(file))
    code, facts = run(
        "adapt", "--pack", pack, "--to", tmp_path / "cohort", "--labelled", "somebody-1", "--out", tmp_path / "o"
    )
    assert code == 0 and [f["case"] for f in facts["failures"]] == ["unlabelled"]
    assert any("unlabelled was left out" in note for note in facts["notes"])
    assert len(facts["cases"]) == 3
    assert read_case(tmp_path / "cohort" / "somebody-1").labels is not None


def test_a_cases_name_is_made_a_files():
    assert (
        file_name("a/b\\c: d") == "a_b_c_ d" and file_name("..") == "case" and file_name("BraTS-1_0.x") == "BraTS-1_0.x"
    )
