"""The page of a comparison: how much two packs, or two cohorts, share, what only one has, where it lies, what rests on
it and how sure that is. Plain words first, tables after; no claim without its null beside it.

One HTML file that holds its pictures, charts and styles and loads nothing; the table stands beside it as CSV and
Parquet.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.cases.writing import atomic_path
from MedSegLensLib.diffing.comparison import CATEGORIES, Comparison, LatentFinding, Share
from MedSegLensLib.errors import OutputError
from MedSegLensLib.reports import figures
from MedSegLensLib.reports.charts import Series
from MedSegLensLib.reports.diff_figures import COLOURS, Mark, intervals, stacked
from MedSegLensLib.reports.diff_pictures import CASES, Gallery, Progress, gallery
from MedSegLensLib.reports.diff_reliance import reliance
from MedSegLensLib.reports.diff_words import (
    COHORT_CLAIMS,
    KINDS,
    MODEL_CLAIMS,
    claims,
    cohort_words,
    explained,
    headline,
    interval_words,
    main_shares,
    number,
    percent,
    threshold_words,
)
from MedSegLensLib.reports.pages import template

if TYPE_CHECKING:
    from MedSegLensLib.cohorts.cohort import Cohort
    from MedSegLensLib.packs.pack import LensPack

PAGE = "index.html"
ROWS = 40
"""Latents of each category in the page's table; the files have all."""


