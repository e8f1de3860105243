"""Kinds of failure in a cohort: places that are likely wrong, put together by what speaks for them.

A place is described by its kind, its region and the latents that are its reasons, each by how far it is from usual;
places whose descriptions point the same way form a group (average linkage on the cosine distance, scikit-learn).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from MedSegLensLib.failures.findings import MISSED, Check, Reason, Suspect

LEAST_RISK = 0.25
"""Of places that are grouped. What is most likely wrong is often tiny: of the first case that was looked at, a false
piece of 9.5 mL had a risk of 37 %, and the surest mistake had 0.1 mL."""
APART = 0.45
"""Cosine distance from which two places are not of one kind: the same region for wholly other latents is 0.5."""
MOST = 400
"""Places that are grouped, those with most likely wrong mL: the distances of more would fill the memory."""
LATENTS = 3
WIDE = 0.5
"""Share of a group's cases that an acquisition must have to be named."""


@dataclass(frozen=True)
class GroupLatent:
    """A latent that speaks for places of a group: name in the catalogue's words ("" where it has none), share (0..1) of
    the places that name it, and its mean code there and where places like these were right."""

    tap: str
    latent: int
    name: str
    share: float
    value: float
    usual: float


@dataclass(frozen=True)
class FailureGroup:
    """Places of one kind.

    members: (case, number of the suspect in its check), most likely wrong mL first. ml: the volume that is likely
    wrong, the sum of risk x volume. regions, acquisitions: how many places are of each. words: one sentence.
    """

    kind: str
    members: tuple[tuple[str, int], ...]
    cases: tuple[str, ...]
    regions: dict[str, int]
    acquisitions: dict[str, int]
    latents: tuple[GroupLatent, ...]
    ml: float
    words: str

    def to_json(self) -> dict:
        return asdict(self) | {"members": [list(member) for member in self.members]}


def failure_groups(checked: Sequence[tuple[str, str, Check]]) -> list[FailureGroup]:
    """The groups of (case, acquisition, check), those first in which most mL are likely wrong."""
    places = [
        (case, acquisition, number, suspect)
        for case, acquisition, check in checked
        for number, suspect in enumerate(check.suspects)
        if suspect.risk >= LEAST_RISK
    ]
    places = sorted(places, key=lambda place: -place[3].risk * place[3].ml)[:MOST]
    if not places:
        return []
    numbers = _clusters(np.stack(_described([place[3] for place in places])))
    groups = [_group([p for p, n in zip(places, numbers, strict=True) if n == i], checked) for i in np.unique(numbers)]
    return sorted(groups, key=lambda group: -group.ml)


def reason_words(name: str, tap: str, latent: int) -> str:
    """A latent as a reader is told of it."""
    return f"{name} (latent {latent})" if name and name != "unclear" else f"latent {latent} at {tap}"


def _clusters(described: np.ndarray) -> np.ndarray:
    from sklearn.cluster import AgglomerativeClustering

    if len(described) == 1:
        return np.zeros(1, int)
    return AgglomerativeClustering(
        n_clusters=None, metric="cosine", linkage="average", distance_threshold=APART
    ).fit_predict(described)


def _described(suspects: Sequence[Suspect]) -> list[np.ndarray]:
    """A vector a place: one entry for kind with region, and one for each latent that any place names."""
    kinds = sorted({(s.kind, s.region) for s in suspects})
    latents = sorted({(r.tap, r.latent) for s in suspects for r in s.reasons})
    vectors = []
    for suspect in suspects:
        vector = np.zeros(len(kinds) + len(latents))
        vector[kinds.index((suspect.kind, suspect.region))] = 1.0
        far = {(r.tap, r.latent): _far(r) for r in suspect.reasons}
        norm = math.sqrt(sum(value**2 for value in far.values()))
        for where, value in far.items():
            vector[len(kinds) + latents.index(where)] = value / norm if norm else 0.0
        vectors.append(vector)
    return vectors


def _far(reason: Reason) -> float:
    """How far a latent is from usual, -1..1: (value - usual) in proportion to the larger."""
    largest = max(abs(reason.value), abs(reason.usual))
    return (reason.value - reason.usual) / largest if largest else 0.0


def _group(places: list[tuple[str, str, int, Suspect]], checked) -> FailureGroup:
    suspects = [place[3] for place in places]
    cases = tuple(dict.fromkeys(place[0] for place in places))
    kind = Counter(s.kind for s in suspects).most_common(1)[0][0]
    regions = dict(Counter(s.region for s in suspects).most_common())
    acquisitions = dict(Counter(place[1] for place in places).most_common())
    latents = _latents(suspects)
    ml = sum(s.risk * s.ml for s in suspects)
    words = _words(kind, suspects, cases, regions, acquisitions, latents, ml, checked)
    members = tuple((place[0], place[2]) for place in places)
    return FailureGroup(kind, members, cases, regions, acquisitions, latents, ml, words)


def _latents(suspects: Sequence[Suspect]) -> tuple[GroupLatent, ...]:
    by_latent: dict[tuple[str, int], list[Reason]] = {}
    for suspect in suspects:
        for reason in suspect.reasons:
            by_latent.setdefault((reason.tap, reason.latent), []).append(reason)
    found = [
        GroupLatent(
            tap,
            latent,
            reasons[0].name,
            len(reasons) / len(suspects),
            float(np.mean([r.value for r in reasons])),
            float(np.mean([r.usual for r in reasons])),
        )
        for (tap, latent), reasons in by_latent.items()
    ]
    return tuple(sorted(found, key=lambda one: -one.share)[:LATENTS])


def _words(kind, suspects, cases, regions, acquisitions, latents, ml, checked) -> str:
    n = len(suspects)
    region = next(iter(regions)) if len(regions) == 1 or max(regions.values()) > 0.7 * n else None
    what = f"{region or 'tumour'} {'missed' if kind == MISSED else 'where there likely is none'}"
    where = (
        f"{n} place{'s' * (n > 1)} in {len(cases)} of {len({c for c, _, _ in checked})} cases, {ml:.1f} mL likely wrong"
    )
    said = [f"{what}: {where}"]
    if latents:
        strong = [one for one in latents if one.value > one.usual]
        weak = [one for one in latents if one.value <= one.usual]
        for which, ones in (("stronger", strong), ("weaker", weak)):
            if ones:
                names = "; ".join(reason_words(one.name, one.tap, one.latent) for one in ones)
                said.append(f"{which} than where it is right: {names}")
    told = [name for name, count in acquisitions.items() if count > WIDE * n]
    if told and len({acquisition for _, acquisition, _ in checked}) > 1:
        said.append(f"mostly {told[0]}")
    return ". ".join(one[0].upper() + one[1:] for one in said) + "."
