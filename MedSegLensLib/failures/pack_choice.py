"""Which of several packs will do better on a cohort, without labels.

Three measures of each pack on the same cases: the dependency depth bias of Inside-Out (`circuit.depth_bias`), meant by
the paper for just this choice; the shift from the pack's own reference, where it has one; and the mean entropy over
what it segments. They are not of one opinion, and how often each chose right is in docs/evidence.md: the entropy is
what the answer goes by, since the depth bias of two architectures, whose taps lie at other depths, could not be
compared there.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from MedSegLensLib.cohorts.cohort import Cohort, CohortCase
from MedSegLensLib.cohorts.mapping import Failure, key_of, map_cases
from MedSegLensLib.diffing.dictionaries import at_work
from MedSegLensLib.editing.pack_at_work import PackAtWork
from MedSegLensLib.errors import UsageError

if TYPE_CHECKING:
    from MedSegLensLib.editing.session import Session
    from MedSegLensLib.packs.pack import LensPack

Progress = Callable[[str, float], None]
VERSION = 1
CLOSE = 0.9
"""Packs whose entropies differ by less than this factor are not told apart."""


@dataclass(frozen=True)
class PackOutlook:
    """A pack on a cohort. depth_bias, shift, entropy (nats): means over the cases that have them; None without any.
    cases: how many could be used. failures: those that could not."""

    pack: str
    depth_bias: float | None
    shift: float | None
    entropy: float | None
    cases: int
    failures: tuple[Failure, ...] = ()

    def to_json(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class PackChoice:
    """outlooks: in the order of the packs. better: the pack that is likely better; None where that cannot be told."""

    outlooks: tuple[PackOutlook, ...]
    better: str | None
    words: str


@dataclass(frozen=True)
class OutlookWork:
    """A `CaseWork`: "measures", depth bias, shift and entropy of one case; nan for what it has not."""

    pack: PackAtWork
    device: str | None = None

    def key(self) -> str:
        return key_of(self, VERSION)

    def __call__(self, case: CohortCase) -> dict[str, np.ndarray]:
        from MedSegLensLib.failures.circuit import depth_bias
        from MedSegLensLib.failures.reference import reference_of
        from MedSegLensLib.failures.shift import shift

        session = self.pack.session(case.read(), self.device)
        reference = reference_of(session.pack)
        moved = math.nan if reference is None else shift(session, reference).score
        return {"measures": np.array([depth_bias(session), moved, entropy_of_segmentation(session)])}


def choose(
    packs: "Sequence[LensPack]",
    cohort: Cohort,
    progress: Progress | None = None,
    journal: Path | None = None,
    device: str | None = None,
) -> PackChoice:
    """What is known, without labels, of how packs will do on a cohort. A case that fails with one pack is left out of
    that pack's means. Raises UsageError for fewer than two packs, or one without a lens, else as `map_cases` does."""
    if len(packs) < 2:
        raise UsageError("packs", "there is nothing to choose from.", "Give two packs or more.")
    for pack in packs:
        if not pack.taps:
            raise UsageError(pack.info.name, "this pack has no lens.", "Train one with `medseglens train lens`.")
    outlooks = []
    for pack in packs:
        mapped = map_cases(OutlookWork(at_work(pack), device), cohort.cases, journal, None, progress)
        rows = np.array([arrays["measures"] for _case, arrays in mapped])
        means = [float(column[np.isfinite(column)].mean()) if np.isfinite(column).any() else None for column in rows.T]
        outlooks.append(PackOutlook(pack.info.name, *means, len(rows), tuple(mapped.failures)))
    return decided(outlooks)


def decided(outlooks: Sequence[PackOutlook]) -> PackChoice:
    """The choice by these measures: the pack with the least entropy, where it is clearly less."""
    known = sorted((one for one in outlooks if one.entropy is not None), key=lambda one: one.entropy)
    if len(known) < len(outlooks):
        silent = ", ".join(one.pack for one in outlooks if one.entropy is None)
        return PackChoice(tuple(outlooks), None, f"It cannot be told: {silent} segments nothing in these cases.")
    first, second = known[0], known[1]
    if first.entropy > CLOSE * second.entropy:
        words = f"It cannot be told: {first.pack} and {second.pack} are as sure of what they segment."
        return PackChoice(tuple(outlooks), None, words)
    words = (
        f"{first.pack} is likely better on these cases: it is surer of what it segments "
        f"(entropy {first.entropy:.2f}, the next {second.entropy:.2f} nats)."
    )
    biased = [one for one in outlooks if one.depth_bias is not None]
    if len(biased) == len(outlooks) and max(biased, key=lambda one: one.depth_bias).pack != first.pack:
        words += " Its depth bias says otherwise."
    return PackChoice(tuple(outlooks), first.pack, words)


def entropy_of_segmentation(session: "Session") -> float:
    """Mean entropy (nats) of the softmax over what is segmented; nan for nothing."""
    from MedSegLensLib.segmenters.sampling import whole

    tumour = session.labels > 0
    if not tumour.any():
        return math.nan
    p = session.sampling.merge(session.replay.logits, whole(session.labels.shape)).softmax(0).cpu()
    entropy = -(p * p.clamp_min(1e-12).log()).sum(0).numpy()
    return float(entropy[tumour].mean())
