"""Planted truth for the comparison of cohorts: a known feature in one cohort only, and latents known to read it.

The truth is set before anything is compared, and by other means than the comparison uses:

- The segmenter's first convolution is set by hand, so that its 32 channels hold 16 numbers of each voxel and their
  negatives: the four modalities' z-scores, their 3 x 3 means, and their steps along x and y. A latent is a half-space
  of these numbers.
- Cohort Y's phantoms hold six kinds of beads (spheres of 8 mm, one of each kind a case) with intensities that no
  tissue of a phantom has; cohort X's, of other seeds, hold none.
- *Planted* latents (8, two a kind) read a kind of bead that the lenses of both other seeds read too: specific to Y.
- *Orphans* (2, one a kind) read a kind that no other seed has a latent for: not distinguishable from seed noise.
- *Ordinary* latents (38) are random half-spaces that fire on 2 to 30 % of phantoms without beads. A bead is 0.2 % of a
  brain, so they are used alike: backbone.

recall, precision: the lowest over these three categories; those of each stand beside. Nothing of cohorts X and Y was
seen when thresholds were set: those are of other phantoms.
"""

import argparse
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from MedSegLensLib.cases.case import MODALITIES, Case
from MedSegLensLib.cases.foreground import brain_mask
from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cases.writing import write_case
from MedSegLensLib.cohorts.cohort import find_cohort
from MedSegLensLib.diffing.cohort_diff import diff_cohorts
from MedSegLensLib.diffing.seeds import SeedLens
from MedSegLensLib.editing.harvest import harvest
from MedSegLensLib.lenses.files import save_lens
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.packs.build import write_pack
from MedSegLensLib.packs.info import Label, PackInfo, TrainedOn
from MedSegLensLib.packs.pack import load_pack
from MedSegLensLib.segmenters.architectures import SegmenterConfig, build_network
from MedSegLensLib.segmenters.engine import Engine

