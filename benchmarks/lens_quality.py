"""What the shipped lenses keep of their taps, on cases that neither segmenter nor lens was trained on.

Baselines in the same run: the tap replaced by its mean (what Dice costs when nothing is kept), and a projection on as
many principal components as the lens has active latents a token (dense, fitted on the same cases: a favourable one).
The keys named per pack are those of its worst lens; `lenses` has each.
"""

import numpy as np
import torch
from common import machine, options, packs, show, validation_cases

from MedSegLensLib.editing.harvest import harvest
from MedSegLensLib.editing.session import Session
from MedSegLensLib.editing.splice import dice_by_region, labels_with, spliced_labels
from MedSegLensLib.lenses.measures import explained_variance, measure_lens
from MedSegLensLib.lenses.sampling import LESION


def loss_pp(before: dict, after: dict) -> dict:
    """Percentage points of Dice lost, per region that is present."""
    return {r: 100 * (before[r] - after[r]) for r in before if before[r] is not None}


def main() -> None:
    chosen = options(__doc__)
    cases, which = validation_cases()
    result, lines = {"cases": which, "machine": machine()}, [f"Cases: {which}"]
    for name, pack in packs(chosen.packs).items():
        lenses = {}
        sessions, engine = [], None
        for case in cases:
            sessions.append(Session(case, pack, engine=engine))
            engine = sessions[0].engine
        counts_known = {
            tap: np.array([r["fires_share"] for r in pack.catalogue().to_pylist() if r["tap"] == tap])
            for tap in (pack.taps if pack.catalogue() is not None else ())
        }
        for tap in pack.taps:
            lens = pack.lens(tap)
            chunks = [
                chunk
                for case in cases
                for chunk in harvest(case, sessions[0].network, pack.info.segmenter, pack.input_spec(), tap, engine)
            ]
            measures = measure_lens(lens, chunks)
            lesion = torch.cat([x[torch.from_numpy(strata == LESION)] for x, strata in chunks])
            mean = lesion.mean(0)
            basis = torch.pca_lowrank(lesion - mean, q=min(int(lens.k), lens.d_in), center=False, niter=4)[2]
            everything_mean = torch.cat([x for x, _ in chunks]).mean(0)
            losses, ablated = [], []
            for case, session in zip(cases, sessions, strict=True):
                reference = session.conformed.labels(case.labels)
                plain = dice_by_region(session.labels, reference)
                losses.append(loss_pp(plain, dice_by_region(spliced_labels(session, tap), reference)))
                filled = labels_with(session, tap, lambda tokens: everything_mean.expand_as(tokens))  # noqa: B023
                ablated.append(loss_pp(plain, dice_by_region(filled, reference)))
            silent = (counts_known.get(tap, 0) == 0) & (measures.counts == 0)
            lenses[tap] = {
                "splice_dice_loss_pp": max(v for loss in losses for v in loss.values()),
                "splice_dice_loss_pp_per_case": {c.name: loss for c, loss in zip(cases, losses, strict=True)},
                "mean_ablation_dice_loss_pp": max(v for loss in ablated for v in loss.values()),
                "lesion_explained_variance": measures.explained_variance_by["lesion"],
                "lesion_explained_variance_pca": explained_variance(lesion, mean + (lesion - mean) @ basis @ basis.T),
                "explained_variance": measures.explained_variance,
                "dead_share": float(silent.mean()),
                "dead_share_on_these_cases": measures.dead_share,
                "l0_ratio": measures.l0 / lens.k,
                "l0_by_tissue": measures.l0_by,
                "k": lens.k,
                "latents": lens.d_sae,
            }
            v = lenses[tap]
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
            "lenses": lenses,
        }
    show(result, chosen.json, lines)


if __name__ == "__main__":
    main()
