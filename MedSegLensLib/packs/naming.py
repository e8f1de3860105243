"""Names of latents, composed by rule from where their code lies; each name is a rule that can be tested.

What is known of a token (its expert label, tissue, place and brightness) puts it into one of `N_CLASSES` classes. How
much of a latent's code lies in each class is all the evidence there is for its name. A candidate name is a rule over
these facts ("label ED, near the enhancement, FLAIR bright"), so it holds or does not hold for each class, and the
same rule can be put to cases that the name was not made from. After Network Dissection (Bau et al. 2017, arXiv
1704.05796) and its compositions (Mu & Andreas 2020, arXiv 2006.14032).

numpy only: no torch, no case, no pack.
"""

import functools
import itertools
from dataclasses import dataclass

import numpy as np

from MedSegLensLib.lenses.stable import STABLE
from MedSegLensLib.packs.catalogue import UNCLEAR
from MedSegLensLib.packs.checked_json import canonical_json

MODALITIES = ("t1n", "t1c", "t2w", "t2f")
LEVELS = ("dark", "middle", "bright")
"""More than one standard deviation of healthy grey and white matter below, within, or above its mean."""

VALUES = {
    "label": ("none", "NCR", "ED", "ET"),
    "tissue": ("csf", "grey", "white", "vessel", "tumour"),
    "depth": ("edge", "middle", "deep", "any"),
    "midline": ("yes", "no", "any"),
    "side": ("left", "right", "any"),
    "near": ("far", "tumour", "enhancement", "border", "inner", "necrosis", "solid"),
    **dict.fromkeys(MODALITIES, LEVELS),
}
"""What a rule may speak of, and the values of each.

label: expert label. tissue: of brain outside the tumour; vessel is what takes up contrast there. depth: from the
brain's edge: within 5 mm, to 20 mm, deeper. side: of the patient. near: outside the tumour, within 6 mm of it or far;
in edema, within 6 mm of enhancement, else within 4 mm of the tumour's border, else inner; in enhancing tumour, within
4 mm of necrosis or solid; in the core, within 4 mm of enhancement or inner. Depth, midline and side are told only of
brain that is far from the tumour ('any' elsewhere)."""


def _places() -> tuple[dict[str, str], ...]:
    free = {"depth": "any", "midline": "any", "side": "any"}
    far = [
        {"label": "none", "tissue": t, "depth": d, "midline": m, "side": s, "near": "far"}
        for t in VALUES["tissue"][:4]
        for d in VALUES["depth"][:3]
        for m in VALUES["midline"][:2]
        for s in VALUES["side"][:2]
    ]
    beside = [{"label": "none", "tissue": t, **free, "near": "tumour"} for t in VALUES["tissue"][:4]]
    lesion = [
        {"label": label, "tissue": "tumour", **free, "near": near}
        for label, nears in {
            "ED": ("enhancement", "border", "inner"),
            "ET": ("necrosis", "solid"),
            "NCR": ("enhancement", "inner"),
        }.items()
        for near in nears
    ]
    return (*far, *beside, *lesion)


PLACES = _places()
"""Every place a token of labelled brain can be, as facts; the class is place * 81 + the levels in base 3."""

N_LEVELS = 3 ** len(MODALITIES)
N_CLASSES = len(PLACES) * N_LEVELS

LEAST_SCORE = 0.6
"""A name that covers less than this beyond chance is none. On the shipped packs (seven cases, two unseen) names that
score 0.5 to 0.6 predicted firing (balanced accuracy 0.75) for a third of the latents only, those above for most."""

LEAST_CASES, LEAST_EFFECTIVE_CASES = 2, 1.5
"""A name tells of more than one patient: effective cases are (sum e)^2 / sum e^2 of each case's energy e."""

LEAST_TOKENS = 30.0
"""Effective tokens, (sum z)^2 / sum z^2 of the codes z."""

LEAST_LATERALITY = 0.6
LEAST_CASES_FOR_A_SIDE = 5
COST_OF_A_TERM = 0.02
"""What each further word must gain: of names that cover alike, the simpler is taken."""

BATCH = 256


