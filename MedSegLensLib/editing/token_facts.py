"""What is known of each token of a tap on one case: label, tissue, place, brightness; all that latents are told by."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage

from MedSegLensLib.cases.conform import Conformed
from MedSegLensLib.editing.places import ras_coordinate
from MedSegLensLib.editing.tissues import CSF, GREY, NONE, VESSEL, WHITE, healthy_scale, tissues
from MedSegLensLib.packs.naming import MODALITIES, N_LEVELS, PLACES
from MedSegLensLib.segmenters.sampling import Sampling

BAND_MM = 3.0
"""A border's band reaches this far to both sides."""

EDGE_MM, DEEP_MM, MIDLINE_MM = 5.0, 20.0, 5.0
NEAR_TUMOUR_MM, NEAR_ENHANCEMENT_MM, EDEMA_MARGIN_MM, NEAR_NECROSIS_MM = 6.0, 6.0, 4.0, 4.0
FAR_MM = 12.0
"""Distances to a region beyond this are not told apart."""

VESSEL_SHARE = 0.25
"""A token is a vessel where this share of it is: vessels are thinner than tokens."""

BRIGHT = 1.0
N_LAYERS = 10
AIR, BRAIN, NCR, ED, ET, UNLABELLED = range(6)
WT_BORDER, ET_BORDER, BRAIN_EDGE, MIDLINE, NCR_BORDER, ED_BORDER = 1, 2, 4, 8, 16, 32
BORDERS = {"WT": WT_BORDER, "ET": ET_BORDER, "NCR": NCR_BORDER, "ED": ED_BORDER}
"""Bands along the borders of regions: known where there are expert labels."""
TOKENS_AT_A_TIME = 1 << 22


@dataclass(frozen=True)
class TokenFacts:
    """Of all tokens of one tap on one case, in token order; only brain tokens (see `places.brain_tokens`) count.

    brain: bool (n,). part: int8 (n,), AIR .. ET by expert label (a token counts for what most of its voxels are), all
        UNLABELLED without one. bands: uint8 (n,), bits BRAIN_EDGE, MIDLINE and
        those of BORDERS.
    tissue: int8 (n,), of brain outside the tumour (see `tissues`). side: float32 (n,), -1 left, 1 right of the patient.
    layer: int8 (n,), 0 lowest .. 9 highest tenth of the brain. intensity: float32 (n, 4), z-scores in the order of
        MODALITIES less the mean of the brain without tumour. present: which of them the case has.
    classes: int16 (n,), class of `packs.naming`; -1 off the brain and where the case lacks what a class needs.
    """

    brain: np.ndarray
    part: np.ndarray
    bands: np.ndarray
    tissue: np.ndarray
    side: np.ndarray
    layer: np.ndarray
    intensity: np.ndarray
    present: tuple[bool, ...]
    classes: np.ndarray

    @property
    def labelled(self) -> bool:
        return not (self.part == UNLABELLED).any()


