"""Where and in which number format a segmenter runs: chosen once, at start, by a quick timing.

bfloat16 pays only on a CPU with AVX512-BF16 or AMX (0.31 of fp32 there, 8 times slower than fp32 on AVX2 alone), and
channels_last only for convolutions, so nothing is assumed: each candidate runs two samples and the fastest is taken.
Everything that follows (full pass, replay, the unedited and the edited result) uses the same engine, or untouched
voxels would flicker.
"""

import copy
import time
from dataclasses import dataclass

import torch
from torch import nn

from MedSegLensLib.errors import UsageError


@dataclass(frozen=True)
class Engine:
    """device: 'cpu', 'cuda', 'mps'; batch: samples per forward pass (small batches win on a CPU's caches)."""

    device: str
    dtype: torch.dtype
    channels_last: bool
    batch: int

    def memory_format(self, ndim: int) -> torch.memory_format:
        if not self.channels_last or ndim not in (4, 5):
            return torch.contiguous_format
        return torch.channels_last if ndim == 4 else torch.channels_last_3d

    def place(self, x: torch.Tensor) -> torch.Tensor:
        """An input or activation as this engine wants it."""
        return x.to(self.device, self.dtype).contiguous(memory_format=self.memory_format(x.ndim))

    def prepare(self, network: nn.Module, spatial_dims: int) -> nn.Module:
        """A copy of the network in this engine's device, format and layout, in eval mode."""
        return (
            copy.deepcopy(network)
            .eval()
            .requires_grad_(False)
            .to(self.device, self.dtype)
            .to(memory_format=self.memory_format(spatial_dims + 2))
        )

    def __str__(self) -> str:
        layout = "channels_last" if self.channels_last else "contiguous"
        return f"{self.device}, {str(self.dtype).removeprefix('torch.')}, {layout}"


def best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_device(device: str) -> None:
    """Raise UsageError for a device that is not there, or whose number ('cuda:3') is not."""
    kind, colon, number = device.partition(":")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(kind, 0)
    if not (number.isdecimal() and int(number) < there if colon else there):
        raise UsageError(device, "is not available on this machine.", "Leave out --device, or run `medseglens doctor`.")


def choose_engine(
    network: nn.Module, input_shape: tuple[int, ...], device: str | None = None
) -> tuple[Engine, dict[str, float]]:
    """The fastest engine for inputs of `input_shape` (C, *spatial), and the seconds per sample of each tried.

    Raises UsageError for a device that is not there.
    """
    device = device or best_device()
    check_device(device)
    device = "cpu" if device == "cpu:0" else device
    spatial_dims = len(input_shape) - 1
    batch = 4 if device == "cpu" and spatial_dims == 2 else 1 if device == "cpu" else 16 if spatial_dims == 2 else 2
    formats = [torch.float32] + ([torch.bfloat16] if _bfloat16_pays(device) else [])
    timings, best = {}, None
    example = torch.randn((min(batch, 2), *input_shape), generator=torch.Generator().manual_seed(0))
    for dtype in formats:
        for channels_last in (False, True):
            engine = Engine(device, dtype, channels_last, batch)
            prepared, x = engine.prepare(network, spatial_dims), engine.place(example)
            seconds = _seconds(prepared, x) / len(x)
            timings[str(engine)] = seconds
            if best is None or seconds < timings[str(best)]:
                best = engine
    return best, timings


def _bfloat16_pays(device: str) -> bool:
    """Whether bfloat16 is worth timing: an emulated bfloat16 pass would itself take seconds."""
    if device == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device.startswith("cuda") and torch.cuda.is_bf16_supported()


def _seconds(network: nn.Module, x: torch.Tensor) -> float:
    best = float("inf")
    with torch.inference_mode():
        for _ in range(3):  # the first pass also compiles kernels
            started = time.perf_counter()
            network(x)
            if x.is_cuda:
                torch.cuda.synchronize()
            elif x.is_mps:
                torch.mps.synchronize()
            best = min(best, time.perf_counter() - started)
    return best
