"""A held-out case through the program: segmented, ranked, edited, and edited again by recipe."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegLensLib.cases.case import region_mask
from MedSegLensLib.cases.volume import read_labels
from MedSegLensLib.cli import main
from MedSegLensLib.editing.splice import dice

pytestmark = [pytest.mark.real_case, pytest.mark.slow]
NAME = "BraTS2021_00006"


@pytest.mark.parametrize("pack", ["glioma-unet", "glioma-segformer"])
def test_a_held_out_case_from_volumes_to_an_edit(real_cases_folder, tmp_path, capsys, pack):
    case, demo = real_cases_folder / NAME, tmp_path / "demo"
    assert main(["demo", str(case), "--pack", pack, "--out", str(demo), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    reference, _ = read_labels(case / f"{NAME}_seg.nii.gz")
    before, after = (read_labels(demo / f"{name}.nii.gz")[0] for name in ("segmentation", "edited"))
    truth, segmented, edited = (sitk.GetArrayFromImage(image) for image in (reference, before, after))

    assert before.GetSize() == reference.GetSize() and np.allclose(before.GetOrigin(), reference.GetOrigin())
    assert not told["phantom"] and dice(segmented, truth, "WT") >= 0.8 and dice(segmented, truth, "ET") >= 0.65
    assert np.count_nonzero(edited != segmented) > 0
    with open(demo / "latents.csv", encoding="utf-8", newline="") as file:
        first = next(csv.DictReader(file))
    assert int(first["latent"]) == told["latent"] and abs(float(first["suppressed_ml"])) > 0.1
    activation = sitk.GetArrayFromImage(sitk.ReadImage(str(demo / f"activation-{told['latent']}.nii.gz")))
    in_tumour = activation[region_mask(truth, "WT")].sum() / activation.sum()
    assert in_tumour > 3 * region_mask(truth, "WT").sum() / truth.size

    recipe = str(tmp_path / "recipe.json")
    make = ["recipe", "make", "--pack", pack, "--tap", told["tap"], "--latent", str(told["latent"]), "--scale", "0"]
    assert main([*make, "--out", recipe]) == 0
    again = tmp_path / "again.nii.gz"
    assert main(["edit", str(case), "--pack", pack, "--recipe", recipe, "--out", str(again)]) == 0
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(again))), edited)