def write_diff_page(
    comparison: Comparison,
    folder: Path,
    packs: "Sequence[LensPack]" = (),
    cohorts: "Sequence[Cohort]" = (),
    progress: Progress | None = None,
    cases: int = CASES,
) -> list[Path]:
    """Write index.html and, beside it, comparison.parquet, .csv and .json into `folder`, which is made; the paths.

    packs: both (a, b), or the one whose latents two cohorts were compared by. cohorts: the one that packs were compared
    on, or both (a, b). Without them, or with cases = 0, the page has no pictures. cases: opened of each cohort at most;
    each takes as long as a case takes to segment, per pack. Raises OutputError; `progress` may raise Cancelled, and
    then nothing was written.
    """
    folder = Path(folder)
    pictures = gallery(comparison, packs, cohorts, progress, cases) if packs and cohorts and cases > 0 else None
    page = render_diff_page(comparison, pictures)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        cause = f"the folder cannot be made ({problem.strerror})."
        raise OutputError(folder, cause, "Choose another folder.") from problem
    tables = comparison.save(folder)
    with atomic_path(folder / PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return [folder / PAGE, *tables]


def render_diff_page(comparison: Comparison, pictures: Gallery | None = None) -> str:
    """The page as HTML."""
    kinds = MODEL_CLAIMS if comparison.kind == "models" else COHORT_CLAIMS
    main = main_shares(comparison)
    total = [share for share in main if share.total and (share.n or share.category in kinds)]
    return template("diff.html.j2", number=number, percent=percent).render(
        c=comparison,
        models=comparison.kind == "models",
        headline=headline(comparison),
        says=_says(comparison),
        warnings=_warnings(comparison),
        cohorts=comparison.cohorts,
        cohort_words=cohort_words,
        claims=claims(comparison),
        charts={
            "parts": _parts(comparison),
            "shares": _shares(comparison, total),
        },
        pictures=pictures,
        heat=figures.HEAT,
        reliance=reliance(comparison),
        shares=[_share_row(comparison, share) for share in total],
        by_tap=[_share_row(comparison, share) for share in comparison.shares if share.n and share not in main],
        thresholds=[(threshold_words(name), value) for name, value in comparison.thresholds.items()],
        explained=explained(comparison),
        latents=_latents(comparison),
        more=len(comparison.findings),
        interval_words=interval_words,
    )


def _says(comparison: Comparison) -> list[str]:
    """The comparison's own sentences but for those about performance, which stand with its figures."""
    rests = {row["says"] for row in comparison.summary.get("suppression") or []}
    says = comparison.summary.get("says", [])
    return [sentence for sentence in says if sentence not in rests and not sentence.startswith("Dice of ")]


def _warnings(comparison: Comparison) -> list[str]:
    told = []
    for cohort in comparison.cohorts:
        noted = " ".join(note for note in comparison.notes if note.startswith(cohort.name))
        if cohort.invented and "phantoms" not in noted:
            told.append(f"{cohort.name} holds phantoms: invented anatomy, not patients.")
        if cohort.simulated and "simulated" not in noted:
            told.append(f"{cohort.name} was simulated from real cases: no scanner made these images.")
        if cohort.n_cases < 10:
            cases = "one case" if cohort.n_cases == 1 else f"{cohort.n_cases} cases"
            told.append(f"{cohort.name} has only {cases}: intervals are wide and say nothing of other patients.")
    return [*told, *(note for note in comparison.notes if note not in told)]


def _side_words(comparison: Comparison, side: str, tap: str | None = None) -> str:
    if comparison.kind == "cohorts" and not comparison.findings_of("b"):
        name = comparison.pack.name
    else:
        name = comparison.side_name(side)
    return name if tap is None else f"{name}, {tap}"


def _parts(comparison: Comparison):
    rows = []
    for side in "ab":
        findings = comparison.findings_of(side)
        for tap in dict.fromkeys(f.tap for f in findings):
            here = [f.category for f in findings if f.tap == tap]
            counts = [(kind, here.count(kind)) for kind in KINDS]
            if sum(count for _, count in counts):
                rows.append((_side_words(comparison, side, tap), counts))
    return stacked(rows, KINDS, "What became of each latent that fires (numbers are latents)") if rows else None


def _shares(comparison: Comparison, shares: Sequence[Share]):
    rows, models = [], comparison.kind == "models"
    sides = list(dict.fromkeys((share.side, share.tap) for share in shares))
    for category in KINDS:
        marks = [
            Mark(_key(share), 100 * share.share, _hundred(share.interval), _hundred(share.null), _words(share))
            for share in shares
            if share.category == category and share.category in (MODEL_CLAIMS if models else COHORT_CLAIMS)
        ]
        if marks:
            rows.append((KINDS[category][0], marks))
    if not rows:
        return None
    looks = [("a", "circle"), ("b", "square"), ("a", "triangle"), ("b", "diamond")]
    series = {}
    for n, (side, tap) in enumerate(sides):
        colour, shape = looks[n % len(looks)]
        series[f"{side} {tap}"] = Series(_side_words(comparison, side, tap), COLOURS[colour], shape)
    title = "Share of the latents that fire" + (", over all layers" if all(tap is None for _, tap in sides) else "")
    return intervals(rows, series, 0, 100, title, "% of the latents that fire")


def _key(share: Share) -> str:
    return f"{share.side} {share.tap}"


def _words(share: Share) -> str:
    words = f"{100 * share.share:.0f} %"
    if share.interval is not None:
        words += f" ({100 * share.interval[0]:.0f} to {100 * share.interval[1]:.0f})"
    return words + ("; no null" if share.null is None else f"; null {percent(share.null)}")


def _hundred(value):
    if value is None:
        return None
    return 100 * value if not isinstance(value, tuple) else (100 * value[0], 100 * value[1])


def _share_row(comparison: Comparison, share: Share) -> dict:
    return {
        "of": _side_words(comparison, share.side),
        "tap": "all layers" if share.tap is None else share.tap,
        "category": share.category,
        "count": f"{share.n} of {share.total}",
        "share": percent(None if math.isnan(share.share) else share.share),
        "interval": interval_words(share.interval, percent=True),
        "null": percent(share.null) if share.null is not None else "none",
        "null_is": share.null_is,
    }


def _latents(comparison: Comparison) -> list[tuple[str, int, list[dict]]]:
    """Of each category how many there are, and the clearest findings as rows."""
    found = []
    for category in CATEGORIES:
        here = [f for f in comparison.findings if f.category == category]
        if here and category != "never fires":
            sign = 1 if category == "backbone" else -1  # of what is alike the smallest difference is the clearest
            clearest = sorted(here, key=lambda f: sign * abs(f.measure or 0.0))[:ROWS]
            found.append((category, len(here), [_latent_row(comparison, f) for f in clearest]))
    return found


def _latent_row(comparison: Comparison, finding: LatentFinding) -> dict:
    partner = None
    if finding.partner_tap is not None:
        partner = f"{finding.partner_latent} at {finding.partner_tap}"
    return {
        "of": _side_words(comparison, finding.side),
        "tap": finding.tap,
        "latent": finding.latent,
        "specific_to": finding.specific_to or "",
        "partner": partner or "",
        "measure": number(finding.measure, 2),
        "interval": interval_words(finding.interval),
        "null": number(finding.null, 2),
        "p": "" if finding.p_adjusted is None else _p(finding.p_adjusted),
        "evidence": finding.evidence,
    }


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
