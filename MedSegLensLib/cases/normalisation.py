"""What is done to a modality's values before a network sees them: what its training did to them.

| kind | values become |
| --- | --- |
| `zscore_brain` | (v - mean) / deviation over the brain, after clipping to the 0.1 and 99.9 percentile; limited to [-5, 5]; 0 outside the brain |
| `zscore_nonzero` | (v - mean) / deviation over all voxels of the volume that are not background; background stays 0 (MONAI: NormalizeIntensity(nonzero=True, channel_wise=True)) |
| `zscore_volume` | (v - mean) / deviation over all voxels of the volume (MONAI: nonzero=False) |
| `range` | a straight line that takes `from` (two values) to `to`; limited to `to` where `clip` (MONAI: ScaleIntensityRange) |
| `percentiles` | the same, `from` being two percentiles of the volume (MONAI: ScaleIntensityRangePercentiles; 0 and 100: ScaleIntensity) |

The first three are named by a string in a pack, the last two by an object with `kind`, `from`, `to`, `clip`.
"""  # noqa: E501

import math
from dataclasses import dataclass

import numpy as np

from MedSegLensLib.errors import PackError

ZSCORES = ("zscore_brain", "zscore_nonzero", "zscore_volume")
LINES = ("range", "percentiles")


@dataclass(frozen=True)
class Normalisation:
    """kind: see the module's table; source, target, clip: of `range` and `percentiles` alone."""

    kind: str
    source: tuple[float, float] = (0.0, 1.0)
    target: tuple[float, float] = (0.0, 1.0)
    clip: bool = False

    @staticmethod
    def of(value: object) -> "Normalisation":
        """From what a pack says. Raises PackError for what is not known."""
        if isinstance(value, str) and value in ZSCORES:
            return Normalisation(value)
        if not isinstance(value, dict) or value.get("kind") not in LINES:
            known = ", ".join(ZSCORES)
            remedy = f"Use {known}, or an object with kind ({' or '.join(LINES)}), from, to and clip."
            raise PackError("input", f"normalisation {value!r} is not known.", remedy)
        pairs = [value.get("from"), value.get("to")]
        sound = set(value) == {"kind", "from", "to", "clip"} and isinstance(value["clip"], bool)
        for pair in pairs:
            sound = sound and isinstance(pair, list | tuple) and len(pair) == 2
            sound = sound and all(isinstance(v, int | float) and math.isfinite(v) for v in pair)
        if not sound or pairs[0][0] >= pairs[0][1] or pairs[1][0] >= pairs[1][1]:
            cause = f"normalisation {value!r} does not have from and to, each two rising numbers, and clip."
            raise PackError("input", cause, "Correct it, as in docs/pack-format.md.")
        if value["kind"] == "percentiles" and (pairs[0][0] < 0 or pairs[0][1] > 100):
            raise PackError("input", f"the percentiles {pairs[0]} do not lie in 0 to 100.", "Correct them.")
        return Normalisation(value["kind"], tuple(pairs[0]), tuple(pairs[1]), value["clip"])

    def apply(self, box: np.ndarray, whole: np.ndarray, brain: np.ndarray, background: float, out: np.ndarray) -> None:
        """Write the normalised values into `out`.

        box: the modality in the box (Z, Y, X), `background` beyond the volume; whole: the whole volume, for what is
        measured over it; brain: bool, of the box; out: float32, all 0.
        """
        if self.kind == "zscore_brain":
            _zscore_brain(box, brain, background, out)
        elif self.kind == "zscore_nonzero":
            inside = whole[whole != background]
            if inside.size:
                measured = box != background
                out[measured] = _zscored(box[measured], inside)
        elif self.kind == "zscore_volume":
            out[...] = _zscored(box, whole)
        else:
            low, high = self.source if self.kind == "range" else np.percentile(whole, self.source)
            span = float(high - low) or 1.0
            out[...] = (box - low) / span * (self.target[1] - self.target[0]) + self.target[0]
            if self.clip:
                np.clip(out, *self.target, out=out)


def _zscored(values: np.ndarray, over: np.ndarray) -> np.ndarray:
    mean, deviation = over.mean(dtype=np.float64), over.std(dtype=np.float64)
    return (values - np.float32(mean)) / np.float32(deviation or 1.0)


def _zscore_brain(values: np.ndarray, brain: np.ndarray, background: float, out: np.ndarray) -> None:
    """Write the normalised `values` into `out` where they are brain; voxels a modality does not cover stay 0."""
    measured = brain & (values != background)
    inside = values[measured]
    if inside.size == 0:
        return
    low, high = (int(q * (inside.size - 1)) for q in (0.001, 0.999))
    ordered = np.partition(inside, (low, high))
    robust = np.clip(inside, ordered[low], ordered[high])
    mean, deviation = robust.mean(dtype=np.float64), robust.std(dtype=np.float64)
    out[measured] = np.clip((inside - np.float32(mean)) / np.float32(deviation or 1.0), -5, 5)
