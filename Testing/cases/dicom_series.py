"""DICOM series written for tests."""

import SimpleITK as sitk


def write_series(image, folder, number, description, agent="", skip=(), study="1.2.826.0.1.3680043.2.1125.1"):
    """One file a slice, with the tags that place it in space."""
    folder.mkdir(parents=True, exist_ok=True)
    image = sitk.Cast(image, sitk.sitkInt16)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    direction = image.GetDirection()
    for k in range(image.GetSize()[2]):
        if k in skip:
            continue
        part = image[:, :, k]
        tags = {
            "0008|0060": "MR",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.{number}.{k + 1}",
            "0020|000d": study,
            "0020|000e": f"1.2.826.0.1.3680043.2.1125.{number}",
            "0008|103e": description,
            "0018|0010": agent,
            "0020|0011": str(number),
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{v:.6f}" for v in image.TransformIndexToPhysicalPoint((0, 0, k))),
            "0020|0037": "\\".join(f"{direction[i]:.6f}" for i in (0, 3, 6, 1, 4, 7)),
            "0018|0050": str(image.GetSpacing()[2]),
        }
        for tag, value in tags.items():
            if value:
                part.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{number}-{k:03}.dcm"))
        writer.Execute(part)
