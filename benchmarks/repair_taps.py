"""What controls of a repair read at a tap: a click with its tissue, the tap's value, and units other than latents."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from MedSegLensLib.diffing.tails import TailReader
from MedSegLensLib.editing.session import Session
from MedSegLensLib.failures.points import Point
from MedSegLensLib.lenses.lens import Lens


@dataclass(frozen=True)
class Click:
    """A point, its voxel, and the tissue that every method is confined to (see `failures.tissue`)."""

    point: Point
    voxel: tuple[int, int, int]
    tissue: np.ndarray
    like: np.ndarray


class TapValues:
    """A tap's value and the tail behind it, sample by sample, computed where they are asked for and kept."""

    def __init__(self, session: Session, tap: str):
        self.session, self.tap = session, tap
        network = session.pack.network().eval().requires_grad_(False)
        channels = len(session.conformed.array)
        self.reader = TailReader(network, tap, (channels, *session.sampling.sample_shape))
        self._kept: dict[int, tuple] = {}

    def read(self, samples: Sequence[int]) -> None:
        missing = [sample for sample in samples if sample not in self._kept]
        if missing:
            volume = torch.from_numpy(self.session.conformed.array)
            inputs = self.session.sampling.inputs(volume, missing)
            _, x, others = self.reader.values(inputs, 4)
            for i, sample in enumerate(missing):
                self._kept[sample] = inputs[i : i + 1], x[i : i + 1], [o[i : i + 1] for o in others]

    def at(self, sample: int, cells: np.ndarray) -> torch.Tensor:
        """The tap's value at some tokens of a sample, float32 (n, C)."""
        self.read([sample])
        return self._kept[sample][1][0].flatten(1).T[torch.from_numpy(cells)].float()

    def behind(self, sample: int, box) -> tuple[Callable, torch.Tensor]:
        """The tail of one sample for a box of it, and what goes in."""
        self.read([sample])
        inputs, x, others = self._kept[sample]
        tail = self.reader.behind(inputs, x, others, box)
        return tail, x[(..., *tail.window)]


@dataclass
class RawChannels:
    """The channels of the tap themselves as units: gains multiply what a channel holds."""

    values: TapValues
    directions: torch.Tensor

    def at(self, sample, cells):
        return np.ascontiguousarray(self.values.at(sample, cells).T.numpy())


@dataclass
class CodesOf:
    """The latents of another lens at the same tap."""

    values: TapValues
    lens: Lens

    @property
    def directions(self):
        return self.lens.W_dec

    def at(self, sample, cells):
        return np.ascontiguousarray(self.lens.encode(self.values.at(sample, cells)).T.numpy())


@dataclass
class Constant:
    """Directions added with one strength at every token: gains 0 to 5 are -1 to +4 times the direction."""

    directions: torch.Tensor

    def at(self, sample, cells):
        return np.ones((len(self.directions), len(cells)), np.float32)
