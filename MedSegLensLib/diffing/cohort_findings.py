"""What is said of each latent of a comparison of cohorts, with its numbers and the null beside them."""

import numpy as np

from MedSegLensLib.diffing.cohort_categories import MEASURES
from MedSegLensLib.diffing.cohort_nulls import TapResult
from MedSegLensLib.diffing.comparison import LatentFinding, finite, known
from MedSegLensLib.diffing.effects import LEAST_PAIRS, LEAST_UNPAIRED
from MedSegLensLib.diffing.usage import REGIONS


def findings_of_tap(tap: str, result: TapResult, x: str, y: str) -> list[LatentFinding]:
    """One finding a latent, in order; x, y: the cohorts' names."""
    return [_finding(tap, result, latent, x, y) for latent in range(len(result.verdict.categories))]


def _finding(tap: str, result: TapResult, latent: int, x: str, y: str) -> LatentFinding:
    category = str(result.verdict.categories[latent])
    name = result.measure(latent)
    effect = result.contrast.effects[name]
    g, (low, high) = effect.g[latent], effect.g_interval[:, latent]
    null = result.bounds.both[name]
    told = np.isfinite(g) and category not in ("never fires", "too few cases")
    specific = category == "specific"
    return LatentFinding(
        side="a",
        tap=tap,
        latent=latent,
        category=category,
        specific_to=(y if result.more_in_y(latent) else x) if specific else None,
        measure=float(g) if told else None,
        interval=(float(low), float(high)) if told and np.isfinite(low) else None,
        null=known(null) if told else None,
        p_adjusted=known(result.contrast.p_adjusted[name][latent]) if told else None,
        evidence=_evidence(result, latent, category, x, y),
        numbers=_numbers(result, latent),
    )


def _numbers(result: TapResult, latent: int) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for end, usage in (("x", result.x), ("y", result.y)):
        numbers[f"rate_{end}"] = usage.rate[:, latent].mean()
        numbers[f"magnitude_{end}"] = _mean(usage.magnitude[:, latent])
        numbers[f"extent_ml_{end}"] = usage.extent_ml[:, latent].mean()
        for r, region in enumerate(REGIONS):
            numbers[f"reliance_{region.lower()}_{end}"] = _mean(usage.reliance[:, r, latent])
    for measure in MEASURES:
        effect = result.contrast.effects[measure.name]
        numbers[f"g_{measure.name}"] = effect.g[latent]
        numbers[f"p_{measure.name}"] = result.contrast.p_adjusted[measure.name][latent]
    name = result.measure(latent)
    numbers["delta"] = result.contrast.effects[name].delta[latent]
    numbers["ratio"] = numbers["rate_y"] / numbers["rate_x"] if numbers["rate_x"] > 0 else np.nan
    numbers["seed_g"] = result.verdict.seed_g[latent]
    numbers["null_split"], numbers["null_random"] = result.bounds.split[name], result.bounds.random[name]
    return finite(numbers)


def _evidence(result: TapResult, latent: int, category: str, x: str, y: str) -> str:
    if category == "never fires":
        return "It fires on no token of either cohort."
    rates = [usage.rate[:, latent].mean() for usage in (result.x, result.y)]
    text = f"It fires on {_percent(rates[0])} of the brain in {x} and {_percent(rates[1])} in {y}"
    if category == "too few cases":
        return f"{text}; below {LEAST_PAIRS} pairs, or {LEAST_UNPAIRED} patients each, nothing can be shown."
    name = result.measure(latent)
    effect, null = result.contrast.effects[name], result.bounds.both[name]
    if name.startswith("reliance"):
        region = name.removeprefix("reliance_").upper()
        a, b = (_mean(u.reliance[:, REGIONS.index(region), latent]) for u in (result.x, result.y))
        text += f", and without it the log odds of {region} would change by {-a:+.2f} and {-b:+.2f}"
    elif name == "magnitude":
        a, b = (_mean(u.magnitude[:, latent]) for u in (result.x, result.y))
        text += f", with a mean code of {a:.3g} and {b:.3g}"
    low, high = effect.g_interval[:, latent]
    shown = f" (g {effect.g[latent]:+.2f}, 95 % {low:+.2f} to {high:+.2f}"
    text += f"{shown}, adjusted p {result.contrast.p_adjusted[name][latent]:.2g}; null {_bound(null)})"
    seed_g, seeds = result.verdict.seed_g[latent], f"{result.seeds} other seed{'s' if result.seeds > 1 else ''}"
    if category == "specific":
        return f"{text}; its partner in {seeds} shows it too (g {_signed(result, latent, seed_g)} at least)."
    if category == "backbone":
        return f"{text}; rate and magnitude are alike within the margins, for its partner in {seeds} too."
    if category == "undecided":
        return f"{text}; neither a difference beyond the null nor a likeness within the margins is shown."
    if not result.seeds:
        return f"{text}; no other seed was read, so this is not told from seed noise."
    if result.verdict.by[latent] >= 0:
        return f"{text}; but its partner in another seed does not show as much (g {_signed(result, latent, seed_g)})."
    return f"{text}; alike within the margins, but its partner in another seed is not."


def _signed(result: TapResult, latent: int, seed_g: float) -> str:
    return f"{seed_g * (1 if result.g(latent) >= 0 else -1):+.2f}"


def _bound(null: float) -> str:
    return f"{null:.2f}" if np.isfinite(null) else "not known"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _mean(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")
