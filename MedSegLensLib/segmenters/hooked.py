"""The replay of a network that `torch.export` cannot capture: correct, and as slow as the network itself.

Same two verbs as `replay.Replay`; an edit runs the whole network again on the samples it touches.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from MedSegLensLib.segmenters.engine import Engine
from MedSegLensLib.segmenters.replay import Change, Read, Steering, Watch
from MedSegLensLib.segmenters.sampling import Box, Sampling, whole
from MedSegLensLib.segmenters.taps import changed


class HookedReplay:
    """See `Replay`. Raises UsageError for a tap that is no module of the network."""

    def __init__(self, network: nn.Module, sampling: Sampling, engine: Engine, taps: list[str], channels: int):
        self.network, self.sampling, self.engine = network, sampling, engine
        self.tap_shapes: dict[str, tuple[int, ...]] = {}

        def note(tap):
            return lambda x: self.tap_shapes.setdefault(tap, tuple(x.shape[1:])) and None

        with torch.no_grad(), changed(network, {tap: note(tap) for tap in taps}):
            logits = network(engine.place(torch.zeros((1, channels, *sampling.sample_shape))))
        self.bytes_to_record = 4 * sampling.count * logits.numel()  # the volume is the caller's
        self.taps = list(self.tap_shapes)  # in the network's order
        self.volume: torch.Tensor | None = None
        self.logits: torch.Tensor | None = None

    @property
    def cached_bytes(self) -> int:
        return sum(v.numel() * v.element_size() for v in (self.volume, self.logits) if v is not None)

    @torch.no_grad()
    def record(
        self,
        volume: torch.Tensor,
        watch: Watch | None = None,
        progress: Callable[[str, float], None] | None = None,
    ) -> torch.Tensor:
        self.volume, logits = volume, []
        for sample in range(self.sampling.count):
            watchers = {tap: (lambda x, tap=tap, s=sample: watch(tap, [s], x)) for tap in self.taps} if watch else {}
            with changed(self.network, watchers):
                logits.append(self.network(self._input([sample])).float())
            if progress:
                progress("segmenting", (sample + 1) / self.sampling.count)
        self.logits = torch.cat(logits)
        return self.logits

    @torch.no_grad()
    def replay(
        self,
        steering: Steering,
        later: dict[str, Change] | None = None,
        samples: Iterable[int] | None = None,
        read: Read | None = None,
    ) -> Iterator[tuple[int, Box, object]]:
        later = later or {}
        touched = {s for s, m in steering.maps.items() if m.any()}
        touched |= {s for change in later.values() for s in change.boxes}
        everywhere = whole(self.sampling.sample_shape)
        directions = steering.directions.float()
        for sample in [s for s in samples if s in touched] if samples is not None else sorted(touched):
            changes = {
                tap: (lambda x, c=change, t=tap: c.apply(x, [sample], whole(self.tap_shapes[t][1:])))  # noqa: B023
                for tap, change in later.items()
            }
            if sample in steering.maps:
                added = torch.einsum("j...,jc->c...", steering.maps[sample].to(directions), directions)
                changes[steering.tap] = lambda x, added=added: x + added.to(x)
            with changed(self.network, changes):
                logits = self.network(self._input([sample])).float()
            yield sample, everywhere, (read(logits) if read else logits)[0]

    def near(self, tap: str, sample: int, box: Box) -> "HookedNear":
        return HookedNear(self, tap, sample, box)

    def logits_near(self, tap: str, sample: int, change: torch.Tensor, box: Box) -> torch.Tensor:
        return self.near(tap, sample, box)(change)

    def _input(self, samples: list[int]) -> torch.Tensor:
        return self.engine.place(self.sampling.inputs(self.volume, samples))


@dataclass(frozen=True)
class HookedNear:
    """See `near.Near`: the tail starts at the tap."""

    replay: HookedReplay
    tap: str
    sample: int
    box: Box

    def effect(self, map_: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        return torch.einsum("...,c->c...", map_, direction)

    def change(self, change: torch.Tensor) -> torch.Tensor:
        return change

    def __call__(self, added: torch.Tensor) -> torch.Tensor:
        with changed(self.replay.network, {self.tap: lambda x: x + added[None].to(x)}):
            return self.replay.network(self.replay._input([self.sample]))[(0, slice(None), *self.box)].float()
