"""Run the tail alone, and of the tail only what an edit can reach.

`record` runs the whole network once over a volume and keeps what the tails read: for each tap its entry (the tap's
value, or a later and smaller one where the way there is affine, see collapse.py) and its skips, in the engine's own
dtype, so that a replay gives the numbers of a plain forward pass. `replay` then takes an edit and yields, sample by
sample, the box of logits it changes. Where the tail is local (locality.py) only that box and its halo are computed.

    replay = Replay(network, sampling, engine, taps=["upcat_3"])
    logits = replay.record(volume, watch=lambda tap, samples, x: ...)
    for sample, box, changed in replay.replay(steering): ...
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import fx, nn

from MedSegLensLib.cases.boxes import boxes_of
from MedSegLensLib.segmenters.clusters import clusters
from MedSegLensLib.segmenters.collapse import Collapse, collapse
from MedSegLensLib.segmenters.engine import Engine
from MedSegLensLib.segmenters.graph import (
    MARK,
    capture,
    cut_tail,
    intervention_name,
    marked_node,
    output_node,
    tail_nodes,
    with_outputs,
)
from MedSegLensLib.segmenters.locality import Locality, locality, make_size_free
from MedSegLensLib.segmenters.near import Near
from MedSegLensLib.segmenters.sampling import Box, Sampling, union, whole
from MedSegLensLib.segmenters.threads import alone, in_order

TOGETHER = 8
"""Consecutive samples that one run of a local tail takes at most: a cancel is heard in between."""

Watch = Callable[[str, list[int], torch.Tensor], None]
Read = Callable[[torch.Tensor], object]


@dataclass
class Steering:
    """An edit at one tap as maps times directions: x' = x + sum_j maps_j directions_j.

    directions (J, C); maps: per sample that the edit touches, (J, *tap grid) on the tap's grid.
    """

    tap: str
    directions: torch.Tensor
    maps: dict[int, torch.Tensor]


@dataclass
class Change:
    """An edit at a later tap, of a value that an earlier edit may already have changed.

    `apply(x, samples, window)`: x (B, C, *window) -> its edited value; `boxes`: per sample, what it touches by itself.
    """

    apply: Callable[[torch.Tensor, list[int], Box], torch.Tensor]
    boxes: dict[int, Box] = field(default_factory=dict)


@dataclass
class _Tail:
    tap: str
    entry: fx.Node
    collapsed: Collapse | None
    module: fx.GraphModule
    skips: list[str]
    local: Locality | None
    inner: list[str]  # marks that lie inside this tail
    call: int = 0  # what one more run of it costs, as output voxels computed in the same time


class Replay:
    """A network captured for one sampling, with the recorded values of one volume.

    Raises what `capture` raises.
    """

    def __init__(self, network: nn.Module, sampling: Sampling, engine: Engine, taps: list[str], channels: int):
        self.sampling, self.engine = sampling, engine
        example = engine.place(torch.zeros((2, channels, *sampling.sample_shape)))
        self.graph = capture(network, example, taps)
        order = [node.args[1] for node in self.graph.graph.nodes if node.target is MARK]
        self.taps = sorted(taps, key=order.index)  # in the network's order
        self.tap_shapes = {t: tuple(marked_node(self.graph, t).meta["val"].shape[1:]) for t in self.taps}
        self._tails: dict[tuple[str, bool], _Tail] = {}
        for tap in self.taps:
            self._tails[tap, True] = short = self._cut(tap, collapse(self.graph, marked_node(self.graph, tap)))
            self._tails[tap, False] = self._cut(tap, None) if short.collapsed else short
        # A tap's own value is kept only where some edit has to start from it.
        wanted = {t.entry for t in self._used_tails()} | {
            n for t in self._used_tails() for n in self.graph.graph.nodes if n.name in t.skips
        }
        kept = sorted(wanted, key=list(self.graph.graph.nodes).index)
        self._kept_names = [n.name for n in kept]
        self._whole = with_outputs(self.graph, [*(marked_node(self.graph, t) for t in self.taps), *kept])
        self.values: dict[str, torch.Tensor] = {}
        self.logits: torch.Tensor | None = None  # (samples, K, *sample_shape), unedited

    def _cut(self, tap: str, collapsed: Collapse | None) -> _Tail:
        entry = collapsed.entry if collapsed else marked_node(self.graph, tap)
        module, skips = cut_tail(self.graph, entry)
        local = locality(module, entry, output_node(self.graph))
        if local:
            make_size_free(module)
        after = set(tail_nodes(self.graph, entry))
        inner = [t for t in self.taps if marked_node(self.graph, t) in after]
        return _Tail(tap, entry, collapsed, module, [n.name for n in skips], local, inner)

    def _used_tails(self) -> list[_Tail]:
        """The short tail of every tap, and the plain one where another tap lies on what the short one skips."""
        used = []
        for tap in self.taps:
            short, plain = self._tails[tap, True], self._tails[tap, False]
            used.append(short)
            if short.collapsed and set(plain.inner) != set(short.inner):
                used.append(plain)
        return used

    def collapsed(self, tap: str) -> bool:
        return self._tails[tap, True].collapsed is not None

    def local(self, tap: str) -> Locality | None:
        return self._tails[tap, True].local

    @property
    def _at_once(self) -> int:
        """How many runs of a tail to make side by side: a GPU's are queued as they come."""
        return torch.get_num_threads() if self.engine.device == "cpu" else 1

    @property
    def cached_bytes(self) -> int:
        held = list(self.values.values()) + ([self.logits] if self.logits is not None else [])
        return sum(v.numel() * v.element_size() for v in held)

    @property
    def bytes_to_record(self) -> int:
        """What `record` will keep, known before it runs."""
        kept = [n.meta["val"] for n in self.graph.graph.nodes if n.name in self._kept_names]
        logits = output_node(self.graph).meta["val"]
        per_sample = sum(v[0].numel() * v.element_size() for v in kept) + logits[0].numel() * 4
        return per_sample * self.sampling.count

    @torch.no_grad()
    def record(
        self,
        volume: torch.Tensor,
        watch: Watch | None = None,
        progress: Callable[[str, float], None] | None = None,
    ) -> torch.Tensor:
        """Run all samples of `volume` (C, Z, Y, X), keep what replays need, return logits (samples, K, *sample_shape).

        `watch(tap, samples, x)` sees each tap's value (B, C, *grid) as it passes, so that it need not be kept.
        """
        self.values, self.logits = {}, None
        for samples in self._batches(range(self.sampling.count)):
            x = self.engine.place(self.sampling.inputs(volume, samples))
            logits, *outputs = self._whole(x)
            for tap, value in zip(self.taps, outputs, strict=False):
                if watch:
                    watch(tap, samples, value)
            if self.logits is None:
                self.logits = self._store(logits.float())
            self.logits[samples] = logits.float()
            for name, value in zip(self._kept_names, outputs[len(self.taps) :], strict=True):
                if name not in self.values:
                    self.values[name] = self._store(value)
                self.values[name][samples] = value
            if progress:
                progress("segmenting", (samples[-1] + 1) / self.sampling.count)
        for tail in self._used_tails():
            if tail.local:
                tail.call = self._price_of_a_call(tail)
        return self.logits

    def _price_of_a_call(self, tail: _Tail) -> int:
        """The time of a run that is not spent on its voxels, as voxels: from the smallest crop and the whole sample.

        All that a run does is timed: what SegFormer's tail alone costs is 400 voxels, what is done around it 8,000.
        Between 2,000 and 20,000 here, by tail and machine; a wrong one costs time and never changes a result.
        """
        size = self.sampling.sample_shape
        smallest = tail.local.crop(tuple(slice(n // 2, n // 2 + 1) for n in size))
        nothing = {0: torch.zeros((1, *self.tap_shapes[tail.tap][1:]))}
        directions = torch.zeros((1, self.tap_shapes[tail.tap][0]), device=self.engine.device)
        directions = tail.collapsed.carried(directions) if tail.collapsed else directions
        voxels, seconds = [], []
        for crop in (smallest, whole(size)):
            best = float("inf")

            def run(crop=crop):
                for _, _, logits in self._run_box(tail, {}, [0], crop, nothing, directions, None):
                    logits.cpu()

            for _ in range(3):
                started = time.perf_counter()
                alone(run, self._at_once)
                best = min(best, time.perf_counter() - started)
            voxels.append(math.prod(c.stop - c.start for c in crop))
            seconds.append(best)
        a_voxel = (seconds[1] - seconds[0]) / max(1, voxels[1] - voxels[0])
        return max(0, round(seconds[0] / a_voxel) - voxels[0]) if a_voxel > 0 else math.prod(size)

    def _cropped(self, tail: _Tail, samples: list[int], crop: Box) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """What a tail starts from and its skips, of consecutive samples, cut to a crop."""
        return self._crop_of(tail.entry.name, samples, crop), [self._crop_of(n, samples, crop) for n in tail.skips]

    @torch.no_grad()
    def replay(
        self,
        steering: Steering,
        later: dict[str, Change] | None = None,
        samples: Iterable[int] | None = None,
        read: Read | None = None,
    ) -> Iterator[tuple[int, Box, object]]:
        """Yield (sample, box, logits (K, *box)) wherever the edit can change the logits; elsewhere they are unchanged.

        `later` holds edits at taps further on, which see what `steering` changed. `samples`, in the order wanted:
        only these; by default all that are touched. `read` of the logits (B, K, *box) of some samples is yielded in
        their place, sample by sample; on a CPU it is called by several threads.
        """
        later = later or {}
        tail = self._tails[steering.tap, True]
        if any(tap not in tail.inner for tap in later):
            tail = self._tails[steering.tap, False]
        directions = steering.directions.float()
        if tail.collapsed:
            directions = tail.collapsed.carried(directions)
        asked = None if samples is None else list(samples)
        touched = _touched(
            steering.maps if asked is None else {s: steering.maps[s] for s in asked if s in steering.maps}
        )
        cores = self._cores(self._tails[steering.tap, False].local, touched)
        for tap, change in later.items():
            for sample, box in change.boxes.items():
                core = self._core(self._tails[tap, False], box)
                cores[sample] = union([cores[sample], core]) if sample in cores else core
        wanted = sorted(cores) if asked is None else [s for s in asked if s in cores]
        if tail.local:
            run, groups = self._run_box, self._groups(tail, wanted, cores)
            if not later:
                groups = self._apart(self._tails[steering.tap, False].local, groups, touched, tail.call)
        else:
            run, groups = self._run_whole, ((batch, None) for batch in self._batches(wanted))
        jobs = (partial(run, tail, later, group, core, steering.maps, directions, read) for group, core in groups)
        with closing(in_order(jobs, self._at_once)) as results:
            for result in results:
                yield from result

    def near(self, tap: str, sample: int, box: Box) -> Near:
        """The tail behind a tap for a box of one sample, through a crop of it where the tail is local."""
        tail = self._tails[tap, True]
        crop = tail.local.crop(box) if tail.local else whole(self.sampling.sample_shape)
        start, skips = self._cropped(tail, [sample], crop)
        inside = tuple(slice(b.start - c.start, b.stop - c.start) for b, c in zip(box, crop, strict=True))
        return Near(tail.module, start, skips, self._window(tail.entry.name, crop), inside, tail.collapsed)

    def logits_near(self, tap: str, sample: int, change: torch.Tensor, box: Box) -> torch.Tensor:
        """Logits (K, *box) of one sample with `change` (C, *tap grid) added at the tap.

        For derivatives with respect to the tap: autograd runs through the tail only.
        """
        near = self.near(tap, sample, box)
        return near(near.change(change))

    def _cores(self, local: Locality | None, touched: dict[int, np.ndarray]) -> dict[int, Box]:
        """The output that a change of each sample's `touched` cells (*tap grid) can reach, as one box."""
        if local is None or not touched:
            return {sample: whole(self.sampling.sample_shape) for sample in touched}
        boxes = zip(*(ends.tolist() for ends in boxes_of(np.stack(list(touched.values())))), strict=True)
        return {s: local.core(tuple(map(slice, *ends))) for s, ends in zip(touched, boxes, strict=True)}

    def _core(self, tail: _Tail, box: Box) -> Box:
        return tail.local.core(box) if tail.local else whole(self.sampling.sample_shape)

    def _groups(self, tail: _Tail, wanted: list[int], cores: dict[int, Box]) -> Iterator[tuple[list[int], Box]]:
        """(consecutive samples, core) to run at once: neighbours share a run where that costs less than two."""

        def price(samples: list[int], core: Box) -> int:
            return tail.call + len(samples) * math.prod(c.stop - c.start for c in tail.local.crop(core))

        group: tuple[list[int], Box] | None = None
        for sample in wanted:
            if group and sample == group[0][-1] + 1 and len(group[0]) < TOGETHER:
                both = ([*group[0], sample], union([group[1], cores[sample]]))
                if price(*both) <= price(*group) + price([sample], cores[sample]):
                    group = both
                    continue
            if group:
                yield group
            group = ([sample], cores[sample])
        if group:
            yield group

    @staticmethod
    def _apart(local: Locality | None, groups, touched: dict[int, np.ndarray], call: int):
        """The same groups with their boxes split, where what they touch lies in places far apart.

        Of a whole group at once: weighing each of 136 slices took 75 ms of an edit's 250, and of the groups 7.
        """
        for samples, core in groups:
            if local is None:
                yield samples, core
            else:
                mask = np.logical_or.reduce([touched[sample] for sample in samples])
                for box in clusters(mask, local, call // len(samples)):
                    yield samples, local.core(box)

    def _run_box(self, tail, later, samples, core, maps, directions, read) -> list[tuple[int, Box, object]]:
        crop = tail.local.crop(core)
        start, skips = self._cropped(tail, samples, crop)
        touched = [sample in maps for sample in samples]
        if any(touched):
            like = maps[samples[touched.index(True)]]
            stacked = torch.stack([maps.get(sample, torch.zeros_like(like)) for sample in samples])
            window = self._window(tail.entry.name, crop)
            start = start + self._added(tail, stacked, directions, window).to(start.dtype)
        logits = self._run(tail, later, samples, crop, start, skips)
        inside = tuple(slice(c.start - k.start, c.stop - k.start) for c, k in zip(core, crop, strict=True))
        logits = logits[(slice(None), slice(None), *inside)].float()
        return [(s, core, values) for s, values in zip(samples, read(logits) if read else logits, strict=True)]

    def _run_whole(self, tail, later, batch, _core, maps, directions, read) -> list[tuple[int, Box, object]]:
        crop = whole(self.sampling.sample_shape)
        window = self._window(tail.entry.name, crop)
        start = self.values[tail.entry.name][batch].clone()
        for i, sample in enumerate(batch):
            if sample in maps:
                start[i] += self._added(tail, maps[sample][None], directions, window)[0].to(start.dtype)
        skips = [self.values[name][batch] for name in tail.skips]
        logits = self._run(tail, later, batch, crop, self.engine.place(start), skips).float()
        return [(s, crop, values) for s, values in zip(batch, read(logits) if read else logits, strict=True)]

    def _run(self, tail, later, samples, crop, start, skips):
        changed = []
        for tap, change in later.items():
            node = getattr(tail.module, intervention_name(tap))
            grid = self.tap_shapes[tap][1:]
            step = [n // g for n, g in zip(self.sampling.sample_shape, grid, strict=True)]
            window = tuple(slice(c.start // f, -(-c.stop // f)) for c, f in zip(crop, step, strict=True))
            node.change = lambda x, change=change, window=window: change.apply(x, samples, window)
            changed.append(node)
        try:
            return tail.module(start, *skips)
        finally:
            for node in changed:
                node.change = None

    def _added(self, tail: _Tail, maps: torch.Tensor, directions, window: Box) -> torch.Tensor:
        """What maps (B, J, *tap grid) add to the samples' entries (B, C, *window); nothing outside is computed."""
        maps = maps.to(self.engine.device, torch.float32)
        if tail.collapsed:
            return tail.collapsed.added(maps, directions, window)
        return torch.einsum("bj...,jc->bc...", maps[(..., *window)], directions)

    def _window(self, name: str, crop: Box) -> Box:
        """A crop in output voxels as a window of a kept value's own grid."""
        grid = self.values[name].shape[2:]
        steps = [n // g for n, g in zip(self.sampling.sample_shape, grid, strict=True)]
        return tuple(slice(c.start // f, c.stop // f) for c, f in zip(crop, steps, strict=True))

    def _crop_of(self, name: str, samples: list[int], crop: Box) -> torch.Tensor:
        value = self.values[name]
        return value[(slice(samples[0], samples[-1] + 1), slice(None), *self._window(name, crop))]

    def _store(self, like: torch.Tensor) -> torch.Tensor:
        return torch.empty(
            (self.sampling.count, *like.shape[1:]),
            dtype=like.dtype,
            device=like.device,
            memory_format=self.engine.memory_format(like.ndim),
        )

    def _batches(self, samples: Iterable[int]) -> Iterator[list[int]]:
        samples = list(samples)
        for first in range(0, len(samples), self.engine.batch):
            yield samples[first : first + self.engine.batch]


def _touched(maps: dict[int, torch.Tensor]) -> dict[int, np.ndarray]:
    """Where maps (J, *tap grid) by sample are not 0, bool (*tap grid), of the samples where they are so anywhere."""
    if not maps:
        return {}
    masks = (torch.stack(list(maps.values())) != 0).any(1).cpu().numpy()
    anywhere = masks.any(tuple(range(1, masks.ndim)))
    return {sample: mask for sample, mask, some in zip(maps, masks, anywhere, strict=True) if some}
