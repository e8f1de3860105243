"""What is connected to a point and like it: where a repair acts.

With the same latents, edits confined so gained 0.59 against 0.50 for the whole volume, and harmed less than a box of
30 mm, in the first experiment of the project (docs/evidence.md).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
import torch
from scipy import ndimage

from MedSegLensLib.cases.case import REGIONS, region_mask
from MedSegLensLib.editing.places import share_inside
from MedSegLensLib.failures.gain_fit import log_odds_of
from MedSegLensLib.segmenters.sampling import Box, whole

if TYPE_CHECKING:
    from MedSegLensLib.editing.session import Session
    from MedSegLensLib.lenses.codes import Codes

REACH_MM = 40.0
SURER = 2.0
"""How much surer than at the click the segmenter may be, in log odds. Without a bound whole regions went with a
mistake: mean Dice after three clicks fell from 0.48 to 0.14 (nine failures of training cases under simulated
acquisitions)."""
ALIKE = 0.5
"""Cosine of a token's activation, as the lens reconstructs it, to that of the token at the point."""
UNLIKE = (0.25, 0.35, 0.5, 0.7, 0.9)
"""Differences in brightness to the point that are tried in turn, in standard deviations of the brain, root mean square
over the modalities. The activation alone does not see a border that the segmenter missed."""
SMALLEST = 20
"""Voxels; growth is not counted from fewer."""
TAKEN = 0.5
"""Share of a region that another segmentation may take away at one click. Without this bound a pack that saw no
enhancing tumour at all took all of it away: -0.65 of Dice (33 failures of training cases under simulated
acquisitions, tissue called what the click says)."""
LEAK = 4.0
"""A wider difference that makes the tissue this many times larger has run out of the mistake, and is not taken.

With no look at brightness, tissue called what the click says gained 0.02 of Dice on real cases under simulated
acquisitions and 0.11 on phantoms, at the worst -0.59; with one bound of 0.8, -0.13 and 0.16 (11 clicks on failures of
training cases, 39 of phantoms). With this rule 0.06 and 0.18, at the worst -0.13, and on good regions of phantoms 0.006
and -0.02 (41, 39 and 29 clicks). Factors of 3 and 5 gave about the same.
"""


def box_around(session: "Session", voxel: tuple[int, int, int], reach_mm: float = REACH_MM) -> Box:
    """The box (z, y, x) of the conformed volume within `reach_mm` of a voxel."""
    spacing = session.conformed.grid.spacing[::-1]
    shape = session.conformed.brain.shape
    reach = [int(np.ceil(reach_mm / s)) for s in spacing]
    return tuple(slice(max(0, v - r), min(n, v + r + 1)) for v, r, n in zip(voxel, reach, shape, strict=True))


