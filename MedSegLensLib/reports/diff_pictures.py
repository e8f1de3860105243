"""Where what is shared and what is specific lies: pairs of slices side by side, from a few cases of the cohorts.

Of two packs: the same slice of the same case, left as one pack sees it and right as the other. Of two cohorts: one
latent in a case of each. A bounded number of cases is opened, one pack at a time; of a case only what pictures need
is kept.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from MedSegLensLib.cases.case import MODALITY_NAMES
from MedSegLensLib.cohorts.checks import shared_subjects
from MedSegLensLib.diffing.comparison import Comparison, LatentFinding
from MedSegLensLib.errors import CaseError, MedSegLensError
from MedSegLensLib.packs.pack import LensPack
from MedSegLensLib.reports import figures, wording
from MedSegLensLib.reports.run_report import BACKGROUNDS, SECOND_BACKGROUNDS
from MedSegLensLib.reports.seen_case import SeenCase
from MedSegLensLib.reports.slices import best_slice

if TYPE_CHECKING:
    from MedSegLensLib.cohorts.cohort import Cohort, CohortCase

CASES = 2
"""Opened of each cohort at most."""
SHARED, SPECIFIC = 4, 2
"""Pictures at most of what is shared (over all taps) and of what is specific, a side."""
ALIKE = 2
"""Where no pair is shared, the most alike ones that are undecided: a reader looks, and judges."""
TUMOUR, CORE = (1, 2, 3), (1, 3)
QUALITY = 82

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Picture:
    """One slice with an overlay. caption: what it shows; place: where the slice lies."""

    caption: str
    place: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Pair:
    """Two slices side by side, what they are an example of, and the sentence of evidence."""

    title: str
    category: str
    evidence: str
    here: str
    left: Picture
    right: Picture


@dataclass
class Gallery:
    """The pairs by heading; what was opened, in words; what went wrong on the way."""

    shared: list[Pair] = field(default_factory=list)
    alike: list[Pair] = field(default_factory=list)
    specific: list[Pair] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def gallery(
    comparison: Comparison,
    packs: Sequence[LensPack],
    cohorts: "Sequence[Cohort]",
    progress: Progress | None = None,
    cases: int = CASES,
) -> Gallery:
    """Pictures for a comparison. packs: both, or the one that cohorts were compared by; cohorts: the one that packs
    were compared on, or both. A case that cannot be opened is told in `problems`; `progress` may raise Cancelled."""
    say = progress or (lambda stage, share: None)
    if comparison.kind == "models":
        return _of_models(comparison, packs, cohorts[0], say, cases)
    return _of_cohorts(comparison, packs[0], cohorts, say, cases)


# -- two packs ---------------------------------------------------------------------------------------------------------


def _of_models(
    comparison: Comparison, packs: Sequence[LensPack], cohort: "Cohort", say: Progress, most: int
) -> Gallery:
    found = Gallery()
    seen = []
    chosen = _unseen_first(cohort.cases, packs)[:most]
    for number, entry in enumerate(chosen):
        both = []
        for n, (side, pack) in enumerate(zip("ab", packs, strict=True)):
            share = (2 * number + n) / (2 * len(chosen))
            say(f"pictures: {entry.name} with {pack.info.name}", share)
            both.append(_seen(entry, pack, _taps(comparison, side), found, packs))
        if all(both):
            seen.append(tuple(both))
            found.cases.append(_named(both[0]))
    if not seen:
        return found
    say("pictures", 1.0)
    by_side = ([a for a, _ in seen], [b for _, b in seen])
    for finding in _strongest(comparison.findings_of("a"), ("shared",), by_side[0], SHARED):
        found.shared.append(_pair_of_models(comparison, finding, seen))
    if not found.shared:
        found.alike = [_pair_of_models(comparison, f, seen) for f in _most_alike(comparison, by_side[0])]
    for side in "ab":
        own = by_side["ab".index(side)]
        for finding in _strongest(comparison.findings_of(side), ("specific",), own, SPECIFIC):
            found.specific.append(_pair_of_models(comparison, finding, seen))
    return found


def _pair_of_models(comparison: Comparison, finding: LatentFinding, seen: list[tuple[SeenCase, SeenCase]]) -> Pair:
    """A latent and its partner on one slice of the case in which the latent is most at work, drawn on pack A's grid."""
    side = "ab".index(finding.side)
    number = int(np.argmax([both[side].totals(finding.tap, TUMOUR)[finding.latent] for both in seen]))
    if not any(both[side].totals(finding.tap, TUMOUR)[finding.latent] for both in seen):
        number = int(np.argmax([both[side].totals(finding.tap)[finding.latent] for both in seen]))
    both = seen[number]
    own, base = both[side], both[0]
    places: list[tuple[str, int] | None] = [(finding.tap, finding.latent), None]
    if finding.partner_tap is not None:
        places[1] = (finding.partner_tap, finding.partner_latent)
    if side:
        places.reverse()
    volumes = [_on(base, one, place) for one, place in zip(both, places, strict=True)]
    mine = volumes[side]
    index = best_slice(mine, 0)
    if finding.category != "specific" and volumes[1 - side] is not None and volumes[1 - side].any():
        together = _scaled(volumes[0]) * _scaled(volumes[1])
        index = best_slice(together, 0) if together.any() else index
    modality = _background(base, mine, index)
    names = [comparison.side_name(s) for s in "ab"]
    pictures = []
    for one, place, volume, name in zip(both, places, volumes, names, strict=True):
        tumour = one.labels > 0 if one is base else one.on_grid_of(base, (one.labels > 0).astype(np.uint8), True) > 0
        pictures.append(_picture(base, modality, index, volume, tumour, _caption(one, place, name, volume)))
    here = f"{_named(base)}, {MODALITY_NAMES[modality]}"
    if volumes[1 - side] is not None and own.active_ml(finding.tap, finding.latent) > 0:
        inside = base.conformed.brain
        rho = _correlation(volumes[0][inside], volumes[1][inside])
        if rho is not None:
            here += f"; in this case the two activations correlate with r = {rho:.2f}".replace("-", "−")
    return Pair(_title(finding, comparison, names), finding.category, finding.evidence, here, *pictures)


