"""Whether a network can serve as a segmenter, and a module of it as a tap: tried, before a pack is written."""

import torch
from torch import nn

from MedSegLensLib.errors import PackError, UsageError
from MedSegLensLib.segmenters.architectures import SegmenterConfig
from MedSegLensLib.segmenters.graph import no_such_tap, tensor_output
from MedSegLensLib.segmenters.outputs import LABEL_COUNT
from MedSegLensLib.segmenters.taps import TapInfo, list_taps

DIVISORS = (1, 2, 4, 8, 16, 32, 64)
MOST_CHANNELS = 16384
"""Of a lens, by the schema of pack.json."""


def smallest_divisor(network: nn.Module, channels: int) -> int:
    """What the sides of a slice must be multiples of, by trying. Raises PackError where no size serves."""
    first = None
    for divisor in DIVISORS:
        times = -(-64 // divisor) | 1  # odd, so that no larger power of two divides the side
        try:
            _logits(network, channels, (divisor * times, divisor * (times + 2)))
        except PackError as problem:
            first = first or problem
            continue
        return divisor
    raise PackError(
        "segmenter",
        f"it takes no slices of any size that was tried ({first.cause})",
        "A 2D segmenter must take slices of every size that is a multiple of some number; make one that does.",
    )


def check_segmenter(network: nn.Module, channels: int, shape: tuple[int, ...]) -> None:
    """Raise PackError unless the network maps inputs (1, channels, *shape) to finite label logits of that shape."""
    logits = _logits(network, channels, shape)
    if logits.shape[1] != LABEL_COUNT:
        cause = f"it gives {logits.shape[1]} output channels; background, NCR, ED and ET are {LABEL_COUNT}."
        remedy = 'Say what they mean: "outputs": {"kind": "sigmoid", "channels": ["TC", "WT", "ET"]}, for example.'
        raise PackError("segmenter", cause, remedy)
    if not torch.isfinite(logits).all():
        raise PackError("segmenter", "it gives numbers that are not finite.", "Check its weights.")


def _logits(network: nn.Module, channels: int, shape: tuple[int, ...]) -> torch.Tensor:
    noise = torch.randn((1, channels, *shape), generator=torch.Generator().manual_seed(0))
    size = " x ".join(map(str, shape))
    try:
        with torch.no_grad():
            logits = network(noise)
    except PackError:
        raise
    except Exception as problem:  # whatever a foreign network makes of an input
        first = str(problem).splitlines()[0][:200] if str(problem) else type(problem).__name__
        cause = f"it does not take {channels} channels of {size} ({first})."
        raise PackError("segmenter", cause, "Correct patch_size, size_divisor, modalities or arguments.") from problem
    if tuple(logits.shape[2:]) != shape:
        cause = f"for an input of {size} it gives logits of {' x '.join(map(str, logits.shape[2:]))}."
        raise PackError("segmenter", cause, "Let it give logits of the input's own size, by interpolation if need be.")
    return logits


def check_taps(
    network: nn.Module, config: SegmenterConfig, channels: int, shape: tuple[int, ...], taps: list[str]
) -> list[TapInfo]:
    """What is known of each tap. `shape`: of a sample.

    Raises UsageError for a tap that is no module, does not run exactly once, has no spatial axes, has its channels on
    the last axis, or whose shape changes from one input to the next.
    """
    modules = dict(network.named_modules())
    for tap in taps:
        if not tap or tap not in modules:
            raise no_such_tap(tap, modules)
    seen = [_seen(network, torch.zeros((1, channels, *shape)), taps)]
    seen.append(_seen(network, torch.randn((1, channels, *shape), generator=torch.Generator().manual_seed(1)), taps))
    other = _other_shape(network, channels, shape)
    larger = _seen(network, torch.zeros((1, channels, *other)), taps) if other else None
    for tap in taps:
        kind, calls = type(modules[tap]).__name__, [s[tap] for s in seen]
        if any(len(c) != 1 for c in calls):
            cause = f"({kind}) runs {len(calls[0])} times in one forward pass, so it is not one tap."
            raise UsageError(tap, cause, "Choose a module that runs exactly once.")
        values = [c[0] for c in calls]
        if values[0] is None:
            raise UsageError(tap, f"({kind}) does not return a tensor.", "Choose a module that returns a feature map.")
        if values[0] != values[1]:
            cause = f"({kind}) changes its shape from one input to the next ({_size(values[0])}, {_size(values[1])})."
            raise UsageError(tap, cause, "Choose a module whose output has one shape.")
        if len(values[0]) != len(shape) + 1:
            cause = f"({kind}) has no spatial axes of its own: it returns {_size(values[0])} a sample."
            raise UsageError(tap, cause, _instead(tap, network, channels, shape))
        if not _channels_first(values[0], shape, larger[tap][0] if larger and larger[tap] else None):
            cause = f"({kind}) returns {_size(values[0])}: its channels are not the first axis."
            raise UsageError(tap, cause, _instead(tap, network, channels, shape))
        if values[0][0] > MOST_CHANNELS:
            raise UsageError(tap, f"has {values[0][0]:,} channels.", f"A lens takes {MOST_CHANNELS:,} at most.")
    infos = {info.name: info for info in list_taps(network, (channels, *shape))}
    return [infos[tap] for tap in taps]


def _channels_first(value: tuple[int, ...], shape: tuple[int, ...], larger: tuple[int, ...] | None) -> bool:
    """Whether an output (C, *grid) has its channels first: they do not grow with the input, and the grid divides it."""
    if larger is not None and (len(larger) != len(value) or larger[0] != value[0] or larger[1:] == value[1:]):
        return False
    return all(n % g == 0 for n, g in zip(shape, value[1:], strict=True))


def _instead(tap: str, network: nn.Module, channels: int, shape: tuple[int, ...]) -> str:
    """Modules around or beside this one that would do."""
    good = [info.name for info in list_taps(network, (channels, *shape))]
    around = [name for name in reversed(good) if tap.startswith(f"{name}.")]
    beside = [name for name in good if "." in tap and name.startswith(tap.rsplit(".", 1)[0])]
    named = ", ".join(list(dict.fromkeys([*around, *beside]))[:4])
    return f"Choose one that returns (B, channels, *grid){f', such as {named}' if named else ''}."


def _other_shape(network: nn.Module, channels: int, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Another size that the network takes, unequal along its axes, to see which of an output's axes follow it."""
    if len(shape) == 2:
        tried = [tuple(n * f for n, f in zip(shape, (1, 2), strict=True))]
    else:
        tried = [(shape[0], shape[1] // 2, shape[2]), (shape[0], shape[1], shape[2] * 2)]
    for other in tried:
        try:
            _logits(network, channels, other)
        except PackError:
            continue
        return other
    return None


def _seen(network: nn.Module, x: torch.Tensor, taps: list[str]) -> dict[str, list[tuple[int, ...] | None]]:
    """Per tap, the shape without the batch of each output it gave in one pass; None for what is no tensor."""
    seen: dict[str, list[tuple[int, ...] | None]] = {tap: [] for tap in taps}
    modules, handles = dict(network.named_modules()), []
    for tap in taps:

        def note(_module, _inputs, output, tap=tap):
            value = tensor_output(output)
            seen[tap].append(None if value is None else tuple(value.shape[1:]))

        handles.append(modules[tap].register_forward_hook(note, prepend=True))
    try:
        with torch.no_grad():
            network(x)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
