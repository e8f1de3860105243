"""SimpleITK images as volume nodes."""

import numpy as np
import SimpleITK as sitk
import slicer
import slicer.util


def add_image(
    image: sitk.Image, name: str, class_name: str = "vtkMRMLScalarVolumeNode"
) -> slicer.vtkMRMLScalarVolumeNode:
    """A new volume node of the class with the voxels and the place (LPS to RAS) of `image`."""
    to_lps = np.eye(4)
    to_lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    to_lps[:3, 3] = image.GetOrigin()
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ to_lps
    return slicer.util.addVolumeFromArray(sitk.GetArrayFromImage(image), to_ras, name, class_name)
