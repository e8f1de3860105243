"""Which modality a name or a DICOM series description tells. Imports nothing, so that Slicer's process can ask too."""

import re

ALIASES = {
    "t1n": ("t1n", "t1", "t1w", "t1pre"),
    "t1c": ("t1c", "t1ce", "t1gd", "t1post", "t1wce"),
    "t2w": ("t2w", "t2"),
    "t2f": ("t2f", "flair", "t2flair"),
    "seg": ("seg", "segmentation", "label", "labels"),
}
"""How file names end, in lower case, after the last of '-', '_', '.' or a space (BraTS 2021, BraTS 2023, plain)."""

_NO_VOLUME = re.compile(
    r"\b(t2 ?star|loc|localizer|localiser|scout|survey|dwi|dti|adc|ep2d|swi|swan|perf|perfusion|dsc|dce|asl|cbv|"
    r"cbf|mtt|mip|mpr range|subtraction|sub|fieldmap|phase|tof|spectro|csi|bold|fmri)\b|t2 ?\*"
)
_FLAIR = re.compile(r"flair|dark.?fluid|tirm")
_T2 = re.compile(r"\bt2w?\b|t2(?=[a-z_ ])")
_T1 = re.compile(r"\bt1w?\b|t1(?=[a-z_ ])|mprage|\bspgr\b|\bbravo\b|\btfl\b|\bvibe\b")
_WITH = re.compile(r"\+ ?c\b|\+ ?gd|\bc\+|\bgd\b|gad|post|contrast|\bce\b|\bt1(ce|c|gd|post)\b|\bkm\b|\bpc\b|enhanced")
_WITHOUT = re.compile(r"\bpre\b|without|\bno[ -]?(gd|contrast)|non.?contrast|unenhanced|nativ|\bw/?o\b|\bt1n\b")


def modality_of_ending(name: str) -> str | None:
    """The modality (or 'seg') that a name ends in; a file's name is given without its format."""
    last = re.split(r"[-_. ]", name.lower())[-1]
    return next((key for key, names in ALIASES.items() if last in names), None)


def modality_of(description: str, agent: str = "") -> str | None:
    """The modality that a series' description names, or None.

    description: SeriesDescription (0008,103E). agent: ContrastBolusAgent (0018,0010), which decides for a T1 whose
    description says neither 'post' nor 'pre'.
    """
    words = re.sub(r"[_\-]", " ", description.lower())
    if _FLAIR.search(words):  # before T1 and T2: 'T2 FLAIR', and also 'T1 FLAIR', which is a T1
        return _t1_kind(words, agent) if re.search(r"\bt1", words) else "t2f"
    if _NO_VOLUME.search(words):
        return None
    if _T1.search(words) and not re.search(r"\bt2", words):
        return _t1_kind(words, agent)
    return "t2w" if _T2.search(words) else None


def _t1_kind(words: str, agent: str) -> str:
    if _WITHOUT.search(words):
        return "t1n"
    if _WITH.search(words):
        return "t1c"
    return "t1c" if agent.strip().lower() not in ("", "none", "no", "n/a") else "t1n"
