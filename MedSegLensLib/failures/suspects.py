"""The places of a segmentation that are judged: parts of it that may be false, parts of the brain that may be missed.

Made from the labels, logits and codes alone; which of them are wrong is known only in training (`wrong_share`).

- false positive, component: a connected piece of WT, TC or ET.
- false positive, boundary: the outermost `BAND_MM` inside a larger piece of WT or TC, cut into stretches of some mL.
- missed, boundary: the next `BAND_MM` outside of it (for TC: within WT), cut likewise.
- missed, component: brain farther out that looks most like tumour, by the segmenter's own odds or by latents that fire
  in tumour on the training cases; for TC and ET: of the segmented tumour, what looks most like them.

A place is a set of voxels; places overlap (a component and its boundary).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from scipy.cluster.vq import kmeans2

from MedSegLensLib.cases.boxes import box_of, widened
from MedSegLensLib.cases.case import REGIONS, region_mask
from MedSegLensLib.failures.findings import FALSE_POSITIVE, MISSED
from MedSegLensLib.segmenters.sampling import Box, whole

if TYPE_CHECKING:
    from MedSegLensLib.editing.session import Session

JUDGED = ("WT", "TC", "ET")
KINDS = (
    (FALSE_POSITIVE, "component"),
    (FALSE_POSITIVE, "boundary"),
    (MISSED, "boundary"),
    (MISSED, "component"),
)
"""Kind and form of place; `Places.kind` counts in this order."""

BAND_MM = 3.0
STRETCH_ML = 1.5
"""Volume of a stretch of the boundary and of a piece of brain, about: a sphere of 14 mm."""
SMALLEST_ML = 0.05
LARGE_ML = 3.0
"""From here on a component's boundary is judged in stretches."""
MOST = 40
"""Components of a region that are judged, the largest first; pieces of brain likewise, those most like tumour first."""
LOOKED_AT = 0.03
"""Share of the brain outside that is looked at for missed tumour, for each of the two measures of likeness; of the
segmented tumour, for TC and ET, `LOOKED_AT_INSIDE`. A share and no threshold, since a network that a shifted case
misleads is sure of it."""
LOOKED_AT_INSIDE = 0.2
LEAST = 1e-12


@dataclass(frozen=True)
class Places:
    """Places of one volume (Z, Y, X): place i has `voxels[pointers[i]:pointers[i + 1]]`, flat indices, ascending.

    kind: index into `KINDS`; region: index into `JUDGED`; int64 (places,).
    """

    shape: tuple[int, int, int]
    pointers: np.ndarray
    voxels: np.ndarray
    kind: np.ndarray
    region: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def sizes(self) -> np.ndarray:
        """Voxels of each place, int64 (places,); none is empty."""
        return np.diff(self.pointers)

    def of(self, place: int) -> np.ndarray:
        return self.voxels[self.pointers[place] : self.pointers[place + 1]]

    def means(self, volume: np.ndarray) -> np.ndarray:
        """Mean of a volume (Z, Y, X) over each place, float64 (places,)."""
        if not len(self):
            return np.zeros(0)
        return np.add.reduceat(volume.ravel()[self.voxels].astype(np.float64), self.pointers[:-1]) / self.sizes

    def middles(self) -> np.ndarray:
        """The voxel (z, y, x) of each place that is nearest to its centre of mass, int64 (places, 3): in the place
        itself, where a shell's centre is not."""
        middles = np.zeros((len(self), 3), np.int64)
        for i in range(len(self)):
            at = np.stack(np.unravel_index(self.of(i), self.shape), 1)
            middles[i] = at[np.square(at - at.mean(0)).sum(1).argmin()]
        return middles


class Belief:
    """What the segmenter says of each voxel, float32 (Z, Y, X) each.

    entropy: in nat. surest: probability of the most likely label. p: probability by region of `JUDGED`; odds: log odds,
    between -28 and 28.
    """

    def __init__(self, session: "Session"):
        logits = session.sampling.merge(session.replay.logits, whole(session.labels.shape)).float()
        p = logits.softmax(0)
        self.entropy = -torch.xlogy(p, p).sum(0).cpu().numpy()
        self.surest = p.amax(0).cpu().numpy()
        self.p: dict[str, np.ndarray] = {}
        self.odds: dict[str, np.ndarray] = {}
        for region in JUDGED:
            inside = p[list(REGIONS[region])].sum(0)
            outside = p[[k for k in range(len(p)) if k not in REGIONS[region]]].sum(0)
            self.p[region] = inside.cpu().numpy()
            self.odds[region] = ((inside + LEAST).log_() - (outside + LEAST).log_()).cpu().numpy()


