"""The page of an adaptation: what was changed, on what it was fitted, and what it did to every case.

One HTML file that holds its pictures, charts and styles and loads nothing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from MedSegLensLib.cases.case import MODALITY_NAMES
from MedSegLensLib.cases.writing import atomic_path
from MedSegLensLib.reports.charts import Series, dots
from MedSegLensLib.reports.figures import LABEL_COLOURS, anatomy, framed, grey_window, jpeg_uri, marked, outline_marks
from MedSegLensLib.reports.lens_page import number, percent, signed
from MedSegLensLib.reports.pages import template
from MedSegLensLib.reports.planes import Planes

if TYPE_CHECKING:
    from MedSegLensLib.diffing.adaptation_run import Picture

PAGE = "adaptation.html"
NAME = "gains of latents"
MOST_ROWS = 60
"""Cases in the chart; the table has them all."""

DICE = {"before": Series("before", "#D55E00", "ring"), "after": Series("with the recipe", "#0072B2")}
REGION_WORDS = {"WT": "whole tumour", "TC": "tumour core", "ET": "enhancing tumour"}
LABEL_WORDS = {1: "necrosis (NCR)", 2: "edema (ED)", 3: "enhancing tumour (ET)"}


def write_adapt_page(facts: dict, pictures: "Sequence[Picture]", folder: Path) -> Path:
    """Write adaptation.html of `CohortAdapted.to_json` and its pictures. Raises OutputError."""
    path = folder / PAGE
    with atomic_path(path) as temporary:
        temporary.write_text(render_adapt_page(facts, pictures), encoding="utf-8")
    return path


def render_adapt_page(facts: dict, pictures: "Sequence[Picture]" = ()) -> str:
    """The page as HTML."""
    page = template("adapt.html.j2", number=number, percent=percent, signed=signed, interval=interval)
    return page.render(
        facts=facts,
        found=facts["methods"][NAME],
        ours=NAME,
        chart=_chart(facts["cases"]),
        pictures=[_drawn(picture) for picture in pictures],
        regions=REGION_WORDS,
        labels=[(LABEL_WORDS[label], colour) for label, colour in LABEL_COLOURS.items()],
    )


def interval(found: dict) -> str:
    """'+0.021 (−0.004 to +0.050)'; the mean alone where there are too few cases for an interval."""
    if found["mean"] is None:
        return "not known"
    if found["interval"] is None:
        return signed(found["mean"])
    return f"{signed(found['mean'])} ({' to '.join(signed(v) for v in found['interval'])})"


def _chart(cases: Sequence[dict]):
    """Mean Dice before and after of every case that has labels, worst first."""
    rows = []
    for case in cases:
        before, after = _mean(case["before"]), _mean(case["after"][NAME])
        if before is not None:
            name = case["case"] + (" *" if case["fitted_on"] else "")
            rows.append((name if len(name) <= 24 else "…" + name[-23:], {"before": before, "after": after}))
    if not rows:
        return None
    rows.sort(key=lambda row: row[1]["before"])
    return dots(rows[:MOST_ROWS], DICE, 0.0, 1.0, "Mean Dice of WT, TC and ET, by case (* fitted on)")


def _mean(dices: dict | None) -> float | None:
    there = [d for d in (dices or {}).values() if d is not None]
    return float(np.mean(there)) if there else None


def _drawn(picture: "Picture") -> dict:
    """The slice before, after and, where there is one, the reference, side by side."""
    planes = Planes.around(picture.brain, picture.spacing, (0.0, 0.0, picture.height_mm))
    window = grey_window(picture.image, picture.brain)
    grey = anatomy(planes, picture.image, picture.brain, window, "axial", 0)
    shown = [("before", picture.before), ("with the recipe", picture.after)]
    if picture.reference is not None:
        shown.append(("reference", picture.reference))
    parts = []
    for words, labels in shown:
        drawn = marked(grey, outline_marks(planes, labels, "axial", 0))
        parts.append({"words": words, "uri": jpeg_uri(framed(drawn, planes, "axial", 0))})
    where = f"axial slice {picture.slice + 1} of {picture.slices} of the network's grid"
    return {
        "caption": f"{picture.case}, {MODALITY_NAMES[picture.modality]}, {where}",
        "changed": picture.changed,
        "parts": parts,
    }
