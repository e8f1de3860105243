"""The latents of a case as the table lists them: searched, filtered, sorted. No Qt, so that it is fast and testable."""

from collections.abc import Callable, Iterable

from MedSegLensLib.lenses.stable import STABLE as STABLE_FROM
from MedSegLensLib.worker.answers import LatentRow

COLUMNS = ("shown", "number", "name", "badge", "active", "influence", "here", "strength", "pinned")
"""Of the table, from the left."""

ALL, EDITED, PINNED, SHOWN, NAMED, LOCAL = "all", "edited", "pinned", "shown", "named", "local"
FAVOURITE, STABLE = "favourite", "stable"

Predicate = Callable[[LatentRow], bool]


def matching(
    rows: Iterable[LatentRow], search: str, predicate: Predicate, comment: Callable[[LatentRow], str] = lambda row: ""
) -> list[LatentRow]:
    """Rows whose number begins with the search text, or whose name, place or comment hold every word of it, and that
    pass."""
    words = search.lower().split()
    return [row for row in rows if predicate(row) and _matches(row, words, comment)]


def _matches(row: LatentRow, words: list[str], comment: Callable[[LatentRow], str]) -> bool:
    if len(words) == 1 and words[0].isdigit():
        return str(row.latent).startswith(words[0])
    if not words:
        return True
    text = f"{row.name} {row.where} {comment(row)}".lower()
    return all(word in text for word in words)


def isStable(row: LatentRow) -> bool | None:
    """Whether other seeds have the latent too; None where it is not known."""
    return None if row.stability is None else row.stability >= STABLE_FROM


SORT_KEYS: dict[str, Callable[[LatentRow], object]] = {
    "latent": lambda row: row.latent,
    "name": lambda row: (not row.name, row.name.lower()),
    "active": lambda row: row.active_ml,
    "influence": lambda row: abs(influence(row) or 0.0),
    "here": lambda row: row.here or 0.0,
}


def ordered(rows: list[LatentRow], column: str | None, descending: bool) -> list[LatentRow]:
    """Rows by a column of `SORT_KEYS`; None keeps the worker's ranking."""
    return rows if column is None else sorted(rows, key=SORT_KEYS[column], reverse=descending)


def influence(row: LatentRow) -> float | None:
    """Change (mL) of the region's volume were the latent suppressed: measured where it was, else predicted."""
    return row.suppressed_ml if row.suppressed_ml is not None else row.attribution_ml