def find_places(session: "Session", belief: Belief, alike: dict[str, np.ndarray]) -> Places:
    """The places of a session's segmentation. alike: by region, how much each voxel looks like it by the latents,
    float32 (Z, Y, X); {} where that is not known."""
    spacing = session.conformed.grid.spacing[::-1]
    voxel_ml, shape, brain = session.conformed.voxel_ml, session.labels.shape, session.conformed.brain
    found: list[tuple[int, int, np.ndarray]] = []

    def add(kind: int, region: int, pieces: list[np.ndarray]):
        found.extend((kind, region, np.sort(piece)) for piece in pieces if len(piece) * voxel_ml >= SMALLEST_ML)

    tumour = region_mask(session.labels, "WT") & brain
    for r, region in enumerate(JUDGED):
        ours = region_mask(session.labels, region) & brain
        pieces = _components(ours)
        add(0, r, pieces[:MOST])
        large = [piece for piece in pieces if len(piece) * voxel_ml >= LARGE_ML]
        within = brain if region == "WT" else tumour
        beside = np.zeros(shape, bool)
        if large:
            core = np.zeros(shape, bool)
            core.ravel()[np.concatenate(large)] = True
            box = widened(box_of(core), [int(np.ceil((BAND_MM + 1) / s)) for s in spacing], shape)
            depth = ndimage.distance_transform_edt(core[box], sampling=spacing)
            height = ndimage.distance_transform_edt(~core[box], sampling=spacing)
            inner = np.flatnonzero(_put(shape, box, core[box] & (depth <= BAND_MM)))
            beside[box] = (height > 0) & (height <= BAND_MM)
            outer = np.flatnonzero(beside & within & ~ours)
            if region != "ET":  # thin all over: its shell is itself
                add(1, r, _cut(inner, shape, spacing, voxel_ml))
            add(2, r, _cut(outer, shape, spacing, voxel_ml))
        apart = within & ~ours & ~beside
        if apart.any():
            share = LOOKED_AT if region == "WT" else LOOKED_AT_INSIDE
            measures = [belief.odds[region], *([alike[region]] if region in alike else [])]
            add(3, r, _looked_at(apart, measures, share, spacing, voxel_ml))
    sizes = [len(voxels) for _, _, voxels in found]
    return Places(
        shape,
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.concatenate([voxels for _, _, voxels in found]) if found else np.zeros(0, np.int64),
        np.array([kind for kind, _, _ in found], np.int64),
        np.array([region for _, region, _ in found], np.int64),
    )


def wrong_share(places: Places, truth: np.ndarray) -> np.ndarray:
    """How much of each place is wrong by the truth (uint8 labels Z, Y, X), float64 (places,): of a false positive what
    does not lie in its region, of a missed one what does."""
    inside = np.zeros(len(places))
    for r, region in enumerate(JUDGED):
        inside = np.where(places.region == r, places.means(region_mask(truth, region)), inside)
    missed = np.array([kind == MISSED for kind, _ in KINDS])[places.kind]
    return np.where(missed, inside, 1 - inside)


def risk_map(places: Places, risks: np.ndarray) -> np.ndarray:
    """The largest risk of the places that hold a voxel, float32 (Z, Y, X); 0 where there is none."""
    risk = np.zeros(int(np.prod(places.shape)), np.float32)
    for place in np.argsort(risks):  # the largest last
        risk[places.of(place)] = risks[place]
    return risk.reshape(places.shape)


def _components(mask: np.ndarray) -> list[np.ndarray]:
    """Flat indices of each piece that is connected by faces, edges or corners, the largest first."""
    box = box_of(mask)
    if box is None:
        return []
    pieces, count = ndimage.label(mask[box], np.ones((3, 3, 3)))
    where = np.flatnonzero(_put(mask.shape, box, mask[box]))
    return _split(where, pieces[mask[box]] - 1, count)


def _split(voxels: np.ndarray, group: np.ndarray, count: int) -> list[np.ndarray]:
    """Voxels by group, the largest group first, none empty."""
    order = np.argsort(group, kind="stable")
    runs = np.split(voxels[order], np.cumsum(np.bincount(group, minlength=count))[:-1])
    return sorted((run for run in runs if len(run)), key=len, reverse=True)


def _cut(voxels: np.ndarray, shape: tuple[int, ...], spacing, voxel_ml: float) -> list[np.ndarray]:
    """A set of voxels cut into compact pieces of about `STRETCH_ML`, by k-means of their places in mm."""
    count = round(len(voxels) * voxel_ml / STRETCH_ML)
    if count < 2:
        return [voxels] if len(voxels) else []
    at = np.stack(np.unravel_index(voxels, shape), 1) * np.asarray(spacing)
    start = at[np.random.default_rng(0).choice(len(at), count, replace=False)]
    _, group = kmeans2(at, start, iter=6, minit="matrix", missing="warn")
    return _split(voxels, group, count)


def _looked_at(apart: np.ndarray, measures: list[np.ndarray], share: float, spacing, voxel_ml: float):
    """Pieces of the voxels `apart` that are among the `share` highest by one of the measures, those first that are
    highest by the first of them."""
    where = np.flatnonzero(apart)
    chosen = np.zeros(len(where), bool)
    count = max(1, int(share * len(where)))
    for measure in measures:
        values = measure.ravel()[where]
        least = np.partition(values, -count)[-count]
        high = values >= least
        if np.count_nonzero(high) > 4 * count:  # it is the same nearly everywhere: what stands out of that is left
            high = values > least
        chosen |= high
    mask = np.zeros(apart.shape, bool)
    mask.ravel()[where[chosen]] = True
    pieces = [part for piece in _components(mask) for part in _cut(piece, apart.shape, spacing, voxel_ml)]
    pieces = [piece for piece in pieces if len(piece) * voxel_ml >= SMALLEST_ML]
    return sorted(pieces, key=lambda piece: -measures[0].ravel()[piece].mean())[:MOST]


def _put(shape: tuple[int, ...], box: Box, inside: np.ndarray) -> np.ndarray:
    volume = np.zeros(shape, bool)
    volume[box] = inside
    return volume
