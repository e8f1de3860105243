"""What the latents' section shows of comparisons: the filter by badge, and the partner of the selected latent."""

import html
from collections.abc import Callable
from typing import TYPE_CHECKING

from slicer.i18n import tr as _

from MedSegLensLib.scene import views
from MedSegLensLib.worker.answers import LatentRow

if TYPE_CHECKING:
    from MedSegLensLib.panel.badges import Badge
    from MedSegLensLib.panel.review import Review

LIST_WIDTH = 320
"""Of the opened list of badges, pixels: the box itself is narrow."""


class Compared:
    """badgeComboBox, partnerLabel and partnerButton of the section; hidden where no comparison is about the lens.

    changed is called when another badge was chosen; current gives the selected latent or None.
    """

    def __init__(self, review: "Review", ui, changed: Callable[[], None], current: Callable[[], tuple | None]):
        self.review, self.ui = review, ui
        self._changed, self._current = changed, current
        self._badges: list[Badge] = []
        self._filling = False
        ui.badgeComboBox.view().setMinimumWidth(LIST_WIDTH)
        ui.badgeComboBox.connect("currentIndexChanged(int)", self._onBadge)
        ui.partnerButton.connect("clicked(bool)", self._onPartner)
        ui.partnerLabel.connect("linkActivated(QString)", self._onPeak)
        self.fill("")

    def fill(self, tap: str) -> None:
        """Offer the badges that there are at a tap; without any, nothing of them is to be seen."""
        self._filling = True
        self._badges = self.review.findings.kinds(tap)
        box = self.ui.badgeComboBox
        box.clear()
        box.addItems([_("any badge"), *(f"{badge.sign} {badge.whole}" for badge in self._badges)])
        box.visible = self.ui.partnerLabel.visible = self.ui.partnerButton.visible = bool(self._badges)
        self._filling = False

    def passes(self, row: LatentRow) -> bool:
        """Whether a latent has the badge that is chosen."""
        index = self.ui.badgeComboBox.currentIndex - 1
        return index < 0 or self._badges[index] in self.review.findings.badges(row.tap, row.latent)

    def clear(self) -> None:
        """Any badge passes."""
        self.ui.badgeComboBox.setCurrentIndex(0)

    def update(self) -> None:
        """Bring button and line up to date with the selection and with what the partner does."""
        partner, current = self.review.partner, self._current()
        found = partner.partnerOf(*current) if current is not None else None
        self.ui.partnerButton.checked = partner.isOn
        self.ui.partnerButton.enabled = partner.isOn or found is not None
        self.ui.partnerButton.text = _("Show nearest") if found and not found.shared else _("Show partner")
        self.ui.partnerLabel.text = self._text(current) if current is not None else ""

    def _text(self, current: tuple[str, int]) -> str:
        partner = self.review.partner
        if not partner.state:
            badges = self.review.findings.badges(*current)
            return html.escape("; ".join(f"{badge.sign} {badge.whole}" for badge in badges))
        text = html.escape(partner.state)
        swatch = self.review.overlays.partnerSwatch()
        if swatch is not None and partner.peak is not None:
            colour = "#{:02x}{:02x}{:02x}".format(*swatch)
            text = f'<span style="color:{colour}">■</span> {text} <a href="peak">{_("Go to its maximum")}</a>'
        return text

    def _onBadge(self, _index: int) -> None:
        if not self._filling:
            self._changed()

    def _onPartner(self, on: bool) -> None:
        if on:
            self.review.partner.show()
        else:
            self.review.partner.hide()

    def _onPeak(self, _address: str) -> None:
        if self.review.partner.peak is not None:
            views.jump_to(self.review.partner.peak)
