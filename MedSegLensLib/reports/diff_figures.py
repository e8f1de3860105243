"""Charts of a comparison as inline SVG: a value with its interval, and its null beside it.

Sides differ in shape and in lightness, not in colour alone (Okabe and Ito's colours); the null is a hollow diamond.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from MedSegLensLib.reports.charts import SHAPES, Series

SIDE_A, SIDE_B, NULL = "#0072B2", "#D55E00", "#6E6E6E"
COLOURS = {"a": SIDE_A, "b": SIDE_B}

WIDTH, LABELS, LETTER = 1040, 250, 7.6
"""Of a chart in its own units: all of it, what row labels take, and a letter of the numbers on the right."""
LETTERS = 27
"""Of a row's label that fit into a line."""
LINE, GAP = 26, 12
NULL_SHAPE = '<path d="M{x:.1f} {top:.1f}l6.5 6.5l-6.5 6.5l-6.5 -6.5z" fill="none" stroke="{c}" stroke-width="2.2"/>'
STRIPE = 8
"""Of the stripes that tell kinds of bars apart without colour, units."""


@dataclass(frozen=True)
class Mark:
    """One value of a row. series: which legend entry draws it. words: the numbers as they stand on the right."""

    series: str
    value: float
    interval: tuple[float, float] | None
    null: float | None
    words: str


def intervals(
    rows: Sequence[tuple[str, Sequence[Mark]]],
    series: dict[str, Series],
    low: float,
    high: float,
    title: str,
    unit: str,
    line: float | None = None,
    null_words: str = "the same under its null",
) -> Markup:
    """One row a thing, one line a mark: the value, its interval as a whisker, its null as a hollow diamond, and the
    numbers in words on the right. Values beyond the axis stand at its end. line: a dashed line at a value."""
    top = 10
    longest = max((len(mark.words) for _, marks in rows for mark in marks), default=0)
    axis = _Axis(low, high, WIDTH - 30 - LETTER * longest)
    parts, y = [], float(top)
    for name, marks in rows:
        lines = _wrapped(name)
        height = max(LINE * len(marks), 17 * len(lines) + 6)
        first = y + height / 2 + 5 - 8.5 * (len(lines) - 1)
        for n, words in enumerate(lines):
            at = first + 17 * n
            parts.append(f'<text x="{LABELS - 14}" y="{at:.1f}" text-anchor="end">{escape(words)}</text>')
        for n, mark in enumerate(marks):
            parts += _mark(mark, series[mark.series], y + height / 2 + LINE * (n - (len(marks) - 1) / 2), axis, name)
        y += height + GAP
        parts.append(f'<path d="M{LABELS} {y - GAP / 2:.1f}H{axis.right:.1f}" class="row-line"/>')
    bottom = y - GAP / 2
    parts = axis.drawn(top, bottom, unit) + parts
    if line is not None and low <= line <= high:
        parts.append(f'<path d="M{axis.x(line):.1f} {top}V{bottom:.1f}" class="mark-line"/>')
    used = {mark.series for _, marks in rows for mark in marks}
    keys = [
        _key(series[name].words, SHAPES[series[name].shape], series[name].colour) for name in series if name in used
    ]
    if any(mark.interval for _, marks in rows for mark in marks):
        keys.append(
            _key("95 % interval over cases", '<path d="M1 9H17M1 5V13M17 5V13" stroke="{c}" fill="none"/>', NULL)
        )
    if any(mark.null is not None for _, marks in rows for mark in marks):
        keys.append(_key(null_words, NULL_SHAPE, NULL))
    return _framed(parts, bottom + 44, title, keys)


def stacked(
    rows: Sequence[tuple[str, Sequence[tuple[str, int]]]],
    kinds: dict[str, tuple[str, str, bool]],
    title: str,
    unit: str = "latents",
) -> Markup:
    """Bars of 100 %, one a row, cut into kinds by their counts. kinds: words, colour, and whether it is striped; unit:
    what is counted."""
    top, height, step = 8, 34, 62
    left, right = LABELS, WIDTH - 30
    parts = []
    for n, (name, counts) in enumerate(rows):
        y, x = top + step * n, float(left)
        total = max(sum(count for _, count in counts), 1)
        lines = _wrapped(name)
        for k, words in enumerate(lines):
            at = y + height / 2 + 5 - 8.5 * (len(lines) - 1) + 17 * k
            parts.append(f'<text x="{LABELS - 14}" y="{at:.1f}" text-anchor="end">{escape(words)}</text>')
        for kind, count in counts:
            if not count:
                continue
            words, colour, striped = kinds[kind]
            wide = (right - left) * count / total
            tip = escape(f"{name}: {words}: {count} of {total} {unit}")
            fill = f"url(#stripes-{colour[1:]})" if striped else colour
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{height}" fill="{fill}" class="part">'
                f"<title>{tip}</title></rect>"
            )
            if wide >= 34:
                ink = "#fff" if _dark(colour) and not striped else "#000"
                text = f"{count}"
                halo = ' class="on-stripes"' if striped else ""
                parts.append(
                    f'<text x="{x + wide / 2:.1f}" y="{y + height / 2 + 5}" text-anchor="middle" '
                    f'style="fill:{ink}"{halo}>{text}</text>'
                )
            x += wide
    shown = [kind for kind in kinds if any(count for _, counts in rows for k, count in counts if k == kind)]
    patterns = "".join(_stripes(kinds[kind][1]) for kind in shown if kinds[kind][2])
    square = '<rect x="1" y="2" width="16" height="14" fill="{c}" stroke="#444"/>'
    keys = [
        _key(words, square, f"url(#stripes-{colour[1:]})" if striped else colour)
        for words, colour, striped in (kinds[kind] for kind in shown)
    ]
    return _framed([f"<defs>{patterns}</defs>", *parts], top + step * len(rows) - 14, title, keys)


