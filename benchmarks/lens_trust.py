"""Whether the shipped lenses are to be trusted: what they keep, stability across seeds, what latents say; with nulls.

The keys at the top are those of the worst shipped lens; `lenses` has each. Everything is scored on the two validation
cases, which neither segmenters nor lenses were trained on, and chosen on the training cases.

- `stable_share`: decoder cosine >= 0.7 to a partner in every one of three seeds (the shipped lens and those in
  Resources/Seeds/<pack>/<tap>/seed-<n>/), among latents that fire on over 1 % of the lesion's tokens; null where fewer
  than three seeds are there. `stable_share_null`: the same of directions of tokens, which nobody trained.
- `best_latent_minus_best_channel_auroc`: the worst region (of WT, TC, ET, NCR, ED; `worst_region` says which).
- `best_latent_minus_best_null_auroc`: the same against the best of a random encoder, of as many random directions, and
  of shuffled labels. `five_latents_minus_five_others_auroc`: against 5 raw channels, components, random latents.
- `dense_minus_five_latents_auroc`: the worst region, a dense logistic probe on all channels minus one on five latents.
- `named_share`: share of all latents that the pack's catalogue names; null where it names none yet.
"""

import time
from pathlib import Path

import numpy as np
from common import machine, options, packs, show, training_cases, validation_cases

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cohorts.cohort import CohortCase
from MedSegLensLib.commands.cohort_cases import ReadCases
from MedSegLensLib.editing.token_sample import sample_tokens
from MedSegLensLib.editing.trust import Cohort, Effort, examine, with_lens
from MedSegLensLib.editing.verdict import NULLS_OF_FIVE, NULLS_OF_ONE
from MedSegLensLib.lenses.files import load_lens
from MedSegLensLib.segmenters.engine import choose_engine
from MedSegLensLib.segmenters.sampling import trial_shape

SEEDS = Path(__file__).resolve().parents[1] / "Resources" / "Seeds"
REGIONS = ("WT", "TC", "ET", "NCR", "ED")
EFFORT = Effort(tokens_per_case=30_000, probe_tokens=40_000, null_steps=0, spliced_cases=2, edited_cases=0)
ENOUGH_SEEDS = 3


def cohort(pack) -> tuple[Cohort, str]:
    from common import REAL, VALIDATION

    _, which = validation_cases()
    if not REAL.is_dir():
        return Cohort([phantom(s) for s in (1, 2, 3)], [phantom(s) for s in (101, 102)]), which
    names = ([n for n in training_cases(pack) if (REAL / n).is_dir()], list(VALIDATION))
    return Cohort(*(ReadCases([CohortCase(n, n, REAL / n) for n in part]) for part in names)), which


def seeds_of(pack, tap: str) -> list:
    """Lenses of other seeds of the shipped one; the shipped one itself may lie among them and is left out."""
    shipped = pack.lens(tap)
    found = [load_lens(folder) for folder in sorted((SEEDS / pack.info.name / tap).glob("seed-*")) if folder.is_dir()]
    return [s for s in found if s.W_dec.shape != shipped.W_dec.shape or (s.W_dec - shipped.W_dec).abs().max() > 1e-2]


def sampled(pack, cases: Cohort) -> dict:
    """tap -> (training tokens, unseen tokens), for all taps in one pass over the cases."""
    config, spec = pack.info.segmenter, pack.input_spec()
    network = pack.network()
    shape = trial_shape(config, pack.input_spec())
    engine, _ = choose_engine(network, (len(spec.modalities), *shape))
    prepared = engine.prepare(network, config.spatial_dims)
    parts = [
        sample_tokens(part, prepared, config, spec, pack.taps, engine, EFFORT.tokens_per_case, seed)
        for seed, part in enumerate((cases.fit, cases.score))
    ]
    return {tap: tuple(part[tap] for part in parts) for tap in pack.taps}


def dead_share(pack, tap: str, facts: dict) -> float:
    """Latents that fire neither here (see `trust.examine`) nor, by the catalogue, anywhere in the training cases."""
    catalogue = pack.catalogue()
    if catalogue is None:
        return facts["activity"]["dead_share"]
    rows = catalogue.select(["tap", "latent", "fires_share"]).to_pylist()
    never = {r["latent"] for r in rows if r["tap"] == tap and r["fires_share"] == 0}
    return len(never.intersection(facts["activity"]["dead_latents"])) / facts["lens"]["latents"]


def named_share(pack, tap: str) -> float | None:
    catalogue = pack.catalogue()
    if catalogue is None or "name" not in catalogue.column_names:
        return None
    names = [r["name"] for r in catalogue.select(["tap", "name"]).to_pylist() if r["tap"] == tap]
    return float(np.mean([name not in (None, "", "unclear") for name in names])) if any(names) else None


