"""One case opened with one pack: segment once, then look at latents and edit them.

session = Session(case, load_pack("glioma-unet"))
session.labels                                  # (Z, Y, X) on the network's grid
codes = session.codes[session.pack.default_tap]
edited = session.edit(recipe)                   # labels, and the box that changed
image = session.to_case(edited.labels)          # on the case's own grid
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from MedSegLensLib.cases.case import REGIONS, Case, region_mask
from MedSegLensLib.cases.conform import conform
from MedSegLensLib.editing.exact import in_their_places
from MedSegLensLib.editing.latent_edits import LatentEdits
from MedSegLensLib.editing.places import brain_tokens, tokens_of, voxels_of
from MedSegLensLib.editing.recipe import Edit, Recipe, Where
from MedSegLensLib.errors import UsageError
from MedSegLensLib.lenses.activation import activation_volume
from MedSegLensLib.lenses.codes import Codes, CodesBuilder
from MedSegLensLib.packs.pack import LensPack
from MedSegLensLib.segmenters.engine import Engine, choose_engine
from MedSegLensLib.segmenters.hooked import HookedReplay
from MedSegLensLib.segmenters.replay import Replay, Steering
from MedSegLensLib.segmenters.sampling import Box, sampling_of, union, whole

PLACES_KEPT = 16

Progress = Callable[[str, float], None]
Watch = Callable[[float, np.ndarray | None], None]
Admit = Callable[[int, str], None]


@dataclass(frozen=True)
class Edited:
    """What an edit did. labels: uint8 (Z, Y, X) of the network's grid; box: where logits were computed anew, None where
    the edit reaches nothing; samples: the slices or windows that were run."""

    labels: np.ndarray
    box: Box | None
    samples: tuple[int, ...]
    seconds: float


class Session:
    """A case's segmentation, its codes at every lens of the pack, and edits of them.

    Raises CaseError for a case the pack cannot take, PackError for a pack that cannot be built, UsageError for a device
    that is not there.
    """

    def __init__(
        self,
        case: Case,
        pack: LensPack,
        device: str | None = None,
        engine: Engine | None = None,
        progress: Progress | None = None,
        admit: Admit | None = None,
    ):
        """`progress` may raise Cancelled, between two batches of samples. `admit(bytes, what)` is told what memory the
        recorded values and codes will take before they are allocated, and may raise."""
        self.case, self.pack, self.timings = case, pack, {}
        say = progress or (lambda stage, share: None)
        say("conforming", 0.0)
        with self._timed("conform"):
            self.conformed = conform(case, pack.input_spec())
        self.notes = list(self.conformed.notes)
        with self._timed("load network"):
            network = pack.network()
        config = pack.info.segmenter
        shape = self.conformed.brain.shape
        self.sampling = sampling_of(config, shape)
        self._volume = torch.from_numpy(self.conformed.array)
        channels = len(self.conformed.array)
        with self._timed("choose engine"):
            self.engine = engine or choose_engine(network, (channels, *self.sampling.sample_shape), device)[0]
        say("preparing the network", 0.0)
        with self._timed("prepare network"):
            self.network = self.engine.prepare(network, config.spatial_dims)
        with self._timed("load lenses"):
            self.lenses = {tap: pack.lens(tap).to(self.engine.device) for tap in pack.taps}
        with self._timed("capture"):
            self.replay = self._make_replay(channels)
        grids = {tap: shape[1:] for tap, shape in self.replay.tap_shapes.items()}
        with self._timed("tokens of the brain"):
            self.brain_tokens = {tap: brain_tokens(self.conformed, self.sampling, grids[tap]) for tap in pack.taps}
        if admit:
            tokens = sum(int(np.count_nonzero(b)) * pack.lens(tap).k for tap, b in self.brain_tokens.items())
            # A code is kept as 8 bytes, twice while the blocks are merged.
            admit(self.replay.bytes_to_record + int(16 * tokens), "the activations of this case")
        builders = {tap: CodesBuilder(self.lenses[tap], (self.sampling.count, *grids[tap])) for tap in pack.taps}

        def watch(tap, samples, x):
            started = time.perf_counter()
            tokens = x.flatten(2).transpose(1, 2).flatten(0, 1)
            builders[tap].add(tokens, self.brain_tokens[tap][samples].ravel())
            self.timings["encode"] = self.timings.get("encode", 0.0) + time.perf_counter() - started

        with self._timed("segment and encode"):
            logits = self.replay.record(self._volume, watch, progress)
        self.timings["segment"] = self.timings["segment and encode"] - self.timings.get("encode", 0.0)
        self._places: dict[tuple, np.ndarray] = {}
        self.codes: dict[str, Codes] = {tap: builder.finish() for tap, builder in builders.items()}
        self.labels = self.labels_of(logits, whole(shape))

    def _make_replay(self, channels: int) -> Replay | HookedReplay:
        arguments = (self.network, self.sampling, self.engine, list(self.pack.taps), channels)
        try:
            return Replay(*arguments)
        except (
            torch._dynamo.exc.TorchDynamoException,
            torch.fx.experimental.symbolic_shapes.GuardOnDataDependentSymNode,
        ) as problem:
            self.notes.append(
                f"This network cannot be captured as a graph ({str(problem).splitlines()[0][:160]}); "
                "every edit runs the whole network again."
            )
            return HookedReplay(*arguments)

    def _timed(self, name: str):
        return _Timer(self.timings, name)

    # -- what the segmenter says ------------------------------------------------------------------------------------

    def labels_of(self, logits: torch.Tensor, box: Box) -> np.ndarray:
        """argmax over K as uint8, of logits (samples, K, *sample_shape) merged over a box of the volume."""
        return best_label(self.sampling.merge(logits, box))

    def probability(self, region: str, recipe: Recipe | None = None) -> np.ndarray:
        """Probability of a region, float32 (Z, Y, X), under a recipe where one is given: the sum of its labels'
        softmax. Raises UsageError for an unknown region, and as `edit` does."""
        if region not in REGIONS:
            raise UsageError(str(region), "is not a region.", f"Regions are {', '.join(REGIONS)}.")
        logits = self.replay.logits if recipe is None else self.logits(recipe)
        merged = self.sampling.merge(logits, whole(self.labels.shape))
        return merged.softmax(0)[list(REGIONS[region])].sum(0).cpu().numpy()

    def logits(self, recipe: Recipe) -> torch.Tensor:
        """Logits (samples, K, *sample_shape) under a recipe, a copy. Raises as `edit` does."""
        recipe.check_pack(self.pack)
        logits = self.replay.logits.clone()
        for sample, box, changed in self._run(recipe, None):
            logits[(sample, slice(None), *box)] = changed
        return logits

    def region_ml(self, labels: np.ndarray, region: str) -> float:
        """Volume of a region in millilitres."""
        return float(np.count_nonzero(region_mask(labels, region))) * self.conformed.voxel_ml

    def to_case(self, array: np.ndarray, interpolation: str = "nearest") -> sitk.Image:
        """An array of the network's grid on the case's own grid."""
        return self.conformed.to_case(array, interpolation=interpolation)

    def activation_volume(self, tap: str, latent: int) -> np.ndarray:
        """Activation volume of a latent on the network's grid, float32 (Z, Y, X)."""
        volume = activation_volume(self.codes_at(tap), latent, self.sampling.sample_shape)
        return self.sampling.merge(torch.from_numpy(volume)[:, None], whole(self.labels.shape))[0].numpy()

    def codes_at(self, tap: str) -> Codes:
        if tap not in self.codes:
            known = ", ".join(self.pack.taps)
            raise UsageError(tap, f"the pack {self.pack.info.name} has no lens at this tap.", f"Its taps are: {known}.")
        return self.codes[tap]

    def tokens_in(self, tap: str, where: Where, touched: bool = False) -> np.ndarray:
        """The brain's tokens of a tap in a recipe's place, bool (samples, *grid), not to be changed; see
        `places.tokens_of`."""

        def found() -> np.ndarray:
            grid = self.codes_at(tap).grid[1:]
            return self.brain_tokens[tap] & tokens_of(self.voxels_in(where), self.sampling, grid, touched)

        return self._place((tap, where, touched), found)

    def voxels_in(self, where: Where) -> np.ndarray:
        """A recipe's place as bool (Z, Y, X) on the network's grid, not to be changed."""
        return self._place((where,), lambda: voxels_of(where, self.conformed, self.labels))

    def _place(self, key: tuple, find: Callable[[], np.ndarray]) -> np.ndarray:
        """The last few are kept: a repair's edits share one drawn mask, and finding its tokens takes 80 ms."""
        known = self._places.pop(key, None)
        if known is None:
            known = find()
        self._places[key] = known
        while len(self._places) > PLACES_KEPT:
            del self._places[next(iter(self._places))]
        return known

    # -- edits ------------------------------------------------------------------------------------------------------

    def edit(
        self,
        recipe: Recipe,
        samples: list[int] | None = None,
        first: tuple[int, ...] = (),
        watch: Watch | None = None,
    ) -> Edited:
        """The segmentation under a recipe; only what it reaches is computed.

        `samples`: only these slices or windows, in this order; labels elsewhere are the unedited ones. `first`: of all
        of them these first, those on screen. `watch(share, labels)` is called after each sample with the share done,
        and once with the labels (to be read at once, not kept), when those of `first` are done; it may raise
        Cancelled. Raises RecipeError or UsageError for a recipe that does not fit the pack.
        """
        started = time.perf_counter()
        recipe.check_pack(self.pack)
        labels, boxes, ran = self.labels.copy(), [], []
        overlapping = self.sampling.overlapping
        logits = self.replay.logits.clone() if overlapping else None
        wanted = list(range(self.sampling.count)) if samples is None else list(samples)
        early = [s for s in wanted if s in first]
        shown = not early

        def settle():
            if overlapping and boxes:
                labels[union(boxes)] = self.labels_of(logits, union(boxes))

        if early:
            samples = early + [s for s in wanted if s not in first]
        runs = self._run(recipe, samples, None if overlapping else best_labels)
        for sample, box, changed in runs:
            if watch and not shown and sample not in early:
                settle()
                watch(len(ran) / len(wanted), labels)
                shown = True
            place = self.sampling.place(sample, box)
            boxes.append(place)
            ran.append(sample)
            if overlapping:
                logits[(sample, slice(None), *box)] = changed
            else:
                labels[place] = changed
            if watch:
                watch(len(ran) / len(wanted), None)
        settle()
        return Edited(labels, union(boxes) if boxes else None, tuple(dict.fromkeys(ran)), time.perf_counter() - started)

    def _run(self, recipe: Recipe, samples: list[int] | None, read=None):
        if any(edit.exact for edit in recipe.edits):
            yield from in_their_places(self, recipe.edits, samples, read)
        else:
            yield from self.replayed(recipe.edits, samples, read)

    def replayed(
        self, edits: Sequence[Edit], samples: list[int] | None, read: Callable[[torch.Tensor], object] | None = None
    ) -> Iterator[tuple[int, Box, object]]:
        """A sample that edits touch, the box of it that they change, and its logits there, or what `read` makes of
        logits (B, K, *box). All edits reach as far as they do, exact or not."""
        by_tap = {
            tap: LatentEdits(self, tap, mine)
            for tap in self.replay.taps
            if (mine := [e for e in edits if e.tap == tap])
        }
        if not by_tap:
            return
        first, *later = by_tap.values()
        steering = Steering(first.tap, first.directions, first.maps(samples))
        yield from self.replay.replay(steering, {e.tap: e.change() for e in later}, samples, read)


def best_label(logits: torch.Tensor) -> np.ndarray:
    """argmax over the first axis of (K, ...) as uint8. A running maximum: torch's argmax over the channels of a
    contiguous volume is 13 times slower."""
    best, label = logits[0], torch.zeros(logits.shape[1:], dtype=torch.uint8, device=logits.device)
    for k in range(1, logits.shape[0]):
        # The largest k that is above all before it; filling where a mask is true takes twice the time of all this.
        label = torch.maximum(label, (logits[k] > best).to(torch.uint8) * k)
        if k + 1 < logits.shape[0]:
            best = torch.maximum(best, logits[k])
    return label.cpu().numpy()


def best_labels(logits: torch.Tensor) -> np.ndarray:
    """`best_label` of each of (B, K, ...): (B, ...)."""
    return best_label(logits.movedim(1, 0))


class _Timer:
    def __init__(self, timings: dict[str, float], name: str):
        self.timings, self.name = timings, name

    def __enter__(self):
        self.started = time.perf_counter()

    def __exit__(self, *_):
        self.timings[self.name] = time.perf_counter() - self.started