def _stripes(colour: str) -> str:
    return (
        f'<pattern id="stripes-{colour[1:]}" width="{STRIPE}" height="{STRIPE}" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate(45)"><rect width="{STRIPE}" height="{STRIPE}" fill="#fff"/>'
        f'<rect width="{STRIPE // 2}" height="{STRIPE}" fill="{colour}"/></pattern>'
    )


def _dark(colour: str) -> bool:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140


@dataclass(frozen=True)
class _Axis:
    """From `low` to `high` between the row labels and `right`, units; what lies beyond stands at its end."""

    low: float
    high: float
    right: float

    def x(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        return LABELS + (self.right - LABELS) * (inside - self.low) / (self.high - self.low)

    def drawn(self, top: float, bottom: float, unit: str) -> list[str]:
        parts, step = [], _nice((self.high - self.low) / 6)
        value = math.ceil(self.low / step - 1e-9) * step
        while value <= self.high + 1e-9:
            x = self.x(value)
            parts.append(f'<path d="M{x:.1f} {top}V{bottom:.1f}" class="row-line"/>')
            text = f"{value + 0.0:.3f}".rstrip("0").rstrip(".").replace("-", "−")
            parts.append(f'<text x="{x:.1f}" y="{bottom + 18:.1f}" text-anchor="middle" class="small">{text}</text>')
            value += step
        x, y = (LABELS + self.right) / 2, bottom + 37
        return [*parts, f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" class="small">{escape(unit)}</text>']


def _mark(mark: Mark, kind: Series, y: float, axis: _Axis, name: str) -> list[str]:
    parts, x = [], axis.x(mark.value)
    if mark.interval is not None:
        a, b = (axis.x(end) for end in mark.interval)
        parts.append(
            f'<path d="M{a:.1f} {y:.1f}H{b:.1f}M{a:.1f} {y - 5:.1f}v10M{b:.1f} {y - 5:.1f}v10" stroke="{kind.colour}" '
            f'stroke-width="2" fill="none"/>'
        )
    drawn = SHAPES[kind.shape].format(x=x, y=y, x0=x - 6, y0=y - 6, top=y - 7.5, c=kind.colour)
    tip = escape(f"{name}, {kind.words}: {mark.words}")
    parts.append(f"<g><title>{tip}</title>{drawn}</g>")
    if mark.null is not None:
        parts.append(NULL_SHAPE.format(x=axis.x(mark.null), y=y, top=y - 6.5, c=NULL))
    parts.append(f'<text x="{axis.right + 14:.1f}" y="{y + 5:.1f}" class="small">{escape(mark.words)}</text>')
    return parts


def _nice(step: float) -> float:
    power = 10 ** math.floor(math.log10(max(step, 1e-12)))
    return next(power * m for m in (1, 2, 5, 10) if power * m >= step * 0.999)


def _wrapped(text: str, most: int = LETTERS) -> list[str]:
    """In at most three lines of about `most` letters, broken at spaces and behind dots (modules have long names); of a
    longer text the middle is left out."""
    lines = [""]
    for part in re.findall(r"[^ .]*[ .]?", text):
        if len(lines[-1]) + len(part.rstrip()) > most and lines[-1]:
            lines.append("")
        lines[-1] += part
    lines = [line.strip() if len(line) <= most + 3 else f"{line[: most + 2]}…" for line in lines]
    return lines if len(lines) <= 3 else [lines[0], "…", lines[-1]]


def _key(words: str, shape: str, colour: str) -> str:
    mark = shape.format(x=9, y=9, x0=3, y0=3, top=2.5, c=colour)
    return f'<li><svg viewBox="0 0 18 18" width="18" height="18" aria-hidden="true">{mark}</svg>{escape(words)}</li>'


def _framed(parts: list[str], height: float, title: str, keys: list[str]) -> Markup:
    return Markup(
        f'<figure class="chart-frame"><figcaption>{escape(title)}</figcaption>'
        + (f'<ul class="legend">{"".join(keys)}</ul>' if keys else "")
        + f'<svg class="chart" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        + "".join(parts)
        + "</svg></figure>"
    )
