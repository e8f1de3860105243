"""What the detection judges by: features of each place, and of each case, from readings (`place_readings`).

A latent's strength at a place is log(1 + mean code / its usual code): without a unit, so that latents compare. Lengths
are in mm and volumes in mL, so that features do not hang on the spacing. How unusual a strength is, is told in spreads
of the places (or cases) that were right in the reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from MedSegLensLib.cases.case import REGIONS
from MedSegLensLib.errors import PackError
from MedSegLensLib.failures.drivers import Drivers
from MedSegLensLib.failures.findings import MISSED
from MedSegLensLib.failures.place_readings import CASE, POOLS
from MedSegLensLib.failures.suspects import JUDGED, KINDS

WRONG = 0.5
"""A place is wrong where more than this share of it is."""
GOOD = 0.7
"""Dice from which on a case counts as right, for what is usual in one."""
LEAST_SPREAD = 0.1
"""Of a strength: a latent that is silent wherever the reference is right has no spread of its own."""
LATENT = "latent"
"""How the name of a latent's own feature begins: "latent <tap> <number>"."""
EXPECTED = "Dice by the probabilities, log odds"
"""The feature of a case that nothing has to be learned for: what the Dice would be if the probabilities held."""

Readings = dict[str, np.ndarray]


@dataclass(frozen=True)
class Basis:
    """What is usual in the reference. taps: from early to late. scale: each latent's usual code, (J,) by tap. usual and
    spread: of its strength over the right places of each kind and, in the rows after them, over the pools of right
    cases: (kinds + pools, J) by tap. drivers: by later tap, of the tap before it."""

    taps: tuple[str, ...]
    scale: dict[str, np.ndarray]
    usual: dict[str, np.ndarray]
    spread: dict[str, np.ndarray]
    drivers: dict[str, Drivers]

    @staticmethod
    def fit(cases: Sequence[Readings]) -> "Basis":
        """Of readings with the truth."""
        taps = tuple(name.removeprefix("code ") for name in cases[0] if name.startswith("code "))
        kind = np.concatenate([one["places"][:, 0] for one in cases])
        right = np.concatenate([one["wrong"] for one in cases]) <= WRONG
        good = np.array([np.nan_to_num(one["dice"], nan=1.0).min() >= GOOD for one in cases])
        good = good if np.count_nonzero(good) > 1 else np.ones(len(cases), bool)
        scale, usual, spread, strengths = {}, {}, {}, {}
        for tap in taps:
            codes = np.concatenate([one[f"code {tap}"][: -len(POOLS)] for one in cases])
            pools = np.stack([one[f"code {tap}"][-len(POOLS) :] for one in cases])[good]
            fires = np.count_nonzero(codes, 0)
            scale[tap] = np.where(fires > 0, codes.sum(0, dtype=np.float64) / np.maximum(fires, 1), 1.0)
            strengths[tap] = np.log1p(codes / scale[tap])
            pools = np.log1p(pools / scale[tap])
            own = [strengths[tap][right & (kind == k)] for k in range(len(KINDS))]
            own = [one if len(one) else strengths[tap] for one in own] + list(pools.swapaxes(0, 1))
            usual[tap] = np.stack([one.mean(0) for one in own])
            spread[tap] = np.maximum(np.stack([one.std(0) for one in own]), LEAST_SPREAD)
        pairs = zip(taps, taps[1:], strict=False)
        drivers = {late: Drivers.fit(strengths[early][right], strengths[late][right]) for early, late in pairs}
        return Basis(taps, scale, usual, spread, drivers)

    def strengths(self, readings: Readings, tap: str) -> np.ndarray:
        """float64 (places + pools, J)."""
        return np.log1p(readings[f"code {tap}"] / self.scale[tap])

    def unusual(self, readings: Readings, tap: str) -> np.ndarray:
        """How far each strength is from the usual one, in spreads, within -10..10, float64 (places + pools, J)."""
        rows = np.concatenate([readings["places"][:, 0], len(KINDS) + np.arange(len(POOLS))])
        strengths = self.strengths(readings, tap)
        return np.clip((strengths - self.usual[tap][rows]) / self.spread[tap][rows], -10, 10)

    def to_json(self) -> dict:
        return {
            "taps": list(self.taps),
            "scale": {tap: _short(values) for tap, values in self.scale.items()},
            "usual": {tap: [_short(row) for row in values] for tap, values in self.usual.items()},
            "spread": {tap: [_short(row) for row in values] for tap, values in self.spread.items()},
            "drivers": {tap: drivers.to_json() for tap, drivers in self.drivers.items()},
        }

    @staticmethod
    def from_json(document: dict) -> "Basis":
        arrays = (
            {tap: np.array(values, np.float64) for tap, values in document[name].items()}
            for name in ("scale", "usual", "spread")
        )
        drivers = {tap: Drivers.from_json(one) for tap, one in document["drivers"].items()}
        return Basis(tuple(document["taps"]), *arrays, drivers)


