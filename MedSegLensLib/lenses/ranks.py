"""One training in several processes (torchrun): each takes its share of every batch, and the gradients are averaged."""

import os
from dataclasses import dataclass

import torch
from torch import Tensor

from MedSegLensLib.errors import UsageError


@dataclass(frozen=True)
class Ranks:
    """Which process this is, of how many. Alone, everything here does nothing."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def mean_(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in one message."""
        if self.size == 1:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def any_(self, flags: Tensor) -> Tensor:
        """Where any process has True."""
        if self.size == 1:
            return flags
        counts = flags.to(torch.float32)
        torch.distributed.all_reduce(counts)
        return counts > 0

    def wait(self) -> None:
        if self.size > 1:
            torch.distributed.barrier()


def ranks_of_environment(device: str) -> Ranks:
    """What torchrun says of this process; joins the others. NCCL between GPUs, Gloo otherwise."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Ranks()
    if not torch.distributed.is_available():
        raise UsageError("torchrun", "this torch cannot train in several processes.", "Start it without torchrun.")
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return Ranks(torch.distributed.get_rank(), size)


def device_of(device: str) -> str:
    """The GPU of this process, where torchrun started one for each."""
    local = os.environ.get("LOCAL_RANK")
    return f"cuda:{local}" if device == "cuda" and local is not None else device
