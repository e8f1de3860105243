"""Weights from a file into a network: numbers only, and every name that does not fit is said."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from MedSegLensLib.errors import PackError

MOST_BYTES = 4 * 2**30
PREFIXES = ("module.", "model.", "network.", "net.", "_orig_mod.")
"""What wrappers (DataParallel, Lightning, torch.compile) put before every name."""

WRAPPED_IN = ("state_dict", "model_state_dict", "model", "network", "net")
"""Keys under which checkpoints keep the weights among other things."""


def fit_weights(network: nn.Module, tensors: dict[str, torch.Tensor], subject: object) -> None:
    """Load the weights into the network. A prefix that all names share, and the network's do not, is taken away.

    Raises PackError that names what is missing, what is too much, and what has another shape.
    """
    wanted = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    tensors = _without_prefix(tensors, wanted)
    shapes = {name: tuple(t.shape) for name, t in tensors.items()}
    problems = [
        _some("missing", [n for n in wanted if n not in shapes]),
        _some("not of this network", [n for n in shapes if n not in wanted]),
        _some(
            "of another shape",
            [
                f"{n} ({_size(shapes[n])} for {_size(wanted[n])})"
                for n in wanted
                if n in shapes and shapes[n] != wanted[n]
            ],
        ),
    ]
    problems = [problem for problem in problems if problem]
    if problems:
        cause = f"the weights do not fit the network: {'; '.join(problems)}."
        raise PackError(subject, cause, "Give the weights of this very network, or correct its arguments.")
    network.load_state_dict(tensors)


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors file, its header checked first; float16 and bfloat16 become float32.

    Raises PackError for any other kind of file: a pickle or TorchScript file can run code when it is loaded.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise PackError(
            path,
            "it is not a .safetensors file; a pickle or TorchScript file could run code when it is loaded.",
            "Write it once with safetensors.torch.save_file(network.state_dict(), ...).",
        )
    _check_size(path)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as problem:
        raise PackError(path, f"it is not a readable safetensors file ({problem}).", "Write it again.") from problem
    return _float32(tensors)


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of a .pt file that holds nothing but tensors (`torch.load(weights_only=True)`), in float32.

    Raises PackError for a file that holds more than that, TorchScript included.
    """
    import pickle

    _check_size(path)
    remedy = "Load it where you trust it, and write network.state_dict() with safetensors.torch.save_file."
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as problem:
        first = str(problem).splitlines()[0][:200] if str(problem) else type(problem).__name__
        cause = f"it holds more than weights, or is damaged, and is not loaded: that could run code ({first})."
        raise PackError(path, cause, remedy) from problem
    for _ in range(2):
        inner = next(
            (loaded[k] for k in WRAPPED_IN if isinstance(loaded, dict) and isinstance(loaded.get(k), dict)), None
        )
        if inner is None:
            break
        loaded = inner
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(v, torch.Tensor) for v in loaded.values()):
        raise PackError(path, "it does not hold a state dict (tensors by name).", remedy)
    return _float32(loaded)


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as problem:
        raise PackError(path, f"it cannot be read ({problem.strerror}).", "Correct the path.") from problem
    if size > MOST_BYTES:
        raise PackError(path, f"it has {size:,} bytes, too many for a pack.", "Use a smaller network.")


def _float32(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: t.to(torch.float32) if t.is_floating_point() else t for name, t in tensors.items()}


def _without_prefix(tensors: dict[str, torch.Tensor], wanted: Iterable[str]) -> dict[str, torch.Tensor]:
    wanted = set(wanted)
    for prefix in PREFIXES:
        if tensors and not wanted & set(tensors) and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): t for name, t in tensors.items()}
    return tensors


def _some(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"{what}: {', '.join(names[:4])}{more}"


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "scalar"