def _caption(one: SeenCase, place: tuple[str, int] | None, name: str, volume: np.ndarray | None) -> str:
    if place is None:
        return f"{name}: no partner to show; only its segmentation."
    tap, latent = place
    if volume is None or not volume.any():
        return f"{name}, latent {latent} of {tap}: does not fire in this case."
    maximum = f"{float(volume.max()):.2g}"
    fires = wording.millilitres(one.active_ml(tap, latent))
    return f"{name}, latent {latent} of {tap}: fires in {fires} mL, its maximum is {maximum}."


def _title(finding: LatentFinding, comparison: Comparison, names: list[str]) -> str:
    if finding.category == "specific":
        return f"Specific to {finding.specific_to}: latent {finding.latent}"
    own, other = f"latent {finding.latent} of {names[0]}", f"{finding.partner_latent} of {names[1]}"
    return f"{finding.category.capitalize()}: {own} and {other}"


# -- two cohorts -------------------------------------------------------------------------------------------------------


def _of_cohorts(
    comparison: Comparison, pack: LensPack, cohorts: "Sequence[Cohort]", say: Progress, most: int
) -> Gallery:
    found = Gallery()
    taps = _taps(comparison, "a")
    chosen = _paired_first(cohorts, [pack], most)
    total, done, seen = sum(map(len, chosen)), 0, ([], [])
    for n, entries in enumerate(chosen):
        for entry in entries:
            say(f"pictures: {entry.name} of {cohorts[n].name}", done / max(total, 1))
            one = _seen(entry, pack, taps, found, [pack])
            done += 1
            if one is not None:
                seen[n].append((entry.subject, one))
                found.cases.append(f"{_named(one)} of {cohorts[n].name}")
    if not all(seen):
        return found
    say("pictures", 1.0)
    names = [comparison.a.name, comparison.b.name]
    findings = comparison.findings_of("a")
    everywhere = [one for _, one in (*seen[0], *seen[1])]
    for finding in _strongest(findings, ("backbone",), everywhere, 2):
        found.shared.append(_pair_of_cohorts(finding, names, seen))
    for n, name in enumerate(names):
        own = [f for f in findings if f.specific_to == name]
        for finding in _strongest(own, ("specific",), [one for _, one in seen[n]], SPECIFIC):
            found.specific.append(_pair_of_cohorts(finding, names, seen))
    return found


