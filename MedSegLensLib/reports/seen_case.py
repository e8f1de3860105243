"""A case as one pack saw it, with just what pictures of its latents need: the session itself is let go."""

from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk
import torch

from MedSegLensLib.cases.case import Case
from MedSegLensLib.cases.conform import Conformed
from MedSegLensLib.editing.places import share_inside
from MedSegLensLib.editing.session import Session
from MedSegLensLib.lenses.activation import activation_volume
from MedSegLensLib.lenses.codes import Codes
from MedSegLensLib.packs.pack import LensPack
from MedSegLensLib.reports.planes import Planes
from MedSegLensLib.segmenters.sampling import Sampling, whole


@dataclass
class SeenCase:
    """name: of the case; says: what it is, where it is not a patient's as acquired. labels: uint8 (Z, Y, X) of the
    network's grid, as all arrays here. images: by modality, z-scored, those that the case has."""

    name: str
    says: str
    conformed: Conformed
    labels: np.ndarray
    images: dict[str, np.ndarray]
    codes: dict[str, Codes]
    sampling: Sampling
    _totals: dict[tuple, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    @staticmethod
    def by(case: Case, pack: LensPack, taps: set[str], says: str = "") -> "SeenCase":
        """The case opened with a pack. Raises what Session raises."""
        session = Session(case, pack)
        modalities = pack.input_spec().modalities
        images = {
            modality: session.conformed.array[channel]
            for channel, modality in enumerate(modalities)
            if session.conformed.present[channel]
        }
        codes = {tap: codes for tap, codes in session.codes.items() if tap in taps}
        return SeenCase(case.name, says, session.conformed, session.labels, images, codes, session.sampling)

    def planes(self) -> Planes:
        """How its slices are cut; without a position where the volume is oblique."""
        conformed = self.conformed
        straight = np.allclose(np.reshape(conformed.grid.direction, (3, 3)), np.eye(3), atol=1e-3)
        origin = conformed.grid.point(conformed.start) if straight else None
        return Planes.around(conformed.brain, conformed.grid.spacing, origin)

    def activation(self, tap: str, latent: int) -> np.ndarray:
        """The latent's activation volume, float32 (Z, Y, X)."""
        volume = activation_volume(self.codes[tap], latent, self.sampling.sample_shape)
        return self.sampling.merge(torch.from_numpy(volume)[:, None], whole(self.labels.shape))[0].numpy()

    def active_ml(self, tap: str, latent: int) -> float:
        """The volume of the tokens on which it fires, mL."""
        codes = self.codes[tap]
        token_ml = self.conformed.voxel_ml * self.labels.size / codes.n_tokens
        return float(codes.pointers[latent + 1] - codes.pointers[latent]) * token_ml

    def totals(self, tap: str, values: tuple[int, ...] | None = None) -> np.ndarray:
        """The sum of each latent's code over the brain, float64 (latents,); only where the segmentation has one of
        these label values, where given. Computed once: every finding asks for it."""
        if (tap, values) not in self._totals:
            self._totals[tap, values] = self._summed(tap, values)
        return self._totals[tap, values]

    def _summed(self, tap: str, values: tuple[int, ...] | None) -> np.ndarray:
        codes = self.codes[tap]
        weighted = codes.values.astype(np.float64)
        if values is not None:
            share = share_inside(np.isin(self.labels, values), self.sampling, codes.grid[1:]).ravel()
            weighted = weighted * share[codes.tokens]
        running = np.concatenate([[0.0], np.cumsum(weighted)])
        return running[codes.pointers[1:]] - running[codes.pointers[:-1]]

    def on_grid_of(self, other: "SeenCase", array: np.ndarray, nearest: bool = False) -> np.ndarray:
        """An array of this network's grid on that of another pack, which saw the same case; 0 outside."""
        mine, theirs = self.conformed.to_image(array), other.conformed.to_image(other.conformed.brain)
        kind = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
        return sitk.GetArrayFromImage(sitk.Resample(mine, theirs, sitk.Transform(), kind, 0))
