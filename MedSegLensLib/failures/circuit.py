"""The small circuit between two taps: how latents of an earlier tap act on those of a later one, and how far that is
from what it usually is.

After Inside-Out (Peng et al. 2026, arXiv 2604.08192). There, edges join the parts of a vision transformer, an edge's
weight is by how much the output moves when it is ablated (integrated gradients, EAP-IG), the circuit shift score is one
minus Spearman's correlation of a cohort's edge weights to those of the training distribution, and the dependency depth
bias is the log ratio of what the output owes to deep and to shallow layers. Ours: the parts are latents of two lenses,
edges are read from a single case, and there are two kinds of them.

`co_firing`: the correlation of the two codes over shared tokens. A by-product of a segmentation; association only.
`influence`: gradient x activation of an earlier latent on a later one through the network between the taps (attribution
patching, Syed et al. 2023, arXiv 2310.10348, without integration). Causal to first order; one backward pass a target
and slice, so that it is taken for some targets and few slices.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from MedSegLensLib.editing.influence import Gradients, attribute_log_odds
from MedSegLensLib.segmenters.taps import changed

if TYPE_CHECKING:
    from MedSegLensLib.editing.session import Session
    from MedSegLensLib.lenses.codes import Codes
    from MedSegLensLib.packs.pack import LensPack

Weights = dict[str, np.ndarray]
"""By tap, (latents,), not negative, with a sum of 1."""

TARGETS = 24
"""Latents of the last tap that the edges lead to: those that the regions rest on most. With all of them, edges among
latents that nothing rests on outweigh the others (docs/evidence.md)."""
SLICES = 4
"""Slices or windows that `influence` is taken on."""
DEPTH_SLICES = 6
"""Slices or windows with the region that `depth_bias` is taken on, at most."""


def early_and_late(session: "Session") -> tuple[str, str] | None:
    """The first and the last tap in the network's order that have a lens; None for a pack with fewer than two."""
    taps = [tap for tap in session.replay.taps if tap in session.codes]
    return (taps[0], taps[-1]) if len(taps) > 1 else None


def graph(session: "Session", weights: Weights) -> np.ndarray:
    """The edges from the latents of the first tap to the `TARGETS` of the last that weigh most, float32 (edges,), early
    latents first; empty for a single tap."""
    taps = early_and_late(session)
    if taps is None:
        return np.zeros(0, np.float32)
    return co_firing(session, *taps, targets_of(weights[taps[1]])).ravel()


def targets_of(weight: np.ndarray) -> np.ndarray:
    """The latents that weigh most, in the order of their numbers."""
    return np.sort(np.argsort(-weight, kind="stable")[:TARGETS])


def weights_of(pack: "LensPack") -> Weights:
    """How much the regions rest on each latent, by the pack's catalogue: the largest first-order change of a region's
    log odds were it suppressed, each tap's sum 1. As in the paper, what the output does not rest on does not count.
    All alike for a pack whose catalogue does not say."""
    catalogue, found = pack.catalogue(), {}
    said = [f"influence_{region}" for region in ("wt", "tc", "et")]
    for tap in pack.taps:
        weight = np.zeros(pack.lens_info(tap).d_sae)
        if catalogue is not None and set(said) <= set(catalogue.column_names):
            for row in catalogue.select(["tap", "latent", *said]).to_pylist():
                if row["tap"] == tap:
                    weight[row["latent"]] = max(abs(row[name] or 0.0) for name in said)
        found[tap] = weight / weight.sum() if weight.sum() > 0 else np.full(len(weight), 1 / len(weight))
    return found


def circuit_shift(edges: np.ndarray, usual: np.ndarray) -> float:
    """One minus Spearman's correlation of two circuits' edge weights: 0 for the same order, 1 for none, up to 2.

    The paper's best variant (CSS with Spearman's correlation). nan where there are no edges, or they are all alike.
    """
    from scipy.stats import spearmanr

    if len(edges) < 3 or np.ptp(edges) == 0 or np.ptp(usual) == 0:
        return float("nan")
    return float(1 - spearmanr(edges, usual).statistic)


def depth_bias(session: "Session", region: str = "WT") -> float:
    """How much more a region rests on the last tap than on the first, log ratio: the paper's dependency depth bias on
    the output, with latents at two taps for deep and shallow layers.

    Of each latent's first-order effect on the region's mean log odds the absolute values are summed. nan for a pack
    with one tap, or a segmentation without the region.
    """
    taps = early_and_late(session)
    if taps is None:
        return float("nan")
    sums = []
    for tap in taps:
        found = attribute_log_odds(session, tap, (region,), most=DEPTH_SLICES)
        sums.append(np.abs(found[region]).sum() if region in found else 0.0)
    return float(np.log(sums[1] / sums[0])) if min(sums) > 0 else float("nan")


