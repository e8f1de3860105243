"""Which patient a case is of, told from its name."""

import re

_TIME_POINT = re.compile(r"^(BraTS-[A-Za-z]+-\d{4,6}|UCSF-PDGM-\d{3,5}|UPENN-GBM-\d{5})[-_]\w{1,4}$")
_SESSION = re.compile(r"^(sub-[A-Za-z0-9]+)(_ses-[A-Za-z0-9]+)?$")
_BRATS_2021 = re.compile(r"^BraTS2021_(\d{5})$")


def subject_of(name: str) -> str:
    """The patient: 'BraTS-GLI-00005' of 'BraTS-GLI-00005-100', 'sub-01' of 'sub-01_ses-2', else the name itself.

    BraTS-GLI 2023 has the training and validation cases of BraTS 2021 again, by the same numbers: 'BraTS2021_00005' is
    'BraTS-GLI-00005' too, so that nobody takes one for unseen by what was trained on the other. (Some later time points
    were given their patient's number in 2023; those cannot be told from names.)
    """
    if same := _BRATS_2021.match(name):
        return f"BraTS-GLI-{same[1]}"
    found = _TIME_POINT.match(name) or _SESSION.match(name)
    return found[1] if found else name
