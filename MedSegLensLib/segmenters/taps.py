"""Taps by forward hooks: list them, watch them, replace their value. The plain way, against which replay is checked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from MedSegLensLib.segmenters.graph import no_such_tap, tensor_output


@dataclass(frozen=True)
class TapInfo:
    """A module that could be a tap.

    grid: the spatial shape of its output; tail_share: the share of the network's floating-point operations that are
    done after it, which bounds from above what a replay costs.
    """

    name: str
    kind: str
    channels: int
    grid: tuple[int, ...]
    tail_share: float


def list_taps(network: nn.Module, input_shape: tuple[int, ...]) -> list[TapInfo]:
    """Every module that runs once and returns a feature map (B, channels, *grid), for inputs (C, *spatial).

    A module whose grid does not divide the input is left out: its channels are on another axis.
    """
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    seen: dict[str, tuple[torch.Tensor, int]] = {}
    calls: dict[str, int] = {}
    handles = []
    for name, module in network.named_modules():

        def note(_module, _inputs, output, name=name):
            calls[name] = calls.get(name, 0) + 1
            seen[name] = (tensor_output(output), counter.get_total_flops())

        if name:
            handles.append(module.register_forward_hook(note))
    try:
        with torch.no_grad(), counter:
            network(torch.zeros((1, *input_shape)))
    finally:
        for handle in handles:
            handle.remove()
    total = counter.get_total_flops()
    modules = dict(network.named_modules())
    found = []
    for name, (value, done) in seen.items():
        if calls[name] != 1 or value is None or value.ndim != len(input_shape) + 1:
            continue
        if all(n % g == 0 for n, g in zip(input_shape[1:], value.shape[2:], strict=True)):
            share = 1 - done / total
            found.append(
                TapInfo(name, type(modules[name]).__name__, value.shape[1], tuple(value.shape[2:]), round(share, 4))
            )
    return found


@contextmanager
def changed(network: nn.Module, changes: dict[str, Callable[[torch.Tensor], torch.Tensor | None]]) -> Iterator[None]:
    """While this context lasts, the output of each named module is replaced by `change(output)`; None leaves it.

    The hooks stand before any other: transformers records hidden states by hooks of its own, and the decoder must see
    the changed value. Raises UsageError for a tap that is no module of the network.
    """
    modules = dict(network.named_modules())
    handles = []
    for name, change in changes.items():
        if name not in modules:
            raise no_such_tap(name, modules)

        def hook(_module, _inputs, output, change=change):
            value = tensor_output(output)
            new = change(value)
            if new is None:
                return None
            return new if value is output else type(output)([new, *output[1:]])

        handles.append(modules[name].register_forward_hook(hook, prepend=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
