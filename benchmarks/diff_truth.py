"""Planted truth for both comparisons: what `medseglens diff` says of packs and of cohorts whose truth is known.

Packs. The truth is set before anything is compared, in a shipped pack's own lens:

- *Permuted* and *rescaled* latents: the other pack has the same segmenter and the same latents in another order, each
  with some noise on its weights (as another training would have it), every second one with codes 0.2 to 5 times as
  large. They are truly shared, and with one latent alone.
- *Removed* latents: the other pack lacks them, and both other seeds of the pack's lens have them: truly specific.
- *Orphans*: the other pack lacks them, and so do both other seeds: truly not distinguishable from seed noise.

What resembles a removed latent or an orphan is removed with it, or it would truly be shared in part: every latent whose
code correlates 0.15 or more with its own on phantoms of other seeds (of codes, token by token; activation volumes are
smoother, and 0.25 of codes may be 0.4 of volumes). Of these neighbours nothing is claimed. Other seeds are the lens
itself with noise on its weights, in another order; orphans, and neighbours at 0.4, are random directions there.

Cohorts. See planted_cohorts.py.

recall, precision: over all planted findings; those of each kind stand beside.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import machine
from planted_cohorts import planted_cohorts

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cohorts.cohort import Cohort, CohortCase
from MedSegLensLib.cohorts.phantoms import PhantomRequest
from MedSegLensLib.diffing.model_diff import diff_models
from MedSegLensLib.diffing.seeds import SeedLens
from MedSegLensLib.editing.harvest import harvest
from MedSegLensLib.lenses.files import save_lens
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.lenses.stability import code_correlation
from MedSegLensLib.packs.build import write_pack
from MedSegLensLib.packs.pack import LensPack, load_pack
from MedSegLensLib.segmenters.engine import Engine

SHAPE = {"size": (80, 100, 24), "spacing": (2.0, 2.0, 6.5)}
ALONE, NEAR, FIRES = 0.15, 0.4, 0.005
PICKED, LEAST = 14, 8
"""Latents taken away on purpose, as many as can be up to this; a little over half of them removed, the rest orphans."""

NOISE = 0.05
"""Of a row's own length, on encoder and decoder alike."""

