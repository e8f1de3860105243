"""What a segment is, in codes that DICOM readers know: Slicer's terminology entry from a pack's label.

An entry is text: the context's name, category, type and type modifier, then the region's context, region and region
modifier, between tildes; each code is scheme^value^meaning (vtkSlicerTerminologiesModuleLogic reads and writes it).
"""

import re

CONTEXT = "Segmentation category and type - DICOM master list"
REGION_CONTEXT = "Anatomic codes - DICOM master list"
CATEGORY = {"scheme": "SCT", "value": "49755003", "meaning": "Morphologically Altered Structure"}
BRAIN = {"scheme": "SCT", "value": "12738006", "meaning": "Brain"}
WHOLE_TUMOUR = {"scheme": "SCT", "value": "108369006", "meaning": "Neoplasm"}
NO_CODE = {"scheme": "", "value": "", "meaning": ""}


def terminology_entry(code: dict) -> str:
    """The entry of a tumour's part in the brain. code: its type, {value, meaning, scheme}, as in `pack.json`."""
    parts = [
        CONTEXT,
        _in_text(CATEGORY),
        _in_text(code),
        _in_text(NO_CODE),
        REGION_CONTEXT,
        _in_text(BRAIN),
        _in_text(NO_CODE),
    ]
    return "~".join(parts)


def _in_text(code: dict) -> str:
    return "^".join(re.sub(r"[~^|]", " ", str(code[part])) for part in ("scheme", "value", "meaning"))
