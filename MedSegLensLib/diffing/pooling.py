"""Sums of a meeting over cases, and the correlations that follow from them; memory does not grow with the cases."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

GROUPS = 32
"""Cases are drawn again for intervals; where there are more than this, whole groups of them are: their sums are what is
kept, some 2 MB a group for the shipped packs."""

DRAWN = (
    *("voxels", "ab", "a_sum", "a_square", "b_sum", "b_square"),
    *(f"{side}_{name}" for side in "ab" for name in ("seeds", "seed_sum", "seed_square")),
)
"""What is kept by group: enough for both matchings and for the own seeds."""


def correlation(
    products: np.ndarray,
    voxels: float,
    sums: tuple[np.ndarray, np.ndarray],
    squares: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Pearson's r of each of n variables with each of m, float64 (n, m), -1..1; 0 where one does not vary.

    products: (n, m), sums of x y over `voxels` voxels; sums, squares: of x (n,) and of y (m,).
    """
    if voxels <= 0:
        return np.zeros(products.shape)
    mean = [s / voxels for s in sums]
    variance = [np.maximum(q / voxels - m**2, 0) for q, m in zip(squares, mean, strict=True)]
    # products are float32: a variance of less than a millionth of the mean square is rounding
    flat = [v <= 1e-6 * (q / voxels) for v, q in zip(variance, squares, strict=True)]
    scale = np.sqrt(np.outer(*[np.where(f, 1, v) for f, v in zip(flat, variance, strict=True)]))
    r = (products / voxels - np.outer(*mean)) / scale
    r[flat[0]] = 0
    r[:, flat[1]] = 0
    return np.clip(r, -1, 1)


@dataclass
class Pooled:
    """Sums of one or several cases, by the names of `meeting.Meeting`."""

    sums: dict[str, np.ndarray]

    def between(self, mask: int = 0) -> np.ndarray:
        """Correlations of a's own latents with b's over the brain (0) or the lesion (1), (n_a, n_b)."""
        s = self.sums
        sums, squares = (s["a_sum"][mask], s["b_sum"][mask]), (s["a_square"][mask], s["b_square"][mask])
        return correlation(s["ab"][mask], float(s["voxels"][mask]), sums, squares)

    def with_seeds(self, side: str) -> np.ndarray:
        """Of a side's own latents with those of its other seeds, (n, s); 0 for those of other taps."""
        return self._of((f"{side}_seeds", side, f"{side}_seed"))

    def across(self, side: str, kind: str) -> np.ndarray:
        """Of the latents of a side's other seeds (kind "seed") or random directions ("random") with the other side's
        own, (s, n)."""
        other = "b" if side == "a" else "a"
        return self._of((f"{side}_{kind}_{other}", f"{side}_{kind}", other))

    def grid_limit(self, side: str) -> np.ndarray:
        """Of each own latent of a side with itself, blurred to the grid of that tap of the other side which shows it
        best, (n,): on so coarse a grid no partner can be more alike."""
        s, n = self.sums, float(self.sums["voxels"][0])
        own, own_square = s[f"{side}_sum"][0], s[f"{side}_square"][0]
        product, total, square = (s[f"{side}_grid_{name}"] for name in ("product", "sum", "square"))
        variance = np.maximum(own_square / n - (own / n) ** 2, 0) * np.maximum(square / n - (total / n) ** 2, 0)
        r = (product / n - total / n * own / n) / np.sqrt(np.where(variance > 0, variance, 1))
        return np.clip(np.where(variance > 0, r, 0).max(0), 0, 1)

    def _of(self, names: tuple[str, str, str]) -> np.ndarray:
        products, *sides = names
        sums, squares = [], []
        for side in sides:
            own = len(side) == 1  # own sums are kept over the brain and the lesion
            sums.append(self.sums[f"{side}_sum"][0] if own else self.sums[f"{side}_sum"])
            squares.append(self.sums[f"{side}_square"][0] if own else self.sums[f"{side}_square"])
        return correlation(self.sums[products], float(self.sums["voxels"][0]), tuple(sums), tuple(squares))


@dataclass
class Pool:
    """Adds up the results of `Meeting` case by case.

    total: sums over all cases. cases: their names; labelled: how many had labels. fired_a, fired_b: in how many cases
    each own latent fires. groups: sums by group of cases (see `GROUPS`), for drawing them again.
    """

    total: dict[str, np.ndarray] = field(default_factory=dict)
    cases: list[str] = field(default_factory=list)
    labelled: int = 0
    fired_a: np.ndarray | None = None
    fired_b: np.ndarray | None = None
    groups: list[dict[str, np.ndarray]] = field(default_factory=list)
    influence: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def add(self, case: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Add one case's sums."""
        arrays = dict(arrays)
        self.labelled += int(arrays["voxels"][1] >= 0)
        arrays["voxels"] = np.maximum(arrays["voxels"], 0)
        for side in "ab":
            change = arrays.pop(f"{side}_influence", None)
            if change is not None:
                total, cases = self.influence.get(side, (0.0, 0))
                self.influence[side] = (total + np.nan_to_num(change), cases + np.isfinite(change))
        fired = [(arrays[f"{side}_tokens"] > 0).astype(np.int64) for side in "ab"]
        self.fired_a = fired[0] if self.fired_a is None else self.fired_a + fired[0]
        self.fired_b = fired[1] if self.fired_b is None else self.fired_b + fired[1]
        place = len(self.cases) % GROUPS
        if place == len(self.groups):
            self.groups.append({})
        for name, array in arrays.items():
            _add(self.total, name, array.astype(np.float64))
            if name in DRAWN:
                _add(self.groups[place], name, array.astype(np.float64 if array.ndim < 2 else np.float32))
        self.cases.append(case)

    def pooled(self) -> Pooled:
        """Over all cases."""
        return Pooled(self.total)

    def drawn(self, times: np.ndarray) -> Pooled:
        """Over the groups, group i taken times[i] times."""
        names = self.groups[0]
        return Pooled({n: sum(t * g[n] for t, g in zip(times, self.groups, strict=True) if t) for n in names})

    def mean_influence(self, side: str) -> np.ndarray | None:
        """(3, n): mean over the cases that have the region; nan where none has; None where it was not asked."""
        if side not in self.influence:
            return None
        total, cases = self.influence[side]
        return np.where(cases > 0, total / np.maximum(cases, 1), np.nan)


def _add(sums: dict[str, np.ndarray], name: str, array: np.ndarray) -> None:
    if name in sums:
        sums[name] += array
    else:
        sums[name] = array.copy()
