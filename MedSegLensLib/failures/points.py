"""What a reader says at single places: "this is tumour", "this is not". Torch-free: Slicer makes these from markups."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.cases.case import LABELS, REGIONS
from MedSegLensLib.errors import UsageError

if TYPE_CHECKING:
    from MedSegLensLib.packs.info import PackInfo

WORDS = {"tumour": True, "tumor": True, "not tumour": False, "not tumor": False}
"""What a point may say, besides a region ("ET") or its denial ("not ET")."""

MAX_POINTS = 1000
SAME_MM = 1.5
"""Nearer than this, two points are at one place."""
ALL = {0, *LABELS}
REMEDY = 'Label each point "tumour", "not tumour", or a region: "ET", "not ET".'


@dataclass(frozen=True)
class Point:
    """One place and what the reader says of it.

    ras: patient coordinates (right, anterior, superior), mm.
    inside: whether it lies in `region`. region: WT, TC, ET, NCR or ED; WT where only "tumour" was said.

    Raises UsageError for coordinates that are not three finite numbers, or an unknown region.
    """

    ras: tuple[float, float, float]
    inside: bool
    region: str = "WT"

    def __post_init__(self):
        ras = tuple(float(v) for v in self.ras)
        if len(ras) != 3 or not all(math.isfinite(v) for v in ras):
            raise UsageError("point", f"{self.ras!r:.80} is not a place.", "Give three coordinates in mm (RAS).")
        object.__setattr__(self, "ras", ras)
        if self.region not in REGIONS:
            raise UsageError("point", f"{self.region!r:.40} is no region.", f"Use {', '.join(REGIONS)}.")

    @property
    def words(self) -> str:
        """As the reader would say it: "tumour", "not ET"."""
        what = "tumour" if self.region == "WT" else self.region
        return what if self.inside else f"not {what}"

    @staticmethod
    def saying(ras, words: str) -> "Point":
        """The point with what its label says. Raises UsageError for a label that says neither."""
        said = " ".join(words.split())
        if said.lower() in WORDS:
            return Point(ras, WORDS[said.lower()])
        region = said.upper().removeprefix("NOT ")
        if region not in REGIONS:
            raise UsageError(f"point {said!r:.60}", "it says neither tumour nor a region.", REMEDY)
        return Point(ras, not said.lower().startswith("not "), region)

    def to_json(self) -> dict:
        return {"ras": list(self.ras), "says": self.words}

    @staticmethod
    def from_json(document: dict) -> "Point":
        """The point that `to_json` wrote. Raises UsageError."""
        try:
            return Point.saying(document["ras"], document["says"])
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise UsageError("point", f"it is not one ({problem!r:.80}).", REMEDY) from None


def read_points(path: Path) -> list[Point]:
    """Points of a file: a Slicer markups file (.mrk.json, .json), or a CSV with columns R, A, S and label.

    A control point's own label is what it says; where that says nothing, its list's name does. Raises UsageError for a
    file that holds no points, or a point whose label says nothing.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageError(path, f"it cannot be read ({problem}).", "Give a markups file of Slicer, or a CSV.") from None
    points = _of_csv(path, text) if path.suffix.lower() == ".csv" else _of_markups(path, text)
    if not points:
        raise UsageError(path, "it has no points.", "Place at least one point.")
    if len(points) > MAX_POINTS:
        raise UsageError(path, f"it has {len(points)} points.", f"Give {MAX_POINTS} at most.")
    return points


def check_points(points: Sequence[Point], info: "PackInfo") -> None:
    """Raise UsageError where two points contradict each other, or one is about a region that the pack cannot tell."""
    known = {label.value for label in info.labels}
    for point in points:
        lacking = [LABELS[value] for value in REGIONS[point.region] if value not in known]
        if lacking:
            cause = f"the pack {info.name} does not tell {', '.join(lacking)} apart."
            raise UsageError(f"point {point.words!r}", cause, 'Label the point "tumour" or "not tumour".')
    for i, one in enumerate(points):
        for other in points[i + 1 :]:
            if math.dist(one.ras, other.ras) < SAME_MM and contradict(one, other):
                at = ", ".join(f"{v:.0f}" for v in one.ras)
                cause = f'they say "{one.words}" and "{other.words}" within {SAME_MM:g} mm.'
                raise UsageError(f"points at ({at}) mm", cause, "Remove one of them.")


def contradict(one: Point, other: Point) -> bool:
    """Whether no label can satisfy both."""
    allowed = [set(REGIONS[p.region]) if p.inside else ALL - set(REGIONS[p.region]) for p in (one, other)]
    return not allowed[0] & allowed[1]


def _of_markups(path: Path, text: str) -> list[Point]:
    try:
        lists = json.loads(text)["markups"]
        points = []
        for markup in lists:
            # Slicer 5 writes LPS, and says so; RAS is what older files hold.
            sign = -1.0 if markup.get("coordinateSystem", "LPS") in ("LPS", 0, "0") else 1.0
            title = markup.get("name", "")
            for control in markup["controlPoints"]:
                if control.get("positionStatus", "defined") != "defined":
                    continue
                x, y, z = control["position"]
                points.append(_said((sign * x, sign * y, z), control.get("label", ""), title))
        return points
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        cause = f"it is no markups file of Slicer ({problem!r:.80})."
        raise UsageError(path, cause, "Save the points in Slicer as .mrk.json, or give a CSV.") from None


def _of_csv(path: Path, text: str) -> list[Point]:
    rows = list(csv.DictReader(text.splitlines()))
    points = []
    for number, row in enumerate(rows, start=2):
        values = {(key or "").strip().lower(): value for key, value in row.items()}
        try:
            ras = tuple(float(values[axis]) for axis in "ras")
            label = values["label"] or ""
        except (KeyError, TypeError, ValueError):
            cause = f"line {number} has no R, A, S and label."
            raise UsageError(path, cause, "Give a table with the columns R, A, S (mm) and label.") from None
        points.append(_said(ras, label, ""))
    return points


def _said(ras, label: str, title: str) -> Point:
    try:
        return Point.saying(ras, label)
    except UsageError:
        if not title:
            raise
        try:
            return Point.saying(ras, title)  # "MarkupsFiducial-1" of a list called "not tumour"
        except UsageError:
            raise UsageError(f"point {label!r:.60}", "it says neither tumour nor a region.", REMEDY) from None
