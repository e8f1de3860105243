"""Skip the affine part of a tail: an edit of one latent stays one map times one vector through it.

An edit of latent j adds s(y, x) d_j at its tap: a map times a direction (rank one). 1x1 convolutions, linear layers
and batch norm (eval) turn the direction into M d_j; interpolation turns the map into S s; concatenation places the
vector. So the edit need not be carried through those layers: the value after the last of them is cached (the *entry*),
and S s times M d_j is added there. For SegFormer's fused feature the entry is the quarter-resolution logits (the closed
form logits += dz W_cls d_j); for its last stage it is the map before the head's one ReLU.

The first wider convolution may end the affine part: of J edited latents it needs J input channels, with the kernel
W M d_j, instead of all C. A U-Net's decoder stage with 64 channels begins with the costliest layer of its tail.

M, S and W are read off the graph and then checked against the graph itself on random values; a tail that fails the
check is not collapsed.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import fx

from MedSegLensLib.cases.boxes import Box
from MedSegLensLib.segmenters.graph import MARK, cut_tail, tail_nodes
from MedSegLensLib.segmenters.operations import (
    ADDITION,
    BATCH_NORM,
    CONCATENATION,
    CONVOLUTION,
    LAYOUT,
    LINEAR,
    NEAREST,
    RESIZE,
    TRANSPOSED_CONVOLUTION,
    is_getitem,
    shape_of,
)


@dataclass(frozen=True)
class Kernel:
    """A convolution that keeps the grid, or a transposed one that multiplies it by its stride; no groups.

    weight: (C_out, C_in, *extent), of a transposed one (C_in, C_out, *extent); scale (C_out,): of what follows it.
    """

    weight: torch.Tensor
    transposed: bool
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    scale: torch.Tensor

    def of(self, rows: torch.Tensor) -> "PhasedKernel":
        """The kernel for inputs that are maps times `rows` (J, C_in)."""
        order = "co...,jc->oj..." if self.transposed else "oc...,jc->oj..."
        weight = torch.einsum(order, self.weight, rows) * self.scale.view(-1, 1, *(1,) * len(self.stride))
        # Which phase each of the kernel's cells belongs to, and which input cell it reads: along each axis.
        phases, cells = [], []
        for extent, stride, padding, dilation in zip(
            weight.shape[2:], self.stride, self.padding, self.dilation, strict=True
        ):
            at = torch.arange(extent) * dilation
            phase = (at - padding) % stride if self.transposed else torch.zeros_like(at)
            phases.append(phase)
            cells.append((phase + padding - at) // stride if self.transposed else at - padding)
        first = tuple(int(c.min()) for c in cells)
        reach = [int(c.max()) - f + 1 for c, f in zip(cells, first, strict=True)]
        phased = weight.new_zeros((*self.stride, *weight.shape[:2], *reach))
        cells = [c - f for c, f in zip(cells, first, strict=True)]
        index = [*torch.meshgrid(*phases, indexing="ij"), slice(None), slice(None)]
        phased[(*index, *torch.meshgrid(*cells, indexing="ij"))] = weight.movedim((0, 1), (-2, -1))
        return PhasedKernel(phased, first)


@dataclass(frozen=True)
class PhasedKernel:
    """A convolution as one over the input's own grid, whose channels are the output's *phases*: with a stride of 2 the
    output voxels at even and at odd places of each axis. A plain convolution has one phase.

    A transposed convolution of one map to four channels takes 0.5 ms a slice so, and 5 ms as a plain one over the map
    with zeros between its cells (8 slices of 192 x 144, one thread).

    weight: (*stride, C_out, J, *cells); first: the first cell that an output cell reads, relative to its own.
    """

    weight: torch.Tensor
    first: tuple[int, ...]

    def apply(self, maps: torch.Tensor, window: Box) -> torch.Tensor:
        """Maps (B, J, *grid): (B, C_out, *window), a window of the output's grid."""
        axes = len(self.first)
        stride, (channels, _, *reach) = self.weight.shape[:axes], self.weight.shape[axes:]
        low = [part.start // s for part, s in zip(window, stride, strict=True)]
        high = [-(-part.stop // s) for part, s in zip(window, stride, strict=True)]
        wide, around = [], []
        for axis, size in enumerate(maps.shape[2:]):
            start, stop = low[axis] + self.first[axis], high[axis] + self.first[axis] + reach[axis] - 1
            wide.append(slice(max(0, start), max(0, min(size, stop))))
            around.append((max(0, -start), max(0, stop - max(size, start, 0))))
        cells = F.pad(maps[(..., *wide)].to(self.weight), [n for pair in reversed(around) for n in pair])
        # Channels last in memory, also where there is but one: ten times faster for one map to sixteen channels.
        weight = self.weight.flatten(0, axes).movedim(1, -1).clone(memory_format=torch.contiguous_format)
        out = (F.conv1d, F.conv2d, F.conv3d)[axes - 1](cells, weight.movedim(-1, 1))
        # (B, phases and C_out, *cells) -> (B, cell, phase of each axis in turn, C_out), its channels last in memory
        out = out.movedim(1, -1).unflatten(-1, (*stride, channels))
        turns = [a for axis in range(axes) for a in (1 + axis, 1 + axes + axis)]
        out = out.permute(0, *turns, -1)
        out = out.reshape(len(maps), *((h - n) * s for h, n, s in zip(high, low, stride, strict=True)), channels)
        inside = (slice(p.start - n * s, p.stop - n * s) for p, n, s in zip(window, low, stride, strict=True))
        return out.movedim(-1, 1)[(..., *inside)]


@dataclass(frozen=True)
class Collapse:
    """entry: the node after which the tail goes on; matrix (C, C_tap): M; resizes: the interpolations that make S, each
    (mode, output size); kernel: the convolution that comes last, where there is one (then there are no resizes)."""

    entry: fx.Node
    matrix: torch.Tensor
    resizes: tuple[tuple[str, tuple[int, ...]], ...]
    kernel: Kernel | None = None

    def carried(self, directions: torch.Tensor) -> "torch.Tensor | PhasedKernel":
        """Directions (J, C_tap) as `added` wants them."""
        rows = directions.to(self.matrix) @ self.matrix.T
        return self.kernel.of(rows) if self.kernel else rows

    def added(self, maps: torch.Tensor, carried: "torch.Tensor | PhasedKernel", window: Box) -> torch.Tensor:
        """What maps (B, J, *tap grid) times directions add to the entry, in a window of its grid: (B, C, *window)."""
        if self.kernel:
            return carried.apply(maps, window)
        for mode, size in self.resizes:
            corners = None if mode == "nearest" else False
            maps = F.interpolate(maps, size=size, mode=mode, align_corners=corners)
        return torch.einsum("bj...,jc->bc...", maps[(..., *window)], carried)


def collapse(module: fx.GraphModule, tap: fx.Node) -> Collapse | None:
    """The furthest entry that a rank-one edit at `tap` reaches unmixed, or None where the next layer is not affine."""
    tail = set(tail_nodes(module, tap))
    tensors = {n: _tensor(module, n) for n in module.graph.nodes if n.op == "get_attr"}
    axes = len(shape_of(tap)) - 2
    matrix = torch.eye(shape_of(tap)[1], device=next((t.device for t in tensors.values()), "cpu"))
    resizes: list[tuple[str, tuple[int, ...]]] = []
    found, node, kernel = None, tap, None
    while True:
        users = [u for u in node.users if u in tail]
        if len(users) != 1:
            break
        user, mixes = users[0], False
        target = user.target
        if target is MARK or user.op != "call_function":
            break
        if kernel and target not in BATCH_NORM and not is_getitem(user):
            break  # a map that was smeared is no longer the latent's own
        if target in CONVOLUTION | TRANSPOSED_CONVOLUTION:
            if not _is_map(node, axes, matrix.shape[0]):
                break
            last = _kernel_of(user, tensors[user.args[1]], axes)
            if last is None:
                break
            if last.transposed or set(last.weight.shape[2:]) != {1}:
                if resizes:
                    break
                kernel = last
            else:
                matrix = last.weight.flatten(1) @ matrix
            mixes = True
        elif target in LINEAR:
            matrix, mixes = tensors[user.args[1]].float() @ matrix, True
        elif target in BATCH_NORM:
            gamma, variance = tensors[user.args[1]], tensors[user.args[4]]
            epsilon = user.args[7 if target is torch.ops.aten.batch_norm.default else 6]
            scale = gamma.float() / (variance.float() + epsilon).sqrt()
            if kernel:
                kernel = replace(kernel, scale=kernel.scale * scale)
            else:
                matrix = scale[:, None] * matrix
            mixes = True
        elif target in CONCATENATION and user.args[1] == 1:
            before = sum(shape_of(n)[1] for n in user.args[0][: user.args[0].index(node)])
            total = shape_of(user)[1]
            placed = matrix.new_zeros((total, matrix.shape[1]))
            placed[before : before + matrix.shape[0]] = matrix
            matrix = placed
        elif target in RESIZE:
            mode = "nearest" if target in NEAREST else {2: "bilinear", 3: "trilinear"}[axes]
            resizes.append((mode, shape_of(user)[2:]))
        elif target in ADDITION:
            if any(n in tail for n in user.all_input_nodes if n is not node):
                break
        elif target not in LAYOUT and not is_getitem(user):
            break
        node = user
        channels = len(kernel.scale) if kernel else matrix.shape[0]
        if (mixes or is_getitem(user)) and _is_map(node, axes, channels):
            found = Collapse(node, matrix, tuple(resizes), kernel)
    return found if found and _holds(module, tap, found) else None


def _is_map(node: fx.Node, axes: int, channels: int) -> bool:
    return len(shape_of(node)) == axes + 2 and shape_of(node)[1] == channels


def _kernel_of(node: fx.Node, weight: torch.Tensor, axes: int) -> Kernel | None:
    """The convolution of a node, or None for one with groups or one that changes the grid in another way."""
    transposed = node.target in TRANSPOSED_CONVOLUTION
    names = ("stride", "padding", "output_padding", "groups", "dilation")
    if not transposed:
        names = ("stride", "padding", "dilation", "groups")
    given = dict(zip(names, node.args[3:], strict=False))
    if given.get("groups", 1) != 1 or isinstance(given.get("padding"), str):
        return None

    def along(name: str, default: int) -> tuple[int, ...]:
        value = given.get(name, default)
        value = tuple(value) if isinstance(value, list | tuple) else (value,)
        return value * axes if len(value) == 1 else value

    stride = along("stride", 1)
    inner, outer = shape_of(node.args[0])[2:], shape_of(node)[2:]
    factor = stride if transposed else (1,) * axes
    if any(o != i * f for i, o, f in zip(inner, outer, factor, strict=True)) or (not transposed and set(stride) != {1}):
        return None
    weight = weight.float()
    scale = torch.ones(weight.shape[1 if transposed else 0], device=weight.device)
    return Kernel(weight, transposed, stride, along("padding", 0), along("dilation", 1), scale)


def _tensor(module: fx.GraphModule, node: fx.Node) -> torch.Tensor:
    value = module
    for name in node.target.split("."):
        value = getattr(value, name)
    return value.detach() if isinstance(value, torch.Tensor) else value


def _holds(module: fx.GraphModule, tap: fx.Node, found: Collapse) -> bool:
    """Whether moving a random rank-one edit equals carrying it through the graph (to 1e-3 of its size, in any dtype
    whose rounding allows that; half-precision engines are checked to 2e-2)."""
    stretch, skips = cut_tail(module, tap, found.entry)
    random = torch.Generator().manual_seed(0)

    def values(node):
        like = node.meta["val"]
        value = torch.randn((2, *like.shape[1:]), generator=random)
        return value.to(found.matrix.device, like.dtype)

    with torch.no_grad():
        x, rest = values(tap), [values(n) for n in skips]
        maps = torch.rand((1, *x.shape[2:]), generator=random).to(x.device)
        direction = torch.randn(x.shape[1], generator=random).to(x.device)
        shape = (1, -1) + (1,) * (x.ndim - 2)
        edited = x + (maps[None] * direction.view(shape)).to(x.dtype)
        carried = (stretch(edited, *rest) - stretch(x, *rest)).float()
        everywhere = tuple(slice(0, n) for n in carried.shape[2:])
        moved = found.added(maps[None], found.carried(direction[None]), everywhere)
    tolerance = 1e-3 if x.dtype == torch.float32 else 2e-2
    return bool((carried - moved).abs().max() <= tolerance * moved.abs().max().clamp_min(1e-12))