def co_firing(session: "Session", early: str, late: str, targets: Sequence[int] | None = None) -> np.ndarray:
    """Pearson's correlation of each earlier latent's code to each of some later ones' (None: of all) in the brain,
    float32 (J early, targets).

    On the coarser of the two grids, axis by axis; the finer code is averaged over a coarse token. 0 for a latent that
    is constant.
    """
    codes = [session.codes_at(tap) for tap in (early, late)]
    grid = tuple(min(pair) for pair in zip(*(one.grid for one in codes), strict=True))
    inside = np.zeros(int(np.prod(grid)), bool)
    for tap, one in zip((early, late), codes, strict=True):
        tokens = np.flatnonzero(session.brain_tokens[tap])
        inside[_coarser(tokens, one.grid, grid)] = True
    chosen = [range(codes[0].n_latents), range(codes[1].n_latents) if targets is None else targets]
    columns = [_standardised(one, grid, inside, which) for one, which in zip(codes, chosen, strict=True)]
    return (columns[0].T @ columns[1]).astype(np.float32)


def influence(session: "Session", early: str, late: str, targets: Sequence[int]) -> np.ndarray:
    """By how much the summed code of each target at `late` would fall, to first order, were each latent at `early`
    suppressed: float32 (J early, targets), on `SLICES` samples evenly spread where there is much brain."""
    lens, shapes = session.lenses[late], session.replay.tap_shapes
    brain = session.brain_tokens[late].reshape(session.sampling.count, -1)
    gradients = [Gradients(session, early) for _ in targets]
    for sample in much_brain(session, late):
        seen: list[torch.Tensor] = []
        change = torch.zeros(shapes[early], device=session.engine.device, requires_grad=True)
        hooks = {early: lambda x, c=change: x + c[None].to(x), late: seen.append}
        given = session.engine.place(session.sampling.inputs(torch.from_numpy(session.conformed.array), [sample]))
        with torch.enable_grad(), changed(session.network, hooks):
            session.network(given)
            tokens = seen[0][0].flatten(1).T.float()
            sums = lens.encode_latents(tokens[torch.from_numpy(brain[sample])], list(targets)).sum(0)
        for j, found in enumerate(gradients):
            (gradient,) = torch.autograd.grad(sums[j], change, retain_graph=j + 1 < len(gradients))
            found.add(sample, gradient)
    codes, decoder = session.codes_at(early), session.lenses[early].W_dec
    return np.stack([-found.times(codes, decoder) for found in gradients], 1).astype(np.float32)


def much_brain(session: "Session", tap: str, most: int = SLICES) -> list[int]:
    """At most `most` samples, evenly spread, of those with at least half as much brain as the one with the most."""
    count = session.brain_tokens[tap].reshape(session.sampling.count, -1).sum(1)
    samples = np.flatnonzero(2 * count >= count.max())
    return np.unique(samples[np.linspace(0, len(samples) - 1, most).round().astype(int)]).tolist()


def _coarser(tokens: np.ndarray, fine: tuple[int, ...], coarse: tuple[int, ...]) -> np.ndarray:
    """The token of a coarser grid that holds each token of a finer one, both over the same box."""
    at = np.unravel_index(tokens, fine)
    return np.ravel_multi_index([i * c // f for i, f, c in zip(at, fine, coarse, strict=True)], coarse)


def _standardised(codes: "Codes", grid: tuple[int, ...], inside: np.ndarray, latents: Sequence[int]) -> np.ndarray:
    """A latent's code a column over the tokens `inside` of a grid, centred and of unit norm, float32 (tokens, J)."""
    runs = [codes.latent(int(j)) for j in latents]
    tokens, values = (np.concatenate([run[i] for run in runs]) for i in range(2))
    row = np.cumsum(inside) - 1
    there = _coarser(tokens, codes.grid, grid)
    n, kept = int(inside.sum()), inside[there]
    column = np.repeat(np.arange(len(runs)), [len(run[0]) for run in runs])[kept]
    flat = row[there[kept]] * len(runs) + column
    table = np.bincount(flat, values[kept], n * len(runs)).reshape(n, -1).astype(np.float32)
    table -= table.mean(0)
    norm = np.linalg.norm(table, axis=0)
    return table / np.where(norm > 1e-9, norm, np.inf)