@functools.cache
def class_facts() -> dict[str, np.ndarray]:
    """For each fact, the index in `VALUES` of its value in every class, int8 (N_CLASSES,)."""
    facts = {}
    for name in ("label", "tissue", "depth", "midline", "side", "near"):
        of_place = np.array([VALUES[name].index(place[name]) for place in PLACES], np.int8)
        facts[name] = np.repeat(of_place, N_LEVELS)
    levels = np.tile(np.arange(N_LEVELS), len(PLACES))
    for i, modality in enumerate(MODALITIES):
        facts[modality] = (levels // 3 ** (len(MODALITIES) - 1 - i) % 3).astype(np.int8)
    return facts


def holds(rule: dict[str, list[str]]) -> np.ndarray:
    """In which classes a rule holds, bool (N_CLASSES,): where every fact it names has one of the values it allows.

    Raises ValueError for a fact or value that `VALUES` does not have.
    """
    facts, inside = class_facts(), np.ones(N_CLASSES, bool)
    for name, allowed in rule.items():
        if name not in VALUES or not allowed or set(allowed) - set(VALUES[name]):
            raise ValueError(f"{name}: {allowed} is nothing that a rule of a name can say")
        inside &= np.isin(facts[name], [VALUES[name].index(value) for value in allowed])
    return inside


# Noun, rule. Order matters only between names that cover exactly alike: the first is taken.
_NOUNS: tuple[tuple[str, dict], ...] = (
    ("enhancing tumour", {"label": ["ET"]}),
    ("enhancing rim beside necrosis", {"label": ["ET"], "near": ["necrosis"]}),
    ("solid enhancing tumour", {"label": ["ET"], "near": ["solid"]}),
    ("necrotic or non-enhancing core", {"label": ["NCR"]}),
    ("margin of the core, inside the enhancing rim", {"label": ["NCR"], "near": ["enhancement"]}),
    ("necrotic or non-enhancing core away from enhancement", {"label": ["NCR"], "near": ["inner"]}),
    ("edema", {"label": ["ED"]}),
    ("rim outside the enhancing tumour", {"label": ["ED"], "near": ["enhancement"]}),
    ("outer margin of the edema", {"label": ["ED"], "near": ["border"]}),
    ("edema away from enhancement", {"label": ["ED"], "near": ["border", "inner"]}),
    ("tumour core", {"label": ["NCR", "ET"]}),
    ("edema and non-enhancing core", {"label": ["NCR", "ED"]}),
    ("edema and enhancing tumour", {"label": ["ED", "ET"]}),
    ("tumour with its edema", {"label": ["NCR", "ED", "ET"]}),
    ("surroundings of the enhancing tumour", {"near": ["enhancement"]}),
    ("brain just outside the tumour", {"label": ["none"], "near": ["tumour"]}),
    ("border of the tumour, on both sides", {"near": ["border", "tumour"]}),
    ("edema and the brain just outside", {"label": ["none", "ED"], "near": ["tumour", "border", "inner"]}),
)
_HEALTHY: tuple[tuple[str, dict], ...] = (
    ("CSF", {"tissue": ["csf"]}),
    ("CSF at the brain's edge", {"tissue": ["csf"], "depth": ["edge"]}),
    ("CSF deep in the brain (ventricles)", {"tissue": ["csf"], "depth": ["deep"]}),
    ("CSF of the fissures and ventricles", {"tissue": ["csf"], "depth": ["middle", "deep"]}),
    ("CSF in the midline", {"tissue": ["csf"], "midline": ["yes"]}),
    ("grey matter", {"tissue": ["grey"]}),
    ("cortex at the brain's edge", {"tissue": ["grey"], "depth": ["edge"]}),
    ("grey matter below the surface", {"tissue": ["grey"], "depth": ["middle"]}),
    ("deep grey matter", {"tissue": ["grey"], "depth": ["deep"]}),
    ("white matter", {"tissue": ["white"]}),
    ("white matter near the brain's edge", {"tissue": ["white"], "depth": ["edge", "middle"]}),
    ("deep white matter", {"tissue": ["white"], "depth": ["deep"]}),
    ("midline white matter", {"tissue": ["white"], "midline": ["yes"]}),
    ("vessel-like structures", {"tissue": ["vessel"]}),
    ("vessel-like structures at the brain's edge", {"tissue": ["vessel"], "depth": ["edge"]}),
    ("vessel-like structures in the midline", {"tissue": ["vessel"], "midline": ["yes"]}),
    ("CSF and vessels at the brain's edge", {"tissue": ["csf", "vessel"], "depth": ["edge"]}),
    ("brain's edge", {"label": ["none"], "depth": ["edge"]}),
    ("midline", {"label": ["none"], "midline": ["yes"]}),
    ("midline at the brain's edge", {"label": ["none"], "midline": ["yes"], "depth": ["edge"]}),
    ("midline below the surface", {"label": ["none"], "midline": ["yes"], "depth": ["middle", "deep"]}),
    ("depth of the brain", {"label": ["none"], "depth": ["deep"]}),
    ("brain outside the tumour", {"label": ["none"], "near": ["far"]}),
)
_ANYWHERE = ("areas", {})
SHORT = {"t1n": "T1", "t1c": "T1c", "t2w": "T2", "t2f": "FLAIR"}
_TOLD_ALREADY = {"csf": {"t1n", "t2w"}, "vessel": {"t1c"}, "ET": {"t1c"}}
"""Brightness that a noun says already: enhancing tumour is bright in T1c."""


@dataclass(frozen=True)
class Candidate:
    """A name that could be given: its words, its rule, and how many things it says beyond a plain noun."""

    words: str
    rule: dict[str, list[str]]
    terms: int


@functools.cache
def candidates() -> tuple[Candidate, ...]:
    """Every name there is, simplest first."""
    levels = [{}] + [{m: [level]} for m in MODALITIES for level in ("bright", "dark")]
    levels += [{**a, **b} for a, b in itertools.combinations(levels[1:], 2) if not set(a) & set(b)]
    found = [_candidate(*_ANYWHERE, level) for level in levels[1:]]
    for words, rule in _NOUNS + _HEALTHY:
        told = {m for values in rule.values() for value in values for m in _TOLD_ALREADY.get(value, ())}
        found += [_candidate(words, rule, level) for level in levels if not told & set(level)]
    for words, rule in (noun for noun in _HEALTHY if "tissue" in noun[1]):
        found += [_candidate(f"{side}-sided {words}", {**rule, "side": [side]}, {}) for side in ("left", "right")]
    return tuple(sorted(found, key=lambda candidate: candidate.terms))


def _candidate(noun: str, rule: dict, levels: dict) -> Candidate:
    parts = [f"{SHORT[m]}-{levels[m][0]}" for m in ("t2f", "t1c", "t2w", "t1n") if m in levels]
    whole = {**rule, **levels}
    return Candidate(
        f"{', '.join(parts)} {noun}".strip(),
        whole,
        len(levels) + bool(set(rule) & {"near", "depth", "midline", "side"}),
    )


@functools.cache
def _candidate_masks() -> np.ndarray:
    """(N_CLASSES, candidates) float64, 1 where the rule holds."""
    return np.stack([holds(candidate.rule) for candidate in candidates()], axis=1).astype(np.float64)


def chance(tokens: np.ndarray) -> np.ndarray:
    """The share of each class (N_CLASSES,) that counts as chance, from the number of brain tokens in each.

    Half is the tumour with the 6 mm around it, half the rest of the brain: a tumour is a few per cent of the brain,
    and against the plain share every name in it would look alike good.
    """
    near = class_facts()["near"] != VALUES["near"].index("far")
    parts = [np.where(part, tokens, 0).astype(np.float64) for part in (near, ~near)]
    parts = [part / part.sum() for part in parts if part.sum() > 0]
    return sum(parts) / len(parts) if parts else np.zeros(N_CLASSES)


@dataclass(frozen=True)
class Evidence:
    """What a name of one latent is made from.

    energy: (N_CLASSES,) sum of its squared code in each class. tokens: (N_CLASSES,) brain tokens in each.
    effective_tokens: how many tokens its firing is spread over. n_cases: on how many labelled cases it fires;
        effective_cases: over how many of them its firing is spread.
    stability: decoder cosine to its partner in other seeds, None where unknown. laterality: -1 left .. 1 right.
    numbers: what else the sentence of evidence tells, ready in words.
    """

    energy: np.ndarray
    tokens: np.ndarray
    effective_tokens: float
    n_cases: int
    effective_cases: float
    stability: float | None
    laterality: float | None = None
    numbers: str = ""


@dataclass(frozen=True)
class Name:
    """words: the name, or 'unclear'; score: 0..1; evidence: why, in a sentence; rule: None where unclear."""

    words: str
    score: float
    evidence: str
    rule: dict[str, list[str]] | None

    @property
    def rule_json(self) -> str | None:
        return None if self.rule is None else canonical_json(self.rule).decode()


def name_of(evidence: Evidence, least_score: float = LEAST_SCORE) -> Name:
    """The name of one latent; see `names_of`."""
    return names_of([evidence], least_score)[0]


def names_of(evidence: list[Evidence], least_score: float = LEAST_SCORE) -> list[Name]:
    """The names of latents of one lens: for each the candidate that covers most of its energy, less chance.

    Nothing is named that never fires, fires on fewer than `LEAST_CASES` cases or `LEAST_TOKENS` tokens, is not stable
    (`lenses.stable`; unknown is not stable), or whose best candidate scores less than `least_score`.
    """
    masks, terms = _candidate_masks(), np.array([candidate.terms for candidate in candidates()])
    sides = np.array([candidate.rule.get("side", [""])[0] for candidate in candidates()])
    names = []
    for first in range(0, len(evidence), BATCH):
        part = evidence[first : first + BATCH]
        energy = np.stack([e.energy for e in part]).astype(np.float64)
        total = energy.sum(1, keepdims=True)
        share = energy / np.where(total > 0, total, 1)
        alike = all(e.tokens is part[0].tokens for e in part)  # one lens, one cohort: chance is computed once
        by_chance = np.stack([chance(e.tokens) for e in part[: 1 if alike else None]])
        covered = share @ masks
        expected = np.broadcast_to(by_chance @ masks, covered.shape)
        score = np.round(covered - expected, 9)  # in whatever company a latent is computed, it is named the same
        for i, e in enumerate(part):
            choice = score[i] - COST_OF_A_TERM * terms
            for side, sign in (("left", -1), ("right", 1)):
                lateral = sign * (e.laterality or 0.0) >= LEAST_LATERALITY and e.n_cases >= LEAST_CASES_FOR_A_SIDE
                if not lateral:
                    choice = np.where(sides == side, -np.inf, choice)
            best = int(np.argmax(choice))
            names.append(_named(e, float(total[i, 0]), best, covered[i, best], expected[i, best], least_score))
    return names


def _named(e: Evidence, total: float, best: int, covered: float, expected: float, least_score: float) -> Name:
    candidate = candidates()[best]
    score = round(float(np.clip(covered - expected, 0.0, 1.0)), 6)
    if total <= 0:
        return Name(UNCLEAR, 0.0, "It does not fire on a labelled case.", None)
    cases = f"{e.n_cases} case{'s' * (e.n_cases != 1)}"
    numbers = (
        f"{covered:.0%} of its firing (squared code) lies there, {expected:.0%} by chance; it fires on {cases}"
        f"{'; ' + e.numbers if e.numbers else ''}."
    )
    if e.n_cases < LEAST_CASES:
        return Name(UNCLEAR, score, f"It fires on {cases}, too few to name it.", None)
    if e.effective_cases < LEAST_EFFECTIVE_CASES:
        return Name(UNCLEAR, score, f"Nearly all of its firing is on one of {cases}: too few to name it.", None)
    if e.effective_tokens < LEAST_TOKENS:
        return Name(UNCLEAR, score, f"It fires on about {e.effective_tokens:.0f} tokens, too few to name it.", None)
    if e.stability is None or e.stability < STABLE:
        known = "unknown" if e.stability is None else f"too low (cosine {e.stability:.2f} to another seed)"
        said = f"Not named: its stability is {known}. Nearest is “{candidate.words}”: {numbers}"
        return Name(UNCLEAR, score, said, None)
    if score < least_score:
        return Name(UNCLEAR, score, f"No name covers it. Nearest is “{candidate.words}”: {numbers}", None)
    words = candidate.words[0].upper() + candidate.words[1:]
    return Name(words, score, numbers[0].upper() + numbers[1:], dict(candidate.rule))


# -- tests of names -----------------------------------------------------------------------------------------------


def prediction(masks: np.ndarray, strong: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Balanced accuracy of every rule for every latent, float64 (latents, rules); nan where a latent has no strong
    token or fires strongly everywhere.

    masks: bool (rules, N_CLASSES), where each rule holds. strong: (latents, N_CLASSES), tokens on which each latent
    fires strongly. tokens: (N_CLASSES,), all brain tokens. It is (sensitivity + specificity) / 2 of "the rule holds"
    for "it fires strongly".
    """
    strong, tokens, rules = strong.astype(np.float64), tokens.astype(np.float64), masks.T.astype(np.float64)
    positives = strong.sum(1, keepdims=True)
    negatives = tokens.sum() - positives
    hit = strong @ rules
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity = np.where(positives > 0, hit / positives, np.nan)
        specificity = np.where(negatives > 0, 1 - (tokens @ rules - hit) / negatives, np.nan)
    return (sensitivity + specificity) / 2


def against_others(own: np.ndarray, others: np.ndarray) -> float:
    """How often `own` is above one of `others`, ties half: 0.5 by chance; nan where there is nothing to compare."""
    others = others[np.isfinite(others)]
    if not np.isfinite(own) or not len(others):
        return float("nan")
    return float(np.mean(others < own) + 0.5 * np.mean(others == own))
