"""How lenses were trained, as one self-contained page: curves over the steps, and what came out on held-out tokens."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from MedSegLensLib.cases.writing import atomic_path

CURVES = (
    ("explained_variance", "explained variance of the batch"),
    ("loss", "mean square error of the batch"),
    ("l0", "active latents a token (L0)"),
    ("dead_share", "share of dead latents"),
)
_COLOURS = ("#0b6e99", "#c2571a", "#4f7a28", "#8a3ea8", "#a8324a", "#5b5b5b", "#0f8a7d", "#b08a00")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 520, 220, 58, 28, 12

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1120px;padding:0 1rem;color:#1c1c1c}
h1{font-size:1.4rem}figure{display:inline-block;margin:0 1rem 1rem 0}figcaption{font-size:.9rem;color:#444}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .7rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}.key{display:inline-block;width:.8rem;height:.8rem;margin-right:.4rem}
svg{max-width:100%;height:auto}"""


def write_training_page(lenses: Sequence[tuple[str, Mapping]], path: Path) -> None:
    """lenses: (name, metadata as `train_lens` gives) of each. Raises OutputError when it cannot be written."""
    with atomic_path(path) as temporary:
        temporary.write_text(training_page(lenses), encoding="utf-8")


def training_page(lenses: Sequence[tuple[str, Mapping]]) -> str:
    title = f"Training of {html.escape(lenses[0][0])}" if len(lenses) == 1 else f"Training of {len(lenses)} lenses"
    logs = [metadata.get("log", []) for _, metadata in lenses]
    figures = [
        f"<figure>{_curve(logs, key)}<figcaption>{words}, by step</figcaption></figure>" for key, words in CURVES
    ]
    said = {m["held_out_tokens"] for _, m in lenses if m.get("held_out_tokens")}
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head><body>',
            f"<h1>{title}</h1>",
            _table(lenses),
            *(f"<p>Measured on {html.escape(words)}.</p>" for words in sorted(said)),
            *figures,
            "</body></html>\n",
        ]
    )


def _table(lenses: Sequence[tuple[str, Mapping]]) -> str:
    heads = ("lens", "latents", "k", "seed", "steps", "tokens/s", "explained variance", "of the lesion", "L0", "dead")
    rows = ["".join(f"<th>{head}</th>" for head in heads)]
    for i, (name, metadata) in enumerate(lenses):
        training, held_out = metadata.get("training", {}), metadata.get("held_out", {})
        key = f'<span class="key" style="background:{_COLOURS[i % len(_COLOURS)]}"></span>'
        cells = [
            f"{training.get('width', '')}",
            f"{training.get('k', '')}",
            f"{training.get('seed', '')}",
            f"{training.get('steps', '')}",
            f"{training.get('tokens_per_second', '')}",
            _number(held_out.get("explained_variance"), "{:.4f}"),
            _number(held_out.get("explained_variance_by", {}).get("lesion"), "{:.4f}"),
            _number(held_out.get("l0"), "{:.1f}"),
            _number(held_out.get("dead_share"), "{:.1%}"),
        ]
        rows.append(f"<td>{key}{html.escape(name)}</td>" + "".join(f"<td>{html.escape(c)}</td>" for c in cells))
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"


def _curve(logs: Sequence[Sequence[Mapping]], key: str) -> str:
    """One chart as SVG: a line a lens, axes from the data. The first entries, far off any scale, may lie outside."""
    lines = [[(entry["step"], entry[key]) for entry in log if entry.get(key) is not None] for log in logs]
    values = [v for line in lines for _, v in (line[1:] if len(line) > 3 else line)]
    if not values:
        return "<p>Nothing was logged.</p>"
    low, high = min(values), max(values)
    if high - low < 1e-12:
        low, high = low, high + max(0.05 * abs(high), 0.01)
    last = max(step for line in lines for step, _ in line) or 1

    def at(step: float, value: float) -> str:
        x = _LEFT + (_WIDTH - _LEFT - 10) * step / last
        y = _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - (value - low) / (high - low))
        return f"{x:.1f},{min(max(y, _TOP), _HEIGHT - _BOTTOM):.1f}"

    marks = []
    for share in (0, 0.5, 1):
        value, y = low + share * (high - low), at(0, low + share * (high - low)).split(",")[1]
        marks.append(f'<line x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        marks.append(f'<text x="{_LEFT - 6}" y="{y}" text-anchor="end" dominant-baseline="middle">{value:.4g}</text>')
    for share in (0, 0.5, 1):
        x = at(share * last, low).split(",")[0]
        marks.append(f'<text x="{x}" y="{_HEIGHT - 8}" text-anchor="middle">{share * last:.0f}</text>')
    for i, line in enumerate(lines):
        points = " ".join(at(step, value) for step, value in line)
        colour = _COLOURS[i % len(_COLOURS)]
        marks.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" font-size="11" fill="#444">'
        f"{''.join(marks)}</svg>"
    )


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
