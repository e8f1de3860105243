"""What comparisons found of the open pack's latents: those that it is shipped with, and the reader's own."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from slicer.i18n import tr as _

from MedSegLensLib.errors import PackError

if TYPE_CHECKING:
    from MedSegLensLib.packs.comparisons import PackComparison, PackFinding, PackFindings
    from MedSegLensLib.panel.badges import Badge
    from MedSegLensLib.panel.review import Review


class LatentFindings:
    """Read when a case opens; a saved scene shows those of the latents that it lists. See `packs.comparisons`."""

    def __init__(self, review: "Review"):
        self._review = review
        self._findings: PackFindings | None = None
        self._shipped: list[PackComparison] = []
        review.opened.connect(self._onOpened)

    def __bool__(self) -> bool:
        """Whether anything was found of the lenses that the pack has now."""
        return bool(self._findings)

    def of(self, tap: str, latent: int) -> "list[tuple[PackComparison, PackFinding]]":
        """What is known of a latent."""
        return self._findings.of(tap, latent) if self._findings else []

    def badges(self, tap: str, latent: int) -> "list[Badge]":
        if not self._findings:
            return []
        from MedSegLensLib.panel.badges import badgesOf

        return badgesOf(self.of(tap, latent))

    def tip(self, tap: str, latent: int) -> str:
        if not self._findings:
            return ""
        from MedSegLensLib.panel.badges import badgeTip

        return badgeTip(self.of(tap, latent))

    def kinds(self, tap: str) -> "list[Badge]":
        """Every badge that a latent at a tap has, each once."""
        if not self._findings:
            return []
        from MedSegLensLib.panel.badges import SIGNS, badgesOf

        here = [pair for pair in self._findings if pair[1].tap == tap]
        order = list(SIGNS.values())
        return sorted(set(badgesOf(here)), key=lambda badge: (order.index(badge.sign), badge.whole))

    def forScene(self, latents: Iterable[tuple[str, int]]) -> list[dict]:
        """The findings of some latents, as documents to be saved with the scene."""
        wanted = set(latents)
        parts = []
        for one in self._shipped:
            part = replace(one, findings=tuple(f for f in one.findings if (f.tap, f.latent) in wanted))
            parts += [part.to_json()] if part.findings else []
        return parts

    def _onOpened(self) -> None:
        review = self._review
        session = review.session
        pack = session.opened.pack if session is not None else review.saved.pack
        self._findings, self._shipped = None, []
        if not pack.get("lens_hashes"):
            return
        try:
            # These need a package that the first Apply installs.
            from MedSegLensLib.packs.comparisons import PackFindings, checked_comparison, kept_comparisons

            kept, problems = kept_comparisons(pack["name"])
            documents = session.opened.comparisons if session is not None else review.saved.comparisons
            self._shipped = [checked_comparison(pack["name"], document, pack["name"]) for document in documents]
        except ImportError:
            return
        except PackError as problem:  # in a scene that somebody wrote
            problems = [*problems, problem]
        for problem in problems:
            review.said.emit(str(problem), True)
        self._findings = PackFindings(pack["lens_hashes"], [*self._shipped, *kept])
        for comparison in self._findings.outdated:
            line = _("A comparison with {against} is about lenses that {pack} had before; compare again to see badges.")
            review.said.emit(line.format(against=_(" and ").join(comparison.against), pack=pack["name"]), False)
