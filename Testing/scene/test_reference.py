"""A reference segmentation that the reader chose, in whatever form it is in the scene."""

import numpy as np
import pytest
import slicer
import slicer.util
from samples import GRIDS, LABEL_META, tumour, volume

from MedSegLensLib.errors import CaseError
from MedSegLensLib.scene.reference import reference_volume
from MedSegLensLib.scene.segmentation import ResultSegmentation

GRID = GRIDS["oblique"]


def test_our_own_result_is_a_reference(owner):
    node = ResultSegmentation(owner).make(tumour(), GRID, LABEL_META, volume("t1c", GRID))
    sent = reference_volume(node)
    assert np.array_equal(sent.array, tumour())
    assert np.allclose(sent.ijk_to_ras, GRID)


@pytest.mark.parametrize("enhancing", [3, 4])
def test_a_label_volume_of_either_brats_year_is_a_reference(scene, enhancing):
    labels = np.where(tumour() == 3, enhancing, tumour()).astype(np.int16)
    node = slicer.util.addVolumeFromArray(labels, GRID, "seg", "vtkMRMLLabelMapVolumeNode")
    sent = reference_volume(node)
    assert np.array_equal(sent.array, tumour())
    assert sent.array.dtype == np.uint8


@pytest.mark.parametrize(
    "names",
    [
        ("NCR", "ED", "ET"), ("Necrotic core", "Peritumoral oedema", "Enhancing tumor"),
        ("non-enhancing core", "Edema", "enhancing"), ("NET", "SNFH", "ET"),
    ],
)  # fmt: skip
def test_segments_are_known_by_the_names_that_people_give_them(scene, names):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn")
    reference = volume("t1c", GRID)
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    source = slicer.util.addVolumeFromArray(tumour(), GRID, "labels", "vtkMRMLLabelMapVolumeNode")
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(source, node)
    for number, name in enumerate(names):
        node.GetSegmentation().GetNthSegment(number).SetName(name)
    assert np.array_equal(reference_volume(node).array, tumour())


def test_what_is_no_reference_is_refused(scene):
    with pytest.raises(CaseError, match="not BraTS labels"):
        reference_volume(volume("t1c"))
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "liver")
    node.GetSegmentation().AddEmptySegment("liver")
    with pytest.raises(CaseError, match="none of its segments"):
        reference_volume(node)
    node.GetSegmentation().GetNthSegment(0).SetName("edema")
    with pytest.raises(CaseError, match="reference geometry"):
        reference_volume(node)
