"""Small charts as inline SVG: they need no library, print sharply, and follow the page's light or dark colours.

Series differ in shape and in lightness, not in colour alone (Okabe and Ito's colours).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

WIDTH, LABELS, RIGHT = 860, 190, 24
"""Of a chart in its own units: all of it, what row labels take, what is left free on the right."""

SHAPES = {
    "circle": '<circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="{c}"/>',
    "square": '<rect x="{x0:.1f}" y="{y0:.1f}" width="12" height="12" fill="{c}"/>',
    "triangle": '<path d="M{x:.1f} {top:.1f}l7.5 13h-15z" fill="{c}"/>',
    "diamond": '<path d="M{x:.1f} {top:.1f}l7.5 7.5l-7.5 7.5l-7.5 -7.5z" fill="{c}"/>',
    "ring": '<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" fill="none" stroke="{c}" stroke-width="3"/>',
    "cross": '<path d="M{x0:.1f} {y0:.1f}l12 12m0 -12l-12 12" stroke="{c}" stroke-width="3.5" fill="none"/>',
}


@dataclass(frozen=True)
class Series:
    """How one kind of value is drawn: its words in the legend, a colour, a shape of `SHAPES`."""

    words: str
    colour: str
    shape: str = "circle"


def dots(
    rows: Sequence[tuple[str, Mapping[str, float | None]]],
    series: Mapping[str, Series],
    low: float,
    high: float,
    title: str,
    line: float | None = None,
    digits: int = 2,
) -> Markup:
    """One row a thing, one mark a series, on a common axis from low to high; what is None has no mark.

    A value beyond the axis stands at its end with its number beside it. line: a dashed line at a value.
    """
    step = 34
    top, height = 12, step * len(rows)
    bottom = top + height
    parts = _axis(low, high, top, bottom, digits)
    if line is not None and low <= line <= high:
        x = _x(line, low, high)
        parts.append(f'<path d="M{x:.1f} {top}V{bottom}" class="mark-line"/>')
    for i, (name, values) in enumerate(rows):
        y = top + step * (i + 0.5)
        parts.append(f'<path d="M{LABELS} {y:.1f}H{WIDTH - RIGHT}" class="row-line"/>')
        parts.append(f'<text x="{LABELS - 12}" y="{y + 5:.1f}" text-anchor="end">{escape(name)}</text>')
        drawn = [(key, value) for key, value in values.items() if value is not None and key in series]
        for key, value in reversed(drawn):  # the first series lies on top
            kind = series[key]
            x = _x(min(max(value, low), high), low, high)
            mark = SHAPES[kind.shape].format(x=x, y=y, x0=x - 6, y0=y - 6, top=y - 7.5, c=kind.colour)
            tip = f"{name}, {kind.words}: {value:.{digits}f}"
            parts.append(f"<g><title>{escape(tip)}</title>{mark}</g>")
            if not low <= value <= high:
                side, anchor = (12, "start") if value < low else (-12, "end")
                parts.append(
                    f'<text x="{x + side:.1f}" y="{y + 5:.1f}" text-anchor="{anchor}" class="small">'
                    f"{value:.{digits}f}</text>"
                )
    used = [key for key in series if any(values.get(key) is not None for _, values in rows)]
    return _framed(parts, bottom + 26, title, [series[key] for key in used])


def bars(
    labels: Sequence[str], counts: Mapping[str, Sequence[float]], series: Mapping[str, Series], title: str, unit: str
) -> Markup:
    """Bars side by side over labelled bins, a share of each series' own sum, in percent; sums may differ."""
    top, height = 26, 190
    bottom, left = top + height, 70
    shares = {key: [100 * c / max(sum(values), 1e-12) for c in values] for key, values in counts.items()}
    high = max((s for values in shares.values() for s in values), default=0) or 1
    tick = _nice(high / 4)
    high = tick * math.ceil(high / tick - 1e-9)
    parts = [f'<text x="{left}" y="16" class="small">{escape(unit)}</text>']
    value = 0.0
    while value <= high + 1e-9:
        y = bottom - height * value / high
        parts.append(f'<path d="M{left} {y:.1f}H{WIDTH - RIGHT}" class="row-line"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 5:.1f}" text-anchor="end" class="small">{value:g}</text>')
        value += tick
    span = (WIDTH - RIGHT - left) / len(labels)
    wide = min(0.8 * span / max(len(shares), 1), 60)
    for i, label in enumerate(labels):
        middle = left + span * (i + 0.5)
        parts.append(
            f'<text x="{middle:.1f}" y="{bottom + 20}" text-anchor="middle" class="small">{escape(label)}</text>'
        )
        for n, (key, values) in enumerate(shares.items()):
            size = height * values[i] / high
            x = middle + wide * (n - len(shares) / 2)
            tip = f"{series[key].words}, {label}: {values[i]:.1f} % ({counts[key][i]:g})"
            parts.append(
                f'<rect x="{x:.1f}" y="{bottom - size:.1f}" width="{wide - 2:.1f}" height="{size:.1f}" '
                f'fill="{series[key].colour}"><title>{escape(tip)}</title></rect>'
            )
    kinds = [Series(series[key].words, series[key].colour, "square") for key in shares]
    return _framed(parts, bottom + 32, title, kinds if len(kinds) > 1 else [])