def latent_of(name: str) -> tuple[str, int] | None:
    """Tap and number of the latent that a feature is about; None for another feature."""
    kind, _, rest = name.partition(" ")
    tap, _, latent = rest.rpartition(" ")
    return (tap, int(latent)) if kind == LATENT else None


def columns(names: Sequence[str], wanted: Sequence[str], features: np.ndarray) -> np.ndarray:
    """Of features (..., F) with these names the wanted ones, in that order. Raises PackError for one that is not read:
    a detector of another version asks for it."""
    at = {name: i for i, name in enumerate(names)}
    if strange := [name for name in wanted if name not in at]:
        remedy = "Add the reference again with `medseglens pack add-reference`."
        raise PackError("detector", f"it judges by {strange[0]!r:.80}, which is not read of a case.", remedy)
    return features[..., [at[name] for name in wanted]]


def place_features(readings: Readings, basis: Basis) -> tuple[list[str], np.ndarray]:
    """Names, and float64 (places, features)."""
    count, region = len(readings["places"]), readings["places"][:, 1]
    entropy, surest, *p, odds, most = readings["belief"].T.astype(np.float64)
    length, width, height, depth = readings["shape"].T.astype(np.float64)
    columns = {f"about {name}": (region == r).astype(float) for r, name in enumerate(JUDGED) if r}
    columns |= {
        "volume, log mL": np.log(np.maximum(readings["ml"], 1e-3)),
        "length, log mm": np.log1p(length),
        "flatness": height / np.maximum(length, 1e-6),
        "roundness": width / np.maximum(length, 1e-6),
        "depth under the surface, log mm": np.log1p(depth),
        "entropy": entropy,
        "surest": surest,
        "log odds": odds,
        "largest log odds": most,
        "probability": np.choose(region, p) if count else np.zeros(0),
    }
    for tap in basis.taps:
        fires, unusual = readings[f"fires {tap}"][:count], basis.unusual(readings, tap)[:count]
        columns |= {
            f"latents that fire at {tap}": (fires > 0.5).sum(1).astype(float),
            f"unusual strength at {tap}": np.sqrt(np.square(unusual).mean(1)),
            f"latents of unusual strength at {tap}": (np.abs(unusual) > 3).sum(1).astype(float),
        }
    for early, late in zip(basis.taps, basis.taps[1:], strict=False):
        left = basis.drivers[late].unaccounted(
            basis.strengths(readings, early)[:count], basis.strengths(readings, late)[:count]
        )
        columns[f"not driven as usual at {late}"] = np.sqrt(np.square(left).mean(1))
    names, tables = list(columns), [np.stack(list(columns.values()), 1)]
    for tap in basis.taps:
        strengths = basis.strengths(readings, tap)[:count]
        names += [f"{LATENT} {tap} {j}" for j in range(strengths.shape[1])]
        tables.append(strengths)
    return names, np.concatenate(tables, 1)


