"""The slices of a case that show where it is likely wrong: small arrays that travel, for a page to draw."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from MedSegLensLib.editing.places import ras_point, voxel_of
from MedSegLensLib.failures.findings import Check

if TYPE_CHECKING:
    from MedSegLensLib.editing.session import Session

BACKGROUNDS = {"ET": ("t1c", "t1n"), "TC": ("t1c", "t1n"), "NCR": ("t1c", "t1n"), "WT": ("t2f", "t2w"), "ED": ("t2f",)}
"""What a region is best seen on; else any modality that is there."""
ANATOMY, BRAIN, LABELS, RISK, TRUTH = range(5)


@dataclass(frozen=True)
class SuspectSlice:
    """One axial slice of the network's grid.

    layers: uint8 (5, Y, X): anatomy (0..255 within the brain's range), brain (0, 1), labels, risk (0..255 for 0..1),
    labels of the reference segmentation (all 255 without one). spacing: (y, x) mm. origin: LPS (x, y, z) mm of the
    first voxel. modality: what the anatomy is. suspect: number of the suspect in the check, -1 for none. at: its voxel
    (row, column).
    """

    layers: np.ndarray
    spacing: tuple[float, float]
    origin: tuple[float, float, float]
    modality: str
    suspect: int
    at: tuple[int, int]

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {
            "layers": self.layers,
            "numbers": np.array([*self.spacing, *self.origin, self.suspect, *self.at], float),
            "modality": np.array(self.modality),
        }

    @staticmethod
    def from_arrays(arrays: dict[str, np.ndarray]) -> "SuspectSlice":
        n = arrays["numbers"].tolist()
        return SuspectSlice(
            arrays["layers"],
            tuple(n[:2]),
            tuple(n[2:5]),
            str(arrays["modality"]),
            int(n[5]),
            (int(n[6]), int(n[7])),
        )


def suspect_slices(
    session: "Session", check: Check, risk: np.ndarray, truth: np.ndarray | None, most: int
) -> list[SuspectSlice]:
    """The slices through the worst suspects, one each, in different slices; the slice with most tumour, or most brain,
    where there is no suspect."""
    found, seen = [], set()
    for number, suspect in enumerate(check.suspects):
        voxel = voxel_of(session.conformed, suspect.ras)
        if voxel[0] in seen:
            continue
        seen.add(voxel[0])
        found.append(_slice(session, risk, truth, voxel, suspect.region, number))
        if len(found) == most:
            return found
    if not found:
        shown = session.labels > 0 if (session.labels > 0).any() else session.conformed.brain
        z = int(shown.sum((1, 2)).argmax())
        found.append(_slice(session, risk, truth, (z, 0, 0), "WT", -1))
    return found


def _slice(session, risk, truth, voxel, region: str, number: int) -> SuspectSlice:
    conformed, z = session.conformed, voxel[0]
    modalities = conformed_modalities(session)
    modality = next((m for m in BACKGROUNDS[region] if m in modalities), next(iter(modalities)))
    volume, brain = conformed.array[modalities[modality]], conformed.brain
    low, high = np.percentile(volume[brain][::7], (1, 99.9)) if brain.any() else (0.0, 1.0)
    grey = np.clip((volume[z] - low) / max(high - low, 1e-6), 0, 1) * 255
    wrong = np.full(brain[z].shape, 255) if truth is None else truth[z]
    layers = np.stack([grey, brain[z], session.labels[z], np.clip(risk[z], 0, 1) * 255, wrong]).astype(np.uint8)
    right, anterior, superior = ras_point(conformed, (z, 0, 0))
    spacing = conformed.grid.spacing
    return SuspectSlice(
        layers, (spacing[1], spacing[0]), (-right, -anterior, superior), modality, number, (voxel[1], voxel[2])
    )


def conformed_modalities(session: "Session") -> dict[str, int]:
    """Channel by modality, of those that the case has."""
    wanted = session.pack.info.input["modalities"]
    return {m: c for c, (m, there) in enumerate(zip(wanted, session.conformed.present, strict=True)) if there}
