"""The work on one case when two packs are compared: both networks see it, and their latents meet voxel by voxel.

What comes back are sums over the case's voxels, from which correlations over a whole cohort are made; no activation is
kept. The volumes of some thousand latents are never made: see `case_grid`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import SimpleITK as sitk
from scipy import sparse

from MedSegLensLib.cases.case import Case
from MedSegLensLib.cohorts.cohort import CohortCase
from MedSegLensLib.cohorts.mapping import key_of
from MedSegLensLib.diffing.case_grid import Spread
from MedSegLensLib.diffing.seeds import SeedLens
from MedSegLensLib.diffing.stacking import Part, stack_for, thinned
from MedSegLensLib.editing.influence import attribute_log_odds
from MedSegLensLib.editing.pack_at_work import PackAtWork
from MedSegLensLib.editing.session import Session
from MedSegLensLib.errors import CaseError

REGIONS = ("WT", "TC", "ET")
RESULTS = 1
"""Raised when the meaning of what comes back changes: a journal's older results are then not used."""

SLAB = 30_000
"""Voxels worked on at a time. Of a case of 1.4 million this is two to four slices; larger slabs gain nothing."""


@dataclass(frozen=True)
class SideWork:
    """One of the two packs. taps: whose latents are compared; seeds: other seeds of their lenses."""

    pack: PackAtWork
    taps: tuple[str, ...]
    seeds: tuple[SeedLens, ...] = ()


@dataclass(frozen=True)
class Meeting:
    """A CaseWork. Own latents are numbered over the taps of a side in their order; so are those of the seeds (by tap,
    then seed) and the random directions (by tap).

    randoms: random directions a tap, which fire as often in each case as a latent drawn for each. influence: whether to
    ask how the regions hang on each latent.

    Gives, with n own latents a side, s of other seeds and r random directions:
        voxels (2,): of the brain and of the lesion; -1 where the case has no labels.
        ab (2, n_a, n_b): sums of products over brain and lesion.
        a_sum, a_square (2, n): of the values and their squares; b_sum, b_square.
        a_seed_sum, a_seed_square (s,); a_random_sum, a_random_square (r,): over the brain; and so for b.
        a_seeds (n, s): own times those of the seeds, 0 for those of other taps; b_seeds.
        a_seed_b (s_a, n_b), a_random_b (r_a, n_b): times the other side's own; b_seed_a, b_random_a.
        a_grid_product, a_grid_sum, a_grid_square (taps of b, n_a): each own latent blurred to the grid of each of the
            other side's taps: its product with itself, its sum and its square; and so for b.
        a_tokens (n,), a_random_tokens (r,): tokens on which it fires; a_brain_tokens (n,): that there are; so for b.
        a_influence, b_influence (3, n): change of the mean log odds of WT, TC, ET if suppressed, nan of no region.
    Sums are float64, products float32.
    """

    a: SideWork
    b: SideWork
    randoms: int = 120
    random_seed: int = 0
    influence: bool = True
    device: str | None = None

    def key(self) -> str:
        return key_of(self, RESULTS)

    def __call__(self, described: CohortCase) -> dict[str, np.ndarray]:
        case = described.read()
        a, b = (self._side(work, case, i) for i, work in enumerate((self.a, self.b)))
        brain = a.brain & b.brain
        if not brain.any():
            raise CaseError(case.name, "the two networks see no voxel in common.", "Check the case's volumes.")
        lesion = None if case.labels is None else (sitk.GetArrayViewFromImage(case.labels) > 0) & brain
        return {**meet(a, b, brain, lesion), **a.facts("a"), **b.facts("b")}

    def _side(self, work: SideWork, case: Case, number: int) -> "Side":
        seed = self.random_seed + 1000 * number
        pack, parts, models = _stack(work, self.randoms, seed)
        session = work.pack.session(case, self.device, pack=pack)
        return Side.of(session, work.taps, parts, models, self.influence)


@lru_cache(4)
def _stack(work: SideWork, randoms: int, seed: int):
    pack = work.pack.open()
    seeds = {tap: [s.lens() for s in work.seeds if s.tap == tap] for tap in work.taps}
    return stack_for(pack, work.taps, seeds, randoms, seed)


