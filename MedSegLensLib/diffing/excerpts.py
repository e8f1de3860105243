"""What a fit reads of a labelled case: some of its slices, cut around the lesion, with the tap's value and its codes.

A whole session of a real case holds over a gigabyte; an excerpt holds some tens of megabytes, so that five labelled
cases are in memory together and every step of a fit is one run of the tail. Slices of a 2D segmenter, windows of a 3D
one.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F

from MedSegLensLib.cases.boxes import box_of, widened
from MedSegLensLib.cases.case import REGIONS, Case
from MedSegLensLib.cases.conform import conform
from MedSegLensLib.diffing.tails import Behind, BehindHook, TailReader
from MedSegLensLib.editing.places import brain_tokens
from MedSegLensLib.errors import CaseError
from MedSegLensLib.lenses.codes import Codes, CodesBuilder
from MedSegLensLib.packs.pack import LensPack
from MedSegLensLib.segmenters.engine import Engine, best_device, check_device
from MedSegLensLib.segmenters.sampling import Box, Sampling, sampling_of, whole

WITH_LESION, WITHOUT = 6, 2
"""Slices with and without lesion that are read, evenly spread over each. Neighbouring slices say the same."""

MARGIN = 16
"""Voxels around the lesion, the labelled and the predicted one, that the error is taken over."""

IN_QUESTION = 0.05
"""Where the probability of tumour is above this, the segmenter half believes in one: it belongs to the excerpt."""

LABELS = 4
JUDGED = ("WT", "TC", "ET")
"""Regions that the error and Dice are the means of."""


@dataclass
class Excerpt:
    """S slices (or windows) of one labelled case.

    case, subject: its name, and its patient's. samples: their numbers in the case. inputs: (S, C_in, *sample_shape),
    what the network is given.
    labels: int64 (S, *box), the reference. weight: (S, *box), how much a voxel counts: 1 in the brain, shared where
    windows overlap, 0 outside. logits: (S, K, *box), unedited. box: the part of a sample that all this covers.
    x: (S, C, *window), the tap's value; brain: bool (S, *window), the tokens that a lens reads; codes: on that grid;
    token_labels: int64 (S, *window), the label of most of each token's voxels.
    decoder: (d_sae, C), the lens's directions. behind(x): the logits that the tail makes of another value.
    """

    case: str
    subject: str
    samples: tuple[int, ...]
    inputs: torch.Tensor
    labels: torch.Tensor
    weight: torch.Tensor
    logits: torch.Tensor
    box: Box
    x: torch.Tensor
    brain: torch.Tensor
    codes: Codes
    token_labels: torch.Tensor
    decoder: torch.Tensor = field(repr=False)
    behind: Behind | BehindHook = field(repr=False)

    def codes_of(self, latents: list[int]) -> torch.Tensor:
        """Codes of some latents, float32 (J, S, *window)."""
        return torch.from_numpy(np.stack([self.codes.dense(j) for j in latents])).to(self.x.device)

    def moved(self, maps: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """The tap's value with maps (J, S, *window) times directions (J, C) added."""
        return self.x + torch.einsum("js...,jc->sc...", maps, directions)

    def effects(self, latents: list[int]) -> torch.Tensor:
        """What doubling each latent would add, (J, S, C, *part): to the tap's value, or further on (`tails.Late`)."""
        codes, late = self.codes_of(latents), self.behind.late
        if late:
            place = self.behind.window
            return torch.stack([late.effect(c, place, self.decoder[j]) for c, j in zip(codes, latents, strict=True)])
        return torch.stack([c[:, None] * _along(self.decoder[j], c) for c, j in zip(codes, latents, strict=True)])

    def scaled(self, effects: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
        """Logits (S, K, *box) with the latents of `effects` scaled by gains (J,)."""
        late = self.behind.late
        change = torch.tensordot((gains - 1).to(effects), effects, 1)
        return late(late.entry + change) if late else self.behind(self.x + change)

    @cached_property
    def sparse(self) -> "Sparse":
        """Every other voxel of each slice."""
        return Sparse.of(self)


@dataclass(frozen=True)
class Sparse:
    """Every other voxel along each axis of the samples, which errors are taken over: a quarter of them say the same.

    labels: int64 (S, *half). weight: (S, *half). targets: (R, S, *half), weight inside each region of `regions`.
    before: log probabilities (S, K, *half) of the unedited segmentation.
    """

    labels: torch.Tensor
    weight: torch.Tensor
    targets: torch.Tensor
    before: torch.Tensor

    @staticmethod
    def of(excerpt: Excerpt) -> "Sparse":
        labels, weight = every_other(excerpt.labels, 1), every_other(excerpt.weight, 1)
        regions = [torch.tensor(REGIONS[region], device=labels.device) for region in JUDGED]
        targets = torch.stack([torch.isin(labels, values) * weight for values in regions])
        return Sparse(labels, weight, targets, every_other(excerpt.logits, 2).log_softmax(1))


def every_other(values: torch.Tensor, first: int) -> torch.Tensor:
    """Every other cell along each axis from `first` on."""
    return values[(slice(None),) * first + (slice(None, None, 2),) * (values.ndim - first)]


def _along(direction: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """A direction (C,) shaped to multiply codes (S, 1, *window)."""
    return direction.view(1, -1, *(1,) * (codes.ndim - 1))


class ExcerptReader:
    """Cuts excerpts out of labelled cases, for one tap of a pack. In float32 throughout: fits need gradients.

    Raises UsageError for a tap without a lens or a device that is not there.
    """

    def __init__(self, pack: LensPack, tap: str | None = None, device: str | None = None):
        if device:
            check_device(device)
        self.pack, self.tap, self.device = pack, pack.lens_info(tap).tap, device or best_device()
        self.lens = pack.lens(self.tap).to(self.device)
        self.config = pack.info.segmenter
        self.engine = Engine(self.device, torch.float32, False, 4 if self.config.spatial_dims == 2 else 1)
        self.network = self.engine.prepare(pack.network(), self.config.spatial_dims)
        self._tails: dict[tuple[int, ...], TailReader] = {}

    def read(self, case: Case, subject: str | None = None, everything: bool = False) -> Excerpt:
        """The excerpt of a case; with `everything` all of its slices with brain, whole: `dice_of` is then the case's.

        Raises CaseError for a case without labels, or one that the pack cannot take.
        """
        if case.labels is None:
            cause = "it has no labels, and gains are fitted on labels."
            raise CaseError(case.name, cause, "Name labelled cases, or add a segmentation to its folder.")
        conformed = conform(case, self.pack.input_spec())
        reference, brain = conformed.labels(case.labels), conformed.brain
        sampling = sampling_of(self.config, brain.shape)
        samples = _chosen(sampling, reference, brain, everything)
        inputs = self.engine.place(sampling.inputs(torch.from_numpy(conformed.array), samples))
        maps = torch.from_numpy(np.stack([reference, brain]).astype(np.float32))
        reference, inside = sampling.inputs(maps, samples).to(self.device).unbind(1)
        say = torch.stack([sampling.say(s).expand(sampling.sample_shape) for s in samples]).to(self.device)

        tail = self._tail(tuple(inputs.shape[1:]))
        logits, x, others = tail.values(inputs, self.engine.batch)
        box = whole(sampling.sample_shape) if everything else _box_in_question(reference, logits)
        behind = tail.behind(inputs, x, others, box)
        tokens = torch.from_numpy(brain_tokens(conformed, sampling, tuple(x.shape[2:]))[samples])
        token_labels = labels_of_tokens(reference.long(), tuple(x.shape[2:]))
        window = (slice(None), *behind.window)
        tokens, x = tokens.to(self.device)[window], x[(slice(None), *window)].contiguous()
        builder = CodesBuilder(self.lens, tuple(tokens.shape))
        builder.add(x.flatten(2).transpose(1, 2).flatten(0, 1), tokens.flatten().cpu().numpy())
        here = (slice(None), *box)
        return Excerpt(
            case=case.name,
            subject=subject or case.name,
            samples=tuple(samples),
            inputs=inputs,
            labels=reference.long()[here],
            weight=(inside * say)[here],
            logits=logits[(slice(None), *here)].clone(),
            box=box,
            x=x,
            brain=tokens,
            codes=builder.finish(),
            token_labels=token_labels[window],
            decoder=self.lens.W_dec,
            behind=behind,
        )

    def _tail(self, shape: tuple[int, ...]) -> TailReader:
        # Cases of one cohort often have brains of one size, once padded to what the network divides by.
        if shape not in self._tails:
            self._tails[shape] = TailReader(self.network, self.tap, shape)
        return self._tails[shape]


def labels_of_tokens(labels: torch.Tensor, grid: tuple[int, ...]) -> torch.Tensor:
    """int64 (S, *grid): the label of most of the voxels of each token, of labels (S, *sample_shape)."""
    shares = F.one_hot(labels, LABELS).movedim(-1, 1).float()
    pool = F.adaptive_avg_pool2d if len(grid) == 2 else F.adaptive_avg_pool3d
    return pool(shares, grid).argmax(1)


def _chosen(sampling: Sampling, reference: np.ndarray, brain: np.ndarray, everything: bool) -> list[int]:
    """Numbers of the samples to read, ascending: most with lesion, some without, all with brain in them."""
    maps = torch.from_numpy(np.stack([reference > 0, brain]).astype(np.uint8))
    has = [sampling.inputs(maps, [s])[0].flatten(1).any(1).tolist() for s in range(sampling.count)]
    lesion = [s for s, (sick, _) in enumerate(has) if sick]
    other = [s for s, (sick, inside) in enumerate(has) if inside and not sick]
    if everything:
        return sorted(lesion + other)
    return sorted(_spread(lesion, WITH_LESION) + _spread(other, WITHOUT))


def _spread(numbers: list[int], most: int) -> list[int]:
    """At most `most` of them, evenly spread."""
    if len(numbers) <= most:
        return numbers
    return [numbers[int((i + 0.5) * len(numbers) / most)] for i in range(most)]


def _box_in_question(reference: torch.Tensor, logits: torch.Tensor) -> Box:
    """The box of a sample that holds, in any of the samples, lesion or what may be taken for it, and a margin."""
    asked = (reference > 0) | (1 - logits.softmax(1)[:, 0] > IN_QUESTION)
    shape = tuple(reference.shape[1:])
    box = box_of(asked.any(0).cpu().numpy()) or whole(shape)
    return widened(box, [MARGIN] * len(box), shape)