def likeness(session: "Session", tap: str, voxel: tuple[int, int, int], box: Box) -> np.ndarray:
    """Cosine of each voxel's activation at a tap to that at `voxel`, float32 (*box), -1..1; 0 outside the brain.

    The activation is the lens's reconstruction of the voxel's token, which the sparse codes give without another pass.
    """
    codes, sampling = session.codes_at(tap), session.sampling
    samples = sampling.samples_of(box)
    grid = codes.grid[1:]
    near = share_inside(_as_mask(box, session.conformed.brain.shape), sampling, grid, samples) > 0
    near &= session.brain_tokens[tap][samples]
    own = min(samples, key=lambda s: _off_centre(sampling.place(s, whole(sampling.sample_shape)), voxel))
    place = sampling.place(own, whole(sampling.sample_shape))
    inside = [v - p.start for v, p in zip(voxel, place, strict=True)][-len(sampling.sample_shape) :]
    cell = tuple(i * g // n for i, g, n in zip(inside, grid, sampling.sample_shape, strict=True))
    here = (samples.index(own), *cell)
    near[here] = True
    rebuilt = _reconstruction(codes, samples, near, session.lenses[tap])  # (tokens in `near`, C)
    mine = rebuilt[np.count_nonzero(near.ravel()[: np.ravel_multi_index(here, near.shape)])]
    norms = np.linalg.norm(rebuilt, axis=1) * max(float(np.linalg.norm(mine)), 1e-12)
    maps = torch.zeros((sampling.count, 1, *grid))
    cosine = np.zeros(near.shape, np.float32)
    cosine[near] = np.where(norms > 1e-9, (rebuilt @ mine) / np.maximum(norms, 1e-9), 0.0)
    maps[samples] = torch.from_numpy(cosine)[:, None]
    large = torch.zeros((sampling.count, 1, *sampling.sample_shape))
    large[samples] = torch.nn.functional.interpolate(maps[samples], size=sampling.sample_shape, mode="nearest")
    return sampling.merge(large, box)[0].numpy()


def brightness_apart(session: "Session", voxel: tuple[int, int, int], box: Box) -> np.ndarray:
    """How far each voxel's brightness lies from that at `voxel`, float32 (*box): in standard deviations of the brain,
    root mean square over the modalities that the case has. Each slice is smoothed over 3 x 3 voxels."""
    brain, apart, count = session.conformed.brain, np.zeros([b.stop - b.start for b in box], np.float32), 0
    for volume in session.conformed.array:
        spread = float(volume[brain].std())
        if spread < 1e-6:  # a modality that the case lacks
            continue
        y, x = (slice(max(0, v - 1), v + 2) for v in voxel[1:])
        here = float(volume[voxel[0], y, x].mean())
        apart += np.square((ndimage.uniform_filter(volume[box], (1, 3, 3)) - here) / spread)
        count += 1
    return np.sqrt(apart / max(count, 1))


def liker_than(
    session: "Session",
    voxel: tuple[int, int, int],
    others: Sequence[tuple[int, int, int]],
    reach_mm: float = REACH_MM,
) -> np.ndarray:
    """Voxels within reach whose brightness is nearer to that at `voxel` than at any of the others, bool (Z, Y, X)."""
    box = box_around(session, voxel, reach_mm)
    mine = brightness_apart(session, voxel, box)
    found = np.zeros(session.conformed.brain.shape, bool)
    found[box] = np.logical_and.reduce([mine < brightness_apart(session, other, box) for other in others])
    return found


def no_surer(
    session: "Session",
    voxel: tuple[int, int, int],
    region: str,
    inside: bool,
    surer: float = SURER,
    reach_mm: float = REACH_MM,
) -> np.ndarray:
    """Voxels within reach where the segmenter is not much surer of the contrary than at the click, bool (Z, Y, X).

    inside: whether the click says that it lies in `region`; sureness is the log odds against that. Where the click
    shows a mistake, the rest of the mistake lies among what the segmenter was as unsure of; what it is surer of is
    more often right.
    """
    box = box_around(session, voxel, reach_mm)
    in_region, outside = log_odds_of(session.sampling.merge(session.replay.logits, box), REGIONS[region])
    against = (outside - in_region if inside else in_region - outside).cpu().numpy()
    here = against[tuple(v - b.start for v, b in zip(voxel, box, strict=True))]
    found = np.zeros(session.conformed.brain.shape, bool)
    found[box] = against <= here + surer
    return found


def disagreed(
    session: "Session",
    voxel: tuple[int, int, int],
    allowed: np.ndarray,
    labels: np.ndarray,
    opinion: np.ndarray,
    region: str,
    inside: bool,
    reach_mm: float = REACH_MM,
) -> np.ndarray | None:
    """The connected piece at `voxel` of what another segmentation says as the click does, among `allowed` (bool, Z, Y,
    X) and within reach, bool (Z, Y, X). labels, opinion: uint8 (Z, Y, X), the one shown and the other.

    None where the other does not say so, or where it would take away more than `TAKEN` of the region: then it has
    failed to see the region, rather than its border.
    """
    box = box_around(session, voxel, reach_mm)
    agreed = allowed[box] & (region_mask(opinion[box], region) == inside) & (_far(session, voxel, box) <= reach_mm)
    here = tuple(v - b.start for v, b in zip(voxel, box, strict=True))
    if not agreed[here]:
        return None
    piece = _piece_at(agreed, here)
    size = np.count_nonzero(piece)
    if size < SMALLEST or (not inside and size > TAKEN * np.count_nonzero(region_mask(labels, region))):
        return None
    found = np.zeros(allowed.shape, bool)
    found[box] = piece
    return found


def tissue_at(
    session: "Session",
    tap: str,
    voxel: tuple[int, int, int],
    allowed: np.ndarray,
    alike: float = ALIKE,
    reach_mm: float = REACH_MM,
    unlike: Sequence[float] = UNLIKE,
) -> tuple[np.ndarray, np.ndarray]:
    """The voxels connected to `voxel` and like it among `allowed` (bool, Z, Y, X), and each one's likeness.

    It widens with `unlike`, ascending, as far as it does not leak (`LEAK`). Returns bool (Z, Y, X) and float32
    (Z, Y, X), 0 outside. The voxel itself always belongs to it.
    """
    box = box_around(session, voxel, reach_mm)
    cosine = likeness(session, tap, voxel, box)
    here = tuple(v - b.start for v, b in zip(voxel, box, strict=True))
    candidates = (cosine >= alike) & allowed[box] & (_far(session, voxel, box) <= reach_mm)
    apart = brightness_apart(session, voxel, box)
    found = widened(candidates, apart, here, unlike)
    inside, like = np.zeros(allowed.shape, bool), np.zeros(allowed.shape, np.float32)
    inside[box] = found
    like[box] = np.where(found, np.clip((cosine - alike) / (1 - alike), 0, 1), 0)
    like[voxel] = 1.0
    return inside, like


def widened(
    candidates: np.ndarray, apart: np.ndarray, here: tuple[int, int, int], bounds: Sequence[float] = UNLIKE
) -> np.ndarray:
    """The connected piece at `here` of the candidates (bool) that are at most a bound apart from it, for the largest of
    the bounds, ascending, before it leaks: bool of the same shape."""
    found = _piece_at(candidates & (apart <= bounds[0]), here)
    for bound in bounds[1:]:
        wider = _piece_at(candidates & (apart <= bound), here)
        if np.count_nonzero(wider) > LEAK * max(np.count_nonzero(found), SMALLEST):
            break
        found = wider
    return found


def _far(session: "Session", voxel: tuple[int, int, int], box: Box) -> np.ndarray:
    """How far each voxel of a box lies from `voxel`, mm (*box)."""
    spacing = session.conformed.grid.spacing[::-1]
    axes = [np.arange(b.start, b.stop) for b in box]
    return np.sqrt(
        sum(
            ((axis - v) * s).reshape([-1 if i == k else 1 for i in range(3)]) ** 2
            for k, (axis, v, s) in enumerate(zip(axes, voxel, spacing, strict=True))
        )
    )


def _piece_at(candidates: np.ndarray, here: tuple[int, int, int]) -> np.ndarray:
    """The connected piece of the candidates (bool) that one voxel belongs to."""
    candidates[here] = True
    pieces, _ = ndimage.label(candidates, np.ones((3, 3, 3)))
    return pieces == pieces[here]


def _reconstruction(codes: "Codes", samples: list[int], near: np.ndarray, lens) -> np.ndarray:
    """decode(code) of the tokens `near`, bool (len(samples), *grid), of some samples: float32 (tokens, C)."""
    size = codes.n_tokens // codes.grid[0]
    row_of = np.full((codes.grid[0], size), -1, np.int32)
    flat = near.reshape(len(samples), -1)
    row_of[np.array(samples)[:, None].repeat(size, 1)[flat], np.nonzero(flat)[1]] = np.arange(np.count_nonzero(flat))
    row = row_of.ravel()[codes.tokens]
    hits = np.flatnonzero(row >= 0)
    latent = np.searchsorted(codes.pointers, hits, side="right") - 1
    shape = (int(np.count_nonzero(flat)), codes.n_latents)
    sparse = scipy.sparse.csr_matrix((codes.values[hits], (row[hits], latent)), shape=shape)
    rebuilt = sparse @ lens.W_dec.float().cpu().numpy() + lens.b_dec.float().cpu().numpy()
    return np.asarray(rebuilt, np.float32)


def _as_mask(box: Box, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[box] = True
    return mask


def _off_centre(place: Box, voxel: tuple[int, int, int]) -> float:
    """How far a voxel lies from the middle of a sample's box; infinite where it lies outside."""
    if not all(p.start <= v < p.stop for p, v in zip(place, voxel, strict=True)):
        return float("inf")
    return sum(((p.start + p.stop - 1) / 2 - v) ** 2 for p, v in zip(place, voxel, strict=True))
