"""The page that says whether to trust a lens: a verdict in words, then every measure beside its null.

One HTML file that holds its charts and styles and loads nothing; the same facts stand beside it as JSON.
"""

import json
from pathlib import Path

from MedSegLensLib.cases.writing import atomic_path
from MedSegLensLib.reports.charts import Series, bars, curve, dots
from MedSegLensLib.reports.pages import template

PAGE, DATA = "lens.html", "lens.json"

LENS, NULL = "#0072B2", "#7F7F7F"
SERIES = {
    "lens": Series("this lens", LENS),
    "pca": Series("as many principal components", "#E69F00", "square"),
    "random_decoder": Series("trained, decoder frozen at random", "#CC79A7", "triangle"),
    "random_encoder": Series("encoder frozen at random", NULL, "diamond"),
}
DICE = {
    "plain": Series("without the lens", "#009E73", "ring"),
    "spliced": Series("lens spliced in", LENS),
    "random_encoder": Series("random encoder spliced in", NULL, "diamond"),
    "zero": Series("tap set to zero", "#D55E00", "cross"),
}
PROBES = {
    "best_latent": Series("best single latent", LENS),
    "best_channel": Series("best raw channel", "#E69F00", "square"),
    "best_component": Series("best principal component", "#CC79A7", "triangle"),
    "random_encoder": Series("best latent of a random encoder", NULL, "diamond"),
    "random_direction": Series("best of as many random directions", "#009E73", "ring"),
    "shuffled": Series("best latent, labels shuffled", "#D55E00", "cross"),
}
FEW = {
    "sparse_5": Series("5 latents", LENS),
    "dense": Series("all raw channels", "#009E73", "ring"),
    "sparse_5_channels": Series("5 raw channels", "#E69F00", "square"),
    "sparse_5_components": Series("5 principal components", "#CC79A7", "triangle"),
    "sparse_5_random_encoder": Series("5 latents of a random encoder", NULL, "diamond"),
    "sparse_5_shuffled": Series("5 latents, labels shuffled", "#D55E00", "cross"),
}
COSINES = {
    "lens": Series("this lens", LENS, "square"),
    "tokens": Series("untrained: directions of tokens", "#E69F00", "square"),
    "random": Series("random directions", NULL, "square"),
}
STRATA_WORDS = {"all": "all of the brain", "lesion": "lesion", "border": "8 mm around it", "brain": "other brain"}
STRATA_WORDS |= {"air": "edge of the brain"}
TARGET_WORDS = {
    "WT": "whole tumour",
    "TC": "tumour core",
    "ET": "enhancing tumour",
    "NCR": "necrotic core",
    "ED": "edema",
    "border": "8 mm around it",
    "csf": "fluid",
    "grey": "grey matter",
    "white": "white matter",
}
CURVES = {
    "explained_variance": "Explained variance of a batch",
    "l0": "Latents a token",
    "dead_share": "Share of dead latents",
    "loss": "Loss",
}
SIGNS = {"good": "✓", "with care": "!", "poor": "✕", "not known": "?"}


