"""What a check says of one case, and how it travels: to the panel, into JSON, into a report. Torch-free.

A finding is a place that is likely wrong, never a change: detection leaves the segmentation as it is.
"""

import math
from dataclasses import asdict, dataclass

FALSE_POSITIVE, MISSED = "false positive", "missed"
KINDS = (FALSE_POSITIVE, MISSED)
FORMS = ("component", "boundary")


@dataclass(frozen=True)
class Reason:
    """A latent that speaks for a finding.

    name: in the catalogue's words, "" where it has none. value: its mean code at the place, in the lens's own units.
    usual: the mean of that over places of the same kind that were right, in the reference.
    """

    tap: str
    latent: int
    name: str
    value: float
    usual: float

    def to_json(self) -> dict:
        return asdict(self)

    @staticmethod
    def from_json(document: dict) -> "Reason":
        return Reason(**document)


@dataclass(frozen=True)
class Suspect:
    """A place that is likely wrong.

    kind: "false positive" (segmented, and should not be) or "missed" (not segmented, and should be). form: a whole
    "component" or a stretch of the "boundary" of a larger one. region: which region it is about. risk: calibrated
    probability (0..1) that most of the place is wrong. ras: a voxel of it near its middle, mm. ml: its volume.
    words: one sentence for a reader.
    """

    kind: str
    form: str
    region: str
    risk: float
    ras: tuple[float, float, float]
    ml: float
    reasons: tuple[Reason, ...]
    words: str

    def __post_init__(self):
        if self.kind not in KINDS or self.form not in FORMS:
            raise ValueError(f"a suspect is one of {KINDS} and of {FORMS}, not {self.kind!r}, {self.form!r}")
        if not 0 <= self.risk <= 1:
            raise ValueError(f"a risk is 0 to 1, not {self.risk!r}")
        object.__setattr__(self, "ras", tuple(float(v) for v in self.ras))
        object.__setattr__(self, "reasons", tuple(self.reasons))

    def to_json(self) -> dict:
        return asdict(self) | {"ras": list(self.ras), "reasons": [reason.to_json() for reason in self.reasons]}

    @staticmethod
    def from_json(document: dict) -> "Suspect":
        reasons = tuple(Reason.from_json(reason) for reason in document["reasons"])
        return Suspect(**(document | {"ras": tuple(document["ras"]), "reasons": reasons}))


@dataclass(frozen=True)
class Quality:
    """The likely Dice of a region (WT, TC, ET) and an interval that holds it in 80 % of cases like the reference's."""

    region: str
    dice: float
    low: float
    high: float

    def __post_init__(self):
        if not 0 <= self.low <= self.dice <= self.high <= 1:
            raise ValueError(f"Dice {self.dice!r} with interval {self.low!r} to {self.high!r} is out of order")

    def to_json(self) -> dict:
        return asdict(self)

    @staticmethod
    def from_json(document: dict) -> "Quality":
        return Quality(**document)


@dataclass(frozen=True)
class Shift:
    """How far the case drives the network's insides from what the reference cohort does.

    score: distance, larger is farther; comparable within a pack only. rank: share (0..1) of the reference cases that
    are at least as far; None where the reference is too small for one. distance: its parts by name. modality: the one
    that differs most, None where none stands out. words: one sentence for a reader.
    """

    score: float
    rank: float | None
    distance: dict[str, float]
    modality: str | None
    words: str

    def __post_init__(self):
        if not math.isfinite(self.score) or not (self.rank is None or 0 <= self.rank <= 1):
            raise ValueError(f"a shift of {self.score!r} with rank {self.rank!r} is none")

    def to_json(self) -> dict:
        return asdict(self)

    @staticmethod
    def from_json(document: dict) -> "Shift":
        return Shift(**document)


@dataclass(frozen=True)
class Check:
    """What was found in one case with one pack.

    quality: a region that is not segmented has none. shift: None where the pack has no reference. suspects: the worst
    first. notes: what a reader has to know besides, one sentence each. seconds: what the check took on top of the
    segmentation.
    """

    case: str
    pack: str
    quality: tuple[Quality, ...]
    shift: Shift | None
    suspects: tuple[Suspect, ...]
    notes: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict:
        """JSON types; `from_json` gives an equal check back."""
        return {
            "case": self.case,
            "pack": self.pack,
            "quality": [one.to_json() for one in self.quality],
            "shift": self.shift.to_json() if self.shift else None,
            "suspects": [suspect.to_json() for suspect in self.suspects],
            "notes": list(self.notes),
            "seconds": self.seconds,
        }

    @staticmethod
    def from_json(document: dict) -> "Check":
        """The check that `to_json` wrote. Raises KeyError, TypeError or ValueError for another document."""
        return Check(
            document["case"],
            document["pack"],
            tuple(Quality.from_json(one) for one in document["quality"]),
            Shift.from_json(document["shift"]) if document["shift"] else None,
            tuple(Suspect.from_json(one) for one in document["suspects"]),
            tuple(document["notes"]),
            float(document["seconds"]),
        )
