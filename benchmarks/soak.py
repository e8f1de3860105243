"""Whether memory stays flat over many edits: scripted strengths, undo, overlays and rankings in the Slicer host, and
what both processes have allocated at the start and at the end.

    python benchmarks/soak.py [--json] [--edits 2000] [--pack glioma-segformer]
"""

import argparse
import gc
import json
import random
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from Testing.panel.driver import Driver  # noqa: E402

WARM_UP = 0.1
"""Share of the edits before memory is looked at: caches fill, allocators take what they keep."""

SMALL = {"size": (120, 150, 64), "spacing": (1.4, 1.4, 2.6)}


def main() -> int:
    options = _options()
    driver = Driver((1000, 700))
    try:
        what = driver.open_study(None, **SMALL)
        driver.apply(options.pack)
        result = soak(driver, options.edits)
    finally:
        driver.host.quit()
    result = {"case": f"{what}, {SMALL['size']} voxels", "pack": options.pack, **result}
    print(json.dumps(result, indent=2) if options.json else "\n".join(f"{k:>24}  {v}" for k, v in result.items()))
    return 0


def soak(driver: Driver, edits: int) -> dict:
    """`edits` edits by a fixed script, with what a reader does between them."""
    chance = random.Random(0)
    review, listed = driver.review, driver.panel.latents.listed()[:25]
    samples: list[tuple[float, float]] = []
    started = time.perf_counter()
    for n in range(edits):
        latent = chance.choice(listed)
        if n % 7 == 6:
            review.undo()
        elif n % 50 == 49:
            review.resetAll()
        else:
            review.setStrength(latent.tap, latent.latent, chance.choice((0.0, 0.5, 2.0, 4.0)))
        if n % 5 == 0:
            review.overlays.show(latent.tap, latent.latent)
        if n % 40 == 0:
            driver.panel.latents.request()
        driver.host.wait(lambda: not len(review.watch), 300)
        if n >= WARM_UP * edits and n % max(edits // 100, 1) == 0:
            gc.collect()
            samples.append((_memory(None), _memory(review.client._process.pid)))
    tenth = max(len(samples) // 10, 1)
    growth = []
    for process in range(2):
        first = statistics.median(s[process] for s in samples[:tenth])
        last = statistics.median(s[process] for s in samples[-tenth:])
        growth.append(last / first)
    return {
        "edits": edits,
        "seconds": round(time.perf_counter() - started, 1),
        "slicer_mb": round(samples[-1][0]),
        "worker_mb": round(samples[-1][1]),
        "slicer_growth_ratio": round(growth[0], 4),
        "worker_growth_ratio": round(growth[1], 4),
        "memory_growth_ratio": round(max(growth), 4),
    }


def _memory(pid: int | None) -> float:
    """MB that a process has allocated, shared memory by share. The pages of libraries are left out: how much of them
    counts depends on which other programs run."""
    lines = Path(f"/proc/{pid or 'self'}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))) / 1024


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--edits", type=int, default=2000)
    parser.add_argument("--pack", default="glioma-segformer")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
