"""How a tap's tokens spread over the voxels of the case's own grid: where latents of two networks meet.

An activation volume is linear in the code: v = P z. P has few entries a voxel, is built for a list of voxels, and holds
every step that `activation_volume`, the merging of windows and `Conformed.to_case` (linear) take. So the inner product
of two activation volumes over voxels is z' (P_a' P_b) w, a sum over pairs of tokens, and neither volume is ever made.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import SimpleITK as sitk
from scipy import sparse

from MedSegLensLib.cases.conform import Conformed
from MedSegLensLib.cases.network_grid import NetworkGrid
from MedSegLensLib.segmenters.sampling import Sampling, whole


@dataclass(frozen=True)
class Spread:
    """From the tokens of one tap on one case to the case's voxels.

    shape, start, grid, reference: as in `Conformed`. sampling: how the box was cut; tap_grid: of one sample.
    """

    shape: tuple[int, int, int]
    start: tuple[int, int, int]
    grid: NetworkGrid
    reference: sitk.Image
    sampling: Sampling
    tap_grid: tuple[int, ...]

    @staticmethod
    def of(conformed: Conformed, sampling: Sampling, tap_grid: tuple[int, ...]) -> "Spread":
        box = (conformed.brain.shape, conformed.start, conformed.grid, conformed.reference)
        return Spread(*box, sampling, tuple(tap_grid))

    @property
    def n_tokens(self) -> int:
        return self.sampling.count * int(np.prod(self.tap_grid))

    def weights(self, voxels: np.ndarray) -> sparse.csr_matrix:
        """P of voxels (n, 3), indices (z, y, x) of the case's grid: float32 (n, n_tokens); a row of zeros for a voxel
        that the network does not see."""
        to_box = self._to_box(voxels)
        used, moved = np.unique(to_box.indices, return_inverse=True)
        small = sparse.csr_matrix((to_box.data, moved, to_box.indptr), shape=(len(voxels), len(used)))
        inside = np.stack(np.unravel_index(used, self.shape), 1)
        return (small @ self._to_tokens(inside)).tocsr()

    def _to_box(self, voxels: np.ndarray) -> sparse.csr_matrix:
        """From the case's voxels to the voxels of the network's box: copied, or interpolated linearly."""
        n, box = len(voxels), np.array(self.shape)
        index = voxels[:, ::-1].astype(np.float64)  # x, y, z
        if not self.grid.resampled:
            moved = index[:, list(self.grid.permutation)]
            moved = np.where(self.grid.flips, np.array(self.grid.size) - 1 - moved, moved)
            at = (moved - self.start)[:, ::-1].astype(np.int64)
            seen = ((at >= 0) & (at < box)).all(1)
            flat = np.ravel_multi_index(tuple(at[seen].T), self.shape)
            return sparse.csr_matrix((np.ones(len(flat)), (np.flatnonzero(seen), flat)), (n, int(box.prod())))
        own = np.array(self.reference.GetDirection()).reshape(3, 3)
        place = (index * self.reference.GetSpacing()) @ own.T + self.reference.GetOrigin()
        direction = np.array(self.grid.direction).reshape(3, 3)
        at = ((place - np.array(self.grid.point(self.start))) @ direction / self.grid.spacing)[:, ::-1]
        # As ITK: half a voxel beyond the outermost centres still counts, with their value.
        seen = np.flatnonzero(((at >= -0.5) & (at < box - 0.5)).all(1))
        at = at[seen]
        low = np.floor(at + 1e-9).astype(np.int64)
        part = np.clip(at - low, 0, 1)
        part[part < 1e-6] = 0
        rows, columns, values = [], [], []
        for corner in product((0, 1), repeat=3):
            weight = np.prod(np.where(corner, part, 1 - part), axis=1)
            there = weight > 0
            corners = np.clip(low[there] + corner, 0, box - 1)
            rows.append(seen[there])
            columns.append(np.ravel_multi_index(tuple(corners.T), self.shape))
            values.append(weight[there])
        entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
        return sparse.csr_matrix(entries, (n, int(box.prod())))

    def _to_tokens(self, inside: np.ndarray) -> sparse.csr_matrix:
        """From voxels (m, 3) of the box to tokens: the share of each sample that covers a voxel, times the linear
        interpolation from the tap's grid to the sample's (align_corners=False, as `activation_volume`)."""
        sampling, per_sample, dims = self.sampling, int(np.prod(self.tap_grid)), len(self.tap_grid)
        tables = [_linear(n, g) for n, g in zip(sampling.sample_shape, self.tap_grid, strict=True)]
        found = []
        if len(inside):
            box = tuple(slice(int(a), int(b) + 1) for a, b in zip(inside.min(0), inside.max(0), strict=True))
            for sample in sampling.samples_of(box):
                place = sampling.place(sample, whole(sampling.sample_shape))
                low, high = np.array([p.start for p in place]), np.array([p.stop for p in place])
                row = np.flatnonzero(((inside >= low) & (inside < high)).all(1))
                at = (inside[row] - low)[:, -dims:]
                say = sampling.say(sample).expand(sampling.sample_shape).numpy()[tuple(at.T)]
                for corner in product((0, 1), repeat=dims):
                    token, weight = np.zeros(len(row), np.int64), say.astype(np.float64)
                    for axis, which in enumerate(corner):
                        cell, share = tables[axis][which]
                        token = token * self.tap_grid[axis] + cell[at[:, axis]]
                        weight = weight * share[at[:, axis]]
                    found.append((row, token + sample * per_sample, weight))
        if not found:
            return sparse.csr_matrix((len(inside), self.n_tokens), dtype=np.float32)
        row, token, weight = (np.concatenate(part) for part in zip(*found, strict=True))
        there = weight > 0
        entries = (weight[there].astype(np.float32), (row[there], token[there]))
        return sparse.csr_matrix(entries, (len(inside), self.n_tokens))


def _linear(n: int, cells: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """For each of n places along an axis of `cells` cells: the lower cell and its share, the upper cell and its."""
    at = np.maximum((np.arange(n) + 0.5) * (cells / n) - 0.5, 0)
    low = np.minimum(at.astype(np.int64), cells - 1)
    part = at - low
    return (low, 1 - part), (np.minimum(low + 1, cells - 1), part)
