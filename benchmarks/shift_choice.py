"""Of two packs the one that does better, told without labels (`failures/pack_choice.py`), from what shift.py read."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import spearmanr

from MedSegLensLib.failures.pack_choice import PackOutlook, decided


def choice(reads: Mapping[str, Sequence], shifts: Mapping[str, dict], taps: Mapping[str, tuple[int, int]]) -> dict:
    """How the measures of two packs go with their Dice, cases and acquisitions.

    reads: by pack, in one order of cases. shifts: by pack, the shift by (acquisition, case). taps: by pack, the numbers
    of its first and last tap.

    `right` by measure: the share of acquisitions, and of cases, where the pack that it favours does better; `always` is
    what always naming the pack that is better on most gives. `within`: of each pack, Spearman's correlation over
    acquisitions of depth bias with Dice (1 where a larger bias goes with a larger Dice, as in the paper).
    """
    first, second = reads
    groups = np.array([read.group for read in reads[first]])
    names = sorted(set(groups))
    dice = {pack: np.array([read.mean_dice for read in reads[pack]]) for pack in reads}
    measure = {
        "depth bias": {pack: np.array([_depth_bias(read, *taps[pack]) for read in reads[pack]]) for pack in reads},
        "shift": {pack: -np.array([shifts[pack][read.group, read.name] for read in reads[pack]]) for pack in reads},
        "entropy of the segmentation": {
            pack: -np.array([read.arrays["confidence"][1] for read in reads[pack]]) for pack in reads
        },
    }
    better = dice[first] - dice[second]
    by_group = np.array([better[groups == g].mean() for g in names])
    right = {}
    for name, values in measure.items():
        favours = values[first] - values[second]
        known = np.isfinite(favours)
        mean = np.array([np.nanmean(favours[groups == g]) for g in names])
        right[name] = {
            "cases": float(np.mean((favours[known] > 0) == (better[known] > 0))),
            "acquisitions": float(np.mean((mean > 0) == (by_group > 0))),
            "spearman_cases": float(spearmanr(favours[known], better[known]).statistic),
        }
    most = max(np.mean(better > 0), np.mean(better < 0))
    right["always"] = {"cases": float(most), "acquisitions": float(max(np.mean(by_group > 0), np.mean(by_group < 0)))}
    within = {}
    for pack in reads:
        bias = [np.nanmean(measure["depth bias"][pack][groups == g]) for g in names]
        within[pack] = float(spearmanr(bias, [dice[pack][groups == g].mean() for g in names]).statistic)
    said = [_decided(measure, groups == g).better for g in names]
    return {"right": right, "within": within, "decided": dict(zip(names, said, strict=True))}


def _depth_bias(read, early: int, late: int) -> float:
    sums = [np.abs(read.arrays[f"reliance.{t}"]).sum() for t in (early, late)]
    return float(np.log(sums[1] / sums[0])) if np.isfinite(sums).all() and min(sums) > 0 else float("nan")


def _decided(measure: dict, rows: np.ndarray):
    outlooks = [
        PackOutlook(
            pack,
            float(np.nanmean(measure["depth bias"][pack][rows])),
            float(-measure["shift"][pack][rows].mean()),
            float(-np.nanmean(measure["entropy of the segmentation"][pack][rows])),
            int(rows.sum()),
        )
        for pack in measure["shift"]
    ]
    return decided(outlooks)
