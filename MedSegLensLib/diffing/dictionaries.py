"""Several dictionaries of one tap read in one pass: a pack's lens, other seeds of it, and random latents.

The nulls of a cohort comparison need the same cases read with other lenses. A pass through the segmenter is what costs,
so all of them are joined to one lens with as many latents as they have together; each latent's code and influence is
what it would be alone, since a threshold decides about each by itself.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from MedSegLensLib.errors import PackError, UsageError
from MedSegLensLib.lenses.files import load_lens
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.lenses.nulls import random_rows
from MedSegLensLib.packs.info import LENS_CONFIGURATION, LENS_WEIGHTS
from MedSegLensLib.packs.pack import LensPack, load_pack
from MedSegLensLib.segmenters.engine import Engine, choose_engine
from MedSegLensLib.segmenters.sampling import trial_shape

LENS, RANDOM = "lens", "random"
_SEEDS = Path(__file__).resolve().parents[2] / "Resources" / "Seeds"


@dataclass(frozen=True)
class TapDictionaries:
    """What is read at one tap besides the pack's lens.

    seeds: folders of the same lens trained with other seeds; seed_hashes: SHA-256 of each, by which results are known.
    thresholds: of the random latents, one for each latent of the lens, in its order; empty for none.
    """

    tap: str
    seeds: tuple[Path, ...] = ()
    seed_hashes: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()
    random_seed: int = 0

    @staticmethod
    def of(tap: str, seeds: Sequence[Path] = (), thresholds: Sequence[float] = ()) -> "TapDictionaries":
        seeds = tuple(Path(folder).resolve() for folder in seeds)
        return TapDictionaries(tap, seeds, tuple(map(_files_hash, seeds)), tuple(map(float, thresholds)))


@dataclass
class Joint:
    """lens: of all latents together; parts: name -> its run of latents. Names: "lens", the seeds' folders, "random"."""

    lens: Lens
    parts: dict[str, slice] = field(default_factory=dict)


def joint(lens: Lens, dictionaries: TapDictionaries) -> Joint:
    """The lens with its dictionaries. Raises UsageError for a seed of another tap or kind of lens."""
    parts = [(LENS, lens), *((str(folder), _seed_lens(folder, lens)) for folder in dictionaries.seeds)]
    if dictionaries.thresholds:
        parts.append((RANDOM, random_latents(lens, dictionaries.thresholds, dictionaries.random_seed)))
    if len(parts) == 1:
        return Joint(lens, {LENS: slice(0, lens.d_sae)})
    for name, part in parts:
        if part.activation != "jumprelu":
            cause = f"its latents depend on each other ({part.activation}), so that it cannot be read beside others."
            raise UsageError(name if name != LENS else lens.tap, cause, "Compare cohorts without other seeds.")
    ends = np.cumsum([0, *(part.d_sae for _, part in parts)]).tolist()
    together = Lens(
        lens.tap,
        torch.cat([part.W_enc for _, part in parts], 1),
        torch.cat([part.b_enc - part.b_dec @ part.W_enc for _, part in parts]),
        torch.cat([part.W_dec for _, part in parts]),
        torch.zeros_like(lens.b_dec),
        torch.cat([part.threshold for _, part in parts]),
        sum(part.k for _, part in parts),
    )
    runs = zip(parts, ends[:-1], ends[1:], strict=True)
    return Joint(together, {name: slice(first, last) for (name, _), first, last in runs})


def random_latents(lens: Lens, thresholds: Sequence[float], seed: int = 0) -> Lens:
    """Latents that nobody trained: random unit directions, as the lens's are, read by themselves (tied encoder)."""
    rows = random_rows(lens.d_sae, lens.d_in, seed).to(lens.W_dec)
    threshold = torch.tensor(thresholds, dtype=torch.float32).to(lens.W_dec)
    return Lens(lens.tap, rows.T.contiguous(), torch.zeros_like(threshold), rows, lens.b_dec, threshold, lens.k)


@torch.inference_mode()
def thresholds_of_equal_rate(lens: Lens, tokens: torch.Tensor, seed: int = 0) -> np.ndarray:
    """Thresholds at which random latent j fires on as many of the tokens (n, d_in) as latent j of the lens (one at
    least): float32 (d_sae,), not negative."""
    fires = torch.zeros(lens.d_sae)
    for x in tokens.split(4096):
        fires += (lens.encode(x.float()) > 0).sum(0)
    rows, found = random_rows(lens.d_sae, lens.d_in, seed), np.zeros(lens.d_sae, np.float32)
    centred = tokens.float() - lens.b_dec
    for j, count in enumerate(fires.clamp(1, len(tokens) - 1).long().tolist()):
        values = (centred @ rows[j]).numpy()
        found[j] = np.partition(values, len(values) - count - 1)[len(values) - count - 1]
    return np.maximum(found, 0)


def seed_folders(pack: LensPack, tap: str) -> tuple[Path, ...]:
    """Other seeds of a shipped pack's lens (Resources/Seeds/<pack>/<tap>/seed-<n>); none for another pack."""
    folders = sorted((_SEEDS / pack.info.name / tap).glob("seed-*"))
    lens = pack.lens(tap)
    return tuple(f for f in folders if (f / LENS_CONFIGURATION).is_file() and load_lens(f).d_in == lens.d_in)


# -- in the process that reads the cases ----------------------------------------------------------------------------


@dataclass
class Opened:
    """A pack as a work needs it: with the joint lenses of the wanted taps, and the engine it runs in."""

    pack: LensPack
    joints: dict[str, Joint]
    engine: Engine


@lru_cache(maxsize=2)
def opened(folder: Path, hash: str, taps: tuple[TapDictionaries, ...]) -> Opened:
    """The pack, opened once a process. Raises PackError for one that has changed since the work was given out."""
    pack = load_pack(folder)
    if pack.hash != hash:
        cause = "it is not the pack that the comparison was started with."
        raise PackError(folder, cause, "Let all machines have the same pack at this path, and start again.")
    joints = {one.tap: joint(pack.lens(one.tap), one) for one in taps}
    lenses = tuple(replace(pack.lens_info(tap), default=i == 0) for i, tap in enumerate(joints))
    view = replace(pack, info=replace(pack.info, lenses=lenses), _lenses={t: j.lens for t, j in joints.items()})
    network, spec = pack.network(), pack.input_spec()
    engine, _ = choose_engine(network, (len(spec.modalities), *trial_shape(pack.info.segmenter, spec)))
    return Opened(view, joints, engine)


def _seed_lens(folder: Path, lens: Lens) -> Lens:
    other = load_lens(folder)
    if other.d_in != lens.d_in:
        cause = f"it reads {other.d_in} channels and the lens at {lens.tap} {lens.d_in}: not one tap."
        raise UsageError(folder, cause, "Give lenses of the same tap.")
    return other


def _files_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in _lens_files(folder):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _lens_files(folder: Path) -> Iterator[Path]:
    for name in (LENS_CONFIGURATION, LENS_WEIGHTS):
        if not (folder / name).is_file():
            raise UsageError(folder, f"it is no folder of a lens ({name} is missing).", "Check --seed.")
        yield folder / name
