"""The details of a latent as text: what was found in this case, and what the pack's catalogue knows. No Qt."""

import html
import re
from collections.abc import Callable

from slicer.i18n import tr as _

from MedSegLensLib.panel.latent_list import STABLE_FROM

LATENT, EXAMPLE = "latent", "example"
"""What a link leads to; after a colon the latent's number, or the example's place in the catalogue's list."""

TISSUES = {"NCR": "necrotic core", "ED": "edema", "ET": "enhancing tumour", "brain": "brain outside the tumour"}
SHARES = {
    "share_ncr": "necrotic core",
    "share_ed": "edema",
    "share_et": "enhancing tumour",
    "share_brain": "brain outside the tumour",
    "share_air": "outside the brain",
}
OVERLAPS = {"ncr": "NCR", "ed": "ED", "et": "ET", "wt": "WT"}
RELATIVES = {
    "near_duplicates": "Near-duplicates",
    "co_firing": "Fire in the same places",
    "parents": "Fire wherever it does",
    "children": "Fire only where it does",
}
MOST_RELATIVES = 8


def detailHtml(
    detail: dict, case: str = "", nameOf: Callable[[int], str] = lambda latent: "", compared: str = ""
) -> str:
    """The details as a table, units in every row. case: the name of the open one; nameOf: another latent's name;
    compared: what comparisons found of it."""
    rows = [(_("Fires in"), f"{detail['volume_ml']:.1f} mL")]
    if detail["extent_mm"] is not None:
        r, a, s = detail["extent_mm"]
        rows.append((_("Reaches over"), _("{r:.0f} × {a:.0f} × {s:.0f} mm (right-left, front-back, head-foot)").format(
            r=r, a=a, s=s)))  # fmt: skip
    shares = [(TISSUES.get(k, k), v) for k, v in detail["region_share"].items() if v >= 0.005]
    shares.sort(key=lambda pair: -pair[1])
    rows.append((_("Its activation lies in"), ", ".join(f"{name} {100 * v:.0f} %" for name, v in shares) or "–"))
    if detail["peak_ras"] is not None:
        r, a, s = detail["peak_ras"]
        rows.append((_("Strongest at"), f"R {r:.0f}, A {a:.0f}, S {s:.0f} mm"))
    if compared:
        rows.append((_("Compared"), compared))
    rows += catalogueRows(detail["catalogue"])
    lines = [_line(k, html.escape(v).replace("\n\n", "<br>")) for k, v in rows]
    if detail["catalogue"] is not None:
        lines += [_line(k, v) for k, v in linkedRows(detail["catalogue"], case, nameOf)]
    return f"<table>{''.join(lines)}</table>"


def _line(name: str, value: str) -> str:
    return f"<tr><td><b>{html.escape(name)}</b>&nbsp;</td><td>{value}</td></tr>"


def catalogueRows(row: dict | None) -> list[tuple[str, str]]:
    """What the pack's catalogue knows, from its training cases."""
    if row is None:
        return [(_("Catalogue"), _("the pack says nothing of it"))]
    rows = nameRows(row)
    if not row.get("fires_share"):
        return [*rows, (_("Catalogue"), _("it fired on no training case"))]
    firing = _("fired on {share:.2g} % of the brain, mean {mean:.2f}, at most {max:.2f}")
    rows.append(
        (_("In training cases"), firing.format(share=100 * row["fires_share"], mean=row["mean"], max=row["max"]))
    )
    if row.get("extent_ml") is not None:
        rows.append((_("There it filled"), _("{ml:.1f} mL of a case").format(ml=row["extent_ml"])))
    parts = [f"{name} {100 * row[key]:.0f} %" for key, name in SHARES.items() if (row.get(key) or 0) >= 0.005]
    rows.append((_("There it lay in"), ", ".join(parts) or "–"))
    overlaps = [f"{name} {row[f'auroc_{k}']:.2f}" for k, name in OVERLAPS.items() if row.get(f"auroc_{k}") is not None]
    if overlaps:
        rows.append((_("Tells apart (AUROC)"), ", ".join(overlaps) + _("; 0.5 is chance")))
    influences = [
        (k.upper(), row[f"influence_{k}"]) for k in ("wt", "tc", "et") if row.get(f"influence_{k}") is not None
    ]
    if influences:
        text = ", ".join(f"{name} {value:+.2f}" for name, value in influences)
        rows.append((_("If suppressed"), _("log odds of {changes}").format(changes=text)))
    return rows


def nameRows(row: dict) -> list[tuple[str, str]]:
    """Its name with the evidence, how well the name was tested, and whether other seeds have the latent."""
    rows = []
    if row.get("name"):
        rows.append((_("Name by rule"), row["name"]))
    if row.get("name_evidence"):
        rows.append((_("Evidence"), row["name_evidence"]))
    tested = []
    if row.get("name_prediction") is not None:
        tested.append(_("predicts firing on unseen cases with balanced accuracy {value:.2f}").format(
            value=row["name_prediction"]))  # fmt: skip
    if row.get("name_intervention") is not None:
        text = _("suppressing it acts where the name says, more so than with {share:.0f} % of the other named latents")
        tested.append(text.format(share=100 * row["name_intervention"]))
    if tested:
        rows.append((_("The name, tested"), "; ".join(tested)))
    if row.get("stability") is not None:
        stable = row["stability"] >= STABLE_FROM
        text = _("found again by other seeds (cosine {value:.2f})") if stable else _(
            "not found again by other seeds (cosine {value:.2f}): it may be an accident of training")  # fmt: skip
        rows.append((_("Stability"), text.format(value=row["stability"])))
    return rows


def linkedRows(row: dict, case: str, nameOf: Callable[[int], str]) -> list[tuple[str, str]]:
    """Best examples and relatives, as HTML: an example in the open case and every latent are links."""
    rows = []
    examples = row.get("examples") or []
    if examples:
        rows.append((_("Best examples"), "<br>".join(_example(n, e, case) for n, e in enumerate(examples))))
    elif row.get("best_case"):
        text = _("{case}, axial slice {slice} (from 0)").format(case=row["best_case"], slice=row["best_slice"])
        rows.append((_("Strongest example"), html.escape(text)))
    for key, title in RELATIVES.items():
        others = row.get(key) or []
        if others:
            more = (
                _(" and {count} more").format(count=len(others) - MOST_RELATIVES)
                if len(others) > MOST_RELATIVES
                else ""
            )
            links = [
                f'<a href="{LATENT}:{j}">{html.escape(_numbered(j, nameOf(j)))}</a>' for j in others[:MOST_RELATIVES]
            ]
            rows.append((_(title), ", ".join(links) + more))
    return rows


def _numbered(latent: int, name: str) -> str:
    return f"{latent}: {name}" if name else str(latent)


def _example(number: int, example: dict, case: str) -> str:
    text = _("{case}, slice {slice} (from 0)").format(case=example["case"], slice=example["slice"])
    if isSameCase(case, example["case"]):
        return f'<a href="{EXAMPLE}:{number}">{html.escape(text)}</a> ' + _("(this case)")
    return html.escape(text)


def isSameCase(opened: str, example: str) -> bool:
    """Whether an open case, named after its first volume ("BraTS2021_00006_t1"), is the one of an example."""
    return bool(example) and re.match(re.escape(example) + r"(?![A-Za-z0-9])", opened) is not None