class CaseFacts:
    """The same on the voxels of a case; `at` pools them onto the tokens of one tap.

    expert: labels uint8 (Z, Y, X) of the conformed box, or None; own: the segmenter's labels, which tell healthy brain
    from tumour where there is no expert. modalities: names of the channels, in order. atlas: see `tissues`.
    """

    def __init__(
        self,
        conformed: Conformed,
        modalities: tuple[str, ...],
        expert: np.ndarray | None,
        own: np.ndarray,
        atlas: sitk.Image | None = None,
    ):
        self.conformed, self.expert = conformed, expert
        self.channels = {m: i for i, (m, there) in enumerate(zip(modalities, conformed.present, strict=True)) if there}
        labels = own if expert is None else expert
        self.tissue = tissues(conformed, self.channels, labels > 0, atlas)
        healthy = conformed.brain & (labels == 0)
        self.healthy_mean = {m: float(conformed.array[c][healthy].mean()) for m, c in self.channels.items()}
        self.scale = {m: healthy_scale(conformed.array[c], self.tissue) for m, c in self.channels.items()}
        spacing = conformed.grid.spacing[::-1]
        self.depth = _depth(conformed.brain, spacing)
        right = ras_coordinate(conformed, 0)
        up = ras_coordinate(conformed, 2)
        brain = conformed.brain
        # The mean of the brain's voxels lies on its midline as near as the brain is as large on both sides.
        self.right = np.broadcast_to(right, brain.shape) - float(np.broadcast_to(right, brain.shape)[brain].mean())
        heights = np.broadcast_to(up, brain.shape)[brain]
        low, high = (float(heights.min()), float(heights.max())) if heights.size else (0.0, 1.0)
        self.height = (np.broadcast_to(up, brain.shape) - low) / max(high - low, 1e-6)
        self.distance = {}
        if expert is not None:
            regions = {"WT": expert > 0, "ET": expert == 3, "NCR": expert == 1, "ED": expert == 2}
            self.distance = {name: signed_distance(mask, spacing) for name, mask in regions.items()}

    def at(self, sampling: Sampling, grid: tuple[int, ...], brain_tokens: np.ndarray) -> TokenFacts:
        """The facts of the tokens of one tap; `brain_tokens` as `places.brain_tokens` gives them."""

        def pool(values: np.ndarray) -> np.ndarray:
            return pooled(values, sampling, grid)

        brain = brain_tokens.ravel()
        inside = pool(self.conformed.brain)
        n = len(inside)
        share = np.maximum(inside, 1e-6)
        intensity, levels = np.zeros((n, len(MODALITIES)), np.float32), np.zeros(n, np.int16)
        for i, modality in enumerate(MODALITIES):
            if modality in self.channels:
                values = pool(self.conformed.array[self.channels[modality]]) / share
                intensity[:, i] = values - self.healthy_mean[modality]
                mean, deviation = self.scale[modality]
                level = 1 + (values > mean + BRIGHT * deviation) - (values < mean - BRIGHT * deviation).astype(np.int16)
                levels += level.astype(np.int16) * 3 ** (len(MODALITIES) - 1 - i)
        present = tuple(m in self.channels for m in MODALITIES)

        depth, right = pool(self.depth), pool(self.right)
        height = pool(self.height)
        layer = np.clip((height * N_LAYERS).astype(np.int64), 0, N_LAYERS - 1).astype(np.int8)
        bands = BRAIN_EDGE * (depth <= EDGE_MM) + MIDLINE * (np.abs(right) <= MIDLINE_MM)
        part = np.full(n, UNLABELLED, np.int8)
        near = {}
        if self.expert is not None:
            shares = [pool(self.expert == value) for value in (1, 2, 3)]
            rest = np.maximum(inside - sum(shares), 0.0)
            part = np.argmax([1 - inside, rest, *shares], axis=0).astype(np.int8)
            near = {name: pool(distance) for name, distance in self.distance.items()}
            bands = bands + sum(bit * (np.abs(near[region]) <= BAND_MM) for region, bit in BORDERS.items())
        tissue = np.full(n, NONE, np.int8)
        if self.tissue is not None:
            of_tissue = [pool(self.tissue == value) for value in (CSF, GREY, WHITE, VESSEL)]
            tissue = (CSF + np.argmax(of_tissue, axis=0)).astype(np.int8)
            tissue[of_tissue[3] > VESSEL_SHARE * share] = VESSEL
            outside = 1 - sum(of_tissue) / share
            tissue[(outside > 0.5) | (part >= NCR) & (part != UNLABELLED)] = NONE
        classes = np.full(n, -1, np.int16)
        if self.expert is not None and self.tissue is not None and all(present):
            place = _place(part, tissue, depth, right, near)
            classes = np.where(brain, place * N_LEVELS + levels, -1).astype(np.int16)
        side = np.sign(right).astype(np.float32)
        return TokenFacts(brain, part, bands.astype(np.uint8), tissue, side, layer, intensity, present, classes)


