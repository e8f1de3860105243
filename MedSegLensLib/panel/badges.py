"""A latent's badges: what comparisons say of it, as a sign, a word and a sentence. No Qt; no number is made here."""

from dataclasses import dataclass

from slicer.i18n import tr as _

from MedSegLensLib.packs.comparisons import PackComparison, PackFinding

SIGNS = {
    "shared": "●",
    "partly shared": "◐",
    "backbone": "■",
    "specific": "▲",
    "not distinguishable from seed noise": "?",
}
"""By category; they differ in shape, so no colour is needed. Other categories have no badge."""


@dataclass(frozen=True)
class Badge:
    """sign and word: as in the table; whole: with what it is compared to, as in the filter."""

    sign: str
    word: str
    whole: str

    def __str__(self) -> str:
        return f"{self.sign} {self.word}"

    @property
    def isDoubt(self) -> bool:
        """Whether it says that nothing can be said."""
        return self.sign == SIGNS["not distinguishable from seed noise"]


def badgeOf(comparison: PackComparison, finding: PackFinding) -> Badge | None:
    """The badge of a finding, or None for one that says too little."""
    other = comparison.against[0]
    both = _(" and ").join(comparison.against)
    words = {
        "shared": (_("shared"), _("shared with {pack}").format(pack=other)),
        "partly shared": (_("partly shared"), _("partly shared with {pack}").format(pack=other)),
        "backbone": (_("backbone"), _("backbone: alike in {both}").format(both=both)),
        "specific": (_("specific"), _("specific to {name}").format(name=finding.specific_to)),
        "not distinguishable from seed noise": (_("seed noise?"), _("seed noise? against {both}").format(both=both)),
    }.get(finding.category)
    return None if words is None else Badge(SIGNS[finding.category], *words)


def badgesOf(found: list[tuple[PackComparison, PackFinding]]) -> list[Badge]:
    return [badge for pair in found if (badge := badgeOf(*pair)) is not None]


def badgeTip(found: list[tuple[PackComparison, PackFinding]]) -> str:
    """Each finding with its evidence, its null, and the cases that it was found on."""
    return "\n\n".join(findingText(*pair) for pair in found)


def findingText(comparison: PackComparison, finding: PackFinding) -> str:
    """One finding: what, the evidence, the null, on which cases."""
    badge = badgeOf(comparison, finding)
    whole = str(badge.sign + " " + badge.whole) if badge else finding.category
    lines = [whole[:1].upper() + whole[1:] + ".", finding.evidence]
    if finding.null is not None:
        lines.append(_("The null reaches {null:.2f}.").format(null=finding.null))
    lines.append(_("Found on {cases}.").format(cases=_(" and ").join(_cohort(c) for c in comparison.cohorts)))
    return " ".join(line for line in lines if line)


def _cohort(cohort) -> str:
    text = _("{count} cases of {name}").format(count=cohort.n_cases, name=cohort.name)
    if cohort.invented:
        text += _(" (phantoms, not patients)")
    if cohort.simulated:
        text += _(" (simulated acquisitions)")
    return text
