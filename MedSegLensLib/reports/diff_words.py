"""The findings of a comparison in plain words, each with its interval and its null."""

import math

from MedSegLensLib.diffing.comparison import CohortSide, Comparison, Share

KINDS = {
    "shared": ("shared", "#0072B2", False),
    "partly shared": ("partly shared", "#56B4E9", False),
    "backbone": ("backbone: alike in both", "#0072B2", False),
    "specific": ("specific to one", "#D55E00", False),
    "not distinguishable from seed noise": ("not distinguishable from seed noise", "#6E6E6E", True),
    "undecided": ("undecided: neither beyond its null", "#CFCFCF", False),
    "too few cases": ("too few cases to say", "#F2F2F2", False),
}
"""Of categories: words, colour, whether striped. Neighbours differ in lightness or pattern, not in hue alone."""


NOT_KNOWN = "not known"


def number(value: float | None, digits: int = 2) -> str:
    """'0.95', or nothing where there is none; a true minus."""
    return "" if value is None or math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def percent(value: float | None, digits: int = 0) -> str:
    """A share as '12 %', one below a percent as '0.4 %'."""
    if value is None:
        return NOT_KNOWN
    return f"{100 * value:.{max(digits, 1) if 0 < value < 0.01 else digits}f} %"


def interval_words(interval: tuple[float, float] | None, percent: bool = False, digits: int = 2) -> str:
    """'0.71 to 0.88', '33 to 44 %', or nothing."""
    if interval is None:
        return ""
    if percent:
        return f"{100 * interval[0]:.0f} to {100 * interval[1]:.0f} %"
    return f"{number(interval[0], digits)} to {number(interval[1], digits)}"


def main_shares(comparison: Comparison) -> list[Share]:
    """The shares over all layers; where there are none (each layer was judged by itself), those of each layer."""
    over_all = [share for share in comparison.shares if share.tap is None]
    return over_all or list(comparison.shares)


def headline(comparison: Comparison) -> str:
    """What was found, in a sentence, with the nulls."""
    shares = [share for share in main_shares(comparison) if share.total]
    if not shares:
        return f"Nothing can be said of {comparison.a.name} and {comparison.b.name}: no latent fires"
    if comparison.kind == "models":
        parts = [
            (f"{percent(share.share)} of" if share.n else "none of")
            + f" {comparison.side_name(share.side)}'s latents{_beside(share) if share.n else ''}"
            for share in shares
            if share.category == "shared"
        ]
        said = f"{' and '.join(parts)} are shared with the other segmenter"
        return said[:1].upper() + said[1:]
    parts = []
    for category, words in (("backbone", "behave alike in both"), ("specific", "are specific to one")):
        of = [share for share in shares if share.category == category]
        if any(share.n for share in of):
            parts.append(" and ".join(f"{percent(share.share)}{_beside(share)}" for share in of) + f" {words}")
        elif of:
            parts.append(f"none {words}")
    pack = comparison.pack.name if comparison.pack else "the pack"
    return f"{comparison.a.name} and {comparison.b.name}: of {pack}'s latents {', '.join(parts)}"


def beyond(share: Share) -> bool | None:
    """Whether a share is beyond its null, its whole interval where there is one; None without a null."""
    if share.null is None:
        return None
    return (share.share if share.interval is None else share.interval[0]) > share.null


def _beside(share: Share) -> str:
    if share.null is None:
        return ""
    return f" (null {percent(share.null)})" if beyond(share) else f" (not beyond its null, {percent(share.null)})"


def cohort_words(cohort: CohortSide) -> str:
    """'africa, 12 cases (simulated)'."""
    kinds = [word for word, so in (("phantoms", cohort.invented), ("simulated", cohort.simulated)) if so]
    cases = "1 case" if cohort.n_cases == 1 else f"{cohort.n_cases} cases"
    return f"{cohort.name}, {cases}" + (f" ({', '.join(kinds)})" if kinds else "")


ALWAYS = ("shared", "backbone", "specific")


def claims(comparison: Comparison) -> list[tuple[str, str]]:
    """Of each category that was found, and of those of `ALWAYS` in any case: its name, and a sentence with count,
    interval and null of each side."""
    found = []
    for category, said in (MODEL_CLAIMS if comparison.kind == "models" else COHORT_CLAIMS).items():
        shares = [s for s in main_shares(comparison) if s.total and s.category == category]
        if any(share.n for share in shares) or (shares and category in ALWAYS):
            of = " and ".join(_claimed(comparison, share) for share in shares)
            of = of[0].upper() + of[1:]
            nulls = "; ".join(dict.fromkeys(s.null_is for s in shares if s.null_is and not _inline(s)))
            words = said.format(a=comparison.a.name, b=comparison.b.name)
            sentence = f"{of}: {words}." if any(share.n for share in shares) else f"{of}."
            found.append((category, sentence + (f" The null: {nulls}." if nulls else "")))
    return found


