"""Why a place is suspected: the latents that add most to its score, in the catalogue's words, told as a chain from an
earlier latent to the later one that goes with it."""

from typing import TYPE_CHECKING

import numpy as np

from MedSegLensLib.failures.features import latent_of, place_features
from MedSegLensLib.failures.findings import Reason
from MedSegLensLib.packs.shown_names import shown_names

if TYPE_CHECKING:
    from MedSegLensLib.failures.detector import Detector
    from MedSegLensLib.failures.features import Readings
    from MedSegLensLib.packs.pack import LensPack

MOST = 3
FEWEST = 2


class Explainer:
    """Reasons for the places of one case."""

    def __init__(self, pack: "LensPack", readings: "Readings", detector: "Detector"):
        self.readings, self.basis = readings, detector.basis
        self._kinds = readings["places"][:, 0]
        self._names = shown_names(pack)
        self._unusual = {tap: self.basis.unusual(readings, tap) for tap in self.basis.taps}
        self._strengths = {tap: self.basis.strengths(readings, tap) for tap in self.basis.taps}
        self._models, self._added = detector.places, []
        names, features = place_features(readings, self.basis)
        for model in detector.places:
            self._added.append(model.contributions(names, features))

    def reasons(self, place: int) -> tuple[tuple[Reason, ...], str]:
        """At most `MOST` latents, and what they say in one clause. First those that add most to the classifier's score;
        where these are fewer than `FEWEST`, those that most exceed what is usual in a place like this."""
        kind = int(self._kinds[place])
        added = self._added[kind][place]
        chosen = []
        for i in np.argsort(-added):
            latent = latent_of(self._models[kind].names[i])
            if added[i] > 0 and latent is not None and len(chosen) < MOST:
                chosen.append(latent)
        if len(chosen) < FEWEST:
            others = [
                (float(self._unusual[tap][place, j]), (tap, int(j)))
                for tap in self.basis.taps
                for j in np.argsort(-self._unusual[tap][place])[:MOST]
            ]
            for unusual, latent in sorted(others, reverse=True):
                if unusual > 0 and latent not in chosen and len(chosen) < FEWEST:
                    chosen.append(latent)
        reasons = tuple(self._reason(place, kind, *latent) for latent in chosen)
        return reasons, "; ".join(self._clause(place, kind, reason) for reason in reasons)

    def _reason(self, place: int, kind: int, tap: str, latent: int) -> Reason:
        value = float(self.readings[f"code {tap}"][place, latent])
        usual = float(np.expm1(self.basis.usual[tap][kind, latent]) * self.basis.scale[tap][latent])
        return Reason(tap, latent, self._names.get((tap, latent), ""), round(value, 4), round(usual, 4))

    def _clause(self, place: int, kind: int, reason: Reason) -> str:
        how = "stronger" if reason.value > reason.usual else "weaker"
        said = f"{self._called(reason.tap, reason.latent)} is {how} than usual"
        earlier = self.basis.taps[: self.basis.taps.index(reason.tap)]
        if not earlier or how == "weaker":
            return said
        excess = self._strengths[earlier[-1]][place] - self.basis.usual[earlier[-1]][kind]
        driver = self.basis.drivers[reason.tap].driver(reason.latent, excess)
        if driver is None:
            return said
        return f"{self._called(earlier[-1], driver)} earlier on, and with it {said}"

    def _called(self, tap: str, latent: int) -> str:
        name = self._names.get((tap, latent), "")
        return f'latent {latent} ("{name}")' if name else f"latent {latent}"
