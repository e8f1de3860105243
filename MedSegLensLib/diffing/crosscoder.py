"""A second opinion on what two networks share: one dictionary for both, trained on their values at the same places.

A crosscoder (Lindsey et al. 2024, "Sparse Crosscoders for Cross-Layer Features and Model Diffing") encodes the values
of two taps together and decodes each of them. With BatchTopK (Minder et al. 2025, arXiv 2504.02922, section 3.3) it is
an ordinary BatchTopK lens on the two values, normalised and put side by side, whose decoder's rows are read in two
halves: a latent whose row is nearly all in one half is of that network alone.

Two things make a latent look so that is not (Minder et al., section 2.2), and both are looked for: its other half was
shrunk away though the other network's value has it (complete shrinkage; latent scaling of the error), or the other
network has it in a latent of its own (latent decoupling).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from MedSegLensLib.cohorts.cohort import Cohort
from MedSegLensLib.cohorts.mapping import map_cases
from MedSegLensLib.diffing.comparison import LatentFinding
from MedSegLensLib.diffing.matching import PARTLY
from MedSegLensLib.diffing.paired_tokens import PairedTokens
from MedSegLensLib.diffing.pooling import correlation
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.lenses.sampling import BRAIN, LESION, TokenBuffer
from MedSegLensLib.lenses.stability import STABLE, decoder_stability
from MedSegLensLib.lenses.training import LensConfig, Training, train_lenses

if TYPE_CHECKING:
    from MedSegLensLib.cohorts.cluster import Cluster

ONLY = 0.1
"""A crosscoder latent is of one network alone where the other's half has less than this share of the two lengths."""

SHRUNK = 0.2
"""... and where the other's value, by latent scaling, has less than this of it (Minder et al. 2025, figure 3)."""

LIKE = PARTLY
"""A lens's latent is judged by the crosscoder latent whose code is most like its own, from this correlation on; and
from here on two crosscoder latents of one network each are one thing in two halves."""

VOXELS = 60_000
"""Drawn over all cases; a case gives its part, so that memory does not grow with the cases."""

STEPS, BATCH, K, SEEDS = 3000, 1024, 32, (0, 1)
HELD_OUT = 0.1
AT_A_TIME = 8192
KINDS = ("both", "only a", "only b", "decoupled", "shrunk", "silent")
"""both: in the two networks. only a, only b: in one, beyond shrinkage and decoupling. decoupled, shrunk: seemed to be.
silent: never fires."""


@dataclass(frozen=True)
class Pairs:
    """Values of two taps at the same n voxels, each centred and scaled to a mean square length of 1, and what is there.

    x: float32 (n, d_a + d_b). d_a: channels of the first. codes: of the lenses, by side. natural, lesion: bool (n,).
    """

    x: torch.Tensor
    d_a: int
    codes: dict[str, np.ndarray]
    natural: np.ndarray
    lesion: np.ndarray

    @property
    def evenly(self) -> torch.Tensor:
        """x of the voxels that were drawn evenly."""
        return self.x[torch.from_numpy(np.flatnonzero(self.natural))]

    @property
    def halves(self) -> dict[str, slice]:
        """Where each side's channels stand in x."""
        return {"a": slice(0, self.d_a), "b": slice(self.d_a, self.x.shape[1])}

    @staticmethod
    def of(results: Sequence[dict[str, np.ndarray]]) -> "Pairs":
        """Of what `PairedTokens` gave for some cases."""
        joined = {name: np.concatenate([result[name] for result in results]) for name in results[0]}
        halves = []
        for side in "ab":
            x = torch.from_numpy(joined[side]).float()
            even = x[torch.from_numpy(joined["natural"])]
            x = x - even.mean(0)
            halves.append(x / (even - even.mean(0)).square().sum(1).mean().sqrt().clamp_min(1e-12))
        codes = {side: joined[f"{side}_codes"].astype(np.float32) for side in "ab"}
        return Pairs(torch.cat(halves, 1), halves[0].shape[1], codes, joined["natural"], joined["lesion"])


@dataclass(frozen=True)
class Crosscoder:
    """lens: on `Pairs.x`. d_a: where its rows are cut in two. kind: of KINDS, by latent, as text. share: of each row's
    two lengths, that of b, 0..1. scaled: the same with what the error of each side still has of it added. twin: the
    largest correlation with the code of a latent that is the other network's alone. fires: share of voxels."""

    lens: Lens
    d_a: int
    kind: np.ndarray
    share: np.ndarray
    scaled: np.ndarray
    twin: np.ndarray
    fires: np.ndarray