CATEGORY = {
    "permuted": "shared",
    "rescaled": "shared",
    "removed": "specific",
    "orphan": "not distinguishable from seed noise",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--pack", default="glioma-unet", help="whose lens is planted in (default glioma-unet)")
    parser.add_argument("--cases", type=int, default=6, help="phantoms that packs are compared on (default 6)")
    parser.add_argument("--cohort-cases", type=int, default=14, help="phantoms of each cohort (default 14)")
    parser.add_argument("--seed", type=int, default=0, help="of what is planted where")
    parser.add_argument("--only", choices=("packs", "cohorts"), help="one of the two")
    options = parser.parse_args()
    rows, wrong = {}, []
    if options.only != "cohorts":
        rows, wrong = planted_packs(options.pack, options.cases, options.seed)
    if options.only != "packs":
        found = planted_cohorts(options.cohort_cases, options.seed)
        rows |= {f"cohorts: {name}": row for name, row in found["categories"].items()}
        wrong += found["said"]
    result = {
        **totals(rows),
        "kinds": rows,
        "wrong": wrong,
        "pack": options.pack,
        "cases": options.cases,
        "machine": machine(),
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(f"recall {result['recall']:.3f}, precision {result['precision']:.3f}")
    for name, row in rows.items():
        print(f"  {name:<48} {row['right']} of {row['true']} found, {row['found'] - row['right']} called so wrongly")


def totals(rows: dict[str, dict]) -> dict[str, float]:
    """Over all planted findings. Kinds of one category share what is called so wrongly: it counts once."""
    true, right = (sum(row[name] for row in rows.values()) for name in ("true", "right"))
    wrong = sum(row["found"] - row["right"] for name, row in rows.items() if name != "packs: rescaled")
    return {"recall": right / true, "precision": right / (right + wrong)}


def planted_packs(name: str, cases: int, seed: int) -> tuple[dict[str, dict], list[dict]]:
    """By kind, how many were planted, called so, and rightly so; and what was said of those that were not."""
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        pack = load_pack(name)
        tap = pack.default_tap
        first, second, seeds, truth = plant(pack, tap, Path(folder), seed)
        request = [PhantomRequest(30_000 + 100 * seed + i, **SHAPE) for i in range(cases)]
        named = [CohortCase(f"phantom-{r.seed}", f"phantom-{r.seed}", phantom=r) for r in request]
        cohort = Cohort("planted", "phantoms", "none", tuple(named))
        found = diff_models(first, second, cohort, *seeds, randoms=60, influence=False)
    said = {(f.side, f.latent): f for f in found.findings}
    rows, missed = {}, []
    for kind, category in CATEGORY.items():
        planted = [(at, partner) for at, (its, partner) in truth.items() if its == kind]
        planted = [
            (at, partner) for at, partner in planted if said[at].category not in ("never fires", "too few cases")
        ]
        right = sum(
            said[at].category == category and partner in (None, said[at].partner_latent) for at, partner in planted
        )
        missed += [
            {"latent": f"{at[0]} {at[1]}", "truth": kind, "said": said[at].category, "evidence": said[at].evidence}
            for at, _ in planted
            if said[at].category != category
        ]
        others = [at for at, (its, _) in truth.items() if CATEGORY[its] != category]
        wrong = sum(said[at].category == category for at in others)
        if category == "shared":  # with another partner than the true one
            wrong += sum(said[at].category == category and said[at].partner_latent != p for at, p in planted)
        rows[f"packs: {kind}"] = {
            "true": len(planted),
            "found": right + wrong,
            "right": right,
            "recall": right / len(planted) if planted else None,
            "precision": right / (right + wrong) if right + wrong else None,
        }
    return rows, missed


def plant(pack: LensPack, tap: str, folder: Path, seed: int):
    """The pack with one lens, the other pack, the other seeds of each, and the truth: (side, latent) -> kind, partner.

    The other pack's latents carry no truth of removal: it has nothing that the first one lacks.
    """
    rng = np.random.default_rng(seed)
    lens = pack.lens(tap)
    r, fires = likeness(pack, tap)
    removed, orphans, gone = chosen(r, fires, rng)
    near_orphans = np.flatnonzero((r[orphans] >= NEAR).any(0))
    kept = rng.permutation(np.setdiff1d(np.arange(lens.d_sae), gone))
    rescaled = rng.random(len(kept)) < 0.5
    other = some(noisy(lens, rng), kept, np.where(rescaled, np.exp(rng.uniform(-1.6, 1.6, len(kept))), 1.0))
    first = written(pack, lens, "planted-one", folder)
    second = written(pack, other, "planted-two", folder)
    seeds = []
    for side, own, lost in (("a", lens, [*orphans, *near_orphans]), ("b", other, [])):
        seeds.append([])
        for number in (1, 2):
            again = some(replaced(noisy(own, rng), lost, rng), rng.permutation(own.d_sae), np.ones(own.d_sae))
            save_lens(again, folder / f"{side}-seed-{number}")
            seeds[-1].append(SeedLens.of(folder / f"{side}-seed-{number}"))
    truth = {("a", int(j)): ("removed", None) for j in removed} | {("a", int(j)): ("orphan", None) for j in orphans}
    for i, j in enumerate(kept.tolist()):
        kind = "rescaled" if rescaled[i] else "permuted"
        truth |= {("a", j): (kind, i), ("b", i): (kind, j)}
    return first, second, seeds, truth


def chosen(r: np.ndarray, fires: np.ndarray, rng: np.random.Generator) -> tuple[list[int], list[int], list[int]]:
    """Removed latents, orphans, and all that the other pack lacks: these and what resembles them."""
    picked: list[int] = []
    gone: set[int] = set()
    for j in rng.permutation(np.flatnonzero(fires > FIRES)).tolist():
        alike = {j, *np.flatnonzero(r[j] >= ALONE).tolist()}
        if j in gone or len(gone | alike) > len(r) // 2 or (picked and r[j, picked].max() >= NEAR):
            continue
        picked.append(j)
        gone |= alike
        if len(picked) == PICKED:
            break
    if len(picked) < LEAST:
        raise SystemExit(f"only {len(picked)} latents can be removed with what resembles them.")
    removed = -(-4 * len(picked) // 7)
    return picked[:removed], picked[removed:], sorted(gone)


def likeness(pack: LensPack, tap: str) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of each code of a lens with each other one on phantoms, 0 with itself; and how often each fires."""
    lens, spec = pack.lens(tap), pack.input_spec()
    engine = Engine("cpu", torch.float32, False, 4)
    network = engine.prepare(pack.network(), pack.info.segmenter.spatial_dims)
    parts = []
    for number in (91_001, 91_002, 91_003):
        case = phantom(number, **SHAPE)
        for tokens, _ in harvest(case, network, pack.info.segmenter, spec, tap, engine):
            parts.append(tokens[:: 1 + len(tokens) // 2000])
    tokens = torch.cat(parts)
    r = code_correlation(lens, lens, tokens)
    np.fill_diagonal(r, 0)
    fires = (lens.encode(tokens) > 0).float().mean(0).numpy()
    return np.maximum(r, r.T), fires


def noisy(lens: Lens, rng: np.random.Generator) -> Lens:
    """The lens with noise on its weights, of `NOISE` of each row's length."""

    def jittered(rows: torch.Tensor) -> torch.Tensor:
        noise = torch.from_numpy(rng.normal(size=tuple(rows.shape))).float()
        return rows + NOISE * noise * rows.norm(dim=1, keepdim=True) / rows.shape[1] ** 0.5

    decoder = torch.nn.functional.normalize(jittered(lens.W_dec), dim=1)
    return replace(lens, W_enc=jittered(lens.W_enc.T).T.contiguous(), W_dec=decoder)


def some(lens: Lens, latents: np.ndarray, scale: np.ndarray) -> Lens:
    """Some of the latents, in this order, with codes `scale` times as large."""
    at, by = torch.from_numpy(np.asarray(latents)), torch.from_numpy(np.asarray(scale)).float()
    encoder, decoder = (lens.W_enc[:, at] * by).contiguous(), lens.W_dec[at].contiguous()
    return replace(
        lens, W_enc=encoder, b_enc=lens.b_enc[at] * by, W_dec=decoder, threshold=lens.threshold[at] * by, metadata={}
    )


def replaced(lens: Lens, latents, rng: np.random.Generator) -> Lens:
    """The lens with random directions in the place of some latents."""
    encoder, decoder = lens.W_enc.clone(), lens.W_dec.clone()
    for j in latents:
        row = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=lens.d_in)).float(), dim=0)
        encoder[:, j], decoder[j] = row * lens.W_enc[:, j].norm(), row
    return replace(lens, W_enc=encoder, W_dec=decoder)


def written(pack: LensPack, lens: Lens, name: str, folder: Path) -> LensPack:
    """A pack of this name with the same segmenter and one lens."""
    info = replace(pack.info, name=name, lenses=(), files={})
    write_pack(folder / name, info, pack.state_dict(), [lens], None, f"# {name}\n", lens_dtype="float32")
    return load_pack(folder / name)


if __name__ == "__main__":
    main()