def _pair_of_cohorts(finding: LatentFinding, names: list[str], seen) -> Pair:
    """One latent in a case of each cohort: of one patient where the two have one in common, else where it is most at
    work in each. Colours have one scale, that of the larger maximum."""
    subjects = {subject for subject, _ in seen[0]} & {subject for subject, _ in seen[1]}
    strongest = []
    for side in seen:
        here = [one for subject, one in side if not subjects or subject in subjects]
        at_work = [one.totals(finding.tap)[finding.latent] for one in here]
        strongest.append((max(at_work), here[int(np.argmax(at_work))]))
    ones = [one for _, one in strongest]
    if subjects:  # the same patient on both sides: where it is most at work on either
        which = max(range(2), key=lambda n: strongest[n][0])
        subject = next(s for s, one in seen[which] if one is ones[which])
        ones = [next(one for s, one in side if s == subject) for side in seen]
    volumes = [one.activation(finding.tap, finding.latent) for one in ones]
    maximum = max(float(volume.max()) for volume in volumes)
    fires = [n for n in range(2) if volumes[n].any()]
    indices = [best_slice(volume, 0) if volume.any() else None for volume in volumes]
    for n in range(2):
        if indices[n] is None:
            indices[n] = _same_place(ones[1 - n], indices[1 - n], ones[n]) if fires else ones[n].labels.shape[0] // 2
        elif subjects and len(fires) == 2 and n == 1:
            indices[1] = _same_place(ones[0], indices[0], ones[1])
    modality = _background(ones[fires[0] if fires else 0], volumes[fires[0] if fires else 0], indices[0])
    pictures = []
    for one, volume, index, name in zip(ones, volumes, indices, names, strict=True):
        shown = modality if modality in one.images else _first(one, BACKGROUNDS)
        ml = one.active_ml(finding.tap, finding.latent)
        what = f"fires in {wording.millilitres(ml)} mL" if ml else "does not fire"
        what += f", its maximum is {float(volume.max()):.2g}" if ml else ""
        caption = f"{name}: {_named(one)}, {MODALITY_NAMES[shown]}; {what}."
        pictures.append(_picture(one, shown, index, volume, one.labels > 0, caption, maximum))
    word = f"Specific to {finding.specific_to}" if finding.category == "specific" else finding.category.capitalize()
    here = "one patient, in both cohorts" if subjects else "of the cases opened, those in which it is most at work"
    return Pair(
        f"{word}: latent {finding.latent} of {finding.tap}", finding.category, finding.evidence, here, *pictures
    )


def _same_place(one: SeenCase, index: int, other: SeenCase) -> int:
    """The slice of another case at the same height, as a share of the brain's."""
    share = index / max(one.labels.shape[0] - 1, 1)
    return round(share * (other.labels.shape[0] - 1))


# -- what both need ----------------------------------------------------------------------------------------------------


def _seen(
    entry: "CohortCase", pack: LensPack, taps: set[str], found: Gallery, packs: Sequence[LensPack]
) -> SeenCase | None:
    try:
        case = entry.read()
        says = []
        if entry.phantom is not None or case.invented:
            says.append("a phantom, not a patient")
        if entry.acquisition is not None:
            says.append(f"simulated: {entry.acquisition.kind}, strength {entry.acquisition.strength:g}")
        if any(entry.seen_in(one.info.trained_on.cases) for one in packs):
            says.append("learned from in training")
        return SeenCase.by(case, pack, taps, "; ".join(says))
    except CaseError as problem:
        found.problems.append(f"No picture of {entry.name}: {problem.cause}")
    except MedSegLensError as problem:
        found.problems.append(f"No picture of {entry.name} with {pack.info.name}: {problem.cause}")
    return None


def _named(one: SeenCase) -> str:
    return f"{one.name} ({one.says})" if one.says else one.name


def _taps(comparison: Comparison, side: str) -> set[str]:
    return {finding.tap for finding in comparison.findings_of(side)}


def _unseen_first(entries: "Iterable[CohortCase]", packs: Sequence[LensPack]) -> "list[CohortCase]":
    """Cases that no pack learned from come first, each in the cohort's order."""
    trained = {name for pack in packs for name in pack.info.trained_on.cases}
    return sorted(entries, key=lambda entry: entry.seen_in(trained))