def short(facts: dict, named: float | None) -> dict:
    """The keys of one lens, from what `trust.examine` measured."""
    stable, probes = facts["stability"], facts["probes"] or {}
    regions = {r: probes[r] for r in REGIONS if r in probes}
    ahead = {r: p["best_latent"] - p["best_channel"] for r, p in regions.items()}
    behind = {r: p["dense"] - p["sparse_5"] for r, p in regions.items()}
    earned = [p["best_latent"] - max(p[kind] for kind in NULLS_OF_ONE) for p in regions.values()]
    earned_by_five = [p["sparse_5"] - max(p[kind] for kind in NULLS_OF_FIVE) for p in regions.values()]
    enough = stable is not None and len(stable["seeds"]) + 1 >= ENOUGH_SEEDS
    rebuilt = facts["reconstruction"]
    return {
        "lesion_explained_variance": rebuilt["lens"]["lesion"],
        "lesion_explained_variance_pca": rebuilt["pca"]["lesion"],
        "lesion_explained_variance_random_encoder": rebuilt["random_encoder"]["lesion"],
        "splice_dice_loss_pp": facts["splice"]["loss_pp"],
        "share_recovered": facts["splice"]["share_recovered"],
        "splice_dice_loss_pp_random_encoder": facts["splice"]["nulls"]["random_encoder"]["loss_pp"],
        "dead_share": facts["activity"]["dead_share"],
        "l0_by_tissue": facts["activity"]["l0_by"],
        "latents_on_lesion": facts["activity"]["latents_on_lesion"],
        "seeds": 1 + len(stable["seeds"]) if stable else 1,
        "stable_share": stable["share_on_lesion"] if enough else None,
        "stable_share_null": stable["null_share"] if enough else None,
        "stable_share_nulls": {n: v["share_on_lesion"] for n, v in stable["nulls"].items()} if enough else None,
        "stable_share_of_all": stable["share"] if enough else None,
        "stable_share_by_activation": stable["activation_share_on_lesion"] if enough else None,
        "stable_share_by_activation_null": stable["nulls"]["tokens"]["activation_share_on_lesion"] if enough else None,
        "substitution_kept": stable["substitution_kept"] if enough else None,
        "best_latent_minus_best_channel_auroc": min(ahead.values(), default=None),
        "worst_region": min(ahead, key=ahead.get, default=None),
        "best_latent_minus_best_null_auroc": min(earned, default=None),
        "dense_minus_five_latents_auroc": max(behind.values(), default=None),
        "five_latents_minus_five_others_auroc": min(earned_by_five, default=None),
        "worst_region_of_five": max(behind, key=behind.get, default=None),
        "named_share": named,
        "probes": probes,
        "splice": facts["splice"]["cases"],
        "verdict": facts["verdict"]["sentence"],
    }


WORST = {
    "lesion_explained_variance": min,
    "splice_dice_loss_pp": max,
    "dead_share": max,
    "stable_share": min,
    "stable_share_null": max,
    "best_latent_minus_best_channel_auroc": min,
    "best_latent_minus_best_null_auroc": min,
    "five_latents_minus_five_others_auroc": min,
    "dense_minus_five_latents_auroc": max,
    "named_share": min,
}


def worst(lenses: dict[str, dict]) -> dict:
    """Of each measure the worst lens; null where it is not known for one of them."""
    found = {}
    for key, choose in WORST.items():
        values = [lens[key] for lens in lenses.values()]
        found[key] = None if not values or None in values else choose(values)
    at = [lens for lens in lenses.values() if lens["best_latent_minus_best_channel_auroc"] is not None]
    lowest = min(at, key=lambda lens: lens["best_latent_minus_best_channel_auroc"], default={})
    return found | {"worst_region": lowest.get("worst_region")}


def main() -> None:
    chosen = options(__doc__)
    lenses, lines, which = {}, [], ""
    for name, pack in packs(chosen.packs).items():
        cases, which = cohort(pack)
        tokens = sampled(pack, cases)
        for tap in pack.taps:
            started = time.perf_counter()
            lens, others = pack.lens(tap), seeds_of(pack, tap)
            facts = examine(with_lens(pack, lens), tap, cases, others, EFFORT, tokens=tokens[tap])
            of = lenses[f"{name} {tap}"] = short(facts, named_share(pack, tap))
            of["dead_share"] = dead_share(pack, tap, facts)
            of["seconds"] = round(time.perf_counter() - started, 1)
            lines += [f"{name} {tap} ({of['seconds']:.0f} s):"]
            lines += [f"  {key:<42} {_said(of[key])}" for key in of if not isinstance(of[key], dict | list)]
    result = worst(lenses) | {"cases": which, "machine": machine(), "lenses": lenses}
    result["missing"] = [
        f"{key} of {name}: fewer than three seeds"
        for name, of in lenses.items()
        for key in ("stable_share",)
        if of[key] is None
    ] + [
        f"named_share of {name}: its catalogue holds no names"
        for name, of in lenses.items()
        if of["named_share"] is None
    ]
    head = ["Worst of the shipped lenses:", *(f"  {key:<42} {_said(result[key])}" for key in (*WORST, "worst_region"))]
    show(result, chosen.json, [f"Cases: {which}", *head, *result["missing"], *lines])


def _said(value) -> str:
    return "not known" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
