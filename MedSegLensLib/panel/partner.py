"""The partner of the selected latent in another pack: the same case is opened with that pack too, and both are shown.

It goes along with the selection while it is on. The other pack's session is kept until the case is left, so that the
next partner comes at once; it survives the worker's restarts as the case itself does.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slicer.i18n import tr as _

from MedSegLensLib.errors import Cancelled, MedSegLensError, PackError, UsageError
from MedSegLensLib.panel.overlay_choice import partnerKey

if TYPE_CHECKING:
    from MedSegLensLib.panel.review import Review
    from MedSegLensLib.worker.client import CaseSession, Task

UNCLEAR = "unclear"
"""How the catalogue says that a latent has no name (`packs.catalogue`, which takes a library to import)."""
SHARED = ("shared", "partly shared")
"""Categories in which the latent of the other pack is a partner."""


@dataclass(frozen=True)
class PartnerLatent:
    """A latent of another pack. lens: the hash of the lens that it was compared by. shared: whether the comparison
    found the two alike; else it is only the nearest there is."""

    pack: str
    tap: str
    latent: int
    lens: str
    shared: bool

    @property
    def key(self) -> str:
        return partnerKey(self.pack, self.tap, self.latent)


class Partner:
    """review.partnerChanged tells when what is shown, or `state`, has changed."""

    def __init__(self, review: "Review"):
        self._review = review
        self.isOn = False
        self.state = ""
        """What is being done, or what was found, as a sentence."""
        self.peak: tuple[float, float, float] | None = None
        """Where the partner that is shown is strongest, RAS mm."""
        self._selected: tuple[str, int] | None = None
        self._of: CaseSession | None = None  # the session that the others go with
        self._sessions: dict[str, CaseSession] = {}
        self._opening: tuple[str, Task] | None = None
        review.opened.connect(self._onOpened)

    def partnerOf(self, tap: str, latent: int) -> PartnerLatent | None:
        """The partner that a comparison found, else the nearest latent there is, or None. Of several a true partner
        comes first, then one of a pack that is open already."""
        partners = []
        for comparison, finding in self._review.findings.of(tap, latent):
            if comparison.partner is None or finding.partner_tap is None:
                continue
            shared = finding.category in SHARED
            lens = comparison.partner.lens_hashes.get(finding.partner_tap, "")
            partners.append(
                PartnerLatent(comparison.partner.name, finding.partner_tap, finding.partner_latent, lens, shared)
            )
        return min(partners, key=lambda one: (not one.shared, one.pack not in self._sessions), default=None)

    def follow(self, tap: str, latent: int) -> None:
        """A latent was selected: where it is on, its partner is shown."""
        self._selected = (tap, latent)
        if self.isOn:
            self._show()
        else:
            self._tell("")

    def show(self) -> None:
        """Show the partner of the selected latent, and of those that are selected from now on."""
        review = self._review
        if review.session is None:
            remedy = _("Press Continue first.") if review.isRestored else _("Press Apply first.")
            review.said.emit(str(UsageError(_("partner"), _("the case is not open in the worker."), remedy)), True)
            self._tell("")
            return
        self.isOn = True
        self._show()

    def hide(self) -> None:
        """Show partners no more; what is under way is given up."""
        self.isOn = False
        if self._opening is not None:
            self._opening[1].cancel()
        self._review.overlays.hidePartner()
        self._tell("")

    def _show(self) -> None:
        wanted = self._wanted()
        if wanted is None:
            self._review.overlays.hidePartner()
            self._tell(_("This latent has no partner.") if self._selected else _("Select a latent."))
        elif wanted.pack in self._sessions:
            self._ask(wanted)
        elif self._opening is None or self._opening[0] != wanted.pack:
            self._open(wanted)

    def _wanted(self) -> PartnerLatent | None:
        return self.partnerOf(*self._selected) if self.isOn and self._selected else None

    # -- the other pack ---------------------------------------------------------------------------------------------

    def _open(self, wanted: PartnerLatent) -> None:
        review = self._review
        if self._opening is not None:
            self._opening[1].cancel()
        self._of = review.session
        task = review.session.with_partner(wanted.pack, wanted.tap, wanted.lens)
        self._opening = (wanted.pack, task)
        review.watch.add(
            task,
            lambda session: self._opened(task, wanted.pack, session),
            lambda problem: self._failed(problem, task),
            lambda task: self._progressed(task, wanted.pack),
        )
        self._progressed(task, wanted.pack)

    def _progressed(self, task: "Task", pack: str) -> None:
        if self._opening is not None and task is self._opening[1]:
            text = _("Opening this case with {pack} too: {stage}, {share:.0f} %")
            self._tell(text.format(pack=pack, stage=task.stage or _("waiting"), share=100 * task.share))

    def _opened(self, task: "Task", pack: str, session: "CaseSession") -> None:
        if self._opening is None or task is not self._opening[1]:
            session.close()  # another one was asked for meanwhile
            return
        self._opening = None
        self._sessions[pack] = session
        if self._wanted() is not None:
            self._show()

    def _failed(self, problem: MedSegLensError, task: "Task | None" = None) -> None:
        if task is not None and (self._opening is None or task is not self._opening[1]):
            return
        self._opening = None
        self.isOn = False
        self._review.overlays.hidePartner()
        if isinstance(problem, Cancelled):
            self._tell("")
            return
        self._review.said.emit(str(problem), True)
        self._tell(str(problem))

    # -- the partner ------------------------------------------------------------------------------------------------

    def _ask(self, wanted: PartnerLatent) -> None:
        review, session = self._review, self._sessions[wanted.pack]
        if session.opened.pack["lens_hashes"].get(wanted.tap) != wanted.lens:
            cause = _("its lens at {tap} was trained anew since the packs were compared.").format(tap=wanted.tap)
            self._failed(PackError(wanted.pack, cause, _("Compare the packs again with `medseglens diff models`.")))
            return
        name = _("partner: latent {number} of {pack} ({tap})") if wanted.shared else _(
            "nearest: latent {number} of {pack} ({tap})")  # fmt: skip
        name = name.format(number=wanted.latent, pack=wanted.pack, tap=wanted.tap)
        review.overlays.showPartner(session, wanted.pack, wanted.tap, wanted.latent, name, self._failed)
        review.watch.add(
            session.detail(wanted.tap, wanted.latent), lambda detail: self._told(wanted, detail), self._failed
        )

    def _told(self, wanted: PartnerLatent, detail: dict) -> None:
        if self._wanted() != wanted:
            return
        catalogue = detail["catalogue"] or {}
        named = catalogue.get("name") not in (None, "", UNCLEAR)
        text = "" if wanted.shared else _("No partner, only the nearest: ")
        text += _("{pack}, latent {number} ({tap}){name}: fires in {ml:.1f} mL of this case.")
        self._tell(
            text.format(
                pack=wanted.pack,
                number=wanted.latent,
                tap=wanted.tap,
                name=f", “{catalogue['name']}”" if named else "",
                ml=detail["volume_ml"],
            ),
            tuple(detail["peak_ras"]) if detail["peak_ras"] is not None else None,
        )

    def _onOpened(self) -> None:
        if self._of is not None and self._of is self._review.session:
            return  # another widget took the same review up
        self._of, self._opening, self._selected = self._review.session, None, None
        self._sessions = {}  # closed with the session that they went with
        self.isOn = False
        self._tell("")

    def _tell(self, state: str, peak: tuple[float, float, float] | None = None) -> None:
        self.state, self.peak = state, peak
        self._review.partnerChanged.emit()
