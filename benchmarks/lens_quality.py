"""What the shipped lenses keep of their taps, on cases that neither segmenter nor lens was trained on.

Explained variance and L0 are of a seeded sample of tokens, 60 000 a case, uniform over the brain (all of them at the
coarser taps); Dice is of whole cases. Baselines in the same run: the tap replaced by its mean (what Dice costs when
nothing is kept), and a projection on as many principal components as the lens has active latents a token (dense, fitted
on the same cases: a favourable one). The keys named per pack are those of its worst lens; `lenses` has each.
"""

import time

import numpy as np
from common import machine, options, packs, show, validation_cases

from MedSegLensLib.editing.session import Session
from MedSegLensLib.editing.splice import dice_by_region, labels_with, spliced_labels
from MedSegLensLib.editing.token_sample import TokenSample, sample_tokens
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.lenses.measures import explained_variance, measure_lens
from MedSegLensLib.lenses.nulls import on_components, principal_components

PER_CASE = 60_000


def loss_pp(before: dict, after: dict) -> dict:
    """Percentage points of Dice lost, per region that is present."""
    return {r: 100 * (before[r] - after[r]) for r in before if before[r] is not None}


def dice_lost(case, session: Session, taps: dict[str, TokenSample]) -> dict[str, tuple[dict, dict]]:
    """Per tap: percentage points of Dice lost with the lens spliced in, and with the tap at its mean."""
    reference = session.conformed.labels(case.labels)
    plain = dice_by_region(session.labels, reference)
    lost = {}
    for tap, sample in taps.items():
        mean = sample.tokens.mean(0)
        filled = labels_with(session, tap, lambda tokens: mean.expand_as(tokens))  # noqa: B023
        labels = spliced_labels(session, tap), filled
        lost[tap] = tuple(loss_pp(plain, dice_by_region(after, reference)) for after in labels)
    return lost


def of_tokens(lens: Lens, sample: TokenSample, fires_share: np.ndarray) -> dict:
    """fires_share: of each latent on the training cases, by the catalogue; a latent is dead that fires on none of
    these tokens either."""
    measures = measure_lens(lens, [(sample.tokens, sample.strata)])
    lesion = sample.lesion()
    projected = on_components(lesion, *principal_components(lesion, int(lens.k)))
    return {
        "lesion_explained_variance": measures.explained_variance_by["lesion"],
        "lesion_explained_variance_pca": explained_variance(lesion, projected),
        "explained_variance": measures.explained_variance,
        "dead_share": float(((fires_share == 0) & (measures.counts == 0)).mean()),
        "dead_share_on_these_cases": measures.dead_share,
        "l0_ratio": measures.l0 / lens.k,
        "l0_by_tissue": measures.l0_by,
        "k": lens.k,
        "latents": lens.d_sae,
        "tokens": measures.n_tokens,
        "tokens_there_are": sample.total,
    }


def main() -> None:
    chosen = options(__doc__)
    cases, which = validation_cases()
    result, lines = {"cases": which, "machine": machine(), "tokens_per_case": PER_CASE}, [f"Cases: {which}"]
    for name, pack in packs(chosen.packs).items():
        started = time.perf_counter()
        catalogue = pack.catalogue()
        rows = [] if catalogue is None else catalogue.select(["tap", "fires_share"]).to_pylist()
        samples, losses, engine = None, {tap: {} for tap in pack.taps}, None
        for case in cases:  # one session in memory at a time
            session = Session(case, pack, engine=engine)
            engine = session.engine
            if samples is None:
                samples = sample_tokens(
                    cases, session.network, pack.info.segmenter, pack.input_spec(), pack.taps, engine, PER_CASE
                )
            for tap, lost in dice_lost(case, session, samples).items():
                losses[tap][case.name] = lost
        lenses = {}
        for tap in pack.taps:
            lens = pack.lens(tap)
            known = np.array([r["fires_share"] for r in rows if r["tap"] == tap]) if rows else np.zeros(lens.d_sae)
            spliced, ablated = ({c: both[i] for c, both in losses[tap].items()} for i in (0, 1))
            lenses[tap] = v = {
                "splice_dice_loss_pp": max(v for loss in spliced.values() for v in loss.values()),
                "splice_dice_loss_pp_per_case": spliced,
                "mean_ablation_dice_loss_pp": max(v for loss in ablated.values() for v in loss.values()),
                **of_tokens(lens, samples[tap], known),
            }
            tissue = ", ".join(f"{s} {n:.1f}" for s, n in v["l0_by_tissue"].items())
            lines += [
                f"{name:10} {tap}: {lens.d_sae} latents, k {lens.k:g}",
                f"           splice loses {v['splice_dice_loss_pp']:.2f} pp of Dice at worst (mean-ablated tap: "
                f"{v['mean_ablation_dice_loss_pp']:.1f} pp)",
                f"           lesion explained variance {v['lesion_explained_variance']:.4f} (PCA of rank k: "
                f"{v['lesion_explained_variance_pca']:.4f})",
                f"           dead {v['dead_share']:.1%}; L0 / k {v['l0_ratio']:.3f} ({tissue})",
            ]
        result[name] = {
            "splice_dice_loss_pp": max(v["splice_dice_loss_pp"] for v in lenses.values()),
            "lesion_explained_variance": min(v["lesion_explained_variance"] for v in lenses.values()),
            "dead_share": max(v["dead_share"] for v in lenses.values()),
            "l0_ratio": max((v["l0_ratio"] for v in lenses.values()), key=lambda r: abs(r - 1)),
            "seconds": round(time.perf_counter() - started, 1),
            "lenses": lenses,
        }
        lines.append(f"{name:10} measured in {result[name]['seconds']:.0f} s")
    show(result, chosen.json, lines)


if __name__ == "__main__":
    main()
