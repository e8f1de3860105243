"""Whether to trust a lens, in words, by thresholds that are stated beside them.

Each measure is *good*, to be taken *with care*, *poor*, or *not known*. Two questions are answered from them: does the
lens keep what the segmenter uses (then an edit through it edits the segmenter), and do its latents mean something (then
a latent may be called by a name). The lens is as good as the worse of the two.
"""

from dataclasses import dataclass, replace

GOOD, CARE, POOR, UNKNOWN = "good", "with care", "poor", "not known"
WORDS = {GOOD: "Trust", CARE: "With care", POOR: "Do not trust"}
KEEPS, MEANS = "keeps", "means"
ENOUGH_VARIANCE = 0.95
NULLS_OF_ONE = ("random_encoder", "random_direction", "shuffled")
NULLS_OF_FIVE = ("sparse_5_random_encoder", "sparse_5_channels", "sparse_5_components", "sparse_5_shuffled")
"""Of one latent and of five: what knows nothing of the lens's training. A lens is to beat the best of them."""


@dataclass(frozen=True)
class Grade:
    """One measure: its value, what is good and from where on it is poor (in words), and what it came to.

    question: KEEPS or MEANS. null: what the null gives for the same measure, None where it has none.
    """

    measure: str
    question: str
    value: float | None
    null: float | None
    good: str
    poor: str
    grade: str


def verdict(facts: dict) -> dict:
    """{"word", "sentence", "keeps", "means", "grades": [...]} of what `trust.examine` measured."""
    grades = _grades(facts)
    keeps, means = (_worst([g.grade for g in grades if g.question == q]) for q in (KEEPS, MEANS))
    worse = _worst([keeps, means])
    return {
        "word": WORDS[worse],
        "keeps": keeps,
        "means": means,
        "sentence": f"{_of_keeping(keeps, grades)} {_of_meaning(means, facts)}",
        "grades": [vars(g) for g in grades],
    }


def _grades(facts: dict) -> list[Grade]:
    def at_least(measure, question, value, good, poor, null=None, unit=1.0, sign=""):
        grade = UNKNOWN if value is None else GOOD if value >= good else CARE if value >= poor else POOR
        if null is not None and grade == GOOD and (null >= good or value <= null):
            grade = CARE  # what the null reaches too was not earned
        words = (f"at least {good * unit:g}{sign}", f"below {poor * unit:g}{sign}".replace("-", "−"))
        return Grade(measure, question, value, null, *words, grade)

    def at_most(measure, question, value, good, poor, null=None, unit=1.0, sign=""):
        grade = UNKNOWN if value is None else GOOD if value <= good else CARE if value <= poor else POOR
        if null is not None and grade == GOOD and null <= good:
            grade = CARE
        words = (f"at most {good * unit:g}{sign}", f"above {poor * unit:g}{sign}")
        return Grade(measure, question, value, null, *words, grade)

    rebuilt, splice, activity = facts["reconstruction"], facts["splice"], facts["activity"]
    percent = {"unit": 100, "sign": " %"}
    null = rebuilt.get("random_decoder") or rebuilt["random_encoder"]
    recovered = (splice["nulls"].get("random_encoder") or {}).get("share_recovered")
    lost = (splice["nulls"].get("random_encoder") or {}).get("loss_pp")
    rebuilds = at_least(
        "explained variance on the lesion",
        KEEPS,
        rebuilt["lens"].get("lesion"),
        ENOUGH_VARIANCE,
        0.9,
        null.get("lesion"),
    )
    if "random_decoder" not in rebuilt and rebuilds.grade == GOOD:
        rebuilds = replace(rebuilds, grade=CARE)  # the null that comes nearest was not asked
    found = [
        rebuilds,
        at_most("Dice lost when spliced in, worst, pp", KEEPS, splice["loss_pp"], 1.0, 3.0, lost),
        at_least("share of Dice recovered", KEEPS, splice["share_recovered"], 0.98, 0.9, recovered),
        at_most("dead latents", MEANS, activity["dead_share"], 0.05, 0.2, **percent),
    ]
    stable = facts["stability"]
    found.append(
        at_least(
            "latents of the lesion that every seed finds again",
            MEANS,
            stable and stable["share_on_lesion"],
            0.5,
            0.25,
            stable and stable["null_share"],
            **percent,
        )
    )
    probes = facts["probes"] or {}
    regions = [p for name, p in probes.items() if name in ("WT", "TC", "ET", "NCR", "ED")]

    def ahead(*kinds: str) -> float | None:
        """How far the best of these kinds is ahead of the best channel, in the worst region."""
        return min((max(p[kind] for kind in kinds) - p["best_channel"] for p in regions), default=None)

    def behind(*kinds: str) -> float | None:
        return max((p["dense"] - max(p[kind] for kind in kinds) for p in regions), default=None)

    words = "best latent minus best channel, AUROC, worst region"
    found.append(at_least(words, MEANS, ahead("best_latent"), 0.0, -0.02, ahead(*NULLS_OF_ONE)))
    words = "dense probe minus 5 latents, AUROC, worst region"
    found.append(at_most(words, MEANS, behind("sparse_5"), 0.02, 0.05, behind(*NULLS_OF_FIVE)))
    edits = facts["selectivity"]
    beats, chance = edits and edits["beats_random"], edits and edits["by_chance"]
    words = "edits that beat every random push of the same size"
    found.append(at_least(words, MEANS, beats, 0.8, 0.5, chance, **percent))
    return found


def _worst(grades: list[str]) -> str:
    """The worst of them; what is not known keeps a thing from being good, and makes nothing poor."""
    if POOR in grades:
        return POOR
    return CARE if CARE in grades or UNKNOWN in grades else GOOD


def _of_keeping(grade: str, grades: list[Grade]) -> str:
    variance, lost = (g for g in grades[:2])
    left_out = variance.value is not None and variance.value < ENOUGH_VARIANCE
    if left_out and lost.value is not None and lost.value <= 1.0:
        return (
            f"The lens leaves out part of its tap (explained variance on the lesion {variance.value:.2f}), though the "
            "segmentation with the lens spliced in is as good: what it leaves out may still matter in other cases."
        )
    return {
        GOOD: "The lens keeps what the segmenter uses: an edit through it edits the segmenter.",
        CARE: "The lens keeps most of what the segmenter uses; compare the segmentation with the lens spliced in.",
        POOR: "The lens loses much of what the segmenter uses: do not draw conclusions from its codes.",
    }[grade]


def _of_meaning(grade: str, facts: dict) -> str:
    if grade == POOR:
        return "Its latents do not pass as things with a meaning of their own: use them as handles, not as findings."
    if grade == GOOD:
        return "Its latents are found again with other seeds and say more of the tumour than single channels do."
    if facts["stability"] is None:
        return "Whether its latents are more than chance of one training is not known: give lenses of other seeds."
    return "Take single latents with care: look at the measures that are not good before naming one."
