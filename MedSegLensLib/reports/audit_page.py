"""The page of an audit: which cases to look at first, what kinds of failure there are, and where they lie.

One HTML file that holds its pictures, charts and styles and loads nothing; beside it the table of cases as CSV and
everything but the pictures as JSON.
"""

import csv
import io
import json
from pathlib import Path

import numpy as np

from MedSegLensLib.cases.case import LABELS, MODALITY_NAMES
from MedSegLensLib.cases.writing import atomic_path
from MedSegLensLib.errors import OutputError
from MedSegLensLib.failures.audit import REGIONS, Audit, AuditedCase
from MedSegLensLib.failures.failure_groups import LEAST_RISK, FailureGroup, reason_words
from MedSegLensLib.failures.findings import Suspect
from MedSegLensLib.failures.suspect_slices import ANATOMY, BRAIN, RISK, TRUTH, SuspectSlice
from MedSegLensLib.failures.suspect_slices import LABELS as SEGMENTED
from MedSegLensLib.reports import figures, wording
from MedSegLensLib.reports.charts import Series, dots
from MedSegLensLib.reports.pages import template
from MedSegLensLib.reports.planes import Planes

PAGE, TABLE, DATA = "index.html", "audit.csv", "audit.json"
SHOWN, CHARTED, EXAMPLES, LISTED = 8, 40, 3, 6
"""Cases with pictures; cases in the chart; pictures a group; suspects told of a case."""
BAD = 0.7
"""A likely Dice below this is told of at the top."""
QUALITY = 82
OPACITY = 0.6
"""Of the risk, whose colours would hide the tissue that a reader has to judge it by."""
DICE = {
    "likely": Series("likely, without labels", "#0072B2"),
    "true": Series("true, by the labels", "#009E73", "ring"),
}


def write_audit_page(audit: Audit, folder: Path) -> list[Path]:
    """Write index.html, audit.csv and audit.json into `folder`, which is made; the paths. Raises OutputError."""
    folder = Path(folder)
    page = render_audit_page(audit)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        cause = f"the folder cannot be made ({problem.strerror})."
        raise OutputError(folder, cause, "Choose another folder.") from problem
    texts = {PAGE: page, TABLE: table(audit), DATA: json.dumps(audit.to_json(), indent=1, allow_nan=False) + "\n"}
    for name, text in texts.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
    return [folder / name for name in texts]


def render_audit_page(audit: Audit) -> str:
    """The page as HTML."""
    drawn: dict[tuple[str, int], dict] = {}
    for one in audit.cases:
        for part in one.slices:
            drawn[one.name, part.suspect] = _picture(part, one)
    return template("audit.html.j2", place=wording.place, ml=wording.volume).render(
        a=audit,
        headline=headline(audit),
        labelled=any(one.dice for one in audit.cases),
        told=any(one.check.quality for one in audit.cases),
        rows=[_row(one, number) for number, one in enumerate(audit.cases, 1)],
        chart=_chart(audit),
        groups=[_group_row(group, drawn) for group in audit.groups],
        shown=[_shown(one, drawn) for one in audit.cases[:SHOWN]],
        regions=REGIONS,
        heat=figures.HEAT,
        labels=[(LABELS[value], colour) for value, colour in figures.LABEL_COLOURS.items()],
        least=f"{LEAST_RISK:.0%}".replace("%", " %"),
        invented=any(one.case.invented for one in audit.cases),
        simulated=any(one.case.simulated for one in audit.cases),
    )


def headline(audit: Audit) -> str:
    """What the page says first."""
    n = len(audit.cases)
    cases = "the one case" if n == 1 else f"the {n} cases"
    told = [one for one in audit.cases if one.check.quality or not one.region_ml.get("WT")]
    if any(one.check.quality for one in audit.cases):
        bad = sum(one.risk > 1 - BAD for one in told)
        parts = sum(one.risk <= 1 - BAD and any(q.dice < BAD for q in one.check.quality) for one in told)
        if n == 1:
            part = ", and a part of it is" if parts else ""
            return f"The one case is {'' if bad else 'not '}likely below Dice {BAD:g} for the whole tumour{part}"
        part = f", and {parts} more for a part of it" if parts else ""
        which = {0: "None", 1: "One"}.get(bad, str(bad))
        verb = "are" if bad > 1 else "is"
        return f"{which} of {cases} {verb} likely below Dice {BAD:g} for the whole tumour{part}"
    far = sum(one.check.shift is not None and one.check.shift.rank == 0 for one in audit.cases)
    return f"{far} of {cases} drive{'s' * (far == 1)} the network as no reference case does"


def table(audit: Audit) -> str:
    """One row a case as CSV text, the riskiest first."""
    text = io.StringIO(newline="")
    head = ["rank", "case", "acquisition", "risk", "why", "shift", "shift_rank", "modality", "suspects"]
    for region in REGIONS:
        head += [f"{region}_likely_dice", f"{region}_low", f"{region}_high", f"{region}_true_dice", f"{region}_ml"]
    writer = csv.writer(text)
    writer.writerow(head)
    for number, one in enumerate(audit.cases, 1):
        shift = one.check.shift
        row = [number, one.name, one.acquisition, f"{one.risk:.4f}", one.why]
        row += ["", "", ""] if shift is None else [f"{shift.score:.3f}", _given(shift.rank), shift.modality or ""]
        row.append(len(_likely(one)))
        for region in REGIONS:
            quality = next((q for q in one.check.quality if q.region == region), None)
            row += ["", "", ""] if quality is None else [f"{v:.4f}" for v in (quality.dice, quality.low, quality.high)]
            row += [_given(one.dice.get(region)), f"{one.region_ml[region]:.3f}"]
        writer.writerow(row)
    return text.getvalue()


