"""Shares, means and intervals of the repair benchmark, from what it wrote of each case."""

import numpy as np

OURS = "latents"
"""The method; what begins so is a variant of it."""
CLICKS = (1, 3, 5)
RECOVERED, GAINED, SECOND = 0.7, 0.2, 0.5
DRAWS = 2000


def summary(records: list[dict]) -> dict:
    """Keys of all real failures together at the top; each kind, pack and definition of failure apart below."""
    real = [r for r in records if r["kind"] != "phantoms"]
    by_kind = {
        kind: of_group([r for r in records if r["kind"] == kind]) for kind in dict.fromkeys(r["kind"] for r in records)
    }
    top = of_group(real or records)
    by_pack = {
        f"{kind}, {pack}": of_group([r for r in records if r["kind"] == kind and r["pack"] == pack])
        for kind in by_kind
        for pack in dict.fromkeys(r["pack"] for r in records)
    }
    ratios = [s / r["full_pass"] for r in records for item in r["items"] for s in item["seconds"]]
    return {
        **top,
        "proposal_ratio": round(float(np.median(ratios)), 3) if ratios else None,
        "proposal_ratio_90th": round(float(np.quantile(ratios, 0.9)), 3) if ratios else None,
        "by_kind": by_kind,
        "by_kind_and_pack": by_pack,
        "below_0.5": {kind: of_group([r for r in records if r["kind"] == kind], SECOND) for kind in by_kind},
    }


def of_group(records: list[dict], below: float = RECOVERED) -> dict:
    rows = [(r, item) for r in records for item in r["items"]]
    failures = [(r, i) for r, i in rows if i["failure"] and i["before"][i["region"]] < below]
    good = [(r, i) for r, i in rows if not i["failure"]]
    found = {
        "cases": len(records),
        "subjects": len({r["subject"] for r in records}),
        "failures": len(failures),
        "subjects_with_failures": len({r["subject"] for r, _ in failures}),
        "mean_dice_before": _rounded([i["before"][i["region"]] for _, i in failures]),
    }
    if failures:
        found |= _of_failures(failures)
    if good:
        found["good_cases"] = len(good)
        found["harm_on_good_cases"] = {
            name: _harm([_loss(i, s) for _, i in good for s in i["methods"][name]]) for name in good[0][1]["methods"]
        }
    return found


def _of_failures(failures: list) -> dict:
    subjects = [r["subject"] for r, _ in failures]
    names = list(failures[0][1]["methods"])
    methods, found = {}, {}
    for name in names:
        clicks = [1] if name.startswith("oracle") else [c for c in CLICKS if c <= len(failures[0][1]["methods"][name])]
        mine = {}
        for n in clicks:
            after = np.array([i["methods"][name][n - 1][i["region"]] for _, i in failures])
            mine[f"mean_dice_{n}"] = _rounded(after)
            shares = np.array([_recovered(i, name, n) for _, i in failures], float)
            mine[f"recovered_share_{n}"] = _rounded(shares)
            mine[f"recovered_share_{n}_interval"] = _interval(shares, subjects)
            others = [
                i["before"][r] - i["methods"][name][n - 1][r]
                for _, i in failures
                for r, d in i["before"].items()
                if r != i["region"] and d is not None and d >= RECOVERED
            ]
            mine[f"harm_to_good_regions_{n}"] = _harm(others)
        methods[name] = mine
    for n in (c for c in CLICKS if f"recovered_share_{c}" in methods[OURS]):
        words = f"recovered_share_{n}_point" + ("s" if n > 1 else "")
        found[words] = methods[OURS][f"recovered_share_{n}"]
        found[f"{words}_interval"] = methods[OURS][f"recovered_share_{n}_interval"]
        found[f"{words}_baselines"] = {
            name: m[f"recovered_share_{n}"]
            for name, m in methods.items()
            if not name.startswith(OURS) and f"recovered_share_{n}" in m
        }
    controls = [name for name in names if not name.startswith((OURS, "oracle"))]
    beats = {}
    for name in controls:
        of_control = {}
        for n in (c for c in CLICKS if c <= len(failures[0][1]["methods"][name])):
            gain = np.array(
                [i["methods"][OURS][n - 1][i["region"]] - i["methods"][name][n - 1][i["region"]] for _, i in failures]
            )
            of_control[f"dice_more_{n}"] = _rounded(gain)
            of_control[f"dice_more_{n}_interval"] = _interval(gain, subjects)
        beats[name] = of_control
    found["against"] = beats
    found["beats_all_baselines"] = bool(beats) and all(
        (b.get("dice_more_3_interval") or [0])[0] > 0 for b in beats.values()
    )
    found["methods"] = methods
    return found


def _recovered(item: dict, name: str, clicks: int) -> bool:
    before, after = item["before"][item["region"]], item["methods"][name][clicks - 1][item["region"]]
    return after >= RECOVERED and after - before >= GAINED


def _loss(item: dict, after: dict) -> float:
    return item["before"][item["region"]] - after[item["region"]]


def _harm(losses: list[float]) -> dict | None:
    """Dice lost: the mean, the worst, and how many there are."""
    return {"mean": _rounded(losses), "worst": round(float(np.max(losses)), 4), "n": len(losses)} if losses else None


def _rounded(values) -> float | None:
    return round(float(np.mean(values)), 4) if len(values) else None


def _interval(values: np.ndarray, subjects: list[str]) -> list[float] | None:
    """95 % interval of a mean, by a bootstrap over subjects: items of one patient are not independent. None for one
    subject, who says nothing of others."""
    names = sorted(set(subjects))
    if len(names) < 2:
        return None
    of = [values[[s == name for s in subjects]] for name in names]
    sums, counts = np.array([v.sum() for v in of]), np.array([len(v) for v in of])
    drawn = np.random.default_rng(0).integers(0, len(names), (DRAWS, len(names)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    return [round(float(v), 4) for v in np.quantile(means, (0.025, 0.975))]


def in_lines(result: dict) -> list[str]:
    lines = []
    for kind, group in result["by_kind"].items():
        lines.append(
            f"{kind}: {group['failures']} failures of {group['subjects_with_failures']} subjects "
            f"({group['cases']} sessions); mean Dice before {group['mean_dice_before']}"
        )
        for name, m in group.get("methods", {}).items():
            shown = [
                f"{n}: {m[f'mean_dice_{n}']:.3f}, recovered {m[f'recovered_share_{n}']:.2f}"
                for n in CLICKS
                if f"mean_dice_{n}" in m
            ]
            against = group["against"].get(name, {}).get("dice_more_3_interval")
            lines.append(f"  {name:46} " + "; ".join(shown) + (f"; ours more {against}" if against else ""))
        if "harm_on_good_cases" in group:
            lines.append(f"  good cases ({group['good_cases']}): {group['harm_on_good_cases']}")
    lines.append(f"proposal / full pass: {result['proposal_ratio']} (90th percentile {result['proposal_ratio_90th']})")
    return lines
