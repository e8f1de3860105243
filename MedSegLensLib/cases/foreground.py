"""What of a volume is head and not air, and whether the skull is still on it."""

import numpy as np
import SimpleITK as sitk

LARGEST_BRAIN_ML = 2300.0
"""Above this a foreground cannot be a brain alone. Adult brains with CSF are 1.1 to 1.8 L, whole heads 3 to 5 L."""


def background_value(array: np.ndarray) -> float:
    """The constant outside the brain: 0, or what most of the volume's faces hold if it is also the minimum.

    Some tools write z-scored volumes whose background is a negative constant. array: (Z, Y, X).
    """
    faces = np.concatenate([np.take(array, end, axis).ravel() for axis in range(3) for end in (0, -1)])
    if np.count_nonzero(faces == 0) * 2 >= faces.size:
        return 0.0
    values, counts = np.unique(faces, return_counts=True)
    common = values[counts.argmax()]
    return float(common) if counts.max() * 2 >= faces.size and common == array.min() else 0.0


def looks_unstripped(array: np.ndarray, voxel_ml: float) -> bool:
    """Whether a volume (Z, Y, X) still has its skull, or its air was never set to a constant.

    The rule: what differs from the background is more than `LARGEST_BRAIN_ML`; or the air is noisy, that is, most
    voxels on the volume's faces differ from the background and yet are dark (their median is below a tenth of the
    99th percentile). A volume cropped inside the brain has bright faces and a small foreground, and does not count.
    """
    background = background_value(array)
    if np.count_nonzero(array != background) * voxel_ml > LARGEST_BRAIN_ML:
        return True
    faces = np.concatenate([np.take(array, end, axis).ravel() for axis in range(3) for end in (0, -1)])
    if np.count_nonzero(faces != background) * 2 < faces.size or array.min() < 0:
        return False
    return bool(np.median(faces) < 0.1 * np.percentile(array[::2, ::2, ::2], 99))


def brain_mask(images: dict[str, sitk.Image]) -> np.ndarray:
    """The brain as the volumes show it, bool (Z, Y, X): the union of what differs from each background.

    Volumes that still have their skull do not say where the brain is, so stripped ones decide where there are any.
    Where all have it, the head is what lies above half of Otsu's threshold, which parts it from noisy air.
    """
    arrays = [sitk.GetArrayViewFromImage(image) for image in images.values()]
    ml = float(np.prod(next(iter(images.values())).GetSpacing())) / 1000.0
    stripped = [array for array in arrays if not looks_unstripped(array, ml)]
    masks = [array != background_value(array) for array in stripped] or [
        array > 0.5 * _otsu(image) for image, array in zip(images.values(), arrays, strict=True)
    ]
    for mask in masks[1:]:
        masks[0] |= mask
    return masks[0]


def _otsu(image: sitk.Image) -> float:
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.Execute(image)
    return otsu.GetThreshold()
