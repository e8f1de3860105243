"""What a network makes of a tap's value, for a few samples at a time and with gradients.

`segmenters.replay` runs tails on the recorded values of a whole volume, for edits that are drawn at once. A fit runs
the same few samples some hundred times and asks for gradients: it needs the tail and its skips for these samples alone.
"""

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.func import functional_call

from MedSegLensLib.segmenters.graph import CannotCapture, capture, cut_tail, marked_node, output_node, with_outputs
from MedSegLensLib.segmenters.locality import locality, make_size_free
from MedSegLensLib.segmenters.sampling import Box, whole
from MedSegLensLib.segmenters.taps import changed

Weights = dict[str, torch.Tensor]


@dataclass
class Behind:
    """The tail for one excerpt: `behind(x)`, x (S, C, *window) -> logits float32 (S, K, *box).

    window: the part of the tap's grid that x covers. `weights`: some of the network's, by name, in place of its own;
    `learnable` names those that the tail has.
    """

    module: nn.Module
    skips: list[torch.Tensor]
    window: Box
    inside: Box
    learnable: tuple[str, ...]

    def __call__(self, x: torch.Tensor, weights: Weights | None = None) -> torch.Tensor:
        arguments = (x, *self.skips)
        logits = functional_call(self.module, weights, arguments) if weights else self.module(*arguments)
        return logits[(slice(None), slice(None), *self.inside)].float()


@dataclass
class BehindHook:
    """The same for a network that cannot be captured: all of it is run, with the tap's value replaced by a hook."""

    network: nn.Module
    tap: str
    inputs: torch.Tensor
    window: Box
    inside: Box
    learnable: tuple[str, ...] = field(default=())

    def __call__(self, x: torch.Tensor, weights: Weights | None = None) -> torch.Tensor:
        with changed(self.network, {self.tap: lambda _: x}):
            return self.network(self.inputs)[(slice(None), slice(None), *self.inside)].float()


class TailReader:
    """The tail behind a tap, for inputs of one spatial size.

    values(inputs) gives logits (S, K, *sample_shape), the tap's value (S, C, *grid) and the skips; behind(...) the tail
    for a box of the samples. Raises UsageError for a tap that is no module, or does not run exactly once.
    """

    def __init__(self, network: nn.Module, tap: str, shape: tuple[int, ...]):
        """shape: (C, *spatial) of one input."""
        self.network, self.tap, self.sample_shape = network, tap, tuple(shape[1:])
        device = next(network.parameters()).device
        self.module = None
        try:
            graph = capture(network, torch.zeros((2, *shape), device=device), [tap])
        except CannotCapture:
            return
        start = marked_node(graph, tap)
        self.module, skips = cut_tail(graph, start)
        self.local = locality(self.module, start, output_node(graph))
        if self.local:
            make_size_free(self.module)
        self._whole = with_outputs(graph, [start, *skips])
        known = dict(network.named_parameters())
        self.learnable = tuple(name for name, _ in self.module.named_parameters() if name in known)

    @torch.no_grad()
    def values(self, inputs: torch.Tensor, batch: int) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        parts = [self._values(inputs[i : i + batch]) for i in range(0, len(inputs), batch)]
        logits, x, *skips = (torch.cat(part) for part in zip(*parts, strict=True))
        return logits.float(), x, skips

    def _values(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self.module is not None:
            return self._whole(inputs)
        seen = []
        with changed(self.network, {self.tap: lambda x: seen.append(x)}):
            logits = self.network(inputs)
        return logits, seen[0]

    def behind(self, inputs: torch.Tensor, x: torch.Tensor, skips: list[torch.Tensor], box: Box) -> Behind | BehindHook:
        """x and skips: as `values` gave them, whole. Where the tail is local only a crop around the box is run."""
        if self.module is None:
            return BehindHook(self.network, self.tap, inputs, whole(tuple(x.shape[2:])), box)
        crop = self.local.crop(box) if self.local else whole(self.sample_shape)
        inside = tuple(slice(b.start - c.start, b.stop - c.start) for b, c in zip(box, crop, strict=True))
        if self.local:
            skips = [skip[(..., *self._window(skip, crop))].contiguous() for skip in skips]
        return Behind(self.module, skips, self._window(x, crop), inside, self.learnable)

    def _window(self, value: torch.Tensor, crop: Box) -> Box:
        """A crop in voxels of a sample as a window of a value's own grid."""
        steps = [n // g for n, g in zip(self.sample_shape, value.shape[2:], strict=True)]
        return tuple(slice(c.start // f, -(-c.stop // f)) for c, f in zip(crop, steps, strict=True))
