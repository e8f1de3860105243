"""The tail for one box of one sample, run again and again with other changes at the tap, and with gradients.

A fit of gains is some twenty runs of the same box. What each unit adds at the tap is a map times a direction, and is
carried to where the tail stops to be affine (collapse.py) once; a run then starts from a sum of these.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from MedSegLensLib.cases.boxes import Box
from MedSegLensLib.segmenters.collapse import Collapse


@dataclass(frozen=True)
class Near:
    """`near(added)`: logits float32 (K, *box) with `added` where the tail starts, (C, *window); 0 for none.

    start: what is there, (1, C, *window). window: of its grid. inside: the box in what the tail gives.
    """

    module: torch.nn.Module
    start: torch.Tensor
    skips: Sequence[torch.Tensor]
    window: Box
    inside: Box
    collapsed: Collapse | None

    def effect(self, map_: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        """What a map (*tap grid) times a direction (C of the tap,) adds where the tail starts: (C, *window)."""
        if self.collapsed:
            return self.collapsed.added(map_[None, None], self.collapsed.carried(direction[None]), self.window)[0]
        return torch.einsum("...,c->c...", map_[self.window], direction)

    def change(self, change: torch.Tensor) -> torch.Tensor:
        """What a change (C of the tap, *tap grid) adds where the tail starts."""
        if self.collapsed:
            each_channel = self.collapsed.carried(torch.eye(len(change), device=change.device))
            return self.collapsed.added(change[None], each_channel, self.window)[0]
        return change[(slice(None), *self.window)]

    def __call__(self, added: torch.Tensor) -> torch.Tensor:
        logits = self.module(self.start + added[None].to(self.start.dtype), *self.skips)
        return logits[(0, slice(None), *self.inside)].float()
