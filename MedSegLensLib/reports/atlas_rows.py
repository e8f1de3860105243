"""What the atlas says of one latent: the catalogue's row, the user's note and the examples, as one JSON object.

What is not known is left out of the object; the page says "not known". Catalogues of every version are read alike.
"""

import math
from typing import TYPE_CHECKING

from MedSegLensLib.packs.catalogue import UNCLEAR, described
from MedSegLensLib.reports import wording

if TYPE_CHECKING:
    from MedSegLensLib.reports.atlas_examples import BestExamples

GROUPS = ("share", "auroc", "iou", "intensity", "influence")
"""Columns named <group>_<what> are gathered by group."""

NUMBERS = {
    "fires_share": "fires",
    "mean": "mean",
    "max": "max",
    "n_cases": "nCases",
    "extent_ml": "extentMl",
    "laterality": "laterality",
    "stability": "stability",
    "name_score": "nameScore",
    "name_prediction": "namePrediction",
    "name_intervention": "nameIntervention",
}
LISTS = {
    "quantiles": "quantiles",
    "slice_profile": "sliceProfile",
    "co_firing": "coFiring",
    "near_duplicates": "nearDuplicates",
    "children": "children",
    "parents": "parents",
}
MOSTLY = ("ncr", "ed", "et", "brain", "air")


def latent_entry(
    tap: int, latent: int, row: dict | None, note: dict, best: "BestExamples", cases: list
) -> dict[str, object]:
    """One latent; see `templates/atlas.js` for how it is read. tap: its place in the page's list of lenses. row: None
    where the catalogue does not have it. cases: those that were seen, by the examples' numbers."""
    entry: dict[str, object] = {"tap": tap, "latent": latent}
    entry |= _called(row, note)
    if row is not None:
        entry |= {new: number(row[old]) for old, new in NUMBERS.items() if number(row.get(old)) is not None}
        entry |= {new: [number(v) for v in row[old]] for old, new in LISTS.items() if row.get(old)}
        for group in GROUPS:
            prefix = f"{group}_"
            found = {k.removeprefix(prefix): number(v) for k, v in row.items() if k.startswith(prefix)}
            found = {k: v for k, v in found.items() if v is not None}
            if found:
                entry[group] = found
        shares = {k: v for k, v in entry.get("share", {}).items() if k in MOSTLY and v}
        if shares:
            entry["mostly"] = max(shares, key=shares.get)
        if row.get("name_evidence"):
            entry["evidence"] = row["name_evidence"]
        entry |= _known_examples(row)
    entry |= _histogram(row, latent, best)
    examples = []
    for n, example in enumerate(best.best[latent]):
        examples.append(
            {
                "case": example.case,
                "slice": example.slice,
                "value": number(example.value),
                "peak": wording.place(example.peak_ras),
                "n": n,
            }
        )
    if examples:
        entry["examples"] = examples
    entry["firesHere"] = number(best.fires[latent] / max(best.brain, 1))
    return entry


def _called(row: dict | None, note: dict) -> dict[str, object]:
    """Its title and where that comes from: the user ('yours'), the catalogue, or only where it fired ('where')."""
    name = (row or {}).get("name")
    where = described(row) if row is not None else "not in the catalogue"
    if note.get("name"):
        called: dict[str, object] = {"title": note["name"], "from": "yours"}
    elif name and name != UNCLEAR:
        called = {"title": name, "from": "catalogue"}
    else:
        called = {"title": where, "from": "where"}
    if name:
        called["named"] = name != UNCLEAR
    if called["title"] != where:
        called["where"] = where
    if name and name != UNCLEAR and called["from"] == "yours":
        called["catalogueName"] = name
    if note.get("comment"):
        called["comment"] = note["comment"]
    if note.get("favourite"):
        called["favourite"] = True
    return called


def _known_examples(row: dict) -> dict[str, object]:
    """The catalogue's own best examples, in its training cases."""
    known = [{"case": e["case"], "slice": e["slice"], "value": number(e["value"])} for e in row.get("examples") or []]
    if not known and row.get("best_case"):
        known = [{"case": row["best_case"], "slice": row["best_slice"], "value": number(row.get("max"))}]
    return {"catalogueExamples": known} if known else {}


def _histogram(row: dict | None, latent: int, best: "BestExamples") -> dict[str, object]:
    """Counts in equal bins from 0 to the catalogue's maximum: the catalogue's, else those of the page's cases."""
    if row is not None and row.get("histogram"):
        return {"histogram": [int(n) for n in row["histogram"]], "histogramOf": "catalogue"}
    if row is not None and row.get("max") and best.histogram[latent].any():
        return {"histogram": best.histogram[latent].tolist(), "histogramOf": "page"}
    return {}


def number(value: float | int | None) -> float | int | None:
    """A number with four digits, as JSON has it; None for what is not finite."""
    if value is None or isinstance(value, int):
        return value
    value = float(value)
    return float(f"{value:.4g}") if math.isfinite(value) else None
