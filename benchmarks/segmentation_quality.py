"""Dice of the shipped packs on cases they were not trained on, per case and region, beside a FLAIR threshold.

The baseline calls every voxel whole tumour whose FLAIR is more than 1.5 standard deviations above the brain's mean
(largest component): what one gets without any network. A region that a case does not have is absent from the Dice; how
much of it was segmented all the same stands beside, in mL.
"""

import numpy as np
from common import machine, options, packs, show, validation_cases
from scipy import ndimage

from MedSegLensLib.editing.session import Session
from MedSegLensLib.editing.splice import dice, dice_by_region


def flair_threshold(conformed, channel: int) -> np.ndarray:
    bright = conformed.array[channel] > 1.5
    parts, count = ndimage.label(ndimage.binary_opening(bright))
    if not count:
        return np.zeros(bright.shape, np.uint8)
    return (2 * (parts == 1 + np.argmax(ndimage.sum_labels(bright, parts, range(1, count + 1))))).astype(np.uint8)


def main() -> None:
    chosen = options(__doc__)
    cases, which = validation_cases()
    result, lines = {"cases": which, "machine": machine()}, [f"Cases: {which}"]
    for name, pack in packs(chosen.packs).items():
        per_case, baseline, invented, engine = {}, {}, {}, None
        for case in cases:
            session = Session(case, pack, engine=engine)
            engine = session.engine
            reference = session.conformed.labels(case.labels)
            per_case[case.name] = dice_by_region(session.labels, reference)
            absent = [region for region, score in per_case[case.name].items() if score is None]
            invented[case.name] = {region: session.region_ml(session.labels, region) for region in absent}
            flair = list(pack.input_spec().modalities).index("t2f")
            baseline[case.name] = dice(flair_threshold(session.conformed, flair), reference, "WT")
        mean = {}
        for region in ("WT", "TC", "ET"):
            present = [scores[region] for scores in per_case.values() if scores[region] is not None]
            mean[region] = float(np.mean(present)) if present else None
        result[name] = {"dice": per_case, "mean": mean, "baseline_wt": baseline, "absent_but_segmented_ml": invented}
        for case, scores in per_case.items():
            said = "  ".join(f"{r} {'absent' if v is None else f'{v:.3f}'}" for r, v in scores.items())
            false = "".join(f"; {ml:.1f} mL of absent {r} segmented" for r, ml in invented[case].items() if ml)
            lines.append(f"{name:10} {case}: {said}   (FLAIR threshold: WT {baseline[case]:.3f}){false}")
        lines.append(f"{name:10} mean: " + "  ".join(f"{r} {v:.3f}" for r, v in mean.items() if v is not None))
    show(result, chosen.json, lines)


if __name__ == "__main__":
    main()
