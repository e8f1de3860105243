"""What a network makes of a tap's value, for a few samples at a time and with gradients.

`segmenters.replay` runs tails on the recorded values of a whole volume, for edits that are drawn at once. A fit runs
the same few samples some hundred times and asks for gradients: it needs the tail and its skips for these samples alone.
"""

from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.func import functional_call

from MedSegLensLib.segmenters.collapse import Collapse, collapse
from MedSegLensLib.segmenters.graph import CannotCapture, capture, cut_tail, marked_node, output_node, with_outputs
from MedSegLensLib.segmenters.locality import Locality, locality, make_size_free
from MedSegLensLib.segmenters.sampling import Box, whole
from MedSegLensLib.segmenters.taps import changed

Weights = dict[str, torch.Tensor]


@dataclass
class Behind:
    """The tail for one excerpt: `behind(x)`, x (S, C, *window) -> logits float32 (S, K, *box).

    window: the part of the tap's grid that x covers. `weights`: some of the network's, by name, in place of its own;
    `learnable` names those that the tail has. late: what follows the layers that are affine in x, where there are some.
    """

    module: nn.Module
    skips: list[torch.Tensor]
    window: Box
    inside: Box
    learnable: tuple[str, ...]
    late: "Late | None" = None

    def __call__(self, x: torch.Tensor, weights: Weights | None = None) -> torch.Tensor:
        arguments = (x, *self.skips)
        logits = functional_call(self.module, weights, arguments) if weights else self.module(*arguments)
        return logits[(slice(None), slice(None), *self.inside)].float()


@dataclass
class Late:
    """A tail from where it stops to be affine in the tap's value (segmenters/collapse.py). An edit of latent j moves
    the value there by its gain times a map that is computed once: an evaluation with its gradient takes 100 ms in place
    of 135 for the U-Net (14 slices, one thread), 36 in place of 46 for SegFormer.

    entry: (S, C, *window_e), unedited. grid: of the tap; window_e: of the entry's grid.
    """

    module: nn.Module
    skips: list[torch.Tensor]
    entry: torch.Tensor
    window: Box
    inside: Box
    grid: tuple[int, ...]
    collapsed: Collapse

    @torch.no_grad()
    def effect(self, codes: torch.Tensor, place: Box, direction: torch.Tensor) -> torch.Tensor:
        """What codes (S, *place) times a direction (C_tap,) add to the entry; place: which part of the tap's grid."""
        whole_grid = codes.new_zeros((len(codes), 1, *self.grid))
        whole_grid[(slice(None), 0, *place)] = codes
        return self.collapsed.added(whole_grid, self.collapsed.carried(direction[None]), self.window)

    def __call__(self, entry: torch.Tensor) -> torch.Tensor:
        return self.module(entry, *self.skips)[(slice(None), slice(None), *self.inside)].float()


@dataclass
class BehindHook:
    """The same for a network that cannot be captured: all of it is run, with the tap's value replaced by a hook."""

    network: nn.Module
    tap: str
    inputs: torch.Tensor
    window: Box
    inside: Box
    learnable: tuple[str, ...] = ()
    late: None = None

    def __call__(self, x: torch.Tensor, weights: Weights | None = None) -> torch.Tensor:
        with changed(self.network, {self.tap: lambda _: x}):
            return self.network(self.inputs)[(slice(None), slice(None), *self.inside)].float()


class TailReader:
    """The tail behind a tap, for inputs of one spatial size.

    Raises UsageError for a tap that is no module, or does not run exactly once.
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
        self.module, skips, self.local = _cut(graph, start)
        self.collapsed, late, wanted = collapse(graph, start), [], [start, *skips]
        if self.collapsed:
            self._late, late, self._late_local = _cut(graph, self.collapsed.entry)
            wanted += [self.collapsed.entry, *late]
        self._counts = len(skips), len(late)
        self._whole = with_outputs(graph, wanted)
        known = dict(network.named_parameters())
        self.learnable = tuple(name for name, _ in self.module.named_parameters() if name in known)

    @torch.no_grad()
    def values(self, inputs: torch.Tensor, batch: int) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Logits, the tap's value, and what else the tail reads, of the inputs (S, C, *sample_shape)."""
        parts = [self._values(inputs[i : i + batch]) for i in range(0, len(inputs), batch)]
        logits, x, *others = (torch.cat(part) for part in zip(*parts, strict=True))
        return logits.float(), x, others

    def _values(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self.module is not None:
            return self._whole(inputs)
        seen = []
        with changed(self.network, {self.tap: lambda x: seen.append(x)}):
            logits = self.network(inputs)
        return logits, seen[0]

    def behind(
        self, inputs: torch.Tensor, x: torch.Tensor, others: list[torch.Tensor], box: Box
    ) -> Behind | BehindHook:
        """The tail for a box of the samples; x and others as `values` gave them. Where it is local, a crop is run."""
        if self.module is None:
            return BehindHook(self.network, self.tap, inputs, whole(tuple(x.shape[2:])), box)
        count, late = self._counts[0], None
        crop, inside = self._crop(self.local, box)
        if self.collapsed:
            late_crop, late_inside = self._crop(self._late_local, box)
            entry, *late_skips = others[count:]
            window = self._window(entry, late_crop)
            entry = entry[(..., *window)].clone()
            late_skips = self._cropped(late_skips, self._late_local, late_crop)
            grid = tuple(x.shape[2:])
            late = Late(self._late, late_skips, entry, window, late_inside, grid, self.collapsed)
        skips = self._cropped(others[:count], self.local, crop)
        return Behind(self.module, skips, self._window(x, crop), inside, self.learnable, late)

    def _crop(self, local: Locality | None, box: Box) -> tuple[Box, Box]:
        """What must be run for a box, and where the box lies in it."""
        crop = local.crop(box) if local else whole(self.sample_shape)
        return crop, tuple(slice(b.start - c.start, b.stop - c.start) for b, c in zip(box, crop, strict=True))

    def _cropped(self, skips: list[torch.Tensor], local: Locality | None, crop: Box) -> list[torch.Tensor]:
        return [skip[(..., *self._window(skip, crop))].clone() if local else skip for skip in skips]

    def _window(self, value: torch.Tensor, crop: Box) -> Box:
        """A crop in voxels of a sample as a window of a value's own grid."""
        steps = [n // g for n, g in zip(self.sample_shape, value.shape[2:], strict=True)]
        return tuple(slice(c.start // f, -(-c.stop // f)) for c, f in zip(crop, steps, strict=True))


def _cut(graph: fx.GraphModule, start: fx.Node) -> tuple[fx.GraphModule, list[fx.Node], Locality | None]:
    """The tail after a node, what else it reads, and its locality."""
    module, skips = cut_tail(graph, start)
    local = locality(module, start, output_node(graph))
    if local:
        make_size_free(module)
    return module, skips, local
