"""A pack named so that it travels to another process, and opened once there: its network, lenses and engine are kept
between the cases that the process works on.

at_work = PackAtWork.of(load_pack(options.pack), options.pack)     # here; imports no torch
session = at_work.session(case)                                    # there, case after case
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.errors import PackError
from MedSegLensLib.packs.installed import find_pack, list_packs
from MedSegLensLib.packs.pack import LensPack, load_pack
from MedSegLensLib.segmenters.trust import trust, trusted_modules

if TYPE_CHECKING:
    from torch import nn

    from MedSegLensLib.cases.case import Case
    from MedSegLensLib.editing.session import Session
    from MedSegLensLib.segmenters.engine import Engine

KEPT = 4
"""Packs that a process keeps open: two that are compared, and other seeds of them."""


@dataclass(frozen=True)
class PackAtWork:
    """source: an installed pack's name, or an absolute path. hash: the pack's; another pack of this name is refused.
    trusted: modules of the user's that may make its segmenter."""

    source: str
    hash: str
    trusted: tuple[str, ...] = ()

    @staticmethod
    def of(pack: LensPack, source: str | Path) -> "PackAtWork":
        """`source` is what `pack` was loaded by. A name stays a name, since other hosts have the pack elsewhere."""
        found = find_pack(source)
        named = list_packs().get(str(source)) == found
        return PackAtWork(str(source) if named else str(found.resolve()), pack.hash, trusted_modules())

    def open(self) -> LensPack:
        """The pack, verified and read once in this process. Raises PackError where it is not there, or another."""
        return _opened(self)

    def session(
        self, case: "Case", device: str | None = None, progress=None, pack: LensPack | None = None
    ) -> "Session":
        """`Session` of the case, with the engine that was chosen for this process's first case. pack: this one with
        other lenses than its own. Raises as `Session` does."""
        from MedSegLensLib.editing.session import Session

        session = Session(case, pack or self.open(), device, _ENGINES.get((self.hash, device)), progress)
        _ENGINES.setdefault((self.hash, device), session.engine)
        return session

    def segmenter(self, device: str | None = None) -> "tuple[Engine, nn.Module]":
        """The same engine, and the network as it runs it: for work that needs no session."""
        return _segmenter(self, device)


_ENGINES: dict = {}


@lru_cache(2)
def _segmenter(at_work: PackAtWork, device: str | None) -> "tuple[Engine, nn.Module]":
    from MedSegLensLib.segmenters.engine import choose_engine
    from MedSegLensLib.segmenters.sampling import trial_shape

    pack, at = at_work.open(), (at_work.hash, device)
    network, config, spec = pack.network(), pack.info.segmenter, pack.input_spec()
    if at not in _ENGINES:
        _ENGINES[at], _ = choose_engine(network, (len(spec.modalities), *trial_shape(config, spec)), device)
    return _ENGINES[at], _ENGINES[at].prepare(network, config.spatial_dims)


@lru_cache(KEPT)
def _opened(at_work: PackAtWork) -> LensPack:
    trust(at_work.trusted)
    pack = load_pack(at_work.source)
    if pack.hash != at_work.hash:
        cause = f"it is another pack than the one that was asked for ({pack.hash[:12]}, not {at_work.hash[:12]})."
        raise PackError(at_work.source, cause, "Install the same pack on every machine that works.")
    return pack