def _place(
    part: np.ndarray, tissue: np.ndarray, depth: np.ndarray, right: np.ndarray, near: dict[str, np.ndarray]
) -> np.ndarray:
    """The place (see `naming.PLACES`) of every token."""
    healthy = np.where(tissue == NONE, GREY, tissue) - CSF
    deep = np.digitize(depth, [EDGE_MM, DEEP_MM])
    away = np.abs(right) > MIDLINE_MM
    place = ((healthy * 3 + deep) * 2 + away) * 2 + (right > 0)
    after = 4 * 3 * 2 * 2
    place = np.where(near["WT"] < NEAR_TUMOUR_MM, after + healthy, place)
    # near: signed distances, positive outside the region, never beyond FAR_MM
    edema = np.where(
        near["ET"] < NEAR_ENHANCEMENT_MM, after + 4, np.where(near["WT"] > -EDEMA_MARGIN_MM, after + 5, after + 6)
    )
    enhancing = np.where(near["NCR"] < NEAR_NECROSIS_MM, after + 7, after + 8)
    core = np.where(near["ET"] < NEAR_NECROSIS_MM, after + 9, after + 10)
    place = np.select([part == ED, part == ET, part == NCR], [edema, enhancing, core], place)
    assert place.max(initial=0) < len(PLACES)
    return place


def signed_distance(mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Distance in mm to a mask's border, float32 (Z, Y, X): negative inside, positive outside, within +-FAR_MM.

    Computed in the mask's box with a margin of FAR_MM only: of the whole volume it takes half a second each.
    """
    distance = np.full(mask.shape, FAR_MM, np.float32)
    if not mask.any():
        return distance
    box = []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = int(np.ceil(FAR_MM / spacing[axis])) + 1
        box.append(slice(max(0, int(filled[0]) - margin), int(filled[-1]) + 1 + margin))
    here = mask[tuple(box)]
    outside = ndimage.distance_transform_edt(~here, sampling=spacing)
    inside = ndimage.distance_transform_edt(here, sampling=spacing)
    # half a voxel off both ways, so that the border lies between the voxels
    half = min(spacing) / 2
    signed = np.where(here, half - inside, outside - half)
    distance[tuple(box)] = np.clip(signed, -FAR_MM, FAR_MM)
    return distance


def _depth(brain: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Depth in mm below the brain's edge, float32 (Z, Y, X); 0 outside. Along axes finer than 2 mm every second voxel
    is taken: it is read off at token size and costs an eighth."""
    step = tuple(2 if s < 2 and n >= 8 else 1 for s, n in zip(spacing, brain.shape, strict=True))
    coarse = np.pad(brain[tuple(slice(None, None, s) for s in step)], 1)
    depth = ndimage.distance_transform_edt(coarse, sampling=[a * s for a, s in zip(spacing, step, strict=True)])
    depth = depth[1:-1, 1:-1, 1:-1].astype(np.float32)
    for axis, s in enumerate(step):
        if s > 1:
            depth = np.repeat(depth, s, axis=axis)
    return np.where(brain, depth[tuple(slice(0, n) for n in brain.shape)], 0).astype(np.float32)


def pooled(values: np.ndarray, sampling: Sampling, grid: tuple[int, ...]) -> np.ndarray:
    """Mean of a volume (Z, Y, X) over each token of all samples, float32 (tokens,), in token order."""
    pool = torch.nn.functional.adaptive_avg_pool2d if len(grid) == 2 else torch.nn.functional.adaptive_avg_pool3d
    volume = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None]
    at_once = max(1, TOKENS_AT_A_TIME // int(np.prod(sampling.sample_shape)))
    parts = [
        pool(sampling.inputs(volume, list(range(first, min(first + at_once, sampling.count)))), grid)[:, 0]
        for first in range(0, sampling.count, at_once)
    ]
    return torch.cat(parts).reshape(-1).numpy()
