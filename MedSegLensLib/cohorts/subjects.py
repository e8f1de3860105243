"""Which patient a case is of, told from its name."""

import re

_TIME_POINT = re.compile(r"^(BraTS-[A-Za-z]+-\d{4,6}|UCSF-PDGM-\d{3,5}|UPENN-GBM-\d{5})[-_]\w{1,4}$")
_SESSION = re.compile(r"^(sub-[A-Za-z0-9]+)(_ses-[A-Za-z0-9]+)?$")


def subject_of(name: str) -> str:
    """The patient: 'BraTS-GLI-00005' of 'BraTS-GLI-00005-100', 'sub-01' of 'sub-01_ses-2', else the name itself."""
    found = _TIME_POINT.match(name) or _SESSION.match(name)
    return found[1] if found else name