def case_features(readings: Readings, risks: np.ndarray, basis: Basis, region: str) -> tuple[list[str], np.ndarray]:
    """Names, and float64 (features,), of what the Dice of a region may hang on. risks: of the places, (places,)."""
    case, r = dict(zip(CASE, readings["case"], strict=True)), JUDGED.index(region)
    ml = case[f"ml {region}"]
    false, missed = _wrong_ml(readings, risks, r)
    false = min(false, ml)
    values = {
        "Dice by the suspects, log odds": _log_odds(2 * (ml - false) / max(2 * (ml - false) + false + missed, 1e-6)),
        EXPECTED: _log_odds(expected_dice(readings, region)),
        "false, share of its volume": false / max(ml, 1e-6),
        "missed, against its volume, log": float(np.log1p(missed / max(ml, 1.0))),
        "volume, log mL": float(np.log1p(ml)),
        "entropy": _known(case[f"entropy {region}, mean"], np.log(1 + len(REGIONS["WT"]))),
        "entropy at borders": _known(case["entropy border, mean"], np.log(1 + len(REGIONS["WT"]))),
        "surest": _known(case[f"surest {region}"], 0.0),
    }
    count = len(readings["places"])
    for tap in basis.taps:
        unusual = np.abs(basis.unusual(readings, tap)[count:])
        for pool in ("brain", region):
            row = unusual[POOLS.index(pool)]
            values[f"unusual strength at {tap} in {pool}"] = float(np.sqrt(np.square(row).mean()))
            values[f"latents of unusual strength at {tap} in {pool}"] = float(np.mean(row > 3))
    for early, late in zip(basis.taps, basis.taps[1:], strict=False):
        left = basis.drivers[late].unaccounted(
            basis.strengths(readings, early)[count:], basis.strengths(readings, late)[count:]
        )
        for pool in ("brain", region):
            values[f"not driven as usual at {late} in {pool}"] = float(
                np.sqrt(np.square(left[POOLS.index(pool)]).mean())
            )
    return list(values), np.array(list(values.values()), np.float64)


def _wrong_ml(readings: Readings, risks: np.ndarray, region: int) -> tuple[float, float]:
    """mL of a region that are likely false, and missed: each place's volume times its risk; of a component that is
    judged by its boundary too, the larger of the two."""
    kind, about, _ = readings["places"].T
    wrong = risks * readings["ml"]
    by_kind = [float(wrong[(kind == k) & (about == region)].sum()) for k in range(len(KINDS))]
    missed = [ml for ml, (name, _) in zip(by_kind, KINDS, strict=True) if name == MISSED]
    false = [ml for ml, (name, _) in zip(by_kind, KINDS, strict=True) if name != MISSED]
    return max(false), sum(missed)


def expected_dice(readings: Readings, region: str) -> float:
    """What the Dice of a region would be if the segmenter's probabilities held at its places. Nothing is learned."""
    kind, about, _ = readings["places"].T
    region = JUDGED.index(region)
    own = about == region
    segmented, probability = own & (kind == 0), 2 + region  # belief: entropy, surest, then p of each region
    inside = float((readings["ml"] * readings["belief"][:, probability])[segmented].sum())
    missed = own & np.isin(kind, [k for k, (name, _) in enumerate(KINDS) if name == MISSED])
    outside = float((readings["ml"] * readings["belief"][:, probability])[missed].sum())
    return 2 * inside / max(float(readings["ml"][segmented].sum()) + inside + outside, 1e-6)


def _log_odds(share: float) -> float:
    share = min(max(share, 0.01), 0.99)
    return float(np.log(share / (1 - share)))


def _known(value: float, otherwise: float) -> float:
    return float(value) if np.isfinite(value) else float(otherwise)


def _short(values: np.ndarray) -> list[float]:
    return [float(f"{v:.4g}") for v in values]
