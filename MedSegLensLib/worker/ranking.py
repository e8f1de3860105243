"""The latents of an opened case in one table: how strongly each fires, where, and what hangs on it."""

import math
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from MedSegLensLib.cases.case import LABELS
from MedSegLensLib.cases.volume import placed_image
from MedSegLensLib.editing.influence import attribute, dense_latents, suppress
from MedSegLensLib.editing.places import ras_point, share_inside, token_middle, tokens_of
from MedSegLensLib.errors import UsageError
from MedSegLensLib.packs.catalogue import UNCLEAR, described, shown_name
from MedSegLensLib.worker.answers import Point
from MedSegLensLib.worker.opened_case import OpenedCase, Say
from MedSegLensLib.worker.protocol import Message

RANKS = ("activity", "influence", "point", "mask")
BINS = 32


@dataclass
class Ranking:
    """Tables of one case, with what was computed once kept: peaks by tap, influence by tap and region."""

    case: OpenedCase
    _peaks: dict[str, np.ndarray] = field(default_factory=dict)
    _attributed: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    _suppressed: dict[tuple[str, str], dict[int, float]] = field(default_factory=dict)
    _shares: dict[str, np.ndarray] = field(default_factory=dict)

    def latents(
        self,
        tap: str,
        rank: str,
        region: str | None,
        ras: Point | None,
        mask: tuple[np.ndarray, np.ndarray] | None,
        measure: int,
        say: Say,
    ) -> Message:
        """The table as columns; see `CaseSession.latents`. mask: array (Z, Y, X), ijk_to_ras."""
        session = self.case.session
        codes = session.codes_at(tap)
        summary = codes.summary()
        dense = dense_latents(session, tap)
        here = attributed = None
        measured: dict[int, float] = {}
        if rank == "activity":
            order = np.lexsort((-summary.total, dense))
            order = order[summary.count[order] > 0]
        elif rank == "influence":
            attributed = self._attribution(tap, _needed(region, "region", "influence"), say)
            order = np.lexsort((-np.abs(attributed), dense))
            order = order[(attributed[order] != 0) & (summary.count[order] > 0)]
            measured = self._measured(tap, region, order[~dense[order]][:measure], say)
            order = order[np.argsort([-abs(measured.get(int(j), 0.0)) for j in order], kind="stable")]
        elif rank in ("point", "mask"):
            if rank == "point":
                here = self._at_point(tap, _needed(ras, "ras", "point"))
            else:
                here = self._in_mask(tap, *_needed(mask, "mask", "mask"))
            order = np.argsort(-here, kind="stable")
            order = order[here[order] > 0]
        else:
            raise UsageError(str(rank), "is no way to rank latents.", f"Use {', '.join(RANKS)}.")
        brain = max(1, np.count_nonzero(session.brain_tokens[tap]))
        nothing = np.full(codes.n_latents, np.nan)
        suppressed = nothing.copy()
        for latent, ml in measured.items():
            suppressed[latent] = ml
        columns = {
            "latent": np.arange(codes.n_latents, dtype=np.int32),
            "active_ml": summary.count * self._token_ml(tap),
            "brain_share": summary.count / brain,
            "maximum": summary.maximum,
            "mean": summary.mean,
            "here": nothing if here is None else here,
            "attribution_ml": nothing if attributed is None else attributed,
            "suppressed_ml": suppressed,
            "dense": dense,
            "peak_ras": self._peaks_of(tap),
        }
        rows = [self.case.catalogue.get((tap, j)) for j in order.tolist()]
        words = {
            "names": [shown_name(row) if row else "" for row in rows],
            "where": [described(row) if row else "" for row in rows],
        }
        stability = [row.get("stability") if row else None for row in rows]
        arrays = {name: np.ascontiguousarray(column[order]) for name, column in columns.items()} | {
            "stability": np.array([np.nan if s is None else s for s in stability], np.float64),
            "unclear": np.array([bool(row) and row.get("name") == UNCLEAR for row in rows], bool),
        }
        return Message("result", {"tap": tap, **words}, arrays)

    def detail(self, tap: str, latent: int) -> dict:
        """See `CaseSession.detail`."""
        session, grid = self.case.session, self.case.grid
        codes = session.codes_at(tap)
        tokens, values = codes.latent(latent)
        row = _finite(self.case.catalogue.get((tap, latent)))
        profile = self._slice_of(tap, tokens)
        slices = len(session.labels)
        middle = [(n - 1) / 2 for n in session.labels.shape[1:]]
        found = {
            "tap": tap,
            "latent": latent,
            "volume_ml": len(tokens) * self._token_ml(tap),
            "catalogue": row,
            "slice_profile": {
                "s_mm": [float(ras_point(session.conformed, (z, *middle))[2]) for z in range(slices)],
                "total": np.bincount(profile, values, slices).tolist() if len(tokens) else [0.0] * slices,
            },
        }
        if not len(tokens):
            found |= {"histogram": {"counts": [], "edges": []}, "extent_mm": None}
            return found | {"region_share": {}, "peak_ras": None}
        counts, edges = np.histogram(values, BINS)
        low, high = self._support(tap, latent)
        corners = np.array(
            [[x, y, z, 1.0] for x in (low[2], high[2]) for y in (low[1], high[1]) for z in (low[0], high[0])]
        )
        places = corners @ grid.network_ijk_to_ras.T
        shares = self._label_shares(tap)[:, tokens] @ values.astype(np.float64) / values.sum(dtype=np.float64)
        by_region = {name: float(shares[value - 1]) for value, name in LABELS.items()}
        return found | {
            "histogram": {"counts": counts.tolist(), "edges": edges.tolist()},
            "extent_mm": np.ptp(places[:, :3], axis=0).tolist(),
            "region_share": by_region | {"brain": max(0.0, 1.0 - sum(by_region.values()))},
            "peak_ras": [float(c) for c in self._peaks_of(tap)[latent]],
        }

    # -- what hangs on a latent -------------------------------------------------------------------------------------

    def _attribution(self, tap: str, region: str, say: Say) -> np.ndarray:
        if (tap, region) not in self._attributed:
            self._attributed[tap, region] = attribute(self.case.session, tap, region, say)
        return self._attributed[tap, region]

    def _measured(self, tap: str, region: str, latents: np.ndarray, say: Say) -> dict[int, float]:
        session = self.case.session
        known = self._suppressed.setdefault((tap, region), {})
        before = session.region_ml(session.labels, region)
        for i, latent in enumerate(int(j) for j in latents):
            say("suppressing the top latents one by one", i / len(latents))
            if latent not in known:
                known[latent] = session.region_ml(session.edit(suppress(session, tap, latent)).labels, region) - before
        return {int(j): known[int(j)] for j in latents}

    # -- where a latent fires ---------------------------------------------------------------------------------------

    def _token_ml(self, tap: str) -> float:
        session = self.case.session
        return session.conformed.voxel_ml * session.labels.size / session.codes_at(tap).n_tokens

    def _steps(self, tap: str) -> list[int]:
        sampling, grid = self.case.session.sampling, self.case.session.codes_at(tap).grid
        return [n // g for n, g in zip(sampling.sample_shape, grid[1:], strict=True)]

    def _at_point(self, tap: str, ras: Point) -> np.ndarray:
        """Each latent's code at a place (of overlapping windows: in the one that decides most there)."""
        session = self.case.session
        codes, sampling = session.codes_at(tap), session.sampling
        index = self.case.grid.index(ras)
        best = None
        for sample in sampling.samples_of(tuple(slice(i, i + 1) for i in index)):
            start = [b.start for b in sampling.place(sample, tuple(slice(0, n) for n in sampling.sample_shape))]
            inside = [i - s for i, s in zip(index, start, strict=True)][-len(sampling.sample_shape) :]
            weight = float(sampling.say(sample).expand(sampling.sample_shape)[tuple(inside)])
            if best is None or weight > best[0]:
                best = weight, sample, inside
        _, sample, inside = best
        cell = [i // step for i, step in zip(inside, self._steps(tap), strict=True)]
        token = int(np.ravel_multi_index((sample, *cell), codes.grid))
        entries = np.flatnonzero(codes.tokens == token)
        here = np.zeros(codes.n_latents)
        here[np.searchsorted(codes.pointers, entries, side="right") - 1] = codes.values[entries]
        return here

    def _in_mask(self, tap: str, array: np.ndarray, ijk_to_ras: np.ndarray) -> np.ndarray:
        """Each latent's mean code over the tokens inside a mask that has a grid of its own."""
        session = self.case.session
        codes = session.codes_at(tap)
        image, _ = placed_image((array != 0).astype(np.uint8), ijk_to_ras, "mask")
        inside = session.conformed.mask(sitk.Cast(image, sitk.sitkUInt8))
        if not inside.any():
            raise UsageError("mask", "it does not lie in the brain of this case.", "Choose a segment on this case.")
        tokens = tokens_of(inside, session.sampling, codes.grid[1:]).ravel()
        weights = np.where(tokens[codes.tokens], codes.values, np.float32(0))
        total = np.concatenate([[0.0], np.cumsum(weights, dtype=np.float64)])
        return (total[codes.pointers[1:]] - total[codes.pointers[:-1]]) / max(1, np.count_nonzero(tokens))

    def _peaks_of(self, tap: str) -> np.ndarray:
        """Where each latent is largest, RAS mm (latents, 3); nan where it does not fire."""
        if tap not in self._peaks:
            session = self.case.session
            codes = session.codes_at(tap)
            summary = codes.summary()
            peaks = np.full((codes.n_latents, 3), np.nan)
            for latent in np.flatnonzero(summary.count).tolist():
                tokens, values = codes.latent(latent)
                peak = token_middle(tokens[int(np.argmax(values))], session.sampling, codes.grid)
                peaks[latent] = ras_point(session.conformed, peak)
            self._peaks[tap] = peaks
        return self._peaks[tap]

    def _slice_of(self, tap: str, tokens: np.ndarray) -> np.ndarray:
        """The network's axial slice in which each token's middle lies."""
        session = self.case.session
        grid = session.codes_at(tap).grid
        sample, *cell = np.unravel_index(tokens, grid)
        if len(cell) == 2:
            return sample
        step = self._steps(tap)[0]
        starts = np.array(
            [
                session.sampling.place(s, tuple(slice(0, n) for n in session.sampling.sample_shape))[0].start
                for s in range(session.sampling.count)
            ]
        )
        return np.minimum(starts[sample] + cell[0] * step + step // 2, len(session.labels) - 1)

    def _support(self, tap: str, latent: int) -> tuple[np.ndarray, np.ndarray]:
        """The outer faces (z, y, x; network's index) of the box in which a latent fires."""
        session = self.case.session
        codes = session.codes_at(tap)
        steps = self._steps(tap)
        tokens, _ = codes.latent(latent)
        sample, *cell = np.unravel_index(tokens, codes.grid)
        low, high = np.full(3, np.inf), np.full(3, -np.inf)
        for s in np.unique(sample).tolist():
            rows = sample == s
            box = tuple(
                slice(int(c[rows].min()) * f, (int(c[rows].max()) + 1) * f) for c, f in zip(cell, steps, strict=True)
            )
            place = session.sampling.place(s, box)
            low = np.minimum(low, [p.start - 0.5 for p in place])
            high = np.maximum(high, [p.stop - 0.5 for p in place])
        return low, high

    def _label_shares(self, tap: str) -> np.ndarray:
        """How much of each token each label takes, float32 (3, tokens)."""
        if tap not in self._shares:
            session = self.case.session
            grid = session.codes_at(tap).grid[1:]
            self._shares[tap] = np.stack(
                [share_inside(session.labels == value, session.sampling, grid).ravel() for value in LABELS]
            )
        return self._shares[tap]


def _finite(value):
    """What the catalogue holds as a message can: None for a number that is not finite."""
    if isinstance(value, dict):
        return {name: _finite(v) for name, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _needed(value, name: str, rank: str):
    if value is None:
        raise UsageError(name, f"it is needed to rank latents by {rank}.", f"Give {name}.")
    return value