def write_lens_page(facts: dict, folder: Path) -> list[Path]:
    """Write lens.html and lens.json of what `editing.trust.examine` measured. Raises OutputError."""
    page, data = folder / PAGE, folder / DATA
    with atomic_path(data) as temporary:
        temporary.write_text(json.dumps(facts, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    with atomic_path(page) as temporary:
        temporary.write_text(render_lens_page(facts), encoding="utf-8")
    return [page, data]


def render_lens_page(facts: dict) -> str:
    """The page as HTML."""
    charts = {
        "reconstruction": _reconstruction(facts["reconstruction"]),
        "activity": _activity(facts["activity"]),
        "firing": _firing(facts["activity"]),
        "dice": _dice(facts["splice"]),
        "stability": _stability(facts["stability"]),
        "probes": _probes(facts["probes"], PROBES, "AUROC of one feature on unseen tokens"),
        "few": _probes(facts["probes"], FEW, "AUROC of five together, and of all channels"),
        "edits": _edits(facts["selectivity"]),
        "curves": _curves(facts["training"]["log"]),
    }
    return template("lens.html.j2", number=number, percent=percent, signed=signed).render(
        facts=facts, charts=charts, verdict=facts["verdict"], signs=SIGNS, targets=TARGET_WORDS, strata=STRATA_WORDS
    )


def number(value: float | None, digits: int = 3) -> str:
    """'0.953', or 'not known'; a true minus."""
    return "not known" if value is None else f"{value:.{digits}f}".replace("-", "−")


def percent(value: float | None, digits: int = 0) -> str:
    """A share as '12 %'."""
    return "not known" if value is None else f"{100 * value:.{digits}f} %"


def signed(value: float | None, digits: int = 3) -> str:
    """'+0.021', '−0.004'."""
    return "not known" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def _reconstruction(rebuilt: dict):
    rows = [
        (words, {name: by.get(key) for name, by in rebuilt.items()})
        for key, words in STRATA_WORDS.items()
        if rebuilt["lens"].get(key) is not None
    ]
    values = [v for _, by in rows for v in by.values() if v is not None]
    low = max(min(0.1 * int(10 * min(values)), 0.8), 0.0)
    return dots(rows, SERIES, low, 1.0, "Explained variance, by tissue", line=0.95)


def _activity(activity: dict):
    rows = [("all of the brain", {"lens": activity["l0"]})]
    rows += [(STRATA_WORDS[key], {"lens": value}) for key, value in activity["l0_by"].items()]
    high = max(max(v["lens"] or 0 for _, v in rows), activity["k"] or 1) * 1.1
    title = f"Active latents a token; the dashed line is k = {activity['k']:g}"
    return dots(rows, {"lens": SERIES["lens"]}, 0, high, title, line=activity["k"], digits=1)


def _firing(activity: dict):
    words = ["none", "under 0.001 %", "to 0.01 %", "to 0.1 %", "to 1 %", "to 10 %", "over 10 %"]
    found = activity["histogram"]["latents"]
    counts = {"lens": [activity["latents"] - sum(found), *found]}
    return bars(
        words, counts, COSINES, f"Share of {activity['tokens']:,} tokens that a latent fires on", "% of latents"
    )


def _dice(splice: dict):
    rows = [
        (f"{case}, {region}", {kind: scores[region] for kind, scores in by.items()})
        for case, by in splice["cases"].items()
        for region, value in by["plain"].items()
        if value is not None
    ]
    return dots(rows, DICE, 0, 1, "Dice of whole cases") if rows else None


def _stability(stability: dict | None):
    if stability is None or not sum(stability["histogram"]):
        return None
    bins = [f"{a / 10:.1f}–{(a + 1) / 10:.1f}" for a in range(10)]
    counts = {"lens": stability["histogram"]}
    counts |= {name: stability["nulls"][name]["histogram"] for name in ("tokens", "random")}
    counts = {name: values for name, values in counts.items() if sum(values)}
    title = "Worst cosine to the partner in the other seeds, latents of the lesion"
    title += f" (stable from {stability['at_least']:g} on)"
    return bars(bins, counts, COSINES, title, "% of the latents")


def _probes(probes: dict | None, series: dict[str, Series], title: str):
    if not probes:
        return None
    rows = [(TARGET_WORDS[name], {key: of[key] for key in series}) for name, of in probes.items()]
    low = min(0.4, *(0.1 * int(10 * v) for _, by in rows for v in by.values() if v is not None))
    return dots(rows, series, low, 1.0, title, line=0.5, digits=3)


def _edits(selectivity: dict | None):
    if not selectivity:
        return None
    edits = selectivity["edits"]
    rows = [
        (f"{e['region']}, latent {e['latent']}", {"lens": e["moved_ml"], "random": e["random_moved_ml"]}) for e in edits
    ]
    high = max(max(v for v in by.values() if v is not None) for _, by in rows) * 1.05 or 1.0
    series = {
        "lens": Series("latent suppressed", LENS),
        "random": Series("push of the same size in a random direction (mean)", NULL, "diamond"),
    }
    return dots(rows, series, 0, high, "Volume that enters or leaves the region, mL", digits=2)


def _curves(log: list[dict]) -> list:
    found = []
    for key, title in CURVES.items():
        points = [(entry["step"], entry.get(key)) for entry in log if isinstance(entry.get("step"), int | float)]
        points = [(x, y) for x, y in points if isinstance(y, int | float)]
        if len(points) > 1:
            found.append(curve(*zip(*points, strict=True), LENS, f"{title}, by step"))
    return found
