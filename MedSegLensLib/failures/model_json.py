"""How a linear model over named features is kept as JSON: the same for places and for the likely Dice."""

from collections.abc import Sequence

import numpy as np


def features_to_json(names: Sequence[str], mean: np.ndarray, scale: np.ndarray, coefficients: np.ndarray) -> list[dict]:
    """One entry a feature."""
    return [
        {"name": name, "mean": short(a), "scale": short(b), "coefficient": short(c)}
        for name, a, b, c in zip(names, mean, scale, coefficients, strict=True)
    ]


def features_from_json(features: list[dict]) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
    """Names, means, scales and coefficients. Raises KeyError, TypeError or ValueError for what is none."""
    numbers = (np.array([one[key] for one in features], np.float64) for key in ("mean", "scale", "coefficient"))
    return (tuple(str(one["name"]) for one in features), *numbers)


def short(value: float) -> float:
    """Six digits."""
    return float(f"{value:.6g}")
