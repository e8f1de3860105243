"""Labels that are not BraTS 2023's own: other values for the tissues, or none because there is no tumour."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from MedSegLensLib.cases.case import MODALITIES, Case
from MedSegLensLib.cases.reading import assemble
from MedSegLensLib.cases.volume import check_complete, check_labels, read_image
from MedSegLensLib.errors import CaseError


def read_with_values(volumes: Mapping[str, Path], labels: Path, values: Mapping[int, int], name: str) -> Case:
    """A case whose labels have other values than BraTS 2023's.

    values: what each value of the file but 0 becomes. Raises CaseError for a value that is not among them.
    """
    images, notes = {}, []
    for modality in MODALITIES:
        if modality in volumes:
            image, said = read_image(volumes[modality])
            images[modality] = image, volumes[modality]
            notes += said
    check_complete(labels)
    given = sitk.ReadImage(str(labels))
    strange = sorted(set(np.unique(sitk.GetArrayViewFromImage(given)).tolist()) - {0, *values})
    if strange:
        known = ", ".join(f"{old}" for old in values)
        raise CaseError(
            labels, f"it holds the value {strange[0]:g}, which its layout has not ({known}).", "Relabel it."
        )
    given = sitk.ChangeLabel(sitk.Cast(given, sitk.sitkUInt8), dict(values))
    said = ", ".join(f"{old} to {new}" for old, new in values.items() if old != new)
    case = assemble(name, images, (check_labels(given, labels), labels), list(dict.fromkeys(notes)))
    return replace(case, notes=(*case.notes, f"The values of {labels.name} were changed: {said}.")) if said else case


def background_labels(case: Case) -> Case:
    """A case that is known to have no tumour, with labels of background alone."""
    empty = sitk.Image(case.reference.GetSize(), sitk.sitkUInt8)
    empty.CopyInformation(case.reference)
    return replace(case, labels=empty, notes=(*case.notes, "Known to be healthy: its labels are background alone."))
