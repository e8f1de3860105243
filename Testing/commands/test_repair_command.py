"""`medseglens repair`: points in, a recipe and a segmentation out, and what is wrong said before the work begins."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cases.writing import write_case
from MedSegLensLib.editing.recipe import load_recipe

SHIPPED = "glioma-segformer"


@pytest.fixture(scope="module")
def ill(tmp_path_factory):
    """A phantom that a shipped pack finds tumour in."""
    folder = tmp_path_factory.mktemp("ill") / "ill"
    write_case(phantom(3, size=(80, 100, 24), spacing=(2.0, 2.0, 6.0)), folder)
    return folder


@pytest.fixture(scope="module")
def segmented(ill, tmp_path_factory):
    from MedSegLensLib.cli import main

    out = tmp_path_factory.mktemp("segmented") / "plain.nii.gz"
    assert main(["segment", str(ill), "--pack", SHIPPED, "--out", str(out), "--json"]) == 0
    return sitk.ReadImage(str(out))


def middle_of_the_tumour(image):
    """RAS of the voxel deepest inside."""
    depth = ndimage.distance_transform_edt(sitk.GetArrayViewFromImage(image) > 0)
    z, y, x = (int(i) for i in np.unravel_index(depth.argmax(), depth.shape))
    left, posterior, superior = image.TransformIndexToPhysicalPoint((x, y, z))
    return -left, -posterior, superior


def table(tmp_path, *points):
    path = tmp_path / "points.csv"
    rows = [",".join([*(f"{c:g}" for c in ras), says]) for ras, says in points]
    path.write_text("\n".join(["R,A,S,label", *rows]), encoding="utf-8")
    return path


def test_points_become_a_recipe_and_a_segmentation_that_the_recipe_gives_again(run, ill, segmented, tmp_path):
    points = table(tmp_path, (middle_of_the_tumour(segmented), "not tumour"))
    out, recipe, again = (tmp_path / name for name in ("out.nii.gz", "repair.json", "again.nii.gz"))
    given = (ill, "--pack", SHIPPED)
    code, said = run("repair", *given, "--points", points, "--out", out, "--save-recipe", recipe)
    assert code == 0
    (answer,) = said["points"]
    assert 1 <= len(answer["gains"]) <= 5 and answer["words"] and answer["moved"] > 0
    assert len(load_recipe(recipe).edits) == len(answer["gains"])
    repaired = sitk.GetArrayFromImage(sitk.ReadImage(str(out)))
    before = sitk.GetArrayFromImage(segmented)
    assert np.count_nonzero(repaired) < np.count_nonzero(before)
    assert said["volumes_ml_after"]["WT"] < said["volumes_ml_before"]["WT"]
    assert set(said["dice_after"]) == set(said["dice_before"])
    assert run("edit", *given, "--recipe", recipe, "--out", again)[0] == 0
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(again))), repaired)


def test_where_nothing_is_wrong_nothing_is_changed(run, ill, segmented, tmp_path):
    points = table(tmp_path, (middle_of_the_tumour(segmented), "tumour"))
    out = tmp_path / "out.nii.gz"
    code, said = run("repair", ill, "--pack", SHIPPED, "--points", points, "--out", out)
    assert code == 0 and "already says tumour" in said["points"][0]["reason"]
    assert said["recipe"]["edits"] == [] and said["volumes_ml_after"] == said["volumes_ml_before"]
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(out))), sitk.GetArrayFromImage(segmented))


def test_another_pack_is_asked_what_it_says_at_a_point(run, ill, segmented, tmp_path):
    points = table(tmp_path, (middle_of_the_tumour(segmented), "not tumour"))
    asked = ("repair", ill, "--pack", SHIPPED, "--points", points, "--out", tmp_path / "out.nii.gz")
    code, said = run(*asked, "--second", "glioma-unet")
    assert code == 0 and len(said["points"]) == 1
    code, said = run(*asked, "--second", SHIPPED)
    assert code == 2 and "the same pack" in said["error"]["cause"]


def refused(run, case, pack, points, *more):
    code, said = run("repair", case, "--pack", pack, "--points", points, *more)
    assert code == 2
    return " ".join(map(str, said["error"].values()))


def test_a_label_that_says_nothing_is_refused(run, case, pack, tmp_path):
    assert "neither tumour nor a region" in refused(run, case, pack, table(tmp_path, ((0, 0, 0), "F-1")))


def test_contradicting_points_are_refused(run, case, pack, tmp_path):
    points = table(tmp_path, ((0, 0, 0), "tumour"), ((0.5, 0, 0), "not tumour"))
    assert "within 1.5 mm" in refused(run, case, pack, points)


def test_a_strength_beyond_the_slider_is_refused(run, case, pack, tmp_path):
    points = table(tmp_path, ((0, 0, 0), "tumour"))
    assert "between 0 and 2" in refused(run, case, pack, points, "--strength", 3)


def test_a_point_outside_the_brain_is_refused(run, case, pack, tmp_path):
    points = table(tmp_path, ((500, 0, 0), "tumour"))
    said = refused(run, case, pack, points, "--out", tmp_path / "out.nii.gz")
    assert "outside the" in said and not (tmp_path / "out.nii.gz").exists()


def test_a_region_that_the_pack_does_not_tell_is_refused(run, case, pack, tmp_path):
    whole_only = shutil.copytree(pack, tmp_path / "whole-only")
    about = json.loads((whole_only / "pack.json").read_text(encoding="utf-8"))
    about["labels"] = [label for label in about["labels"] if label["value"] == 2]
    (whole_only / "pack.json").write_text(json.dumps(about), encoding="utf-8")
    assert "does not tell ET apart" in refused(run, case, whole_only, table(tmp_path, ((0, 0, 0), "ET")))
