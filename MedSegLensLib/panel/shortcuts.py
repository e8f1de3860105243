"""Keys while the module is in view: step through the latents, overlay, suppress, reset, undo, redo, the original."""

import qt
from slicer.i18n import tr as _

HOLD_FIRST_MS, HOLD_MS = 700, 250
"""A held key repeats: first after up to 660 ms, then at least 10 times a second. When no more comes it was let go."""


class Shortcuts:
    """Installed in the window while the module is shown; keys typed into a field stay there."""

    def __init__(self, latents, edits, review):
        self._latents, self._edits, self._review = latents, edits, review
        self._shortcuts: list = []
        self._held = qt.QTimer()
        self._held.setSingleShot(True)
        self._held.connect("timeout()", self._release)
        self._holding = False

    def keys(self) -> list[tuple[str, str, object]]:
        """Key, what it does, and the call."""
        return [
            ("N", _("next latent"), lambda: self._latents.step(1)),
            ("P", _("previous latent"), lambda: self._latents.step(-1)),
            ("O", _("overlay on/off"), self._toggleOverlay),
            ("0", _("suppress"), lambda: self._setStrength(0.0)),
            ("1", _("reset the latent"), self._edits.resetSelected),
            ("Ctrl+Z", _("undo"), self._review.undo),
            ("Ctrl+Y", _("redo"), self._review.redo),
            ("H", _("hold to see the original"), self._hold),
        ]

    def text(self) -> str:
        return _("Keys: ") + ", ".join(f"{key} {what}" for key, what, _call in self.keys()) + "."

    def install(self, window) -> None:
        if self._shortcuts:
            return
        for key, _what, call in self.keys():
            shortcut = qt.QShortcut(qt.QKeySequence(key), window)
            shortcut.connect("activated()", call)
            shortcut.connect("activatedAmbiguously()", call)
            self._shortcuts.append(shortcut)

    def remove(self) -> None:
        for shortcut in self._shortcuts:
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []
        self._held.stop()

    def _toggleOverlay(self) -> None:
        if self._latents.current is not None:
            self._review.overlays.toggle(*self._latents.current)

    def _setStrength(self, strength: float) -> None:
        if self._latents.current is not None:
            self._latents.release(*self._latents.current, strength)

    def _hold(self) -> None:
        self._held.start(HOLD_MS if self._holding else HOLD_FIRST_MS)
        if not self._holding:
            self._holding = True
            self._review.showOriginal(True)

    def _release(self) -> None:
        self._holding = False
        self._review.showOriginal(self._edits.ui.originalButton.checked)
