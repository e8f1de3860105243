"""All about the selected latent: how strongly it fires, how far it reaches, in which tissue, what the pack knows."""

import html
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from MedSegLensLib.errors import MedSegLensError
from MedSegLensLib.scene import views

if TYPE_CHECKING:
    from MedSegLensLib.panel.review import Review

TISSUES = {"NCR": "necrotic core", "ED": "edema", "ET": "enhancing tumour", "brain": "brain outside the tumour"}
WIDTH, HEIGHT = 400, 120


class DetailsSection:
    """Filled when a latent is selected and the section is open."""

    def __init__(self, review: "Review", loadUi: Callable):
        self.review = review
        self.widget = loadUi("Details")
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self._latent: tuple[str, int] | None = None
        self._peak = None
        self._task = None
        self.ui.jumpButton.connect("clicked(bool)", self._onJump)
        self.widget.connect("contentsCollapsed(bool)", self._onCollapsed)
        review.opened.connect(self._clear)
        self._clear()

    def _clear(self) -> None:
        self._latent = self._peak = None
        self.ui.detailsTitle.text = _("Choose a latent in the table above.")
        self.ui.histogramLabel.visible = self.ui.detailsText.visible = False
        self.ui.jumpButton.enabled = False

    def choose(self, latent: tuple[str, int] | None) -> None:
        """Show the details of (tap, latent)."""
        self._latent = latent
        self._request()

    def _onCollapsed(self, collapsed: bool) -> None:
        if not collapsed:
            self._request()

    def _request(self) -> None:
        session = self.review.session
        if self._latent is None or session is None or self.widget.collapsed:
            return
        self.review.watch.forget(self._task)
        latent = self._latent
        self._task = self.review.watch.add(
            session.detail(*latent), lambda detail: self._show(latent, detail), self._failed
        )

    def _failed(self, problem: MedSegLensError) -> None:
        self.review.said.emit(str(problem), True)

    def _show(self, latent: tuple[str, int], detail: dict) -> None:
        self._peak = detail["peak_ras"]
        self.ui.detailsTitle.text = _("Latent {number} of {tap}").format(number=latent[1], tap=latent[0])
        self.ui.histogramLabel.setPixmap(histogramPixmap(detail["histogram"]))
        self.ui.detailsText.text = detailHtml(detail)
        self.ui.histogramLabel.visible = self.ui.detailsText.visible = True
        self.ui.jumpButton.enabled = self._peak is not None

    def _onJump(self, _checked=False) -> None:
        if self._peak is not None:
            views.jump_to(tuple(self._peak))


def detailHtml(detail: dict) -> str:
    """The details as a table, units in every row."""
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
    rows += catalogueRows(detail["catalogue"])
    lines = (f"<tr><td><b>{html.escape(k)}</b>&nbsp;</td><td>{html.escape(v)}</td></tr>" for k, v in rows)
    return f"<table>{''.join(lines)}</table>"


def catalogueRows(row: dict | None) -> list[tuple[str, str]]:
    """What the pack's catalogue knows, from its training cases."""
    if row is None:
        return [(_("Catalogue"), _("the pack says nothing of it"))]
    if not row.get("fires_share"):
        return [(_("Catalogue"), _("it fired on no training case"))]
    firing = _("fired on {share:.2g} % of the brain, mean {mean:.2f}, at most {max:.2f}")
    rows = [
        (_("In training cases"), firing.format(share=100 * row["fires_share"], mean=row["mean"], max=row["max"]))
    ]
    names = {"share_ncr": "necrotic core", "share_ed": "edema", "share_et": "enhancing tumour",
             "share_brain": "brain outside the tumour", "share_air": "outside the brain"}  # fmt: skip
    parts = [f"{name} {100 * row[key]:.0f} %" for key, name in names.items() if (row.get(key) or 0) >= 0.005]
    rows.append((_("There it lay in"), ", ".join(parts) or "–"))
    if row.get("best_case"):
        rows.append((_("Strongest example"), _("{case}, axial slice {slice} (from 0)").format(
            case=row["best_case"], slice=row["best_slice"])))  # fmt: skip
    return rows


def histogramPixmap(histogram: dict):
    """Bars of how many tokens have which activation (square-root scale), with the axis in the code's units."""
    counts, edges = np.sqrt(np.asarray(histogram["counts"], float)), histogram["edges"]
    pixmap = qt.QPixmap(WIDTH, HEIGHT)
    pixmap.fill(qt.QColor(255, 255, 255))
    painter = qt.QPainter(pixmap)
    bottom, top = HEIGHT - 34, 8
    width = (WIDTH - 20) / max(len(counts), 1)
    highest = max(float(counts.max()) if len(counts) else 0.0, 1.0)
    for n, count in enumerate(counts):
        height = int((bottom - top) * count / highest)
        painter.fillRect(10 + int(n * width), bottom - height, max(int(width) - 1, 1), height, qt.QColor(0, 114, 178))
    painter.setPen(qt.QColor(60, 60, 60))
    painter.drawLine(10, bottom, WIDTH - 10, bottom)
    painter.drawText(10, bottom + 13, f"{float(edges[0]):.2g}" if len(edges) else "0")
    last = f"{float(edges[-1]):.2g}" if len(edges) else ""
    painter.drawText(WIDTH - 12 - 7 * len(last), bottom + 13, last)
    painter.drawText(10, HEIGHT - 5, _("activation; bars: number of places, square-root scale"))
    painter.end()
    return pixmap
