"""What a foreign network's output channels mean, and how they become logits of the labels 0, NCR, ED, ET.

Two kinds. *softmax*: each channel is a label or the background, in any order, some perhaps absent. *sigmoid*: each
channel is a region of its own (`["TC", "WT", "ET"]`, as MONAI's BraTS bundles give them), thresholded at 0.

Regions become labels by a sum: a label's logit is the sum of the channels of the regions it lies in, the background's
is 0. For WT, TC, ET: 0, WT + TC, WT, WT + TC + ET. That is the log-likelihood (but for a constant) of the four
combinations that can be, so the largest one is the thresholded combination wherever the three thresholds agree on a
nested one, and the likeliest nested one where they contradict each other (ET without TC, at rims). Being linear, it
commutes with the blending of overlapping windows, and a tail stays what it was for the analyses of locality.py and
collapse.py.
"""

from typing import TYPE_CHECKING

from MedSegLensLib.cases.case import LABELS, REGIONS
from MedSegLensLib.errors import PackError

if TYPE_CHECKING:
    import torch
    from torch import nn

BACKGROUND = "background"
LABEL_COUNT = len(LABELS) + 1
NEVER = -1e4
"""The logit of a label that a network does not know: its softmax is 0, and bfloat16 and float16 hold it."""

STANDS_FOR = {"NCR": 1, "ED": 2, "ET": 3, "WT": 2, "TC": 1}
"""The label that a softmax channel of this name is given: one 'whole tumour' is shown as edema, the outermost."""

OUTERMOST_FIRST = (2, 1, 3)
"""Which of several labels stands for regions that do not part them: ED before NCR before ET."""


def outputs_problem(outputs: object) -> str | None:
    """What is wrong with a pack's `outputs`, in words; None is right, and means four logits, background first."""
    if outputs is None:
        return None
    if not isinstance(outputs, dict) or set(outputs) != {"kind", "channels"}:
        return "outputs must have exactly kind and channels"
    kind, channels = outputs["kind"], outputs["channels"]
    if kind not in ("softmax", "sigmoid"):
        return f"outputs of kind {kind!r} are not known; use softmax or sigmoid"
    if not isinstance(channels, list | tuple) or not channels or len(channels) > 16:
        return "the channels of outputs must be a list of 1 to 16 names"
    known = [*REGIONS, *([BACKGROUND] if kind == "softmax" else [])]
    unknown = [c for c in channels if c not in known]
    if unknown:
        return f"the output channel {unknown[0]!r} is not known for {kind}; use {', '.join(known)}"
    if kind == "softmax" and BACKGROUND not in channels:
        return "softmax outputs need a background channel"
    if kind == "softmax" and not set(channels) - {BACKGROUND}:
        return "softmax outputs need a channel that is not background"
    meant = [STANDS_FOR.get(c, 0) for c in channels] if kind == "softmax" else list(channels)
    if len(set(meant)) < len(meant):
        return "two output channels mean the same"
    return None


def rows(outputs: dict) -> list[tuple[int, ...] | None]:
    """Per label 0 to 3 the output channels whose sum is its logit; None for a label that the network does not know."""
    channels = list(outputs["channels"])
    if outputs["kind"] == "softmax":
        meant = [STANDS_FOR.get(c, 0) for c in channels]
        return [(meant.index(v),) if v in meant else None for v in range(LABEL_COUNT)]
    found: list[tuple[int, ...] | None] = [()] + [None] * (LABEL_COUNT - 1)
    for value in OUTERMOST_FIRST:
        mine = tuple(i for i, region in enumerate(channels) if value in REGIONS[region])
        if mine not in found:
            found[value] = mine
    return found


class LabelLogits:
    """A forward hook of the whole network: its output -> logits (B, 4, *spatial) of the labels, float32 where summed.

    A hook, not a module around the network, so that modules and weights keep the names their maker gave them.
    """

    def __init__(self, outputs: dict | None, spatial_dims: int):
        import torch

        self.weight = self.bias = None
        if outputs is None:
            return
        wanted = rows(outputs)
        if wanted == [(v,) for v in range(LABEL_COUNT)] and len(outputs["channels"]) == LABEL_COUNT:
            return
        self.weight = torch.zeros(LABEL_COUNT, len(outputs["channels"]))
        for value, channels in enumerate(wanted):
            self.weight[value, list(channels or ())] = 1.0
        self.weight = self.weight.view(*self.weight.shape, *(1,) * spatial_dims)
        self.bias = torch.tensor([NEVER if channels is None else 0.0 for channels in wanted])

    def __call__(self, _module: "nn.Module", _inputs: tuple, output: object) -> "torch.Tensor":
        import torch

        from MedSegLensLib.segmenters.graph import tensor_output

        x = tensor_output(output)
        if x is None:
            raise PackError("segmenter", "its output is no tensor.", "Let its factory return logits (B, K, *space).")
        if self.weight is None:
            return x
        if x.shape[1] != self.weight.shape[1]:
            cause = f"it gives {x.shape[1]} output channels, and outputs names {self.weight.shape[1]}."
            raise PackError("segmenter", cause, "Name each channel in outputs.")
        # In float32: a sum of bfloat16 logits would lose the sign of the smallest of them, which is what decides.
        if x.dtype != torch.float32:
            x = x.float()
        convolution = torch.nn.functional.conv2d if x.ndim == 4 else torch.nn.functional.conv3d
        return convolution(x, self.weight.to(x.device), self.bias.to(x.device))
