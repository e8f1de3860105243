"""What an adaptation changes, in four forms that answer the same questions.

on(excerpt): logits (S, K, *box) of an excerpt under it. labels(session): uint8 (Z, Y, X), the whole case under it.
weaker(share): the same change at a share of its size, 0 being none. to_json: what it is.
"""

import copy
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from MedSegLensLib.diffing.excerpts import Excerpt
from MedSegLensLib.diffing.tails import Weights
from MedSegLensLib.editing.recipe import Edit, PackReference, Recipe
from MedSegLensLib.editing.session import Session
from MedSegLensLib.packs.pack import LensPack
from MedSegLensLib.segmenters.replay import Steering
from MedSegLensLib.segmenters.sampling import whole


class Adjustment(Protocol):
    def on(self, excerpt: Excerpt) -> torch.Tensor: ...

    def labels(self, session: Session) -> np.ndarray: ...

    def weaker(self, share: float) -> "Adjustment": ...

    def to_json(self) -> dict: ...


@dataclass(frozen=True)
class Gains:
    """Codes of some latents multiplied, everywhere: what a recipe of `scale` edits does. gains: by latent."""

    tap: str
    gains: dict[int, float]

    def on(self, excerpt: Excerpt) -> torch.Tensor:
        gains = torch.tensor(list(self.gains.values()), device=excerpt.x.device)
        return excerpt.scaled(excerpt.effects(list(self.gains)), gains)

    def labels(self, session: Session) -> np.ndarray:
        return session.edit(self.recipe(session.pack, "adaptation")).labels

    def weaker(self, share: float) -> "Gains":
        return Gains(self.tap, {j: 1 + share * (g - 1) for j, g in self.gains.items()})

    def recipe(self, pack: LensPack, name: str, comment: str = "") -> Recipe:
        """As the panel, `medseglens recipe` and `medseglens edit` read it. Gains are rounded to 0.001."""
        edits = tuple(Edit(self.tap, j, "scale", round(float(g), 3)) for j, g in self.gains.items())
        return Recipe(name, PackReference.of(pack), edits, comment)

    def to_json(self) -> dict:
        return {"tap": self.tap, "gains": {str(j): round(float(g), 3) for j, g in self.gains.items()}}


@dataclass(frozen=True)
class ClassBias:
    """A number added to each label's logit: the decision threshold moved. bias: (K,)."""

    bias: torch.Tensor

    def on(self, excerpt: Excerpt) -> torch.Tensor:
        return excerpt.logits + self._shaped(excerpt.logits, 1)

    def labels(self, session: Session) -> np.ndarray:
        logits = session.replay.logits
        return session.labels_of(logits + self._shaped(logits, 1), whole(session.labels.shape))

    def weaker(self, share: float) -> "ClassBias":
        return ClassBias(self.bias * share)

    def to_json(self) -> dict:
        return {"class_bias": [round(float(b), 3) for b in self.bias]}

    def _shaped(self, logits: torch.Tensor, axis: int) -> torch.Tensor:
        return self.bias.to(logits).view(*(1,) * axis, -1, *(1,) * (logits.ndim - axis - 1))


@dataclass(frozen=True)
class Push:
    """A constant push at every token of the brain along directions (J, C), `strengths` (J,) of each."""

    tap: str
    directions: torch.Tensor
    strengths: torch.Tensor

    def on(self, excerpt: Excerpt) -> torch.Tensor:
        maps = self.strengths.view(-1, *(1,) * excerpt.brain.ndim) * excerpt.brain
        return excerpt.behind(excerpt.moved(maps, self.directions))

    def labels(self, session: Session) -> np.ndarray:
        brain, device = session.brain_tokens[self.tap], session.engine.device
        push = (self.strengths @ self.directions).cpu()[None]
        maps = {s: torch.from_numpy(brain[s].astype(np.float32))[None] for s in range(len(brain)) if brain[s].any()}
        logits = session.replay.logits.clone()
        for sample, box, changed in session.replay.replay(Steering(self.tap, push.to(device), maps)):
            logits[(sample, slice(None), *box)] = changed
        return session.labels_of(logits, whole(session.labels.shape))

    def weaker(self, share: float) -> "Push":
        return Push(self.tap, self.directions, self.strengths * share)

    def to_json(self) -> dict:
        return {"tap": self.tap, "strengths": [round(float(s), 3) for s in self.strengths]}


@dataclass(frozen=True)
class Reweighted:
    """Other weights and buffers of the network, by name; `own` are those it had. network: float32, with its own.

    Weights between the two: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv 2109.01903.
    """

    network: torch.nn.Module
    weights: Weights
    own: Weights

    @torch.no_grad()
    def on(self, excerpt: Excerpt) -> torch.Tensor:
        if set(self.weights) <= set(excerpt.behind.learnable):  # then nothing before the tap has changed
            return excerpt.behind(excerpt.x, self.weights)
        runs = [torch.func.functional_call(self.network, self.weights, (part,)) for part in excerpt.inputs.split(4)]
        return torch.cat(runs)[(slice(None), slice(None), *excerpt.box)].float()

    @torch.no_grad()
    def labels(self, session: Session) -> np.ndarray:
        network = copy.deepcopy(session.network)
        network.load_state_dict(self.weights, strict=False)
        engine, sampling = session.engine, session.sampling
        volume, logits = torch.from_numpy(session.conformed.array), torch.empty_like(session.replay.logits)
        for first in range(0, sampling.count, engine.batch):
            samples = list(range(first, min(first + engine.batch, sampling.count)))
            logits[samples] = network(engine.place(sampling.inputs(volume, samples))).float()
        return session.labels_of(logits, whole(session.labels.shape))

    def weaker(self, share: float) -> "Reweighted":
        return Reweighted(self.network, {n: self.own[n].lerp(w, share) for n, w in self.weights.items()}, self.own)

    def to_json(self) -> dict:
        return {"weights": sorted(self.weights), "numbers": sum(w.numel() for w in self.weights.values())}