def curve(xs: Sequence[float], ys: Sequence[float | None], colour: str, title: str) -> Markup:
    """One line over steps, with its first, last and extreme values readable on the axis."""
    points = [(x, y) for x, y in zip(xs, ys, strict=True) if y is not None and math.isfinite(y)]
    top, height, left, width = 12, 130, 80, 420
    bottom = top + height
    low, high = min(y for _, y in points), max(y for _, y in points)
    if high - low < 1e-9:
        low, high = low - 0.5 * abs(low) - 1e-3, high + 0.5 * abs(high) + 1e-3
    last = max(xs[-1], 1e-9)

    def at(x, y):
        return left + (width - left - 16) * x / last, bottom - height * (y - low) / (high - low)

    path = "L".join(f"{a:.1f} {b:.1f}" for a, b in (at(x, y) for x, y in points))
    parts = [f'<path d="M{left} {top}V{bottom}H{width - 16}" class="axis"/>']
    for y in (low, (low + high) / 2, high):
        parts.append(
            f'<text x="{left - 8}" y="{at(0, y)[1] + 5:.1f}" text-anchor="end" class="small">{_short(y)}</text>'
        )
    for x in (0, last):
        anchor = "start" if x == 0 else "end"
        parts.append(
            f'<text x="{at(x, low)[0]:.1f}" y="{bottom + 20}" text-anchor="{anchor}" class="small">{x:,.0f}</text>'
        )
    parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
    return _framed(parts, bottom + 28, title, [], width)


def _x(value: float, low: float, high: float) -> float:
    return LABELS + (WIDTH - RIGHT - LABELS) * (value - low) / (high - low)


def _axis(low: float, high: float, top: float, bottom: float, digits: int) -> list[str]:
    parts, step = [], _nice((high - low) / 6)
    value = math.ceil(low / step - 1e-9) * step
    while value <= high + 1e-9:
        x = _x(value, low, high)
        parts.append(f'<path d="M{x:.1f} {top}V{bottom}" class="row-line"/>')
        text = f"{value + 0.0:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value + 0.0:.0f}"
        parts.append(f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle" class="small">{text}</text>')
        value += step
    return parts


def _nice(step: float) -> float:
    """A round step of about this size: 1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(max(step, 1e-12)))
    return next(power * m for m in (1, 2, 5, 10) if power * m >= step * 0.999)


def _short(value: float) -> str:
    return f"{value:.3g}"


def _framed(parts: list[str], height: float, title: str, legend: Sequence[Series], width: int = WIDTH) -> Markup:
    keys = "".join(
        '<li><svg viewBox="0 0 18 18" width="18" height="18" aria-hidden="true">'
        + SHAPES[s.shape].format(x=9, y=9, x0=3, y0=3, top=1.5, c=s.colour)
        + f"</svg>{escape(s.words)}</li>"
        for s in legend
    )
    drawn = (
        f'<svg class="chart" viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{escape(title)}">'
        + "".join(parts)
        + "</svg>"
    )
    return Markup(f'<figure class="chart-frame"><figcaption>{escape(title)}</figcaption>') + Markup(
        (f'<ul class="legend">{keys}</ul>' if keys else "") + drawn + "</figure>"
    )
