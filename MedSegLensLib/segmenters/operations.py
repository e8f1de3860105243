"""The ATen operations that the analysis of a tail understands, by what they do to space and channels."""

import torch
from torch import fx


def _named(*names: str) -> frozenset:
    """Operations by 'packet.overload'; those that this torch does not have are left out."""
    found = set()
    for name in " ".join(names).split():
        packet, _, overload = name.partition(".")
        operation = getattr(torch.ops.aten, packet, None)
        if operation is not None and overload in operation.overloads():
            found.add(getattr(operation, overload))
    return frozenset(found)


CONVOLUTION = _named("conv2d.default conv3d.default")
TRANSPOSED_CONVOLUTION = _named("conv_transpose2d.input conv_transpose3d.input")
POOLING = _named("max_pool2d.default max_pool3d.default avg_pool2d.default avg_pool3d.default")
NEAREST = _named("upsample_nearest2d.vec upsample_nearest3d.vec")
INTERPOLATION = _named("upsample_bilinear2d.vec upsample_trilinear3d.vec")
RESIZE = NEAREST | INTERPOLATION
CONCATENATION = _named("cat.default")
SOFTMAX = _named("_softmax.default softmax.int")
LINEAR = _named("linear.default")
ADDITION = _named("add.Tensor")
BATCH_NORM = _named("batch_norm.default _native_batch_norm_legit_no_training.default")
LAYOUT = _named(
    "view.default reshape.default transpose.int permute.default flatten.using_ints",
    "clone.default contiguous.default unsqueeze.default squeeze.dim",
)
POINTWISE = (
    ADDITION
    | BATCH_NORM
    | _named(
        "relu.default leaky_relu.default gelu.default sigmoid.default tanh.default elu.default silu.default",
        "prelu.default _prelu_kernel.default hardtanh.default hardswish.default mish.default softplus.default",
        "sub.Tensor mul.Tensor div.Tensor add.Scalar mul.Scalar neg.default clamp.default",
        "clone.default contiguous.default _to_copy.default to.dtype",
    )
)


def is_getitem(node: fx.Node) -> bool:
    """Whether the node takes one of several results, as after batch norm."""
    return getattr(node.target, "__name__", "") == "getitem"


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """The shape with which the node was captured; () for what is no tensor."""
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, torch.Tensor) else ()
