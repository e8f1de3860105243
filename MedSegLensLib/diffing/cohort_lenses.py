"""A lens of its own for each cohort on the same tap: what do two dictionaries share that saw different patients?

Trained by `lenses.training` on samples of each cohort's tokens, matched one to one by decoder cosine and by the
correlation of their codes on tokens of both cohorts (`lenses.stability`). Two nulls stand beside, since two trainings
never agree in full: the same cohort's tokens with another seed, and two halves of one cohort's cases.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from MedSegLensLib.diffing.token_samples import TokenSample
from MedSegLensLib.errors import CaseError
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.lenses.sampling import TokenBuffer
from MedSegLensLib.lenses.stability import code_correlation, matched, stable_share
from MedSegLensLib.lenses.training import LensConfig, train_lens

STEPS = 600
"""A fifth of what the shipped lenses were trained for. With a start in the principal components the explained variance
is within a percent of theirs by then (docs/lenses.md); their nulls are trained as long."""
SEEDS = (1, 2)
ON_TOKENS = 20_000

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Likeness:
    """Of two lenses: similarity of each of the first's latents with its partner, (d_sae,), by both ways."""

    cosine: np.ndarray
    correlation: np.ndarray

    def share(self, by: str, among: np.ndarray) -> float:
        """Share with a similarity of at least 0.7 among some latents, bool (d_sae,); nan of none."""
        return stable_share(getattr(self, by), among)


@torch.inference_mode()
def likeness(lens: Lens, other: Lens, tokens: torch.Tensor) -> Likeness:
    """How alike two lenses of one tap are, on tokens (n, d_in)."""
    return Likeness(matched((lens.W_dec @ other.W_dec.T).numpy()), matched(code_correlation(lens, other, tokens)))


def cohort_lenses(
    like: Lens,
    x: TokenSample,
    y: TokenSample,
    steps: int = STEPS,
    progress: Progress | None = None,
) -> list[dict]:
    """Train and compare. `like`: the pack's lens, of whose size and kind of start the others are.

    One row by "decoder cosine" and one by "activation correlation": "shared", share of the latents of X's lens with a
    partner of at least 0.7 in Y's; "null", the same between two seeds of one cohort (the lower of X and Y); "halves",
    between halves of a cohort's cases (None below four cases). Of latents that fire on the tokens; means over
    pairs of seeds. "explained_variance": of each cohort's lens on its own held-out tokens and on the other's.

    Raises CaseError for a cohort without tokens.
    """
    if not x.by_case or not y.by_case:
        raise CaseError("cohort", "none of its cases gave tokens.", "Check its cases with `medseglens cohort`.")
    say = progress or (lambda stage, share: None)
    halves = {name: _halves(sample) for name, sample in (("x", x), ("y", y))}
    jobs: list[tuple[str, TokenSample, int]] = [(n, s, seed) for n, s in (("x", x), ("y", y)) for seed in SEEDS]
    jobs += [(f"{name}{i}", half, SEEDS[0]) for name, pair in halves.items() for i, half in enumerate(pair)]
    trained: dict[tuple[str, int], Lens] = {}
    for done, (name, sample, seed) in enumerate(jobs):
        told = lambda stage, share, done=done: say("training the cohorts' lenses", (done + share) / len(jobs))  # noqa: E731
        trained[name, seed] = _train(like, sample, seed, steps, told)
    both = torch.cat([_natural(sample, ON_TOKENS // 2) for sample in (x, y)])

    def shares(a: Lens, b: Lens) -> dict[str, float]:
        found, fires = likeness(a, b, both), _fires(a, both)
        return {by: found.share(by, fires) for by in ("cosine", "correlation")}

    across = [shares(trained["x", s], trained["y", t]) for s in SEEDS for t in SEEDS]
    within = {n: shares(trained[n, SEEDS[0]], trained[n, SEEDS[1]]) for n in ("x", "y")}
    half = [shares(trained[f"{n}0", SEEDS[0]], trained[f"{n}1", SEEDS[0]]) for n, pair in halves.items() if pair]
    explained = {
        f"{n}'s lens on {m}": _explained(trained[n, SEEDS[0]], _natural(sample, ON_TOKENS // 2))
        for n in ("x", "y")
        for m, sample in (("x", x), ("y", y))
    }
    rows = []
    for by, name in (("cosine", "decoder cosine"), ("correlation", "activation correlation")):
        row = {
            "tap": like.tap,
            "by": name,
            "shared": float(np.mean([a[by] for a in across])),
            "shared_range": [min(a[by] for a in across), max(a[by] for a in across)],
            "null": min(w[by] for w in within.values()),
            "halves": min(h[by] for h in half) if half else None,
            "steps": steps,
            "explained_variance": explained,
        }
        row["says"] = _says(row)
        rows.append(row)
    return rows


def _says(row: dict) -> str:
    text = f"By {row['by']}, lenses trained on each cohort share {row['shared']:.0%} of their latents; two seeds "
    text += f"on one cohort share {row['null']:.0%}"
    if row["halves"] is not None:
        text += f", lenses of two halves of one cohort's cases {row['halves']:.0%}"
    least = min(row["null"], row["halves"] if row["halves"] is not None else 1.0)
    different = row["shared_range"][1] < least
    return text + (": the cohorts' lenses differ beyond that." if different else ": no more apart than these.")


def _train(like: Lens, sample: TokenSample, seed: int, steps: int, progress: Progress) -> Lens:
    pools: dict[int, list[torch.Tensor]] = {}
    for by_stratum in sample.by_case.values():
        for stratum, tokens in by_stratum.items():
            pools.setdefault(stratum, []).append(tokens)
    held_out = torch.cat(list(sample.natural.values())).float()
    strata = np.concatenate(list(sample.natural_strata.values()))
    buffer = TokenBuffer({s: torch.cat(parts) for s, parts in pools.items()}, held_out, strata)
    config = LensConfig(like.tap, like.d_sae, like.k, seed, steps, lr=5e-4, init="components", dead_after=200_000)
    return train_lens(buffer, config, progress)


def _halves(sample: TokenSample) -> tuple[TokenSample, ...]:
    """Two samples of half of the cases each, by chance; none below four cases."""
    names = sorted(sample.by_case)
    if len(names) < 4:
        return ()
    order = np.random.default_rng(0).permutation(names).tolist()
    parts: Sequence[list[str]] = (order[: len(names) // 2], order[len(names) // 2 :])
    return tuple(
        TokenSample(*({n: of[n] for n in part} for of in (sample.by_case, sample.natural, sample.natural_strata)))
        for part in parts
    )


def _natural(sample: TokenSample, most: int) -> torch.Tensor:
    each = max(1, most // len(sample.natural))
    return torch.cat([tokens[:each] for tokens in sample.natural.values()]).float()


@torch.inference_mode()
def _fires(lens: Lens, tokens: torch.Tensor) -> np.ndarray:
    return (lens.encode(tokens) > 0).any(0).numpy()


@torch.inference_mode()
def _explained(lens: Lens, tokens: torch.Tensor) -> float:
    from MedSegLensLib.lenses.measures import explained_variance

    return explained_variance(tokens, lens.decode(lens.encode(tokens)))
