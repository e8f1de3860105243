"""Skip the affine part of a tail: an edit of one latent stays one map times one vector through it.

An edit of latent j adds s(y, x) d_j at its tap: a map times a direction (rank one). 1x1 convolutions, linear layers
and batch norm (eval) turn the direction into M d_j; interpolation turns the map into S s; concatenation places the
vector. So the edit need not be carried through those layers: the value after the last of them is cached (the *entry*),
and S s times M d_j is added there. For SegFormer's fused feature the entry is the quarter-resolution logits (the closed
form logits += dz W_cls d_j); for its last stage it is the map before the head's one ReLU.

M and S are read off the graph and then checked against the graph itself on random values; a tail that fails the check
is not collapsed.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import fx

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
    is_getitem,
    shape_of,
)


@dataclass(frozen=True)
class Collapse:
    """entry: the node after which the tail goes on; matrix (C_entry, C_tap): M; resizes: the interpolations that make
    S, each (mode, output size)."""

    entry: fx.Node
    matrix: torch.Tensor
    resizes: tuple[tuple[str, tuple[int, ...]], ...]

    def move(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (J, *tap grid) of a rank-one edit to the entry's grid: (J, *entry grid)."""
        for mode, size in self.resizes:
            maps = F.interpolate(maps[None], size=size, mode=mode, align_corners=None if mode == "nearest" else False)[
                0
            ]
        return maps


def collapse(module: fx.GraphModule, tap: fx.Node) -> Collapse | None:
    """The furthest entry that a rank-one edit at `tap` reaches unmixed, or None where the next layer is not affine."""
    tail = set(tail_nodes(module, tap))
    tensors = {n: _tensor(module, n) for n in module.graph.nodes if n.op == "get_attr"}
    axes = len(shape_of(tap)) - 2
    matrix = torch.eye(shape_of(tap)[1], device=next((t.device for t in tensors.values()), "cpu"))
    resizes: list[tuple[str, tuple[int, ...]]] = []
    found, node = None, tap
    while True:
        users = [u for u in node.users if u in tail]
        if len(users) != 1:
            break
        user, mixes = users[0], False
        target = user.target
        if target is MARK or user.op != "call_function":
            break
        if target in CONVOLUTION:
            weight = tensors[user.args[1]]
            groups = user.args[6] if len(user.args) > 6 else 1
            strides = set(user.args[3]) if len(user.args) > 3 else {1}
            if set(weight.shape[2:]) != {1} or groups != 1 or strides != {1}:
                break
            matrix, mixes = weight.flatten(1).float() @ matrix, True
        elif target in LINEAR:
            matrix, mixes = tensors[user.args[1]].float() @ matrix, True
        elif target in BATCH_NORM:
            gamma, variance = tensors[user.args[1]], tensors[user.args[4]]
            epsilon = user.args[7 if target is torch.ops.aten.batch_norm.default else 6]
            scale = gamma.float() / (variance.float() + epsilon).sqrt()
            matrix, mixes = scale[:, None] * matrix, True
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
        is_map = len(shape_of(node)) == axes + 2 and shape_of(node)[1] == matrix.shape[0]
        if (mixes or is_getitem(user)) and is_map:
            found = Collapse(node, matrix, tuple(resizes))
    return found if found and _holds(module, tap, found) else None


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
        moved = found.move(maps)[None] * (found.matrix @ direction).view(shape)
    tolerance = 1e-3 if x.dtype == torch.float32 else 2e-2
    return bool((carried - moved).abs().max() <= tolerance * moved.abs().max().clamp_min(1e-12))
