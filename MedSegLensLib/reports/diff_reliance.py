"""How much performance rests on what is shared and what is specific, in words, a chart and a table.

Of two cohorts: the Dice with the specific latents suppressed or set back, beside as many random latents. Of two packs:
which category's latents the regions' log odds hang on, and whether partners hold up the same regions.
"""

from dataclasses import dataclass

from markupsafe import Markup

from MedSegLensLib.diffing.comparison import Comparison
from MedSegLensLib.reports.charts import Series
from MedSegLensLib.reports.diff_figures import SIDE_A, Mark, intervals, stacked
from MedSegLensLib.reports.diff_words import KINDS, interval_words, number

EDITS = {"edit": Series("the specific latents", SIDE_A)}
WHAT = {"suppressed": "suppressed", "restored": "set back"}
LEAST_REACH = 0.02
"""Of the chart of changes, Dice: a smaller one would make noise look large."""


@dataclass(frozen=True)
class Reliance:
    """sentences: what was found; charts; heads and rows of the table."""

    sentences: list[str]
    charts: list[Markup]
    heads: list[str]
    rows: list[list[str]]


def reliance(comparison: Comparison) -> Reliance | None:
    """What was measured of it, or None."""
    if comparison.kind == "models":
        return _of_models(comparison)
    return _of_cohorts(comparison)


def _of_cohorts(comparison: Comparison) -> Reliance | None:
    dice, edits = comparison.summary.get("dice") or [], comparison.summary.get("suppression")
    sentences, rows = [], []
    names = (comparison.a.name, comparison.b.name)
    for row in dice:
        if row["difference"] is not None:
            rows.append([f"Dice of {row['region']}", names[0], number(row["x"], 3), "", "", str(row["n"][0])])
            between = [_signed(row["difference"]), _span(row["interval"])]
            rows.append([f"Dice of {row['region']}", names[1], number(row["y"], 3), *between, str(row["n"][1])])
    if edits:
        sentences += [row["says"] for row in edits]
        for row in edits:
            latents = f"{row['latents']} specific latent{'' if row['latents'] == 1 else 's'}"
            what = f"{latents} {WHAT.get(row['what'], row['what'])}, {row['region']}"
            rows.append(
                [
                    what,
                    row["cohort"],
                    number(row["dice"], 3),
                    _signed(row["change"]),
                    _span(row["interval"]),
                    str(row["n"]),
                ]
            )
            random = [_signed(row["random_change"]), _span(row["random_interval"])]
            rows.append([f"as many random latents, {row['region']}", row["cohort"], "", *random, str(row["n"])])
    elif edits is not None:
        sentences.append(
            "No latent is specific to either cohort, or no case has labels: there was nothing to suppress."
        )
    if not sentences and not rows:
        return None
    if edits is None:
        sentences.append("It was not measured what becomes of the Dice without the specific latents.")
    heads = ["What", "Cohort", "Dice", "Change", "95 % interval", "Cases"]
    return Reliance(sentences, [_changes(edits)] if edits else [], heads, rows)


def _changes(edits: list[dict]) -> Markup:
    rows, ends = [], [LEAST_REACH]
    for row in edits:
        if row["change"] is None:
            continue
        interval = tuple(row["interval"]) if row["interval"] else None
        null = row["random_change"]
        words = f"{_signed(row['change'])}" + (f" ({_span(row['interval'])})" if interval else "")
        words += f"; random {_signed(null)}" if null is not None else ""
        name = f"{row['cohort']}, {row['region']}: {row['latents']} {WHAT.get(row['what'], row['what'])}"
        rows.append((name, [Mark("edit", row["change"], interval, null, words)]))
        ends += [abs(end) for end in (row["change"], null or 0.0, *(interval or ()))]
    reach = 1.05 * max(ends)
    title = "Change of the Dice when specific latents are suppressed or set back"
    return intervals(
        rows, EDITS, -reach, reach, title, "change of the Dice", line=0.0, null_words="as many random latents"
    )


def _of_models(comparison: Comparison) -> Reliance | None:
    influence = comparison.summary.get("influence") or {}
    by_category, by_region = influence.get("by_category") or {}, influence.get("by_region") or {}
    bars = []
    for side, regions in by_category.items():
        for region, shares in regions.items():
            counts = [(kind, round(100 * shares.get(kind, 0.0))) for kind in KINDS]
            bars.append((f"{comparison.side_name(side)}, {region}", counts))
    sentences = [
        f"{region}: how much a latent holds the region up agrees with how much its partner does at Spearman "
        f"{number(found['rho'])} over {found['pairs']} pairs; with partners shuffled at random that much agreement, or "
        f"more, comes in {_share(found['p'])} of the trials."
        for region, found in by_region.items()
    ]
    if not bars and not sentences:
        return None
    charts = []
    if bars:
        sentences.insert(
            0,
            "The bars show on which latents each segmenter's answer hangs: how far the log odds of a region would move "
            "were a latent suppressed (estimated to first order), summed by category.",
        )
        title = "Of all changes of a region's log odds, the share of each category, %"
        charts.append(stacked(bars, KINDS, title, "% of the changes"))
    return Reliance(sentences, charts, [], [])


def _signed(value: float | None) -> str:
    if value is None:
        return "not known"
    return "0.000" if abs(value) < 0.0005 else f"{value:+.3f}".replace("-", "−")


def _span(interval) -> str:
    return interval_words(tuple(interval), digits=3) if interval else ""


def _share(p: float) -> str:
    return "under 0.1 %" if p < 0.001 else f"{100 * p:.1f} %"
