"""Lenses of the same taps trained with other seeds: what they do not find again is noise of the training.

The shipped packs' lie in Resources/Seeds/<pack>/<tap>/seed-<n>, in SAELens' layout; a user's own in a folder laid out
alike, or in any folders given one by one.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.errors import UsageError

if TYPE_CHECKING:
    from MedSegLensLib.lenses.lens import Lens
    from MedSegLensLib.packs.pack import LensPack

SHIPPED = Path(__file__).resolve().parents[2] / "Resources" / "Seeds"
KEPT = 32


@dataclass(frozen=True)
class SeedLens:
    """A lens of another seed, named so that it travels to other processes. hash: SHA-256 of its two files."""

    tap: str
    folder: Path
    hash: str

    @staticmethod
    def of(folder: Path) -> "SeedLens":
        """The lens in a folder. Raises PackError where there is none or it is damaged."""
        from MedSegLensLib.lenses.files import load_lens

        folder = Path(folder).resolve()
        return SeedLens(load_lens(folder).tap, folder, _hash(folder))

    def lens(self) -> "Lens":
        """The lens, read once in this process. Raises PackError where it is not there any more, UsageError where the
        files are others than those that were named."""
        return _read(self)


def seeds_of(pack: "LensPack", folder: Path | None = None) -> tuple[SeedLens, ...]:
    """The other seeds of a pack's lenses in `folder`/<pack>/ (or in `folder` itself), by default the shipped ones; none
    where there is no such folder, and only those for taps of the pack.

    Raises UsageError as `check_seeds` does, PackError for a damaged lens.
    """
    place = Path(folder or SHIPPED)
    place = place / pack.info.name if (place / pack.info.name).is_dir() else place
    if folder is None and place == SHIPPED:
        return ()
    found = [SeedLens.of(path.parent) for path in sorted(place.glob("**/cfg.json"))]
    if folder is not None and not found:
        cause = f"it holds no lens of another seed for {pack.info.name}."
        raise UsageError(
            folder, cause, "Give a folder with <pack>/<tap>/seed-<n>/cfg.json and sae_weights.safetensors."
        )
    return check_seeds(pack, [seed for seed in found if seed.tap in pack.taps])


def check_seeds(pack: "LensPack", seeds: Iterable[SeedLens]) -> tuple[SeedLens, ...]:
    """The seeds, if each is another lens for a tap of the pack. Raises UsageError otherwise: a copy of the pack's own
    lens would find every latent again."""
    import torch

    seeds = tuple(seeds)
    for seed in seeds:
        if seed.tap not in pack.taps:
            known = ", ".join(pack.taps)
            raise UsageError(seed.folder, f"it is a lens at {seed.tap}.", f"The taps of {pack.info.name} are: {known}.")
        own, lens = pack.lens(seed.tap), seed.lens()
        if lens.d_in != own.d_in:
            cause = f"it reads {lens.d_in} channels, and {seed.tap} of {pack.info.name} has {own.d_in}."
            raise UsageError(seed.folder, cause, "Give a lens that was trained at this pack's segmenter.")
        if lens.W_dec.shape == own.W_dec.shape and torch.equal(lens.W_dec, own.W_dec):
            cause = f"it is the lens of {pack.info.name} itself."
            raise UsageError(seed.folder, cause, "Give one that was trained with another seed.")
    return seeds


@lru_cache(KEPT)
def _read(seed: SeedLens) -> "Lens":
    from MedSegLensLib.lenses.files import load_lens

    lens = load_lens(seed.folder)
    if _hash(seed.folder) != seed.hash:
        raise UsageError(
            seed.folder, "it is another lens than the one that was named.", "Use the same files everywhere."
        )
    return lens


def _hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in ("cfg.json", "sae_weights.safetensors"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()
