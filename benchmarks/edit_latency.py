"""From an edit to the labels of the whole volume, as a ratio to a full pass of the same session.

The 50 latents of the pack's default tap with the most influence on the whole tumour are suppressed one by one (latents
that fire on over a quarter of the brain are not ranked, as everywhere).
Baseline: the naive edited pass (forward hook, dense encode, edit and decode of every token, whole network, every
slice), timed in the same run and compared voxel for voxel. `first_slice_ratio` is the edit of one slice alone: for each
latent the one on which it fires most. Memory is the peak of a session with its edits over what the process held
before, with every library imported.
"""

import gc
import statistics

import numpy as np
import torch
from common import PeakMemory, machine, median_seconds, options, packs, seconds, show, validation_cases

from MedSegLensLib.editing.influence import Influence, attribute, dense_latents, suppress
from MedSegLensLib.editing.session import Session
from MedSegLensLib.editing.splice import labels_with

LATENTS, NAIVE = 50, 3


def full_pass(session: Session) -> None:
    """Every sample through the whole network and its labels, nothing kept and nothing encoded."""
    volume, sampling = torch.from_numpy(session.conformed.array), session.sampling
    with torch.inference_mode():
        for first in range(0, sampling.count, session.engine.batch):
            samples = list(range(first, min(first + session.engine.batch, sampling.count)))
            session.network(session.engine.place(sampling.inputs(volume, samples))).max(1)


def busiest_sample(session: Session, tap: str, latent: int) -> int:
    codes = session.codes[tap]
    return int(np.bincount(codes.latent(latent)[0] // (codes.n_tokens // codes.grid[0])).argmax())


def naive(session: Session, tap: str, latent: int) -> np.ndarray:
    lens = session.lenses[tap]

    def edited(tokens):
        z = lens.encode(tokens)
        changed = z.clone()
        changed[:, latent] = 0
        return tokens + lens.decode(changed) - lens.decode(z)

    return labels_with(session, tap, edited)


def main() -> None:
    chosen = options(__doc__)
    (case, *_), which = validation_cases()
    import transformers  # noqa: F401  imports are not a session's memory

    loaded = packs(chosen.packs)
    for pack in loaded.values():
        pack.network()
    result, lines = {"case": case.name, "cases": which, "machine": machine()}, [f"Case: {case.name} ({which})"]
    memory = PeakMemory()
    for name, pack in loaded.items():
        gc.collect()
        memory.start()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        session = Session(case, pack)
        tap = pack.default_tap
        dense = dense_latents(session, tap)
        ranked = Influence(tap, "WT", attribute(session, tap, "WT"), dense, {}).ranked()
        latents = [int(j) for j in ranked[:LATENTS]]
        recipes = [suppress(session, tap, j) for j in latents]
        session.edit(recipes[0])  # kernels are chosen at first use
        whole = median_seconds(lambda: full_pass(session), 2)  # noqa: B023
        times = [seconds(lambda: session.edit(r)) for r in recipes]  # noqa: B023
        peak_mb = memory.mb()
        first = []
        for latent, recipe in zip(latents, recipes, strict=True):
            sample = busiest_sample(session, tap, latent)
            first.append(median_seconds(lambda: session.edit(recipe, [sample]), 3))  # noqa: B023
        naive_times, differing = [], 0
        for latent in latents[:NAIVE]:
            labels = []
            naive_times.append(seconds(lambda: labels.append(naive(session, tap, latent))))  # noqa: B023
            differing += int((labels[0] != session.edit(suppress(session, tap, latent)).labels).sum())
        result[name] = {
            "ratio_median": statistics.median(times) / whole,
            "ratio_worst": max(times) / whole,
            "first_slice_ratio": statistics.median(first) / whole,
            "naive_ratio": statistics.median(naive_times) / whole,
            "labels_equal": differing == 0,
            "differing_voxels": differing,
            "full_pass_s": whole,
            "edit_s_median": statistics.median(times),
            "first_slice_s": statistics.median(first),
            "tap": tap,
            "latents": len(latents),
            "dense_latents_not_ranked": int(dense.sum()),
            "engine": str(session.engine),
            "cached_mb": session.replay.cached_bytes / 1e6,
            "peak_memory_mb": peak_mb,
            "gpu_peak_mb": torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else None,
        }
        v = result[name]
        lines += [
            f"{name:10} {tap}, {len(latents)} latents, {session.engine}; full pass {whole:.2f} s",
            f"           edit -> labels of the whole volume: median {v['ratio_median']:.4f} of a full pass "
            f"({v['edit_s_median'] * 1e3:.0f} ms), worst {v['ratio_worst']:.4f}",
            f"           first asked-for slice {v['first_slice_ratio']:.4f} ({v['first_slice_s'] * 1e3:.1f} ms); "
            f"naive {v['naive_ratio']:.2f}; voxels that differ from it: {differing}",
            f"           memory of a session {v['peak_memory_mb']:.0f} MB, of which cached {v['cached_mb']:.0f} MB",
        ]
        session = None  # its caches go before the next pack is measured
    show(result, chosen.json, lines)


if __name__ == "__main__":
    main()
