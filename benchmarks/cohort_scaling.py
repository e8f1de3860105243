"""Work on the cases of a cohort by two worker processes against one, and its memory as the cases grow in number.

Phantom cases (invented anatomy, 40 x 50 x 42 voxels of 4 mm) are segmented with a shipped pack and each latent's firing
is counted, on worker processes of one thread each. Each run is a process of its own with fresh workers, all of which
have done cases before the clock starts (torch imported, pack read, engine chosen): what is timed is the work. One
worker's time is taken half before and half after that of two, so that a machine whose load drifts favours neither.

`efficiency_2_workers` is one worker's time over twice that of two. `memory_growth_ratio` is the peak resident memory
at all cases over that at a tenth of them, of the client (which holds the scheduler) or of a worker, whichever grew
more. `taken_by_others` is the share of the machine's processors that other programs took during a run: on two cores
with two workers, whatever they take is missing. Linux only.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from usage_work import UsageWork

from MedSegLensLib.cohorts.cluster import Cluster
from MedSegLensLib.cohorts.cohort import CohortCase
from MedSegLensLib.cohorts.mapping import map_cases
from MedSegLensLib.cohorts.phantoms import PhantomRequest
from MedSegLensLib.editing.pack_at_work import PackAtWork
from MedSegLensLib.packs.pack import load_pack

PACK, WARM = "glioma-unet", 3


def cases(first: int, count: int) -> list[CohortCase]:
    asked = [PhantomRequest(seed, size=(40, 50, 42), spacing=(4.0, 4.0, 4.0)) for seed in range(first, first + count)]
    return [CohortCase(f"phantom-{one.seed}", f"phantom-{one.seed}", phantom=one) for one in asked]


def run(first: int, count: int, workers: int) -> dict:
    """One run in this process: seconds, peaks in MB, and the shares of the processors' time."""
    work = UsageWork(PackAtWork.of(load_pack(PACK), PACK))
    with Cluster.local(workers) as cluster:
        used_before: dict[int, float] = {}
        while len(used_before) < workers:
            for _, arrays in map_cases(work, cases(100_000, WARM * workers), cluster=cluster):
                pid, _, used = arrays["process"]
                used_before[int(pid)] = max(used, used_before.get(int(pid), 0.0))
        busy, own, started = _busy_seconds(), time.process_time(), time.perf_counter()
        mapped = map_cases(work, cases(first, count), cluster=cluster)
        peaks, used_after, done = dict.fromkeys(used_before, 0.0), dict(used_before), 0
        for _, arrays in mapped:
            pid, peak, used = arrays["process"]
            peaks[int(pid)] = max(peak, peaks.get(int(pid), 0.0))
            used_after[int(pid)] = max(used, used_after.get(int(pid), 0.0))
            done += 1
        seconds = time.perf_counter() - started
        busy, own = _busy_seconds() - busy, time.process_time() - own
    if mapped.failures or done != count or set(peaks) != set(used_before):
        raise SystemExit(f"the run went wrong: {done} of {count} cases, {mapped.failures[:3]}, workers {sorted(peaks)}")
    by_workers = sum(used_after[pid] - used_before[pid] for pid in used_before)
    return {
        "workers": workers,
        "cases": count,
        "seconds": seconds,
        "client_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "worker_mb": max(peaks.values()),
        "busy_share_of_workers": by_workers / (workers * seconds),
        "client_seconds_of_processor": own,
        "taken_by_others": max(0.0, busy - own - by_workers) / (seconds * os.cpu_count()),
    }


def _busy_seconds() -> float:
    """Seconds of processor time that all programs of this machine have used."""
    words = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
    user, nice, system, _idle, _wait, interrupts, soft = map(int, words[1:8])
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")


def in_its_own_process(first: int, count: int, workers: int) -> dict:
    command = [sys.executable, __file__, "--run", str(first), str(count), str(workers)]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if out.returncode:
        raise SystemExit(f"a run of {count} cases by {workers} workers failed")
    found = json.loads(out.stdout.splitlines()[-1])
    print(
        f"{count} cases, {workers} workers: {found['seconds']:.1f} s, client {found['client_mb']:.0f} MB, worker "
        f"{found['worker_mb']:.0f} MB, others took {found['taken_by_others']:.0%}",
        file=sys.stderr,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--cases", type=int, default=200, help="phantom cases (default 200)")
    parser.add_argument("--run", nargs=3, type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.run:
        print(json.dumps(run(*chosen.run)))
        return
    many, few = chosen.cases, max(2, chosen.cases // 10)
    half = many // 2
    small = in_its_own_process(0, few, 2)
    before = in_its_own_process(0, half, 1)
    two = in_its_own_process(0, many, 2)
    after = in_its_own_process(half, many - half, 1)
    one_seconds = before["seconds"] + after["seconds"]
    growth = {who: two[f"{who}_mb"] / small[f"{who}_mb"] for who in ("client", "worker")}
    from common import machine, show  # which imports torch: the runs' own process, the client, needs none

    result = {
        "pack": PACK,
        "cases": f"{many} phantoms of 40 x 50 x 42 voxels (invented)",
        "efficiency_2_workers": round(one_seconds / (2 * two["seconds"]), 3),
        "memory_growth_ratio": round(max(growth.values()), 3),
        "memory_growth_of_client": round(growth["client"], 3),
        "memory_growth_of_worker": round(growth["worker"], 3),
        "seconds_1_worker": round(one_seconds, 1),
        "seconds_2_workers": round(two["seconds"], 1),
        "runs": [
            {k: round(v, 3) if isinstance(v, float) else v for k, v in one.items()}
            for one in (small, before, two, after)
        ],
        "machine": machine(),
    }
    lines = [
        f"{many} phantom cases: {result['seconds_1_worker']} s by one worker, {result['seconds_2_workers']} s by two: "
        f"efficiency {result['efficiency_2_workers']}",
        f"peak memory at {many} cases over that at {few}: client {growth['client']:.3f}, worker {growth['worker']:.3f}",
        f"other programs took {before['taken_by_others']:.0%}, {two['taken_by_others']:.0%} and "
        f"{after['taken_by_others']:.0%} of the processors meanwhile",
    ]
    show(result, chosen.json, lines)


if __name__ == "__main__":
    main()
