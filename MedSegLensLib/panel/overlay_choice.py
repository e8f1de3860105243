"""Which latents lie over the anatomy: the selected one in the foreground, further ones in the layers above it."""

from typing import TYPE_CHECKING

from slicer.i18n import tr as _

from MedSegLensLib.errors import MedSegLensError
from MedSegLensLib.scene import colours
from MedSegLensLib.scene.overlays import Overlays, slots

if TYPE_CHECKING:
    import slicer

    from MedSegLensLib.panel.review import Review
    from MedSegLensLib.worker.client import CaseSession

PROBABILITY = "probability"
"""Stands for the tap in the key of a probability map's slot."""

CACHED = 24
"""Activation volumes kept for switching back and forth, about 0.1 to 1 MB each."""


PARTNER = "partner:"
"""Stands before the other pack's name in the key of a partner's slot."""


def keyOf(tap: str, latent: int) -> str:
    return f"{tap}/{latent}"


def partnerKey(pack: str, tap: str, latent: int) -> str:
    return f"{PARTNER}{pack}/{tap}/{latent}"


class OverlayChoice:
    """Shows and hides activation volumes. What is shown is read from the scene, so that it is so after loading one."""

    def __init__(self, review: "Review", owner: "slicer.vtkMRMLNode"):
        self._review = review
        self.scene = Overlays(owner)
        self._cache: dict[str, object] = {}
        self._wanted: dict[int, str] = {}

    def slotOf(self, tap: str, latent: int) -> int | None:
        """The slot in which a latent is shown, or None."""
        return self._shown().get(keyOf(tap, latent))

    def swatches(self) -> dict[str, tuple[int, int, int]]:
        """RGB 0-255 of each overlay that is shown, by `keyOf` its latent."""
        return {key: colours.swatch(self.scene.colour(slot)) for key, slot in self._shown().items()}

    def show(self, tap: str, latent: int) -> None:
        """Show a latent in the foreground, in place of the one before; nothing to do where it is shown already."""
        if self.slotOf(tap, latent) is None:
            self._fill(0, tap, latent)

    def toggle(self, tap: str, latent: int) -> None:
        """Show a latent beside those that are shown, or hide it."""
        slot = self.slotOf(tap, latent)
        if slot is not None:
            self._wanted.pop(slot, None)
            self.scene.hide(slot)
            self._review.overlaysChanged.emit()
            return
        taken = set(self._shown().values()) | set(self._wanted)
        free = [slot for slot in range(slots()) if slot not in taken]
        self._fill(free[0] if free else 0, tap, latent)

    def showPartner(self, session: "CaseSession", pack: str, tap: str, latent: int, name: str, failed) -> None:
        """Show a latent of another pack, open in `session`, beside those that are shown: over the first slot, in a
        colour of its own."""
        key = partnerKey(pack, tap, latent)
        slot = self._partnerSlot()
        if slot is None:
            others = set(self._shown().values()) | set(self._wanted) | {0}
            further = [slot for slot in range(1, slots()) if slot not in others]
            slot = further[0] if further else min(1, slots() - 1)
        self._wanted[slot] = key
        if key in self._cache:
            self._draw(slot, key, name, self._cache[key])
            return
        self._review.watch.add(
            session.activation(tap, latent), lambda overlay: self._fetched(slot, key, name, overlay), failed
        )

    def hidePartner(self) -> None:
        """Take the partner's overlay off."""
        slot = self._partnerSlot()
        if slot is not None:
            self._wanted.pop(slot, None)
            self.scene.hide(slot)
            self._review.overlaysChanged.emit()

    def partnerSwatch(self) -> tuple[int, int, int] | None:
        """RGB 0-255 of the partner's overlay where one is shown."""
        return next((rgb for key, rgb in self.swatches().items() if key.startswith(PARTNER)), None)

    def _partnerSlot(self) -> int | None:
        for slot in range(slots()):
            shown = self.scene.key_of(slot) if self.scene.shown(slot) else ""
            if self._wanted.get(slot, shown).startswith(PARTNER):
                return slot
        return None

    def showProbability(self, region: str | None) -> None:
        """Show how sure the segmenter is of a region, under the edits in force; None hides it. Takes the last slot."""
        slot = slots() - 1
        if region is None:
            if self.scene.key_of(slot).startswith(PROBABILITY):
                self.scene.hide(slot)
            self._wanted.pop(slot, None)
            self._review.overlaysChanged.emit()
            return
        review, key = self._review, f"{PROBABILITY}/{region}"
        if review.session is None:
            return
        self._wanted[slot] = key
        name = _("probability of {region}").format(region=region)
        review.watch.add(
            review.session.probability(region, review.history.recipe),
            lambda overlay: self._draw(slot, key, name, overlay, "viridis"),
            self._failed,
        )

    def refreshProbability(self) -> None:
        """Bring a probability map that is shown up to date with the edits."""
        slot = slots() - 1
        kind, _slash, region = self.scene.key_of(slot).partition("/")
        if kind == PROBABILITY and self.scene.shown(slot):
            self.showProbability(region)

    def hideAll(self) -> None:
        self._cache.clear()
        self._wanted.clear()
        for slot in range(slots()):
            self.scene.hide(slot)
        self._review.overlaysChanged.emit()

    def setDisplay(self, opacity: float, threshold: float) -> None:
        """Opacity and threshold (0 to 1) of all overlays."""
        for slot in range(slots()):
            if self.scene.node(slot) is not None:
                self.scene.set_opacity(slot, opacity)
                self.scene.set_threshold(slot, threshold)

    def _shown(self) -> dict[str, int]:
        keys = {slot: self.scene.key_of(slot) for slot in range(slots()) if self.scene.shown(slot)}
        return {key: slot for slot, key in keys.items()}

    def _fill(self, slot: int, tap: str, latent: int) -> None:
        review, key = self._review, keyOf(tap, latent)
        if review.session is None:
            if self.scene.key_of(slot) == key and self.scene.show_again(slot):
                review.overlaysChanged.emit()
                return
            review.said.emit(_("Press Continue to see latents that were not shown when the scene was saved."), False)
            review.overlaysChanged.emit()
            return
        self._wanted[slot] = key
        name = _("latent {number} ({tap})").format(number=latent, tap=tap)
        if key in self._cache:
            self._draw(slot, key, name, self._cache[key])
            return
        review.watch.add(
            review.session.activation(tap, latent),
            lambda overlay: self._fetched(slot, key, name, overlay),
            self._failed,
        )

    def _fetched(self, slot: int, key: str, name: str, overlay) -> None:
        self._cache[key] = overlay
        if len(self._cache) > CACHED:
            del self._cache[next(iter(self._cache))]
        self._draw(slot, key, name, overlay)

    def _draw(self, slot: int, key: str, name: str, overlay, colour: str | None = None) -> None:
        if self._wanted.get(slot) != key:
            return  # another latent was chosen meanwhile
        del self._wanted[slot]
        parameters = self._review.parameters
        try:
            self.scene.show(
                slot,
                overlay,
                name,
                self._review.result.reference,
                colour=colour,
                threshold=parameters.overlayThreshold / 100,
                opacity=parameters.overlayOpacity,
                key=key,
            )
        except MedSegLensError as problem:
            self._review.said.emit(str(problem), True)
        self._review.overlaysChanged.emit()

    def _failed(self, problem: MedSegLensError) -> None:
        self._review.said.emit(str(problem), True)
        self._review.overlaysChanged.emit()