def train_crosscoders(
    pairs: Pairs, width: int, k: int = K, steps: int = STEPS, seeds: Sequence[int] = SEEDS, progress=None
) -> list[Lens]:
    """BatchTopK lenses on the two taps' values side by side, one a seed, but for those whose loss is no number any
    more. Raises LossIsNoNumber where that is true of all."""
    rng = np.random.default_rng(0)
    apart = pairs.natural & (rng.random(len(pairs.x)) < HELD_OUT)
    pools = {}
    for stratum, inside in ((BRAIN, ~pairs.lesion), (LESION, pairs.lesion)):
        chosen = torch.from_numpy(np.flatnonzero(inside & ~apart))
        if len(chosen):
            pools[stratum] = pairs.x[chosen]
    strata = np.where(pairs.lesion[apart], LESION, BRAIN).astype(np.int8)
    buffer = TokenBuffer(pools, pairs.x[torch.from_numpy(np.flatnonzero(apart))], strata, {BRAIN: 0.6, LESION: 0.4})
    k = min(k, width // 4)
    configs = [
        LensConfig("both taps", width, k, seed, steps, min(BATCH, len(pairs.x)), lr=1e-3, dead_after=200_000)
        for seed in seeds
    ]
    trainings = [Training(buffer, config) for config in configs]
    lenses = [lens for lens in train_lenses(trainings, progress) if lens is not None]
    if not lenses:
        raise trainings[0].failed
    return lenses


@torch.no_grad()
def read_crosscoder(lens: Lens, pairs: Pairs) -> Crosscoder:
    """Which latents of a crosscoder are of one network alone.

    Latent scaling: of latent j with code f, the direction that explains most of what side M holds where f fires, beyond
    the other latents, is v_M = d_M + sum(f e_M) / sum(f^2), e_M the error of M's reconstruction. Minder et al. fit the
    length of one direction, which two fine-tunings of a network share; two networks have channels of their own, so here
    a direction is fitted, and lengths are compared. A direction fitted to noise has some length too: that expected of
    errors without relation to f, sqrt(sum(f^2 |e_M|^2)) / sum(f^2), is taken off in squares.
    """
    x, halves = pairs.evenly, pairs.halves.values()
    m, d = lens.d_sae, x.shape[1]
    left, squares, noise = torch.zeros(m, d), torch.zeros(m), torch.zeros(2, m)
    fired, total, product = torch.zeros(m), torch.zeros(m), torch.zeros(m, m)
    for part in x.split(AT_A_TIME):
        f = lens.encode(part)
        error = part - lens.decode(f)
        left += f.T @ error
        squares += f.square().sum(0)
        for side, half in enumerate(halves):
            noise[side] += f.square().T @ error[:, half].square().sum(1)
        fired += (f > 0).sum(0)
        total += f.sum(0)
        product += f.T @ f
    r = correlation(product.numpy(), len(x), (total.numpy(),) * 2, (squares.numpy(),) * 2)
    rows = lens.W_dec
    scaled_rows = rows + left / squares.clamp_min(1e-12)[:, None]
    length = torch.stack([rows[:, half].norm(dim=1) for half in halves])
    by_chance = noise / squares.clamp_min(1e-12).square()
    scaled = torch.stack([scaled_rows[:, half].square().sum(1) for half in halves])
    scaled = (scaled - by_chance).clamp_min(0).sqrt()
    share = (length[1] / length.sum(0).clamp_min(1e-12)).numpy()
    after = (scaled[1] / scaled.sum(0).clamp_min(1e-12)).numpy()
    kind = np.full(m, "both", object)
    alone = {"only a": share < ONLY, "only b": share > 1 - ONLY}
    twin = np.zeros(m)
    for own, other in (("only a", "only b"), ("only b", "only a")):
        if alone[own].any() and alone[other].any():
            twin[alone[own]] = r[np.ix_(alone[own], alone[other])].max(1)
    for own in alone:
        lost = after if own == "only a" else 1 - after
        kind[alone[own]] = own
        kind[alone[own] & (lost >= SHRUNK)] = "shrunk"
        kind[alone[own] & (twin >= LIKE)] = "decoupled"
    kind[fired.numpy() == 0] = "silent"
    return Crosscoder(lens, pairs.d_a, kind, share, after, twin, (fired / len(x)).numpy())


@torch.no_grad()
def opinions(cross: Crosscoder, pairs: Pairs, side: str) -> tuple[np.ndarray, np.ndarray]:
    """What the crosscoder says of each latent of a side's lens: the kind of the crosscoder latent whose code is most
    like its own, "none" below `LIKE`; and that correlation."""
    x = pairs.evenly
    own = torch.from_numpy(pairs.codes[side][pairs.natural])
    sums = [torch.zeros(own.shape[1], cross.lens.d_sae), torch.zeros(2, own.shape[1]), torch.zeros(2, cross.lens.d_sae)]
    for part, z in zip(x.split(AT_A_TIME), own.split(AT_A_TIME), strict=True):
        f = cross.lens.encode(part)
        sums[0] += z.T @ f
        sums[1] += torch.stack([z.sum(0), z.square().sum(0)])
        sums[2] += torch.stack([f.sum(0), f.square().sum(0)])
    products, mine, theirs = (s.numpy() for s in sums)
    r = correlation(products, len(x), (mine[0], theirs[0]), (mine[1], theirs[1]))
    best = r.argmax(1)
    most = r[np.arange(len(r)), best]
    return np.where(most >= LIKE, cross.kind[best], "none"), most


def second_opinion(
    work: PairedTokens,
    cohort: Cohort,
    findings: Sequence[LatentFinding],
    steps: int = STEPS,
    journal: Path | None = None,
    cluster: "Cluster | None" = None,
    progress: Callable[[str, float], None] | None = None,
) -> dict:
    """Train crosscoders on a cohort and hold the categories of two packs' latents at `work`'s taps against them: see
    `opinion_on`."""
    mapped = map_cases(work, cohort.cases, journal, cluster, progress)
    pairs = Pairs.of([arrays for _, arrays in mapped])
    return opinion_on(pairs, {"a": work.tap_a, "b": work.tap_b}, findings, steps, progress)


def opinion_on(
    pairs: Pairs, taps: dict[str, str], findings: Sequence[LatentFinding], steps: int = STEPS, progress=None
) -> dict:
    """What crosscoders on `pairs` say of the findings at two taps, as JSON values: `kinds` (how many crosscoder latents
    of each kind, by seed), `found_again` (of the first seed's latents of one network alone, the share with a partner of
    decoder cosine 0.7 in the second), `explained` (variance, by side), `table` (by side, category and opinion, how many
    latents) and `agreement` (see `agreement`)."""
    width = pairs.codes["a"].shape[1] + pairs.codes["b"].shape[1]
    lenses = train_crosscoders(pairs, width, steps=steps, progress=progress)
    crosses = [read_crosscoder(lens, pairs) for lens in lenses]
    first = crosses[0]
    result = {
        "taps": taps,
        "width": width,
        "voxels": len(pairs.x),
        "kinds": [{kind: int((c.kind == kind).sum()) for kind in KINDS} for c in crosses],
        "explained": _explained(first, pairs),
        "found_again": _found_again(crosses),
        "table": {},
        "agreement": {},
    }
    for side, tap in taps.items():
        said, _ = opinions(first, pairs, side)
        here = {f.latent: f.category for f in findings if (f.side, f.tap) == (side, tap)}
        known = [(here[j], str(said[j])) for j in range(len(said)) if j in here]
        table: dict[str, dict[str, int]] = {}
        for category, opinion in known:
            row = table.setdefault(category, {})
            row[opinion] = row.get(opinion, 0) + 1
        result["table"][side] = table
        result["agreement"][side] = agreement(known, f"only {side}")
    return result


def agreement(known: Sequence[tuple[str, str]], alone: str) -> dict | None:
    """Whether shared and partly shared latents are of both networks to the crosscoder, and specific ones of one alone:
    the share of those with an opinion on which both agree, the share by chance (opinions shuffled) and Cohen's kappa;
    None where there is nothing to compare."""
    alike = {"shared": True, "partly shared": True, "specific": False}
    pairs = [(alike[c], opinion != alone) for c, opinion in known if c in alike and opinion not in ("none", "silent")]
    if not pairs:
        return None
    one, two = np.array(pairs).T
    same = float(np.mean(one == two))
    chance = float(one.mean() * two.mean() + (1 - one.mean()) * (1 - two.mean()))
    kappa = (same - chance) / (1 - chance) if chance < 1 else None
    return {"n": len(pairs), "agree": same, "by_chance": chance, "kappa": kappa}


def _explained(cross: Crosscoder, pairs: Pairs) -> dict[str, float]:
    x = pairs.evenly
    error = torch.cat([part - cross.lens.decode(cross.lens.encode(part)) for part in x.split(AT_A_TIME)])
    return {
        side: float(1 - error[:, half].square().sum() / x[:, half].square().sum())
        for side, half in pairs.halves.items()
    }


def _found_again(crosses: Sequence[Crosscoder]) -> float | None:
    if len(crosses) < 2:
        return None
    alone = np.isin(crosses[0].kind, ["only a", "only b"])
    again = decoder_stability(crosses[0].lens, [crosses[1].lens])
    return float(np.mean(again[alone] >= STABLE)) if alone.any() else None


def said(result: dict, names: dict[str, str]) -> str:
    """The second opinion in a sentence."""
    kinds, parts = result["kinds"][0], []
    for side in "ab":
        of = result["agreement"][side]
        if of is not None:
            parts.append(
                f"it agrees with {100 * of['agree']:.0f} % of {of['n']} categories of {names[side]} "
                f"({100 * of['by_chance']:.0f} % by chance)"
            )
    alone = f"{kinds['only a']} latents of {names['a']} alone and {kinds['only b']} of {names['b']} alone"
    seemed = f"{kinds['shrunk'] + kinds['decoupled']} more only seemed to be"
    held = ", ".join(parts) or "no latent is shared or specific that it could be held against"
    return f"A crosscoder on both ({result['width']} latents) has {alone} ({seemed}); {held}."
