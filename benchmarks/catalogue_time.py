"""How long the catalogue of a lens of 4,096 latents over 100 cases takes, beside segmenting the same cases.

Baseline: the segmentation pass alone (conforming the case, the pack's network over all its samples, labels; engine
chosen in the same way), timed in turn with the catalogue on the same phantoms. `ratio_to_segmentation` is the whole
catalogue over that, in CPU seconds, which other work on the machine disturbs less: evidence of every case, influence on
the first 20 (as `medseglens catalogue` measures it), names, the table. The lens has as many latents as asked, rows from
tokens of one case, and k = 32 of them active a token: what a catalogue costs depends on how many fire, not on what
they mean. `share_by_step` is of the catalogue's time; memory must not grow with the cases (`peak_mb_at`: of the
process, after so many).
"""

import argparse
import resource
import time
from dataclasses import replace

import torch
from common import PACKS, machine, show

from MedSegLensLib.cases.conform import conform
from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.editing.cataloguing import INFLUENCE_CASES, Cataloguing
from MedSegLensLib.editing.session import best_label
from MedSegLensLib.editing.token_sample import sample_tokens
from MedSegLensLib.editing.trust import with_lens
from MedSegLensLib.lenses.dictionary import starting_rows
from MedSegLensLib.lenses.nulls import untrained_lens
from MedSegLensLib.packs.pack import load_pack
from MedSegLensLib.segmenters.engine import choose_engine
from MedSegLensLib.segmenters.sampling import sampling_of, trial_shape

K = 32
SIZES = {"small": ((80, 100, 40), (2.0, 2.0, 4.0)), "full": ((240, 240, 155), (1.0, 1.0, 1.0))}


def prepared(pack):
    """(engine, the network as it runs it, its config, the input it wants)."""
    config, spec, network = pack.info.segmenter, pack.input_spec(), pack.network()
    engine, _ = choose_engine(network, (len(spec.modalities), *trial_shape(config, spec)))
    return engine, engine.prepare(network, config.spatial_dims), config, spec


def wide_lens(pack, latents: int, case, engine, network, config, spec):
    """A lens at the pack's default tap whose latents are directions of the case's tokens, k of them active a token."""
    tap, like = pack.default_tap, pack.lens()
    tokens = sample_tokens([case], network, config, spec, [tap], engine, 20_000)[tap].tokens
    rows = starting_rows(tokens - tokens.mean(0), latents, "tokens", 1.0, torch.Generator().manual_seed(0))
    return replace(untrained_lens(tokens, rows, replace(like, k=K), tokens), metadata={})


def segmented(case, engine, network, config, spec) -> None:
    """A case segmented alone: nothing is kept, nothing encoded."""
    conformed = conform(case, spec)
    sampling, volume = sampling_of(config, conformed.brain.shape), torch.from_numpy(conformed.array)
    with torch.inference_mode():
        for first in range(0, sampling.count, engine.batch):
            some = list(range(first, min(first + engine.batch, sampling.count)))
            best_label(network(engine.place(sampling.inputs(volume, some))).float().movedim(1, 0))


class Spent:
    """Wall and CPU seconds, added up over blocks."""

    def __init__(self):
        self.wall = self.cpu = 0.0

    def __enter__(self):
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *_):
        self.wall += time.perf_counter() - self._wall
        self.cpu += time.process_time() - self._cpu


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--pack", choices=list(PACKS), default="segformer")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--latents", type=int, default=4096)
    parser.add_argument("--size", choices=list(SIZES), default="small")
    chosen = parser.parse_args()
    size, spacing = SIZES[chosen.size]

    def case(seed: int):
        return phantom(seed, size=size, spacing=spacing)

    pack = load_pack(PACKS[chosen.pack])
    ready = prepared(pack)
    lens = wide_lens(pack, chosen.latents, case(1000), *ready)
    pack = with_lens(pack, lens)
    work = Cataloguing(pack, assume_stable=True)  # names are made as for a lens that is stable
    segmented(case(1000), *ready)
    catalogue, baseline = Spent(), Spent()
    peaks: dict[int, float] = {}
    for i in range(chosen.cases):
        made = case(i)
        with baseline:
            segmented(made, *ready)
        with catalogue:
            work.add(made)
        if i + 1 in (10, chosen.cases):
            peaks[i + 1] = round(peak_mb(), 1)
    naming, closing = Spent(), Spent()
    with catalogue, naming:
        work.name()
    with catalogue, closing:
        table = work.table()
    steps = {"naming": naming.wall, "table": closing.wall}
    for of_case in work.seconds:
        for step, spent in of_case.items():
            steps[step] = steps.get(step, 0.0) + spent
    fires = sum(v > 0 for v in table.column("fires_share").to_pylist())
    result = {
        "cases": f"{chosen.cases} phantoms of {size} voxels",
        "pack": f"{pack.info.name} {pack.info.version}",
        "tap": lens.tap,
        "latents": chosen.latents,
        "latents_that_fire": fires,
        "catalogue_s": catalogue.wall,
        "catalogue_cpu_s": catalogue.cpu,
        "segmentation_s": baseline.wall,
        "segmentation_cpu_s": baseline.cpu,
        "ratio_to_segmentation": catalogue.cpu / baseline.cpu,
        "influence_cases": min(INFLUENCE_CASES, chosen.cases),
        "share_by_step": {step: spent / catalogue.wall for step, spent in steps.items()},
        "peak_mb_at": peaks,
        "machine": machine(),
    }
    lines = [
        f"Catalogue of {chosen.latents} latents at {lens.tap} of {pack.info.name} over {result['cases']}:",
        f"  {catalogue.cpu:.0f} CPU s ({catalogue.wall:.0f} s by the clock)",
        f"Segmenting the same cases: {baseline.cpu:.0f} CPU s; ratio {result['ratio_to_segmentation']:.2f}",
        *(f"  {step:<10} {share:5.1%}" for step, share in result["share_by_step"].items()),
        f"Peak memory after so many cases, MB: {peaks}",
    ]
    show(result, chosen.json, lines)


if __name__ == "__main__":
    main()