@dataclass
class OneTap:
    """codes: (tokens, columns), tokens by row; own, seeds, random: which columns. brain_tokens: how many there are."""

    spread: Spread
    codes: sparse.csr_matrix
    own: slice
    seeds: slice
    random: slice
    brain_tokens: int

    @staticmethod
    def of(session: Session, tap: str, parts: Sequence[Part], models: np.ndarray | None) -> "OneTap":
        codes = session.codes[tap]
        columns = {"own": parts[0].columns, "seed": slice(0, 0), "random": slice(0, 0)}
        for part in parts:
            if part.kind == "seed":
                columns["seed"] = slice(columns["own"].stop, part.stop)
            if part.kind == "random":
                columns["random"] = part.columns
                codes = thinned(codes, part, models)
        shape = (codes.n_tokens, codes.n_latents)
        by_latent = sparse.csc_matrix((codes.values, codes.tokens, codes.pointers.astype(np.int64)), shape)
        spread = Spread.of(session.conformed, session.sampling, codes.grid[1:])
        brain = int(np.count_nonzero(session.brain_tokens[tap]))
        return OneTap(spread, by_latent.tocsr(), columns["own"], columns["seed"], columns["random"], brain)

    def on(self, voxels: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
        """Of some voxels: their weights (n, t) on the tokens they touch, and these tokens' codes (t, columns)."""
        weights = self.spread.weights(voxels)
        touched, moved = np.unique(weights.indices, return_inverse=True)
        small = sparse.csr_matrix((weights.data, moved, weights.indptr), (len(voxels), len(touched)))
        return small, self.codes[touched].toarray()


@dataclass
class Side:
    """One network's view of a case. brain: bool (Z, Y, X) of the case's own grid. influence: (3, n) or None."""

    taps: list[OneTap]
    brain: np.ndarray
    influence: np.ndarray | None

    @staticmethod
    def of(session: Session, taps: Sequence[str], parts: dict, models: dict, influence: bool) -> "Side":
        brain = sitk.GetArrayFromImage(session.to_case(session.conformed.brain)) > 0
        found = [OneTap.of(session, tap, parts[tap], models.get(tap)) for tap in taps]
        held = None
        if influence:
            held = np.concatenate([_influence(session, t, parts[t][0].stop) for t in taps], 1)
        return Side(found, brain, held)

    def facts(self, name: str) -> dict[str, np.ndarray]:
        """What is known without the other side."""
        fires = [np.bincount(tap.codes.indices, minlength=tap.codes.shape[1]) for tap in self.taps]
        sizes = [np.full(tap.own.stop, tap.brain_tokens) for tap in self.taps]
        facts = {
            f"{name}_tokens": np.concatenate([f[tap.own] for f, tap in zip(fires, self.taps, strict=True)]),
            f"{name}_random_tokens": np.concatenate([f[tap.random] for f, tap in zip(fires, self.taps, strict=True)]),
            f"{name}_brain_tokens": np.concatenate(sizes),
        }
        return facts | ({} if self.influence is None else {f"{name}_influence": self.influence})

    def starts(self, kind: str) -> list[int]:
        """Where each tap's columns of a kind begin in the side's numbering, and the end."""
        widths = [getattr(tap, kind).stop - getattr(tap, kind).start for tap in self.taps]
        return np.cumsum([0, *widths]).tolist()


def _influence(session: Session, tap: str, own: int) -> np.ndarray:
    found = attribute_log_odds(session, tap, REGIONS)
    return np.stack([found[r][:own] if r in found else np.full(own, np.nan) for r in REGIONS])


def meet(a: Side, b: Side, brain: np.ndarray, lesion: np.ndarray | None) -> dict[str, np.ndarray]:
    """The sums of `Meeting` over the voxels of two masks (Z, Y, X) of the case's own grid."""
    sums = _Sums(a, b)
    axis = 2 - a.taps[0].spread.grid.permutation[2]
    for voxels in slabs(brain, axis):
        on_a, on_b = [tap.on(voxels) for tap in a.taps], [tap.on(voxels) for tap in b.taps]
        sums.add(0, on_a, on_b)
        if lesion is not None:
            here = lesion[tuple(voxels.T)]
            if here.any():
                sums.add(1, *([(weights[here], codes) for weights, codes in on] for on in (on_a, on_b)))
    voxels = [np.count_nonzero(brain), -1 if lesion is None else np.count_nonzero(lesion)]
    return {"voxels": np.array(voxels, np.float64), **sums.result()}


def slabs(mask: np.ndarray, axis: int) -> Iterator[np.ndarray]:
    """The voxels of a mask, int (n, 3), in pieces of some `SLAB` voxels: whole slices along an axis."""
    counts = mask.sum(tuple(i for i in range(3) if i != axis))
    slices, size = [], 0
    for index in np.flatnonzero(counts):
        slices.append(index)
        size += counts[index]
        if size >= SLAB or index == np.flatnonzero(counts)[-1]:
            first, last = slices[0], slices[-1] + 1
            part = np.argwhere(mask[tuple(slice(first, last) if i == axis else slice(None) for i in range(3))])
            part[:, axis] += first
            yield part
            slices, size = [], 0


class _Sums:
    """The arrays of `Meeting`, added up slab by slab."""

    def __init__(self, a: Side, b: Side):
        self.sides = {"a": a, "b": b}
        self.at = {s: {k: side.starts(k) for k in ("own", "seeds", "random")} for s, side in self.sides.items()}
        n = {s: {kind: starts[-1] for kind, starts in at.items()} for s, at in self.at.items()}
        self.ab = np.zeros((2, n["a"]["own"], n["b"]["own"]))
        self.own = {s: np.zeros((2, 2, n[s]["own"])) for s in n}  # sum or square, mask, latent
        self.extra = {s: {kind: np.zeros((2, n[s][kind])) for kind in ("seeds", "random")} for s in n}
        self.seeds = {s: np.zeros((n[s]["own"], n[s]["seeds"])) for s in n}
        other = {"a": "b", "b": "a"}
        self.blurred = {s: np.zeros((3, len(self.sides[other[s]].taps), n[s]["own"])) for s in n}
        self.across = {s: {kind: np.zeros((n[s][kind], n[other[s]]["own"])) for kind in ("seeds", "random")} for s in n}

    def add(self, mask: int, on_a: list, on_b: list) -> None:
        """on_a, on_b: by tap, weights (voxels, tokens) and codes (tokens, columns); mask 1 counts own latents only."""
        seen_a, seen_b = self._within("a", mask, on_a), self._within("b", mask, on_b)
        for i, (weights_a, codes_a) in enumerate(on_a):
            for j, (weights_b, codes_b) in enumerate(on_b):
                touch = (weights_a.T @ weights_b).tocsr()
                from_b, from_a = self._between(mask, i, j, touch, codes_a, codes_b)
                if not mask:
                    self._blurred("a", i, j, from_a, *seen_b[j])
                    self._blurred("b", j, i, from_b, *seen_a[i])

    def _place(self, side: str, kind: str, tap: int) -> slice:
        starts = self.at[side][kind]
        return slice(starts[tap], starts[tap + 1])

    def _within(self, side: str, mask: int, on: list) -> list[tuple[np.ndarray, sparse.csr_matrix]]:
        """Gives, by tap, how much of the voxels each token is, and the weights' own products."""
        seen = []
        for i, (tap, (weights, codes)) in enumerate(zip(self.sides[side].taps, on, strict=True)):
            z = codes[:, tap.own] if mask else codes
            share, gram = np.asarray(weights.sum(0)).ravel(), (weights.T @ weights).tocsr()
            seen.append((share, gram))
            total, spread = share @ z, gram @ z
            square = np.einsum("ij,ij->j", z, spread, dtype=np.float64)
            own = self._place(side, "own", i)
            self.own[side][0, mask, own] += total[tap.own]
            self.own[side][1, mask, own] += square[tap.own]
            if mask:
                continue
            for kind in ("seeds", "random"):
                place, columns = self._place(side, kind, i), getattr(tap, kind)
                self.extra[side][kind][0, place] += total[columns]
                self.extra[side][kind][1, place] += square[columns]
            self.seeds[side][own, self._place(side, "seeds", i)] += z[:, tap.own].T @ spread[:, tap.seeds]
        return seen

    def _between(self, mask: int, i: int, j: int, touch: sparse.csr_matrix, codes_a, codes_b) -> tuple:
        """Gives both sides' own volumes summed over the other's tokens."""
        tap_a, tap_b = self.sides["a"].taps[i], self.sides["b"].taps[j]
        own_a, own_b = self._place("a", "own", i), self._place("b", "own", j)
        from_b = touch @ codes_b[:, tap_b.own]
        if mask:
            self.ab[1, own_a, own_b] += codes_a[:, tap_a.own].T @ from_b
            return None, None
        products = codes_a.T @ from_b
        self.ab[0, own_a, own_b] += products[tap_a.own]
        from_a = touch.T @ codes_a[:, tap_a.own]
        for kind in ("seeds", "random"):
            self.across["a"][kind][self._place("a", kind, i), own_b] += products[getattr(tap_a, kind)]
            across = codes_b[:, getattr(tap_b, kind)].T @ from_a
            self.across["b"][kind][self._place("b", kind, j), own_a] += across
        return from_b, from_a

    def _blurred(self, side: str, tap: int, other: int, summed: np.ndarray, share: np.ndarray, gram) -> None:
        """Each own latent's mean over the other's tokens, as that tap would show it at best."""
        mean = summed / np.maximum(share, 1e-6)[:, None]
        found = (np.einsum("ij,ij->j", summed, mean), share @ mean, np.einsum("ij,ij->j", mean, gram @ mean))
        self.blurred[side][:, other, self._place(side, "own", tap)] += found

    def result(self) -> dict[str, np.ndarray]:
        found = {"ab": self.ab.astype(np.float32)}
        for side, other in (("a", "b"), ("b", "a")):
            found |= {f"{side}_sum": self.own[side][0], f"{side}_square": self.own[side][1]}
            for name, array in zip(("product", "sum", "square"), self.blurred[side], strict=True):
                found[f"{side}_grid_{name}"] = array
            found[f"{side}_seeds"] = self.seeds[side].astype(np.float32)
            for kind, name in (("seeds", "seed"), ("random", "random")):
                found[f"{side}_{name}_sum"], found[f"{side}_{name}_square"] = self.extra[side][kind]
                found[f"{side}_{name}_{other}"] = self.across[side][kind].astype(np.float32)
        return found
