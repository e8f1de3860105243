"""A bounded sample of a tap's tokens from each case of a cohort: what lenses of the cohort's own are trained on, and
what thresholds are set by."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from MedSegLensLib.cohorts.cohort import CohortCase
from MedSegLensLib.cohorts.mapping import Failure, key_of, map_cases
from MedSegLensLib.editing.pack_at_work import PackAtWork
from MedSegLensLib.lenses.sampling import DEFAULT_SHARES, STRATA, Reservoir

if TYPE_CHECKING:
    from MedSegLensLib.cohorts.cluster import Cluster

VERSION = 1


@dataclass(frozen=True)
class TokenWork:
    """A `CaseWork`: of each tap at most `per_case` tokens with the strata's shares of a lens's training, and `natural`
    tokens as they come; float16. Arrays: "t.s" (n, d_in) for tap t and stratum s, "t.natural", "t.natural_strata"."""

    pack: PackAtWork
    taps: tuple[str, ...]
    per_case: int
    natural: int
    seed: int = 0

    def key(self) -> str:
        return key_of(self, VERSION)

    def __call__(self, case: CohortCase) -> dict[str, np.ndarray]:
        from MedSegLensLib.editing.harvest import harvest_taps

        pack = self.pack.open()
        engine, network = self.pack.segmenter()
        rng = np.random.default_rng([self.seed, *case.name.encode()])
        quota = {s: int(np.ceil(2 * self.per_case * share)) for s, share in DEFAULT_SHARES.items()}
        kept = [{s: Reservoir(n) for s, n in quota.items()} for _ in self.taps]
        apart = [{s: Reservoir(self.natural) for s in range(len(STRATA))} for _ in self.taps]
        config, spec = pack.info.segmenter, pack.input_spec()
        for tokens, strata in harvest_taps(case.read(), network, config, spec, self.taps, engine):
            for t, tap in enumerate(self.taps):
                key, held = rng.random(len(strata[tap])), rng.random(len(strata[tap])) < 0.05
                for reservoirs, wanted in ((apart[t], held), (kept[t], ~held)):
                    for s, reservoir in reservoirs.items():
                        where = np.flatnonzero(wanted & (strata[tap] == s))
                        reservoir.offer(tokens[tap], where, key, torch.float16)
        found = {}
        for t in range(len(self.taps)):
            found |= {f"{t}.{s}": r.tokens.numpy() for s, r in kept[t].items() if r.n}
            there = [(s, r) for s, r in apart[t].items() if r.n]
            order = np.argsort(np.concatenate([r.keys for _, r in there]))[: self.natural]
            found[f"{t}.natural"] = np.concatenate([r.tokens.numpy() for _, r in there])[order]
            found[f"{t}.natural_strata"] = np.concatenate([np.full(r.n, s, np.int8) for s, r in there])[order]
        return found


@dataclass
class TokenSample:
    """Of one tap: by_case: name -> {stratum: (n, d_in)}; natural, natural_strata: by case."""

    by_case: dict[str, dict[int, torch.Tensor]] = field(default_factory=dict)
    natural: dict[str, torch.Tensor] = field(default_factory=dict)
    natural_strata: dict[str, np.ndarray] = field(default_factory=dict)


def sample_tokens(
    work: TokenWork,
    cases: tuple[CohortCase, ...],
    journal: Path | None = None,
    cluster: "Cluster | None" = None,
    progress: Callable[[str, float], None] | None = None,
) -> tuple[dict[str, TokenSample], tuple[Failure, ...]]:
    """The samples of some cases by tap, and the cases that failed. Raises as `map_cases` does."""
    samples = {tap: TokenSample() for tap in work.taps}
    mapped = map_cases(work, cases, journal, cluster, progress)
    for case, found in mapped:
        for t, (_, sample) in enumerate(samples.items()):
            strata = {s: found[f"{t}.{s}"] for s in range(len(STRATA)) if f"{t}.{s}" in found}
            sample.by_case[case.name] = {s: torch.from_numpy(tokens) for s, tokens in strata.items()}
            sample.natural[case.name] = torch.from_numpy(found[f"{t}.natural"])
            sample.natural_strata[case.name] = found[f"{t}.natural_strata"]
    return samples, tuple(mapped.failures)
