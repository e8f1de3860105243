"""How a volume is cut into the inputs of a network, and its outputs put back together.

A *sample* is one input: an axial slice for a 2D segmenter, a window of the sliding window for a 3D one. Both
samplings answer the same four questions, so that nothing after them knows which it has.
"""

from typing import TYPE_CHECKING, Protocol

import torch

from MedSegLensLib.cases.boxes import Box
from MedSegLensLib.segmenters.architectures import SegmenterConfig

if TYPE_CHECKING:
    from MedSegLensLib.cases.conform import InputSpec


class Sampling(Protocol):
    count: int
    sample_shape: tuple[int, ...]
    volume_shape: tuple[int, int, int]
    overlapping: bool  # whether a voxel can lie in more than one sample

    def inputs(self, volume: torch.Tensor, samples: list[int]) -> torch.Tensor:
        """volume (C, Z, Y, X) -> (len(samples), C, *sample_shape)."""

    def merge(self, outputs: torch.Tensor, box: Box) -> torch.Tensor:
        """outputs (count, K, *sample_shape) of all samples -> (K, *box) of the volume."""

    def place(self, sample: int, box: Box) -> Box:
        """A box of one sample -> the box (z, y, x) of the volume it covers."""

    def samples_of(self, box: Box) -> list[int]:
        """The samples that touch a box of the volume."""

    def say(self, sample: int) -> torch.Tensor:
        """How much of each voxel's result this sample decides: broadcastable to sample_shape; sums to 1 over samples,
        0 beyond the volume."""


class Slices:
    """One sample per axial slice."""

    overlapping = False

    def __init__(self, volume_shape: tuple[int, int, int]):
        self.volume_shape = volume_shape
        self.count, self.sample_shape = volume_shape[0], volume_shape[1:]

    def inputs(self, volume, samples):
        return volume[:, samples].transpose(0, 1)

    def merge(self, outputs, box):
        return outputs[(box[0], slice(None), *box[1:])].transpose(0, 1)

    def place(self, sample, box):
        return (slice(sample, sample + 1), *box)

    def samples_of(self, box):
        return list(range(box[0].start, box[0].stop))

    def say(self, sample):
        return torch.ones((1, 1))


class Patches:
    """Overlapping windows whose outputs are blended with Gaussian weights, placed and weighted as by MONAI's
    `sliding_window_inference(mode="gaussian")`. A volume smaller than the window is padded with zeros at its end."""

    overlapping = True

    def __init__(self, volume_shape: tuple[int, int, int], patch_size: tuple[int, int, int], overlap: float):
        from monai.data.utils import compute_importance_map, dense_patch_slices

        self.volume_shape, self.sample_shape = volume_shape, tuple(patch_size)
        self.padded = tuple(max(v, p) for v, p in zip(volume_shape, patch_size, strict=True))
        step = tuple(
            p if p == v else max(1, int(p * (1 - overlap))) for p, v in zip(patch_size, self.padded, strict=True)
        )
        self.windows: list[Box] = list(dense_patch_slices(self.padded, patch_size, step))
        self.count = len(self.windows)
        self.weight = compute_importance_map(self.sample_shape, mode="gaussian", sigma_scale=0.125).clamp_min(1e-3)
        self._total: torch.Tensor | None = None

    def inputs(self, volume, samples):
        after = [p - v for p, v in zip(self.padded, self.volume_shape, strict=True)]
        if any(after):
            volume = torch.nn.functional.pad(volume, (0, after[2], 0, after[1], 0, after[0]))
        return torch.stack([volume[(slice(None), *self.windows[s])] for s in samples])

    def merge(self, outputs, box):
        # Always summed in the order of the windows: a box merged alone equals the same box of the whole, to the bit.
        shape = tuple(b.stop - b.start for b in box)
        total = outputs.new_zeros((outputs.shape[1], *shape))
        weights = outputs.new_zeros(shape)
        weight = self.weight.to(outputs.device, outputs.dtype)
        for sample in self.samples_of(box):
            window = self.windows[sample]
            common = [slice(max(w.start, b.start), min(w.stop, b.stop)) for w, b in zip(window, box, strict=True)]
            here = tuple(slice(c.start - b.start, c.stop - b.start) for c, b in zip(common, box, strict=True))
            there = tuple(slice(c.start - w.start, c.stop - w.start) for c, w in zip(common, window, strict=True))
            total[(slice(None), *here)] += weight[there] * outputs[(sample, slice(None), *there)]
            weights[here] += weight[there]
        return total / weights

    def place(self, sample, box):
        window = self.windows[sample]
        return tuple(
            slice(w.start + b.start, min(w.start + b.stop, v))
            for w, b, v in zip(window, box, self.volume_shape, strict=True)
        )

    def samples_of(self, box):
        return [
            i
            for i, window in enumerate(self.windows)
            if all(w.start < b.stop and b.start < w.stop for w, b in zip(window, box, strict=True))
        ]

    def say(self, sample):
        if self._total is None:
            self._total = torch.zeros(self.padded)
            for window in self.windows:
                self._total[window] += self.weight
        share = self.weight / self._total[self.windows[sample]]
        for axis, (window, n) in enumerate(zip(self.windows[sample], self.volume_shape, strict=True)):
            share.narrow(axis, min(n, window.stop) - window.start, window.stop - min(n, window.stop)).zero_()
        return share


def sampling_of(config: SegmenterConfig, volume_shape: tuple[int, int, int]) -> Sampling:
    if config.sampling == "slices":
        return Slices(volume_shape)
    return Patches(volume_shape, config.patch_size, config.overlap)


def whole(shape: tuple[int, ...]) -> Box:
    return tuple(slice(0, n) for n in shape)


def union(boxes: list[Box]) -> Box:
    """The smallest box that holds them all; boxes is not empty."""
    return tuple(slice(min(b.start for b in along), max(b.stop for b in along)) for along in zip(*boxes, strict=True))


def trial_shape(config: SegmenterConfig, spec: "InputSpec") -> tuple[int, ...]:
    """The shape of one input to try a network on: of a slice, about that of a brain at 1 mm, as its divisor allows."""
    if config.sampling != "slices":
        return tuple(config.patch_size)
    return tuple(-(-n // d) * d for n, d in zip((160, 192), spec.size_divisor[1::-1], strict=True))