def _paired_first(cohorts: "Sequence[Cohort]", packs: Sequence[LensPack], most: int) -> "list[list[CohortCase]]":
    """Cases of each of two cohorts, of the same patients where both have them."""
    common = shared_subjects(*cohorts)
    chosen = []
    for cohort in cohorts:
        entries = _unseen_first(cohort.cases, packs)
        chosen.append(sorted(entries, key=lambda entry: entry.subject not in common)[:most])
    if common:
        subjects = {entry.subject for entry in chosen[0]}
        chosen[1] = [entry for entry in cohorts[1].cases if entry.subject in subjects][:most] or chosen[1]
    return chosen


def _strongest(
    findings: Iterable[LatentFinding], categories: tuple[str, ...], seen: list[SeenCase], most: int
) -> list[LatentFinding]:
    """Of the findings of a category those whose latents are most at work in the tumours of the cases seen, one after
    the other from each tap; weighed by how strong the finding is."""
    by_tap: dict[str, list[tuple[float, LatentFinding]]] = {}
    for finding in findings:
        if finding.category not in categories or any(finding.tap not in one.codes for one in seen):
            continue
        tumour = sum(one.totals(finding.tap, TUMOUR)[finding.latent] for one in seen)
        total = sum(one.totals(finding.tap)[finding.latent] for one in seen)
        if total > 0:
            # The share in the tumour too, or a latent that lights up the whole brain would come before one of the rim.
            weight = tumour * (tumour / total) * (abs(finding.measure or 0.0) if "shared" in categories else 1.0)
            by_tap.setdefault(finding.tap, []).append((weight + 1e-9 * total, finding))
    ordered = [sorted(found, key=lambda pair: -pair[0]) for found in by_tap.values()]
    turns = max(map(len, ordered), default=0)
    return [found[turn][1] for turn in range(turns) for found in ordered if turn < len(found)][:most]


def _most_alike(comparison: Comparison, seen: list[SeenCase]) -> list[LatentFinding]:
    """Of pack A's undecided latents those with the highest correlation to their match, that fire in the cases seen."""
    matched = [
        one
        for one in comparison.findings_of("a")
        if one.category == "undecided" and one.partner_tap is not None and one.measure is not None
    ]
    fires = (one for one in sorted(matched, key=lambda f: -f.measure) if _fires(one, seen))
    return list(itertools.islice(fires, ALIKE))


def _fires(finding: LatentFinding, seen: list[SeenCase]) -> bool:
    return any(finding.tap in one.codes and one.totals(finding.tap)[finding.latent] > 0 for one in seen)


def _on(base: SeenCase, one: SeenCase, place: tuple[str, int] | None) -> np.ndarray | None:
    if place is None or place[0] not in one.codes:
        return None
    volume = one.activation(*place)
    return volume if one is base else one.on_grid_of(base, volume)


def _scaled(volume: np.ndarray) -> np.ndarray:
    return volume / max(float(volume.max()), 1e-12)


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    if a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _background(one: SeenCase, volume: np.ndarray, index: int) -> str:
    """The modality to lay a latent over: T1 with contrast where most of it lies in the tumour's core, else FLAIR."""
    section = volume[index]
    core = float(section[np.isin(one.labels[index], CORE)].sum()) if section.shape == one.labels[index].shape else 0.0
    return _first(one, SECOND_BACKGROUNDS if core > 0.5 * float(section.sum()) > 0 else BACKGROUNDS)


def _first(one: SeenCase, order: tuple[str, ...]) -> str:
    return next((modality for modality in order if modality in one.images), next(iter(one.images)))


def _picture(
    one: SeenCase,
    modality: str,
    index: int,
    volume: np.ndarray | None,
    tumour: np.ndarray,
    caption: str,
    maximum: float | None = None,
) -> Picture:
    planes, image, brain = one.planes(), one.images[modality], one.conformed.brain
    picture = figures.anatomy(planes, image, brain, figures.grey_window(image, brain), "axial", index)
    if volume is not None and volume.any():
        picture = figures.heated(picture, planes, volume, maximum or float(volume.max()), "axial", index)
    picture = figures.marked(picture, figures.edge_marks(planes, tumour, "axial", index))
    framed: Image.Image = figures.framed(picture, planes, "axial", index)
    place = f"{planes.number('axial', index)}, {planes.position('axial', index)}"
    return Picture(caption, place, figures.jpeg_uri(framed, QUALITY), framed.width, framed.height)
