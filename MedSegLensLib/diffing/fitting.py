"""Fits of a few numbers to labelled excerpts: the same for latents and for what they are compared with."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from MedSegLensLib.diffing.adaptation_loss import error
from MedSegLensLib.diffing.excerpts import Excerpt

ROUNDS = 5
"""Iterations of LBFGS."""


def minimise(
    start: torch.Tensor,
    logits_of: Callable[[int, torch.Tensor], torch.Tensor],
    excerpts: Sequence[Excerpt],
    stay: float,
    rounds: int = ROUNDS,
    tick: Callable[[], None] | None = None,
) -> torch.Tensor:
    """The parameters, from `start` on, at which the mean `error` over the excerpts is least.

    logits_of(i, parameters): logits of the i-th excerpt. `tick` is called at every evaluation and may raise Cancelled.
    """

    def term(i: int, parameters: torch.Tensor) -> torch.Tensor:
        if tick:
            tick()
        return error(logits_of(i, parameters), excerpts[i], stay) / len(excerpts)

    return descend(start, [partial(term, i) for i in range(len(excerpts))], rounds, 3 * rounds // 2)


def descend(
    start: torch.Tensor, terms: Sequence[Callable[[torch.Tensor], torch.Tensor]], rounds: int, most: int | None = None
) -> torch.Tensor:
    """The parameters, from `start` on, at which the sum of the terms is least: `rounds` iterations of LBFGS.

    most: evaluations at most (torch's 1.25 x rounds by default). A term may raise Cancelled.
    """
    parameters = start.detach().clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [parameters], max_iter=rounds, max_eval=most, history_size=rounds, line_search_fn="strong_wolfe"
    )

    def closure():
        optimiser.zero_grad()
        total = 0.0
        for term in terms:  # one graph at a time, so that memory does not grow with the cases
            value = term(parameters)
            value.backward()
            total += float(value.detach())
        return total

    with torch.enable_grad():
        optimiser.step(closure)
    return parameters.detach()


def slopes(excerpt: Excerpt, x: torch.Tensor, stay: float) -> torch.Tensor:
    """How the error changes with each latent's gain where the tap's value is x: d error / d g_j, float64 (d_sae,).

    sum over tokens of z_j (d error / dx . d_j): gradient x activation (Shrikumar et al. 2016, arXiv 1605.01713) of the
    error in place of a region's volume (`editing.influence`). One forward and one backward of the tail for all latents.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(error(excerpt.behind(x), excerpt, stay), x)
    codes, rows = excerpt.codes, gradient.flatten(2).transpose(1, 2).flatten(0, 1)
    slope = torch.zeros(codes.n_latents, dtype=torch.float64)
    for j in range(codes.n_latents):
        tokens, values = codes.latent(j)
        if len(tokens):
            along = rows[torch.from_numpy(tokens).long().to(rows.device)] @ excerpt.decoder[j]
            slope[j] = float(along @ torch.from_numpy(values).to(along))
    return slope