def _claimed(comparison: Comparison, share: Share) -> str:
    pack = comparison.pack_of(share.side).name if comparison.pack_of(share.side) else "the pack"
    layer = f" at {share.tap}" if share.tap is not None and share.tap != _only_tap(comparison) else ""
    count = f"{share.n} of {share.total}" if share.n else f"none of {share.total}"
    inside = [f"95 % interval {interval_words(share.interval, percent=True)}"] if share.interval else []
    if share.null is None:
        inside.append("no null")
    else:
        inside.append(f"null {percent(share.null)}{f' {share.null_is}' if _inline(share) else ''}")
        inside += [] if beyond(share) or not share.n else ["not beyond its null"]
    return f"{count} latents of {pack}{layer}, {percent(share.share)} ({'; '.join(inside)})"


def _inline(share: Share) -> bool:
    """Whether what the null is reads on from its number: 'of random latents'."""
    return share.null_is.startswith(("of ", "in ", "between "))


def _only_tap(comparison: Comparison) -> str | None:
    taps = {finding.tap for finding in comparison.findings}
    return taps.pop() if len(taps) == 1 else None


MODEL_CLAIMS = {
    "shared": "they have a partner of their own in the other pack that fires in the same places",
    "partly shared": "a latent of the other pack fires in part of the same places, or has another partner",
    "specific": "they have none in the other pack, though other seeds of their own segmenter's lens find them again",
    "not distinguishable from seed noise": "they have no partner in the other pack, but other seeds of their own "
    "segmenter's lens do not find them again either, so nothing can be said of them",
    "undecided": "they show neither a likeness nor a difference beyond its null",
}
COHORT_CLAIMS = {
    "backbone": "they fire as often and as strongly in {a} as in {b}",
    "specific": "they are used more in one of {a} and {b} than in the other, and so are their partners in other seeds",
    "not distinguishable from seed noise": "their partners in other seeds of the lens do not show the same, so "
    "nothing is claimed of them",
    "undecided": "they show neither a likeness nor a difference beyond its null",
}


def threshold_words(name: str) -> str:
    """A threshold's name as words."""
    return name.replace("_", " ")


def explained(comparison: Comparison) -> list[tuple[str, str]]:
    """The words of the page, for a reader who has not met them."""
    return [*FIRST_WORDS.items(), *(MODEL_WORDS if comparison.kind == "models" else COHORT_WORDS).items(), *LAST_WORDS]


FIRST_WORDS = {
    "Latent": "One of the patterns into which a layer of the segmenter is taken apart. It fires in some places of a "
    "scan and not in others; where it fires is shown as colour over the anatomy.",
    "Layer (tap)": "The place in the segmenter that is looked at; early layers see texture, late ones tissue.",
}
MODEL_WORDS = {
    "Shared": "The latent has a partner of its own (one to one) in the other segmenter that fires in the same "
    "places of the same cases, more alike than random directions that fire as often.",
    "Partly shared": "There is a match beyond chance, but a weaker one, or one that is not one to one.",
    "Specific to a segmenter": "The other one has no match, while every other seed of this segmenter's own lens "
    "finds the latent again: so it is no accident of training.",
    "Not distinguishable from seed noise": "There is no match, but another seed of the same segmenter's lens has "
    "none either. Whether the other segmenter lacks it cannot be said.",
    "Undecided": "Neither a likeness nor a difference is beyond its null.",
}
COHORT_WORDS = {
    "Backbone": "The latent fires as often and as strongly in both cohorts, within set margins, and so do its "
    "partners in other seeds of the lens.",
    "Specific to a cohort": "It fires more often or more strongly in one cohort, or a region rests on it more "
    "there: beyond random parts of the cohorts and beyond random latents, corrected for the number of latents; and "
    "its partner in every other seed of the lens shows it too.",
    "Not distinguishable from seed noise": "What it shows, its partner in another seed of the lens does not.",
    "Undecided": "Neither a likeness within the margins nor a difference beyond the null is shown.",
    "Effect size (Hedges' g)": "The difference between the cohorts in units of how much patients differ among each "
    "other; above 0 is more in the second one.",
}
LAST_WORDS = (
    (
        "Null",
        "The same count or measure where nothing should be found. A claim is as good as its distance from its null.",
    ),
    (
        "95 % interval",
        "The range that the number takes when cases are drawn again from these. It says nothing of other patients.",
    ),
)
