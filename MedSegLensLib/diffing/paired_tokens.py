"""What two networks hold at the same places: values of two taps, and the codes of their lenses, at voxels of a case."""

import hashlib
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from MedSegLensLib.cases.case import Case
from MedSegLensLib.cases.conform import Conformed, conform
from MedSegLensLib.cohorts.cohort import CohortCase
from MedSegLensLib.cohorts.mapping import key_of
from MedSegLensLib.diffing.case_grid import Spread
from MedSegLensLib.editing.pack_at_work import PackAtWork
from MedSegLensLib.editing.places import brain_tokens
from MedSegLensLib.errors import CaseError
from MedSegLensLib.segmenters.sampling import sampling_of
from MedSegLensLib.segmenters.taps import changed

RESULTS = 1
EVERY = 3
"""One slice in so many is looked at: neighbours say nearly the same, and the networks run on these alone."""

LESION_SHARE = 1 / 3
"""Of the voxels drawn for training in the lesion, where there is one: it is a few per cent of a brain."""


@dataclass(frozen=True)
class PairedTokens:
    """A CaseWork. Draws `voxels` voxels of the brain, evenly, and half as many of its lesion, and gives for each

        a, b: float16 (n, channels), the tap's value there, interpolated as activation volumes are;
        a_codes, b_codes: float16 (n, latents), the codes of the pack's lens; natural: bool (n,), drawn evenly;
        lesion: bool (n,).

    Which voxels are drawn depends on the seed and the case's name.
    """

    a: PackAtWork
    b: PackAtWork
    tap_a: str
    tap_b: str
    voxels: int
    seed: int = 0
    device: str | None = None

    def key(self) -> str:
        return key_of(self, RESULTS)

    def __call__(self, described: CohortCase) -> dict[str, np.ndarray]:
        case = described.read()
        conformed = [conform(case, work.open().input_spec()) for work in (self.a, self.b)]
        masks = [sitk.GetArrayFromImage(one.to_case(one.brain)) > 0 for one in conformed]
        brain = masks[0] & masks[1]
        number = int.from_bytes(hashlib.sha256(described.name.encode()).digest()[:4], "little")
        voxels, natural, lesion = self._drawn(case, brain, np.random.default_rng([self.seed, number]))
        if not len(voxels):
            raise CaseError(case.name, "the two networks see no voxel in common.", "Check the case's volumes.")
        found = {"natural": natural, "lesion": lesion}
        for name, work, tap, one in (("a", self.a, self.tap_a, conformed[0]), ("b", self.b, self.tap_b, conformed[1])):
            values, codes = self._values(work, tap, one, voxels)
            found |= {name: values.astype(np.float16), f"{name}_codes": codes.astype(np.float16)}
        return found

    def _drawn(self, case: Case, brain: np.ndarray, rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        axis = int(np.argmin(brain.shape)) if len(set(brain.shape)) > 1 else 0
        kept = np.zeros(brain.shape[axis], bool)
        kept[int(rng.integers(EVERY)) :: EVERY] = True
        shape = [1, 1, 1]
        shape[axis] = -1
        some = np.argwhere(brain & kept.reshape(shape))
        labels = None if case.labels is None else sitk.GetArrayViewFromImage(case.labels)
        lesion = np.zeros(len(some), bool) if labels is None else labels[tuple(some.T)] > 0
        evenly = rng.permutation(len(some))[: self.voxels]
        extra = rng.permutation(np.flatnonzero(lesion))[: self.voxels // 2]
        chosen = np.concatenate([evenly, extra])
        natural = np.arange(len(chosen)) < len(evenly)
        return some[chosen], natural, lesion[chosen]

    @torch.no_grad()
    def _values(
        self, work: PackAtWork, tap: str, conformed: Conformed, voxels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        pack = work.open()
        engine, network = work.segmenter(self.device)
        sampling = sampling_of(pack.info.segmenter, conformed.brain.shape)
        lens, volume = pack.lens(tap), torch.from_numpy(conformed.array)
        seen: list[torch.Tensor] = []
        values, codes = np.zeros((len(voxels), lens.d_in), np.float32), np.zeros((len(voxels), lens.d_sae), np.float32)
        weights = brain = None
        needed = list(range(sampling.count))
        with changed(network, {tap: seen.append}):
            while needed:
                samples = needed[: engine.batch]
                network(engine.place(sampling.inputs(volume, samples)))
                value = seen.pop()
                per_sample = int(np.prod(value.shape[2:]))
                if weights is None:
                    weights = Spread.of(conformed, sampling, tuple(value.shape[2:])).weights(voxels).tocsc()
                    brain = brain_tokens(conformed, sampling, tuple(value.shape[2:]))
                    touched = set((np.unique(weights.tocsr().indices) // per_sample).tolist())
                    needed = samples + [s for s in needed[len(samples) :] if s in touched]
                tokens = value.flatten(2).transpose(1, 2).float().cpu()
                for sample, x in zip(samples, tokens, strict=True):
                    here = weights[:, sample * per_sample : (sample + 1) * per_sample]
                    if here.nnz:
                        values += here @ x.numpy()
                        inside = torch.from_numpy(brain[sample].reshape(-1, 1))
                        codes += here @ (lens.encode(x) * inside).numpy()
                needed = needed[len(samples) :]
        return values, codes
