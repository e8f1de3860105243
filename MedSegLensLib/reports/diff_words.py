"""The findings of a comparison in plain words, each with its interval and its null."""

import math

from MedSegLensLib.diffing.comparison import CohortSide, Comparison, Share

NOT_KNOWN = "not known"


def number(value: float | None, digits: int = 2) -> str:
    """'0.95', or nothing where there is none; a true minus."""
    return "" if value is None or math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def percent(value: float | None, digits: int = 0) -> str:
    """A share as '12 %'."""
    return NOT_KNOWN if value is None else f"{100 * value:.{digits}f} %"


def interval_words(interval: tuple[float, float] | None, percent: bool = False) -> str:
    """'0.71 to 0.88', '33 to 44 %', or nothing."""
    if interval is None:
        return ""
    if percent:
        return f"{100 * interval[0]:.0f} to {100 * interval[1]:.0f} %"
    return f"{number(interval[0])} to {number(interval[1])}"


def headline(comparison: Comparison) -> str:
    """What was found, in a sentence."""
    says = comparison.summary.get("says") or []
    if says:
        return says[0]
    if comparison.kind == "models":
        return f"What {comparison.a.name} and {comparison.b.name} share, and what only one has"
    return (
        f"What {comparison.pack.name} finds alike in {comparison.a.name} and {comparison.b.name}, and what only in one"
    )


def cohort_words(cohort: CohortSide) -> str:
    """'africa, 12 cases (simulated)'."""
    kinds = [word for word, so in (("phantoms", cohort.invented), ("simulated", cohort.simulated)) if so]
    cases = "1 case" if cohort.n_cases == 1 else f"{cohort.n_cases} cases"
    return f"{cohort.name}, {cases}" + (f" ({', '.join(kinds)})" if kinds else "")


def share_sentence(comparison: Comparison, share: Share) -> str:
    """One claim with its count, interval and null."""
    of = f"{share.n} of {share.total} latents that fire ({percent(share.share)}"
    of += f", 95 % interval {interval_words(share.interval, percent=True)})" if share.interval else ")"
    if comparison.kind == "models":
        own, other = comparison.side_name(share.side), comparison.side_name("b" if share.side == "a" else "a")
        said = {
            "shared": f"{own}: {of} have a partner in {other} that fires in the same places",
            "partly shared": f"{own}: {of} have a partner in {other} that fires in part of the same places",
            "specific": f"{own}: {of} have no partner in {other}, though its own other seeds find them again",
            "not distinguishable from seed noise": f"{own}: {of} have no partner in {other}, but its own other seeds "
            "do not find them again either: nothing can be said of these",
        }.get(share.category, f"{own}: {of}: {share.category}")
    else:
        a, b = comparison.a.name, comparison.b.name
        said = {
            "backbone": f"{of} behave alike in {a} and {b}",
            "specific": f"{of} differ between {a} and {b} by more than chance",
            "not distinguishable from seed noise": f"{of} differ no more than they do between seeds, or random halves "
            "of one cohort",
        }.get(share.category, f"{of}: {share.category}")
    if share.null is None:
        return f"{said}. There is no null for this share."
    return f"{said}. Null{f' ({share.null_is})' if share.null_is else ''}: {percent(share.null)}."


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
    "Shared": "Each of the two latents is the other's best match, and both fire in the same places of the same cases, "
    "by more than any match that chance gives.",
    "Partly shared": "There is a match beyond chance, but weaker or not mutual.",
    "Specific to a segmenter": "The other one has no match, while this segmenter's own lens trained again from another "
    "seed does have one: so the latent is no accident of training.",
    "Not distinguishable from seed noise": "There is no match, but another seed of the same segmenter has none either. "
    "Whether the other segmenter lacks it cannot be said.",
    "Undecided": "Neither a likeness nor a difference is beyond its null.",
}
COHORT_WORDS = {
    "Backbone": "The latent fires as often, as strongly and over as much volume in both cohorts.",
    "Specific to a cohort": "It differs between the cohorts by more than it does between random halves of one cohort, "
    "after correction for the number of latents tried.",
    "Not distinguishable from seed noise": "It differs, but no more than another seed of the lens would make it.",
    "Undecided": "Neither a likeness nor a difference is beyond its null.",
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
