"""A full pass of a session's engine against MONAI's plain eager fp32 inference with the same weights.

Baseline: MONAI's SliceInferer over the whole 240 x 240 x 155 volume, float32, contiguous. Ours: the brain's box, the
number format and memory layout that the timing at start chose. `ratio_same_box` gives the baseline the same box, which
is what number format and layout alone bring. `dice_wt_between` says how alike the two whole tumours are.
"""

import statistics

import numpy as np
import SimpleITK as sitk
import torch
from common import machine, options, packs, seconds, show, validation_cases
from edit_latency import full_pass

from MedSegLensLib.editing.session import Session, best_label
from MedSegLensLib.editing.splice import dice

REPEATS = 2


def whole_volume(session: Session) -> torch.Tensor:
    """The z-scored case, uncropped (C, Z, Y, X): what a pipeline without a brain box feeds its network."""
    images = [sitk.GetArrayFromImage(session.to_case(channel, "linear")) for channel in session.conformed.array]
    volume = np.stack(images)
    after = [(-n) % 16 for n in volume.shape[2:]]
    return torch.from_numpy(np.pad(volume, [(0, 0), (0, 0), (0, after[0]), (0, after[1])]))


def plain(network, volume: torch.Tensor) -> torch.Tensor:
    from monai.inferers import SliceInferer

    inferer = SliceInferer(roi_size=volume.shape[2:], spatial_dim=0, sw_batch_size=4, mode="constant")
    with torch.inference_mode():
        return inferer(volume[None], network)[0]


def main() -> None:
    chosen = options(__doc__)
    (case, *_), which = validation_cases()
    result, lines = {"case": case.name, "cases": which, "machine": machine()}, [f"Case: {case.name} ({which})"]
    for name, pack in packs(chosen.packs).items():
        session = Session(case, pack)
        network, volume = pack.network(), whole_volume(session)
        box = torch.from_numpy(session.conformed.array)
        labels = best_label(plain(network, volume))
        ours, theirs, same_box = [], [], []
        for _ in range(REPEATS):  # in turn, so that a busy machine is busy for all
            theirs.append(seconds(lambda: plain(network, volume)))  # noqa: B023
            ours.append(seconds(lambda: full_pass(session)))  # noqa: B023
            same_box.append(seconds(lambda: plain(network, box)))  # noqa: B023
        own = sitk.GetArrayFromImage(session.to_case(session.labels))
        labels = labels[:, : own.shape[1], : own.shape[2]]
        full, baseline, boxed = (statistics.median(t) for t in (ours, theirs, same_box))
        result[name] = {
            "ratio": full / baseline,
            "ratio_same_box": full / boxed,
            "baseline_s": baseline,
            "full_pass_s": full,
            "engine": str(session.engine),
            "dice_wt_between": dice(own, labels, "WT"),
        }
        v = result[name]
        lines.append(
            f"{name:10} {full:.2f} s against {baseline:.2f} s: ratio {v['ratio']:.3f} ({session.engine}); on the same "
            f"box {v['ratio_same_box']:.3f}; WT Dice between the two {v['dice_wt_between']:.4f}"
        )
    show(result, chosen.json, lines)


if __name__ == "__main__":
    main()
