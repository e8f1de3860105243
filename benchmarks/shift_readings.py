"""What `shift.py` reads of each case: one session a pack, all that any of the scores needs, kept in a journal.

Every fifth slice only. The packs take slices one by one, so that what is seen in a slice stays what it was; Dice and
usage are over a fifth of the voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from MedSegLensLib.cases.case import Case
from MedSegLensLib.cohorts.cohort import CohortCase
from MedSegLensLib.cohorts.mapping import key_of
from MedSegLensLib.diffing.dictionaries import TapDictionaries, at_work, opened
from MedSegLensLib.diffing.usage import usage_sums
from MedSegLensLib.editing.influence import attribute_log_odds
from MedSegLensLib.editing.pack_at_work import PackAtWork
from MedSegLensLib.editing.session import Session
from MedSegLensLib.editing.splice import dice_by_region
from MedSegLensLib.failures.circuit import co_firing, early_and_late, influence
from MedSegLensLib.failures.input_statistics import input_statistics
from MedSegLensLib.packs.pack import LensPack
from MedSegLensLib.segmenters.sampling import whole

REGIONS = ("WT", "TC", "ET")
STEP = 5


@dataclass(frozen=True)
class ReadPack:
    """weights: SHA-256 of segmenter and lenses, which decide what is read whatever else the pack holds."""

    pack: PackAtWork
    weights: tuple[str, ...]
    taps: tuple[str, ...]
    targets: tuple[int, ...]

    @staticmethod
    def of(pack: LensPack, targets: Sequence[int]) -> "ReadPack":
        files = pack.info.files
        weights = tuple(files[name].sha256 for name in sorted(files) if name.endswith(".safetensors"))
        return ReadPack(at_work(pack), weights[-len(pack.taps) - 1 :], pack.taps, tuple(targets))


@dataclass(frozen=True)
class ShiftReading:
    """A `CaseWork`.

    Arrays, each named "p.name" with p the number of the pack: those of `usage_sums`; "co_firing", "influence";
    "inputs"; "slices.t" (samples, latents), the mean code over a sample's brain; "reliance.t" (latents,), by how much
    WT's log odds rest on each; "confidence": mean entropy over the brain and over the segmentation, mean largest
    probability over both; "dice" and "region_ml" (3,).
    """

    packs: tuple[ReadPack, ...]
    version: int = 3

    def key(self) -> str:
        return key_of(_Key(self.version), [[*p.weights, *p.targets] for p in self.packs])

    def __call__(self, case: CohortCase) -> dict[str, np.ndarray]:
        thin, found = every_fifth(case.read()), {}
        for p, pack in enumerate(self.packs):
            at = opened(pack.pack, tuple(TapDictionaries(tap) for tap in pack.taps))
            found |= {f"{p}.{name}": array for name, array in reading(at.session(thin, edits=False), pack).items()}
        return found


@dataclass(frozen=True)
class _Key:
    version: int


def reading(session: Session, pack: ReadPack) -> dict[str, np.ndarray]:
    found = usage_sums(session, pack.taps, reliance=False)
    early, late = early_and_late(session)
    found["co_firing"] = co_firing(session, early, late)
    found["influence"] = influence(session, early, late, pack.targets)
    found["inputs"] = input_statistics(session.conformed)
    for t, tap in enumerate(pack.taps):
        found[f"slices.{t}"] = mean_codes(session, tap)
        nothing = np.full(session.codes_at(tap).n_latents, np.nan)
        found[f"reliance.{t}"] = -attribute_log_odds(session, tap, ("WT",), most=6).get("WT", nothing)
    found["confidence"] = confidence(session)
    found["region_ml"] = np.array([session.region_ml(session.labels, region) for region in REGIONS])
    dice = dice_by_region(session.labels, session.conformed.labels(session.case.labels))
    found["dice"] = np.array([np.nan if dice.get(r) is None else dice[r] for r in REGIONS])
    return found


def every_fifth(case: Case) -> Case:
    """The case with every fifth of its slices from foot to head; phantoms, whose slices are 6 mm, as they are."""
    if case.reference.GetSpacing()[2] > 2:
        return case
    images = {modality: image[:, :, ::STEP] for modality, image in case.images.items()}
    return replace(case, images=images, labels=case.labels[:, :, ::STEP])


def mean_codes(session: Session, tap: str) -> np.ndarray:
    """The mean code of each latent over a sample's brain, float32 (samples, J); samples without brain are left out."""
    codes, count = session.codes_at(tap), session.sampling.count
    brain = session.brain_tokens[tap].reshape(count, -1).sum(1)
    latent = np.repeat(np.arange(codes.n_latents), np.diff(codes.pointers))
    flat = (codes.tokens // (codes.n_tokens // count)).astype(np.int64) * codes.n_latents + latent
    total = np.bincount(flat, codes.values, count * codes.n_latents).reshape(count, -1)
    return (total[brain > 0] / brain[brain > 0, None]).astype(np.float32)


def confidence(session: Session) -> np.ndarray:
    """Mean entropy (nats) over the brain and over the segmentation, mean largest probability over both; nan for a
    segmentation of nothing."""
    p = session.sampling.merge(session.replay.logits, whole(session.labels.shape)).softmax(0)
    entropy = -(p * p.clamp_min(1e-12).log()).sum(0).numpy()
    largest = p.amax(0).numpy()
    brain, tumour = session.conformed.brain, session.labels > 0
    return np.array(
        [values[where].mean() if where.any() else np.nan for values in (entropy, largest) for where in (brain, tumour)]
    )
