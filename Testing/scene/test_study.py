"""The right volume for each modality, and a sentence for whatever is odd."""

import numpy as np
import pytest
import slicer
import slicer.util
import vtk
from samples import GRIDS, SHAPE, volume

from MedSegLensLib.errors import CaseError
from MedSegLensLib.scene.study import candidates, concerns, guess_modalities, guess_modality, volume_of


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("BraTS2021_00495_t1", "t1n"), ("BraTS2021_00495_t1ce", "t1c"), ("BraTS2021_00495_flair", "t2f"),
        ("BraTS-GLI-00008-000-t1n", "t1n"), ("BraTS-GLI-00008-000-t2f", "t2f"), ("BraTS-GLI-00008-000-t2w", "t2w"),
        ("t1gd_1", "t1c"), ("5: AX T1 POST", "t1c"), ("3: t2_tse_dark-fluid_tra", "t2f"), ("7: AX T2 FLAIR", "t2f"),
        ("12: MPRAGE +C", "t1c"), ("4: AX T2 FSE", "t2w"), ("Ax DWI b1000", None), ("CT head", None), ("seg", None),
        ("BraTS2021_00495_seg", None),
    ],
)  # fmt: skip
def test_a_modality_is_recognised_by_name(scene, name, modality):
    assert guess_modality(volume(name)) == modality


def test_the_file_name_tells_what_a_changed_node_name_does_not(scene):
    node = volume("patient 7")
    node.AddDefaultStorageNode()
    node.GetStorageNode().SetFileName("/somewhere/case_flair.nii.gz")
    assert guess_modality(node) == "t2f"


def test_the_dicom_header_knows_of_the_contrast_agent(scene, monkeypatch):
    class Database:
        def instanceValue(self, uid, tag):
            return {"0008,103E": "AX T1 SE", "0018,0010": "Gadovist"}[tag] if uid == "1.2.3" else ""

    monkeypatch.setattr(slicer, "dicomDatabase", Database(), raising=False)
    node = volume("6: AX T1")
    node.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    assert guess_modality(node) == "t1c"


def test_label_volumes_empty_nodes_and_our_own_are_never_chosen(scene):
    image = volume("a_t1ce")
    slicer.util.addVolumeFromArray(np.ones(SHAPE, np.uint8), GRIDS["as scanned"], "b_t1ce", "vtkMRMLLabelMapVolumeNode")
    labels = np.zeros(SHAPE, np.float32)
    labels[5:9] = 3
    volume("c_t1ce", array=labels)
    volume("d_t1ce").SetAttribute("MedSegLens.Role", "overlay0")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "e_t1ce")
    chosen = guess_modalities(candidates())
    assert chosen == {"t1n": None, "t1c": image, "t2w": None, "t2f": None}


def test_of_several_candidates_the_grid_of_the_others_decides(scene):
    raw = volume("t1ce raw", GRIDS["oblique"])
    registered, t2, flair = volume("x_t1ce"), volume("x_t2"), volume("x_flair")
    later_raw = volume("again t1ce", GRIDS["oblique, 5 mm slices"])
    chosen = guess_modalities([raw, registered, t2, flair, later_raw])
    assert chosen == {"t1n": None, "t1c": registered, "t2w": t2, "t2f": flair}


def test_a_good_study_raises_no_concern(scene):
    arrays = np.random.default_rng(0).uniform(0, 900, (4, *SHAPE))
    chosen = {m: volume(m, array=array) for m, array in zip(("t1n", "t1c", "t2w", "t2f"), arrays, strict=True)}
    assert concerns(chosen) == []


def test_every_oddity_is_told_in_a_sentence(scene):
    t1c, twin = volume("a"), volume("a twin")
    thick = volume("thick", GRIDS["5 mm slices"], np.random.default_rng(3).uniform(0, 100, SHAPE))
    said = concerns({"t1n": t1c, "t1c": t1c, "t2w": twin, "t2f": thick})
    assert "a is chosen as T1 and T1 with contrast: choose the right volume for each." in said
    assert any("hold the same voxels" in line for line in said)
    assert any("thick (T2 FLAIR) has slices of 5 mm" in line for line in said)
    assert any("T2 FLAIR on another grid than T1" in line for line in said)

    labels = volume("labels", array=(np.indices(SHAPE)[0] > 9).astype(np.int16))
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    said = concerns({"t1n": labels, "t1c": empty, "t2w": None, "t2f": None})
    assert any(line.startswith("labels (T1) looks like labels") for line in said)
    assert any(line.startswith("empty (T1 with contrast) has no voxels") for line in said)
    assert any("T2 and T2 FLAIR not chosen" in line for line in said)

    assert any("Only T1 with contrast" in line for line in concerns({"t1c": t1c}))
    assert concerns({"t1c": None}) == ["No volume is chosen: load a study or choose its volumes below."]


@pytest.mark.parametrize("grid", GRIDS)
def test_a_volume_is_sent_as_it_lies(scene, grid):
    node = volume("t1c", GRIDS[grid])
    sent = volume_of(node)
    assert np.shares_memory(sent.array, slicer.util.arrayFromVolume(node))
    assert np.allclose(sent.ijk_to_ras, GRIDS[grid], atol=1e-9)


def test_a_linear_transform_is_taken_along(scene):
    node = volume("t1c")
    moved = np.array([[0, 1, 0, 4], [-1, 0, 0, 5], [0, 0, 1, 6], [0, 0, 0, 1.0]])
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(moved))
    node.SetAndObserveTransformNodeID(transform.GetID())
    assert np.allclose(volume_of(node).ijk_to_ras, moved @ GRIDS["as scanned"])


def test_a_volume_that_is_no_grid_is_refused(scene):
    sheared, warped, empty = volume("sheared"), volume("warped"), volume("empty")
    shear = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[0, 1] = 0.3
    shear.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    sheared.SetAndObserveTransformNodeID(shear.GetID())
    warp = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    for target, place in ((spline.SetSourceLandmarks, 0), (spline.SetTargetLandmarks, 1)):
        points = vtk.vtkPoints()
        for n in range(5):
            points.InsertNextPoint(n * n, 3 * n % 5, place * (n % 2) * 9 + n)
        target(points)
    warp.SetAndObserveTransformToParent(spline)
    warped.SetAndObserveTransformNodeID(warp.GetID())
    empty.SetAndObserveImageData(None)
    for node, said in ((sheared, "Harden"), (warped, "Harden"), (empty, "no voxels")):
        with pytest.raises(CaseError, match=said):
            volume_of(node)
    assert any("harden" in line for line in concerns({"t1c": warped, "t2w": volume("fine")}))