def _given(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _likely(one: AuditedCase) -> list[Suspect]:
    return [suspect for suspect in one.check.suspects if suspect.risk >= LEAST_RISK]


def _row(one: AuditedCase, number: int) -> dict:
    quality = {q.region: q for q in one.check.quality}
    shift = one.check.shift
    return {
        "rank": number,
        "name": one.name,
        "anchor": f"case-{number}",
        "shown": number <= SHOWN,
        "acquisition": one.acquisition,
        "risk": one.risk,
        "why": one.why,
        "likely": [None if r not in quality else (quality[r].dice, quality[r].low, quality[r].high) for r in REGIONS],
        "true": [_true(one, region) for region in REGIONS],
        "shift": "" if shift is None else f"{shift.score:.1f}",
        "modality": "" if shift is None or shift.modality is None else MODALITY_NAMES[shift.modality],
        "suspects": len(_likely(one)),
    }


def _true(one: AuditedCase, region: str) -> str:
    if not one.dice:
        return ""
    value = one.dice.get(region)
    return "absent" if value is None else f"{value:.2f}"


def _chart(audit: Audit):
    rows = []
    for one in audit.cases[:CHARTED]:
        quality = {q.region: q.dice for q in one.check.quality}
        values = {"likely": quality.get("WT"), "true": one.dice.get("WT")}
        if any(value is not None for value in values.values()):
            rows.append((_short(one), values))
    if not rows or all(values["likely"] is None for _, values in rows):
        return None
    series = DICE if any(values["true"] is not None for _, values in rows) else {"likely": DICE["likely"]}
    return dots(rows, series, 0, 1, "Dice of the whole tumour, the riskiest cases first", line=BAD)


def _short(one: AuditedCase) -> str:
    name = one.name.removeprefix("BraTS2021_").removeprefix("BraTS-")
    return name if one.acquisition in ("as acquired", "phantom") else f"{name}, {one.acquisition.split(' (')[0]}"


def _group_row(group: FailureGroup, drawn: dict[tuple[str, int], dict]) -> dict:
    examples = [drawn[member] for member in group.members if member in drawn][:EXAMPLES]
    latents = [
        {
            "words": reason_words(one.name, one.tap, one.latent),
            "share": f"{one.share:.0%}".replace("%", " %"),
            "one": one,
        }
        for one in group.latents
    ]
    return {"group": group, "examples": examples, "latents": latents}


def _shown(one: AuditedCase, drawn: dict[tuple[str, int], dict]) -> dict:
    suspects = [
        {
            "words": suspect.words,
            "risk": f"{suspect.risk:.0%}".replace("%", " %"),
            "ml": wording.volume(suspect.ml),
            "place": wording.place(suspect.ras),
        }
        for suspect in one.check.suspects[:LISTED]
    ]
    pictures = [drawn[one.name, part.suspect] for part in one.slices]
    return {"case": one, "suspects": suspects, "more": len(one.check.suspects) - len(suspects), "pictures": pictures}


def _picture(part: SuspectSlice, one: AuditedCase) -> dict:
    """A slice with the outlines of the segmentation, the reference's white edge, the risk, and a ring at the place."""
    layers = part.layers[:, None]  # one slice of a volume
    brain = layers[BRAIN] > 0
    planes = Planes.around(brain, (part.spacing[1], part.spacing[0], 1.0), part.origin)
    picture = figures.anatomy(planes, layers[ANATOMY].astype(np.float32), brain, (0.0, 255.0), "axial", 0)
    heated = figures.heated(picture, planes, layers[RISK].astype(np.float32), 255.0, "axial", 0)
    picture = (OPACITY * heated + (1 - OPACITY) * picture).astype(np.uint8)
    marks = figures.outline_marks(planes, layers[SEGMENTED], "axial", 0)
    if (part.layers[TRUTH] != 255).all() and layers[TRUTH].any():
        edge = figures.edge_marks(planes, layers[TRUTH] > 0, "axial", 0)
        marks = np.where(marks == figures.NOTHING, edge, marks)
    picture = figures.marked(picture, marks)
    if part.suspect >= 0:
        picture = _ringed(picture, planes, part.at)
    framed = figures.framed(picture, planes, "axial", 0)
    suspect = one.check.suspects[part.suspect] if part.suspect >= 0 else None
    caption = suspect.words if suspect else "No place is likely wrong; the slice with most of the tumour."
    where = f"{one.name}, {one.acquisition}, {MODALITY_NAMES[part.modality]}"
    uri = figures.jpeg_uri(framed, QUALITY)
    return {"uri": uri, "width": framed.width, "height": framed.height, "caption": caption, "where": where}


def _ringed(picture: np.ndarray, planes: Planes, at: tuple[int, int]) -> np.ndarray:
    """A ring of 12 mm around a voxel (row, column) of the slice."""
    from PIL import Image, ImageDraw

    per_mm = figures.pixels_per_mm(planes)
    row, column = (
        (i - part.start + 0.5) * step * per_mm
        for i, part, step in zip(at, planes.crop[1:], planes.spacing[1::-1], strict=True)
    )
    page = Image.fromarray(picture)
    draw, radius = ImageDraw.Draw(page), 12 * per_mm
    for width, colour in ((5, "black"), (2, "white")):
        r = radius + width / 2
        draw.ellipse((column - r, row - r, column + r, row + r), outline=colour, width=width)
    return np.asarray(page)
