"""Several lenses of one tap as one, so that one pass over a case encodes them all: a pack's own, its other seeds', and
the random directions that a likeness between packs must beat."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from MedSegLensLib.lenses.codes import Codes
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.lenses.nulls import random_rows
from MedSegLensLib.packs.info import LensInfo
from MedSegLensLib.packs.pack import LensPack


@dataclass(frozen=True)
class Part:
    """Which columns of a stack are of which lens. kind: "own", "seed" or "random"."""

    kind: str
    start: int
    stop: int

    @property
    def columns(self) -> slice:
        return slice(self.start, self.stop)


@dataclass
class Stack(Lens):
    """Lenses whose codes stand side by side; for kinds that one threshold a latent cannot write (TopK)."""

    lenses: tuple[Lens, ...] = ()

    def encode(self, x: Tensor) -> Tensor:
        return torch.cat([lens.encode(x) for lens in self.lenses], 1)

    def to(self, device: torch.device | str) -> "Stack":
        return replace(super().to(device), lenses=tuple(lens.to(device) for lens in self.lenses))


def stacked(lenses: Sequence[Lens]) -> Lens:
    """One lens whose codes are those of `lenses` side by side, and whose decoder's rows are theirs.

    Its reconstruction means nothing. JumpReLU lenses become one JumpReLU lens, with their b_dec folded into b_enc.
    """
    joined = {
        "W_enc": torch.cat([lens.W_enc for lens in lenses], 1),
        "b_enc": torch.cat([lens.b_enc - lens.b_dec @ lens.W_enc for lens in lenses]),
        "W_dec": torch.cat([lens.W_dec for lens in lenses]),
        "b_dec": torch.zeros_like(lenses[0].b_dec),
        "threshold": torch.cat([lens.threshold for lens in lenses]),
    }
    tap, k = lenses[0].tap, sum(lens.k for lens in lenses)
    if all(lens.activation == "jumprelu" for lens in lenses):
        return Lens(tap, k=k, **joined)
    return Stack(tap, k=k, activation="stack", lenses=tuple(lenses), **joined)


def random_directions(lens: Lens, count: int, seed: int) -> Lens:
    """A lens of `count` random unit directions of a tap's channels, centred as `lens` is, that fires above 0.

    How often each of them fires on a case is set afterwards by `thinned`.
    """
    rows = random_rows(count, lens.d_in, seed)
    zeros = torch.zeros(count)
    return Lens(lens.tap, rows.T.contiguous(), zeros, rows, lens.b_dec.clone(), zeros.clone(), max(1, count // 2))


def drawn_models(lens: Lens, count: int, seed: int) -> np.ndarray:
    """Which latent of `lens` each of `count` random directions imitates in how often it fires, int64 (count,)."""
    return np.random.default_rng(seed).integers(0, lens.d_sae, count)


def thinned(codes: Codes, part: Part, models: np.ndarray) -> Codes:
    """The codes with each random direction of `part` reduced to its strongest tokens, as many as the latent that it
    imitates (`models`, columns of the codes) fires on in this case; all where it has no more."""
    pointers, keep = codes.pointers, np.ones(len(codes.tokens), bool)
    counts = np.diff(pointers).copy()
    for column, model in zip(range(part.start, part.stop), models, strict=True):
        wanted, run = int(pointers[model + 1] - pointers[model]), slice(pointers[column], pointers[column + 1])
        have = run.stop - run.start
        if have > wanted:
            weakest = np.argpartition(codes.values[run], have - wanted)[: have - wanted] if wanted else slice(None)
            keep[run.start : run.stop][weakest] = False
            counts[column] = wanted
    pointers = np.concatenate([[0], np.cumsum(counts)])
    return Codes(pointers, codes.tokens[keep], codes.values[keep], codes.grid)


def stack_for(
    pack: LensPack, taps: Sequence[str], seeds: dict[str, Sequence[Lens]], randoms: int, seed: int
) -> tuple[LensPack, dict[str, tuple[Part, ...]], dict[str, np.ndarray]]:
    """The pack with a stack for a lens at each of `taps` (own lens, other seeds, `randoms` random directions); the
    parts of each stack, and which own latent each random direction imitates."""
    lenses, parts, models, infos = {}, {}, {}, []
    for i, tap in enumerate(taps):
        own = pack.lens(tap)
        members = [("own", own), *(("seed", lens) for lens in seeds.get(tap, ()))]
        if randoms:
            members.append(("random", random_directions(own, randoms, seed + i)))
            models[tap] = drawn_models(own, randoms, seed + i)
        ends = np.cumsum([0, *(lens.d_sae for _, lens in members)]).tolist()
        parts[tap] = tuple(Part(kind, ends[n], ends[n + 1]) for n, (kind, _) in enumerate(members))
        lenses[tap] = stacked([lens for _, lens in members])
        infos.append(LensInfo(tap, f"lenses/{i}", own.d_in, ends[-1], lenses[tap].k, i == 0))
    info = replace(pack.info, lenses=tuple(infos))
    return replace(pack, info=info, _lenses=lenses), parts, models
