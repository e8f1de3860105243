"""What is read of each case when cohorts are compared: a pack's lens, other seeds of it, and random latents.

The nulls need the same cases read with other lenses. A pass through the segmenter is what costs, so they are stacked to
one lens (`stacking.stacked`), and each latent's code and influence is what it would be alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from MedSegLensLib.cases.case import Case
from MedSegLensLib.diffing.seeds import SeedLens
from MedSegLensLib.diffing.stacking import random_directions, stacked
from MedSegLensLib.editing.pack_at_work import PackAtWork
from MedSegLensLib.editing.session import Session
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.lenses.nulls import random_rows
from MedSegLensLib.packs.installed import list_packs
from MedSegLensLib.packs.pack import LensPack
from MedSegLensLib.segmenters.engine import Engine
from MedSegLensLib.segmenters.hooked import HookedReplay

LEAST_RATE = 1e-3
"""A latent that fires on less than this share of some tokens has no firing rate that could be imitated."""


@dataclass(frozen=True)
class TapDictionaries:
    """What is read at one tap: the pack's lens, `seeds` of it, and a random latent for each of `thresholds`, which are
    one for each latent of the lens, in its order, or none."""

    tap: str
    seeds: tuple[SeedLens, ...] = ()
    thresholds: tuple[float, ...] = ()
    random_seed: int = 0


@dataclass(frozen=True)
class Stacked:
    """One lens of them all; own, seeds, random: their runs of latents."""

    lens: Lens
    own: slice
    seeds: tuple[slice, ...]
    random: slice | None


def stack(own: Lens, dictionaries: TapDictionaries) -> Stacked:
    """The lenses of one tap as one. Raises as `SeedLens.lens` does."""
    lenses = [own, *(seed.lens() for seed in dictionaries.seeds)]
    if dictionaries.thresholds:
        lenses.append(random_latents(own, dictionaries.thresholds, dictionaries.random_seed))
    ends = np.cumsum([0, *(lens.d_sae for lens in lenses)]).tolist()
    runs = [slice(first, last) for first, last in zip(ends[:-1], ends[1:], strict=True)]
    together = stacked(lenses) if len(lenses) > 1 else own
    n = 1 + len(dictionaries.seeds)
    return Stacked(together, runs[0], tuple(runs[1:n]), runs[n] if len(runs) > n else None)


def random_latents(lens: Lens, thresholds: Sequence[float], seed: int = 0) -> Lens:
    """Latents that nobody trained: random unit directions, as long as the lens's are, read by themselves."""
    threshold = torch.tensor(thresholds, dtype=torch.float32)
    return replace(random_directions(lens, lens.d_sae, seed), threshold=threshold, k=lens.k)


@torch.inference_mode()
def thresholds_of_equal_rate(lens: Lens, tokens: torch.Tensor, seed: int = 0) -> tuple[float, ...]:
    """Thresholds at which random latent j fires on as many of the tokens (n, d_in) as latent j of the lens; not
    negative. One threshold for all cases: a random latent may then differ between cohorts as it will.

    In place of a latent that fires on fewer than `LEAST_RATE` of them another one is imitated, drawn by chance: what
    is silent has no rate, and a random latent at the very edge of what the tokens are fires on whatever is new, so that
    nothing new could ever be told from it.
    """
    count = torch.zeros(lens.d_sae)
    for x in tokens.split(4096):
        count += (lens.encode(x.float()) > 0).sum(0)
    fires = (count >= max(LEAST_RATE * len(tokens), 1)).nonzero()[:, 0].numpy()
    drawn = np.random.default_rng(seed).choice(fires, lens.d_sae) if len(fires) else np.arange(lens.d_sae)
    imitated = np.where(np.isin(np.arange(lens.d_sae), fires), np.arange(lens.d_sae), drawn)
    rows, found = random_rows(lens.d_sae, lens.d_in, seed), np.zeros(lens.d_sae, np.float32)
    centred = tokens.float() - lens.b_dec
    for j, wanted in enumerate(count[imitated].clamp(1, len(tokens) - 1).long().tolist()):
        values = (centred @ rows[j]).numpy()
        found[j] = np.partition(values, len(values) - wanted - 1)[len(values) - wanted - 1]
    return tuple(np.maximum(found, 0).tolist())


# -- in the process that reads the cases ----------------------------------------------------------------------------


@dataclass
class Opened:
    """A pack with the stacked lenses of the wanted taps, and the engine of the first case that was read with it."""

    pack: LensPack
    stacks: dict[str, Stacked]
    engine: Engine | None = None

    def session(self, case: Case, edits: bool = True) -> Session:
        """Raises as `Session` does. edits: whether there will be any; without, the network's graph is not captured."""
        session = (Session if edits else _Reading)(case, self.pack, engine=self.engine)
        self.engine = session.engine
        return session


class _Reading(Session):
    """A session that reads a case and edits nothing: capturing the graph takes 3 s of CPU a case, more than a small
    case itself, and saves nothing here."""

    def _make_replay(self, channels: int) -> HookedReplay:
        return HookedReplay(self.network, self.sampling, self.engine, list(self.pack.taps), channels)


@lru_cache(maxsize=2)
def opened(pack: PackAtWork, taps: tuple[TapDictionaries, ...]) -> Opened:
    """The pack, opened once a process. Raises PackError for one that has changed since the work was given out."""
    own = pack.open()
    stacks = {one.tap: stack(own.lens(one.tap), one) for one in taps}
    lenses = tuple(replace(own.lens_info(tap), default=i == 0) for i, tap in enumerate(stacks))
    # It keeps the pack's hash: latents of `own` have their numbers in the stack, and recipes name those only.
    view = replace(own, info=replace(own.info, lenses=lenses), _lenses={tap: s.lens for tap, s in stacks.items()})
    return Opened(view, stacks)


def at_work(pack: LensPack) -> PackAtWork:
    """A pack that is open, named so that it travels: by its name where it is installed under it, else by its folder."""
    name = pack.info.name
    installed = list_packs().get(name)
    same = installed is not None and installed.resolve() == Path(pack.folder).resolve()
    return PackAtWork.of(pack, name if same else pack.folder)