TAP = "conv_0.conv_0"
SHAPE = {"size": (48, 60, 26), "spacing": (3.4, 3.4, 6.5)}
BEADS = np.array(
    [
        (4.0, 4.0, -1.5, -1.5),
        (4.0, -2.5, 3.5, 0.0),
        (-2.5, 4.0, -1.5, 4.0),
        (4.0, -2.5, -1.5, 4.0),
        (-2.5, 4.0, 4.0, -1.5),
        (4.0, 0.0, -1.5, -2.5),
    ]
)
"""z-scores of t1n, t1c, t2w, t2f in each kind of bead."""
OF_ALL_SEEDS, PER_KIND, ORDINARY = 4, 2, 38
RADIUS_MM = 8.0
SLOPE = 0.1
"""Of the leaky ReLU behind the convolution: (c - c') / (1 + SLOPE) gives back the number."""
KERNELS = torch.tensor(
    [
        [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
        [[1, 1, 1], [1, 1, 1], [1, 1, 1]],
        [[0, 0, 0], [-1, 0, 1], [0, 0, 0]],
        [[0, -1, 0], [0, 0, 0], [0, 1, 0]],
    ]
) / torch.tensor([1.0, 9.0, 2.0, 2.0]).view(4, 1, 1)
"""Of each modality: its value, mean and steps. Number 4 m + i is kernel i of modality m."""
NUMBERS = 4 * len(MODALITIES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--cases", type=int, default=14, help="of each cohort (default 14)")
    parser.add_argument("--seed", type=int, default=0, help="of latents, beads and phantoms")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    result = planted_cohorts(options.cases, options.seed)
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(f"recall {result['recall']:.2f}, precision {result['precision']:.2f}, {options.cases} cases a cohort")
    for name, row in result["categories"].items():
        print(f"  {name}: {row['true']} true, {row['found']} found, {row['right']} of them right")


def planted_cohorts(cases: int = 14, seed: int = 0, progress: Callable[[str, float], None] | None = None) -> dict:
    """Recall and precision of the categories; see the top of this file."""
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        folder = Path(folder)
        pack, seeds, truth = planted_pack(folder, seed)
        rng = np.random.default_rng([seed, 1])
        for name, first in (("without-beads", 10_000), ("with-beads", 20_000)):
            for i in range(cases):
                case = phantom(first + 1000 * seed + i, **SHAPE)
                if name == "with-beads":
                    case = with_beads(case, rng)
                write_case(case, folder / name / f"{name}-{i}")
        x, y = (find_cohort(folder / name) for name in ("without-beads", "with-beads"))
        found = diff_cohorts(pack, x, y, seeds, suppression=False, progress=progress)
    said = np.array([finding.category for finding in found.findings])
    wrong_side = [f.latent for f in found.findings if f.specific_to not in (None, y.name)]
    said[wrong_side] = "specific to the wrong cohort"
    rows = {}
    for category in dict.fromkeys(truth):
        true, called = truth == category, said == category
        right = int((true & called).sum())
        rows[category] = {"true": int(true.sum()), "found": int(called.sum()), "right": right}
        rows[category] |= {"recall": right / true.sum(), "precision": right / called.sum() if called.any() else 0.0}
    return {
        "recall": min(row["recall"] for row in rows.values()),
        "precision": min(row["precision"] for row in rows.values()),
        "cases": cases,
        "latents": len(truth),
        "categories": rows,
        "said": [
            {"latent": f.latent, "truth": str(truth[f.latent]), "said": str(said[f.latent]), "evidence": f.evidence}
            for f in found.findings
            if said[f.latent] != truth[f.latent]
        ],
    }


# -- what is planted ------------------------------------------------------------------------------------------------


def with_beads(case: Case, rng: np.random.Generator) -> Case:
    """The case with one bead of each kind, at places deep in the brain that do not touch."""
    brain = brain_mask(case.images)
    spacing = np.array(case.reference.GetSpacing())[::-1]
    index = np.moveaxis(np.indices(brain.shape), 0, -1) * spacing
    deep = sitk.GetArrayFromImage(
        sitk.SignedMaurerDistanceMap(
            _like(brain.astype(np.uint8), case.reference),
            insideIsPositive=True,
            squaredDistance=False,
            useImageSpacing=True,
        )
    )
    free = np.argwhere(deep > RADIUS_MM + 2)
    arrays = {m: sitk.GetArrayFromImage(image) for m, image in case.images.items()}
    facts = {m: (a[brain].mean(), a[brain].std()) for m, a in arrays.items()}
    centres: list[np.ndarray] = []
    for bead in BEADS:
        apart = [p for p in rng.permutation(free)[:400] if all(_far(p, c, spacing) for c in centres)]
        centre = apart[0]
        centres.append(centre)
        inside = np.square(index - centre * spacing).sum(-1) <= RADIUS_MM**2
        for modality, z in zip(MODALITIES, bead, strict=True):
            mean, deviation = facts[modality]
            arrays[modality][inside] = max(1.0, mean + z * deviation)
    images = {m: _like(a.astype(np.float32), case.reference) for m, a in arrays.items()}
    return Case(case.name, images, case.labels, case.notes)


def planted_pack(folder: Path, seed: int):
    """The pack, the lenses of two other seeds, and the truth of each latent by its category (an array of names)."""
    network, config = _network()
    info = PackInfo(
        name="planted",
        version="1.0.0",
        licence="Apache-2.0",
        created="2026-11-21",
        description="Latents that are known half-spaces of a voxel's intensities, for a benchmark.",
        trained_on=TrainedOn("Nothing."),
        input={
            "modalities": list(MODALITIES),
            "spacing": [None, None, None],
            "size_divisor": [16, 16, 1],
            "orientation": "LPS",
            "normalisation": "zscore_brain",
            "may_be_missing": [],
        },
        labels=tuple(Label(i, n, n, None, (i, i, i)) for i, n in enumerate(("NCR", "ED", "ET"), 1)),
        segmenter=config,
    )
    tokens = _intensities(network, config, info)
    rng = np.random.default_rng([seed, 2])
    kinds = [k for k in range(OF_ALL_SEEDS) for _ in range(PER_KIND)] + list(range(OF_ALL_SEEDS, len(BEADS)))
    readers = [_near(_numbers_of(BEADS[k]), rng, 0.05) for k in kinds]
    ordinary = [_near(np.zeros(NUMBERS), rng, 1.0) for _ in range(ORDINARY)]
    rates = rng.uniform(0.02, 0.3, ORDINARY)
    own = _lens(readers + ordinary, kinds, rates, tokens)
    truth = ["specific" if k < OF_ALL_SEEDS else "not distinguishable from seed noise" for k in kinds]
    truth += ["backbone"] * ORDINARY
    write_pack(folder / "pack", info, network.state_dict(), [own], None, "# Planted\n")
    seeds = []
    for number in (1, 2):
        n = OF_ALL_SEEDS * PER_KIND
        orphans = len(BEADS) - OF_ALL_SEEDS
        again = [_near(v, rng, 0.02) for v in readers[:n] + ordinary]
        again += [_near(np.zeros(NUMBERS), rng, 1.0) for _ in range(orphans)]
        lens = _lens(again, kinds[:n], np.append(rates, np.full(orphans, 0.1)), tokens)
        order = rng.permutation(lens.d_sae)
        lens = Lens(TAP, lens.W_enc[:, order], lens.b_enc, lens.W_dec[order], lens.b_dec, lens.threshold[order], lens.k)
        save_lens(lens, folder / f"seed-{number}", "float32")
        seeds.append(SeedLens.of(folder / f"seed-{number}"))
    return load_pack(folder / "pack"), seeds, np.array(truth, dtype=object)


def _network():
    """A U-Net with random weights, but for its first convolution: see the top of this file."""
    torch.manual_seed(0)
    config = SegmenterConfig("unet", {"features": [2 * NUMBERS, 8, 12, 16, 20, 8]})
    network = build_network(config).eval()
    first = next(m for m in network.get_submodule(TAP).modules() if isinstance(m, torch.nn.Conv2d))
    with torch.no_grad():
        first.weight.zero_()
        first.bias.zero_()
        for number in range(NUMBERS):
            kernel = KERNELS[number % 4]
            first.weight[number, number // 4], first.weight[number + NUMBERS, number // 4] = kernel, -kernel
    return network, config


def _intensities(network, config, info: PackInfo) -> np.ndarray:
    """The 16 numbers on brain tokens of phantoms of their own, (n, 16)."""
    engine, parts = Engine("cpu", torch.float32, False, 4), []
    for number in range(4):
        case = phantom(90_000 + number, **SHAPE)
        for tokens, _ in harvest(case, network, config, info.input_spec(), TAP, engine):
            parts.append(((tokens[:, :NUMBERS] - tokens[:, NUMBERS:]) / (1 + SLOPE)).numpy())
    return np.concatenate(parts)


def _lens(directions: list[np.ndarray], kinds: list[int], rates: np.ndarray, tokens: np.ndarray) -> Lens:
    """The first len(kinds) directions read beads: their threshold lies half way between what tissue reaches (its
    99.99 % quantile) and what the middle of a bead gives. The others fire on `rates` of the tokens."""
    thresholds = []
    for i, direction in enumerate(directions):
        along = tokens @ direction
        if i < len(kinds):
            low, high = np.quantile(along, 0.9999), _numbers_of(BEADS[kinds[i]]) @ direction
            if low >= high:
                raise ValueError(f"tissue looks like bead {kinds[i]} ({low:.1f}, {high:.1f})")
            thresholds.append((low + high) / 2)
        else:
            thresholds.append(max(0.0, np.quantile(along, 1 - rates[i - len(kinds)])))
    rows = torch.tensor(np.array(directions), dtype=torch.float32)
    encoder = torch.cat([rows, -rows], 1).T / (1 + SLOPE)
    decoder = torch.nn.functional.normalize(torch.cat([rows, -rows], 1), dim=1)
    n = len(directions)
    return Lens(
        TAP,
        encoder.contiguous(),
        torch.zeros(n),
        decoder,
        torch.zeros(2 * NUMBERS),
        torch.tensor(thresholds).float(),
        6,
    )


def _numbers_of(bead: np.ndarray) -> np.ndarray:
    """The 16 numbers in the middle of a bead: its value, the same mean, no steps; by modality."""
    return np.stack([bead, bead, 0 * bead, 0 * bead], 1).ravel()


def _near(direction: np.ndarray, rng: np.random.Generator, noise: float) -> np.ndarray:
    """A unit direction near another one; any where the other is 0."""
    length = np.linalg.norm(direction)
    found = (direction / length if length else direction) + noise * rng.normal(size=NUMBERS)
    return found / np.linalg.norm(found)


def _far(a: np.ndarray, b: np.ndarray, spacing: np.ndarray) -> bool:
    return float(np.linalg.norm((a - b) * spacing)) > 2 * RADIUS_MM + 2


def _like(array: np.ndarray, image: sitk.Image) -> sitk.Image:
    made = sitk.GetImageFromArray(array)
    made.CopyInformation(image)
    return made


if __name__ == "__main__":
    main()
