"""Building a network within a bound: absurd arguments are refused before memory is asked for."""

import math

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class TooLarge(Exception):
    """A network would take more numbers than it may."""


class Budget(TorchDispatchMode):
    """While this context lasts, tensors are made only as long as all of them together hold at most `limit` numbers.

    Looks at each operation before it runs: at the size that a new tensor is asked for, and at what the shapes of its
    inputs give when they are broadcast or joined. Raises TooLarge.
    """

    def __init__(self, limit: int):
        super().__init__()
        self.limit, self.made = limit, 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        tensors = [leaf for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)]
        if tensors:
            size = max(sum(t.numel() for t in tensors), _broadcast(tensors))
        else:
            sizes = args[0] if args and isinstance(args[0], list | tuple | torch.Size) else ()
            size = math.prod(n for n in sizes if isinstance(n, int))
            self.made += size
        if max(size, self.made) > self.limit:
            raise TooLarge(f"it would hold more than {self.limit:,} numbers")
        return operation(*args, **(kwargs or {}))


def _broadcast(tensors: list[torch.Tensor]) -> int:
    """Elements of what the tensors give when combined one by one; 0 where they do not fit each other."""
    try:
        return math.prod(torch.broadcast_shapes(*(t.shape for t in tensors)))
    except RuntimeError:
        return 0
