"""How far a change at a tap reaches, and how much around it must be computed to get it exactly.

For a tail made of convolutions, pooling, interpolation and pointwise operations, an output voxel depends on a box of
the tap's grid alone. Two numbers per axis and side follow from the layers: how far the change spreads (`spread`), and
how much more must be computed so that the crop's own borders do not show in it (`halo`). A tail with anything else in
it (attention, a norm over the slice) has no such box and is run on whole slices.
"""

import math
from dataclasses import dataclass

from torch import fx

from MedSegLensLib.cases.boxes import Box
from MedSegLensLib.segmenters.operations import (
    CONCATENATION,
    CONVOLUTION,
    INTERPOLATION,
    NEAREST,
    POINTWISE,
    POOLING,
    RESIZE,
    SOFTMAX,
    TRANSPOSED_CONVOLUTION,
    is_getitem,
    shape_of,
)

Interval = tuple[int, int]  # half-open, in cells of a node's own grid


@dataclass(frozen=True)
class Locality:
    """Of a local tail, per spatial axis, in output voxels.

    `unit`: the coarsest grid's step, to which a crop is aligned; `step`: output voxels per cell of the tap's grid;
    `spread` (before, after) and `halo` (before, after) as in the module's text.
    """

    unit: tuple[int, ...]
    step: tuple[int, ...]
    spread: tuple[tuple[int, int], ...]
    halo: tuple[tuple[int, int], ...]
    shape: tuple[int, ...]

    def core(self, box: Box) -> Box:
        """The output voxels that a change inside `box` of the tap's grid can reach."""
        return tuple(
            slice(max(0, b.start * step - before), min(size, b.stop * step + after))
            for b, step, (before, after), size in zip(box, self.step, self.spread, self.shape, strict=True)
        )

    def crop(self, core: Box) -> Box:
        """The output voxels, aligned to `unit`, that must be computed for `core` to be exact."""
        return tuple(
            slice(
                max(0, (c.start - before) // unit * unit),
                min(size, -(-(c.stop + after) // unit) * unit),
            )
            for c, unit, (before, after), size in zip(core, self.unit, self.halo, self.shape, strict=True)
        )


def locality(tail: fx.GraphModule, start: fx.Node, output: fx.Node) -> Locality | None:
    """The tail's locality, or None where some layer ties a whole slice together."""
    axes = len(shape_of(start)) - 2
    shape = shape_of(output)[2:]
    nodes = [n for n in tail.graph.nodes if n.op in ("call_function", "call_module") and n.meta.get("val") is not None]
    if axes not in (2, 3) or len(shape) != axes:
        return None
    for node in nodes:
        if node.op == "call_function" and not _is_local(node, axes):
            return None
    grids = [shape_of(n)[2:] for n in tail.graph.nodes if _is_map(n, axes)]
    if any(s % g for grid in grids for s, g in zip(shape, grid, strict=True)):
        return None
    unit = tuple(max(s // g[a] for g in grids) for a, s in enumerate(shape))
    step = tuple(s // g for s, g in zip(shape, shape_of(start)[2:], strict=True))
    spread, halo = [], []
    for axis in range(axes):
        reach = [_reach(tail, start, output, axis, p) for p in range(unit[axis] // step[axis])]
        spread.append((max(r[0] for r in reach), max(r[1] for r in reach)))
        need = [_need(tail, output, axis, shape[axis], p) for p in range(unit[axis])]
        halo.append((max(n[0] for n in need), max(n[1] for n in need)))
    return Locality(unit, step, tuple(spread), tuple(halo), shape)


def _is_map(node: fx.Node, axes: int) -> bool:
    return node.op != "get_attr" and len(shape_of(node)) == axes + 2


def _is_local(node: fx.Node, axes: int) -> bool:
    target = node.target
    if target in POINTWISE or is_getitem(node):
        return True
    if target in SOFTMAX:
        return node.args[1] == 1
    if target in CONCATENATION:
        return len(node.args) > 1 and node.args[1] == 1
    if target in CONVOLUTION | TRANSPOSED_CONVOLUTION | POOLING:
        return True
    if target in RESIZE:
        inner, outer = shape_of(node.args[0])[2:], shape_of(node)[2:]
        return all(o % i == 0 for i, o in zip(inner, outer, strict=True)) and not (
            target in INTERPOLATION and node.args[2]
        )
    return False


def _window(node: fx.Node, axis: int) -> tuple[str, int, int, int]:
    """(kind, kernel extent, stride, padding) of a node along an axis."""
    target, args = node.target, node.args

    def along(position: int, default):
        value = args[position] if len(args) > position else default
        value = list(value) if isinstance(value, list | tuple) else [value]
        return value[axis] if len(value) > 1 else value[0]

    if target in CONVOLUTION:
        kernel = (shape_of(args[1])[2 + axis] - 1) * along(5, 1) + 1
        return "conv", kernel, along(3, 1), along(4, 0)
    if target in TRANSPOSED_CONVOLUTION:
        kernel = (shape_of(args[1])[2 + axis] - 1) * along(7, 1) + 1
        return "transposed", kernel, along(3, 1), along(4, 0)
    if target in POOLING:
        kernel = along(1, 1)
        stride = along(2, kernel) if len(args) > 2 and args[2] else kernel
        return "conv", kernel, stride, along(3, 0)
    if target in RESIZE:
        factor = shape_of(node)[2 + axis] // shape_of(args[0])[2 + axis]
        return ("nearest" if target in NEAREST else "linear"), 0, factor, 0
    return "same", 1, 1, 0


def _forward(node: fx.Node, axis: int, interval: Interval) -> Interval:
    """The cells of `node` that a change of `interval` in its input reaches."""
    kind, kernel, stride, padding = _window(node, axis)
    low, high = interval
    if kind == "conv":
        return -((-(low + padding - kernel + 1)) // stride), (high - 1 + padding) // stride + 1
    if kind == "transposed":
        return low * stride - padding, (high - 1) * stride - padding + kernel
    if kind == "nearest":
        return low * stride, high * stride
    if kind == "linear":  # output o reads floor and ceil of (o + 1/2) / f - 1/2
        return math.floor((low - 0.5) * stride - 0.5) + 1, math.ceil((high + 0.5) * stride - 0.5)
    return interval


def _backward(node: fx.Node, axis: int, interval: Interval) -> Interval:
    """The cells of the input that `interval` of `node` reads."""
    kind, kernel, stride, padding = _window(node, axis)
    low, high = interval
    if kind == "conv":
        return low * stride - padding, (high - 1) * stride - padding + kernel
    if kind == "transposed":
        return -((-(low + padding - kernel + 1)) // stride), (high - 1 + padding) // stride + 1
    if kind == "nearest":
        return low // stride, (high - 1) // stride + 1
    if kind == "linear":
        return math.floor((low + 0.5) / stride - 0.5), math.floor((high - 0.5) / stride - 0.5) + 2
    return interval


def _reach(tail, start, output, axis, position) -> tuple[int, int]:
    """Output voxels before and after the tap cell `position` that a change of it alone can reach."""
    first = next(n for n in tail.graph.nodes if n.op == "placeholder")
    reached = {first: (position, position + 1)}
    for node in tail.graph.nodes:
        inputs = [reached[n] for n in node.all_input_nodes if n in reached]
        if inputs and node.op != "output":
            reached[node] = _forward(node, axis, (min(i[0] for i in inputs), max(i[1] for i in inputs)))
    step = shape_of(output)[2 + axis] // shape_of(start)[2 + axis]
    last = reached[next(n for n in tail.graph.nodes if n.op == "output").args[0]]
    return max(0, position * step - last[0]), max(0, last[1] - (position + 1) * step)


def _need(tail, output, axis, size, position) -> tuple[int, int]:
    """Output voxels before and after the output voxel `position` that a crop must hold, over all grids of the tail."""
    final = next(n for n in tail.graph.nodes if n.op == "output").args[0]
    wanted = {final: (position, position + 1)}
    before = after = 0
    for node in reversed(tail.graph.nodes):
        if node not in wanted or node.op == "get_attr":
            continue
        low, high = wanted[node]
        if len(shape_of(node)) > 2:
            factor = size // shape_of(node)[2 + axis]
            before, after = max(before, position - low * factor), max(after, high * factor - position - 1)
        if node.op == "placeholder":
            continue
        low, high = _backward(node, axis, (low, high))
        for used in node.all_input_nodes:
            if used.op != "get_attr":
                old = wanted.get(used, (low, high))
                wanted[used] = (min(low, old[0]), max(high, old[1]))
    return before, after


def make_size_free(tail: fx.GraphModule) -> None:
    """Let interpolations scale by a factor instead of to the captured size, so that the tail runs on crops too."""
    for node in tail.graph.nodes:
        if node.target in RESIZE:
            factors = [float(o // i) for o, i in zip(shape_of(node)[2:], shape_of(node.args[0])[2:], strict=True)]
            rest = node.args[2:-1]
            node.args = (node.args[0], None, *rest, factors)
    tail.recompile()
