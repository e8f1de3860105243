"""What is written down of a comparison of packs: a finding a latent, shares with intervals and nulls, sentences."""

import numpy as np

from MedSegLensLib.diffing.comparison import CATEGORIES, SIDES, LatentFinding, Share, finite, known
from MedSegLensLib.diffing.judging import (
    INTERVAL,
    Judged,
    Judgement,
    shared_between_seeds,
    shared_with_seed_instead,
    specific_between_seeds,
)
from MedSegLensLib.diffing.matching import LEVEL, PARTLY, SHARED
from MedSegLensLib.diffing.meeting import REGIONS
from MedSegLensLib.diffing.pooling import Pool

NULLS = {
    "shared": "random directions that fire as often as the latents",
    "partly shared": "random directions that fire as often as the latents",
    "specific": "the same rule between the pack and another seed of itself",
}
OTHER = {"a": "b", "b": "a"}


def findings_of(side: str, judgement: Judgement, pool: Pool, names: dict[str, str]) -> list[LatentFinding]:
    """One finding a latent of a side."""
    judged, other = judgement.sides[side], judgement.sides[OTHER[side]]
    lesion = judgement.pooled.between(1)
    lesion = lesion if side == "a" else lesion.T
    influence = {s: pool.mean_influence(s) for s in SIDES}
    taps, latents = judged.layout.taps, judged.layout.latent_of
    found = []
    for j, (tap, latent, category) in enumerate(zip(judged.layout.tap_of, latents, judged.category, strict=True)):
        if category == "never fires":
            evidence = f"It fires on no token of these {len(pool.cases)} cases."
            found.append(LatentFinding(side, taps[tap], int(latent), category, evidence=evidence))
            continue
        one_to_one = category == "shared"
        m, margins = judged.matches, judged.margins
        partner = int((m.one_partner if one_to_one else m.best_partner)[j])
        measure = float((m.one if one_to_one else m.best)[j])
        low = measure - float((margins.one if one_to_one else margins.best)[j])
        interval = (low, min(1.0, measure + float(margins.above[j])))
        specific = category == "specific"
        null = (judged.found if specific else judged.bound)[j]
        numbers = {
            "best_correlation": m.best[j],
            "one_to_one_correlation": m.one[j],
            "mutual": float(m.mutual[j]),
            "lesion_correlation": lesion[j, partner] if pool.labelled else None,
            "random_bound": judged.bound[j],
            "random_low": judged.low[j],
            "found_again": judged.found[j],
            "grid_limit": judged.limit[j],
            "fires_share": judged.density[j],
            "n_cases": judged.cases[j],
            "same_in_halves": judged.halves[j],
            **_influence(influence[side], influence[OTHER[side]], j, partner),
        }
        found.append(
            LatentFinding(
                side,
                taps[tap],
                int(latent),
                category,
                names[side] if specific else None,
                other.layout.taps[other.layout.tap_of[partner]],
                int(other.layout.latent_of[partner]),
                measure,
                interval,
                known(null),
                known(judged.p_adjusted[j]),
                _evidence(category, judged, j, measure, interval, other, partner, names[OTHER[side]], len(pool.cases)),
                finite(numbers),
            )
        )
    return found


def _influence(own: np.ndarray | None, other: np.ndarray | None, j: int, partner: int) -> dict[str, float]:
    if own is None or other is None:
        return {}
    mine, theirs = own[:, j], other[:, partner]
    both = np.isfinite(mine) & np.isfinite(theirs)
    length = np.linalg.norm(mine[both]) * np.linalg.norm(theirs[both])
    named = {f"influence_{r.lower()}": x for r, x in zip(REGIONS, mine, strict=True)}
    named |= {f"partner_influence_{r.lower()}": x for r, x in zip(REGIONS, theirs, strict=True)}
    return named | {"influence_overlap": float(mine[both] @ theirs[both] / length) if length > 0 else None}


def _evidence(category, judged: Judged, j, measure, interval, other: Judged, partner, name, n_cases) -> str:
    who = f"latent {other.layout.latent_of[partner]} at {other.layout.taps[other.layout.tap_of[partner]]} of {name}"
    span = f"{measure:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"
    bound, again = judged.bound[j], judged.found[j]
    chance = "no null was made"
    if np.isfinite(bound):
        chance = f"one in twenty random directions that fire as often reaches {bound:.2f}"
    seeds = (
        f"every other seed of its lens finds it again at {again:.2f} or more"
        if again >= SHARED
        else f"its own other seeds reach only {again:.2f}"
        if np.isfinite(again)
        else "no other seed of its lens was given"
    )
    if category == "shared":
        each = ", each the other's best match" if judged.matches.mutual[j] else ", its partner one to one"
        return f"Correlates {span} with {who} over the brain of {n_cases} cases{each}; {chance}."
    if category == "partly shared":
        return f"Its best match, {who}, correlates {span} over the brain of {n_cases} cases; {chance}."
    if category == "specific":
        return f"Its best match, {who}, correlates {span}, but {seeds}; {chance}."
    if category == "not distinguishable from seed noise":
        return f"Its best match, {who}, correlates {span} ({chance}), and {seeds}."
    if category == "too few cases":
        return f"It fires in {judged.cases[j]} of {n_cases} cases; its best match, {who}, correlates {measure:.2f}."
    limit = judged.limit[j]
    blurred = f"; on the other's grid no partner could reach more than {limit:.2f}" if limit < SHARED else ""
    p = judged.p_adjusted[j]
    if measure > bound and p > LEVEL:
        chance += f", so that among as many latents some do by chance (p = {p:.2f}, corrected for their number)"
    return f"Its best match, {who}, correlates {span}; {chance}, and {seeds}{blurred}."


def shares(judgement: Judgement) -> list[Share]:
    """The share of each category, over all taps of a side and by tap, with its interval over cases and its null."""
    found = []
    for side in SIDES:
        judged = judgement.sides[side]
        between = specific_between_seeds(judged, judgement.pooled.with_seeds(side))
        of_tap = np.repeat(np.arange(len(judged.layout.taps)), judged.layout.randoms)
        for tap in (None, *range(len(judged.layout.taps))):
            here = np.ones(judged.layout.n, bool) if tap is None else judged.layout.tap_of == tap
            best = judgement.random_best[side][np.ones(len(of_tap), bool) if tap is None else of_tap == tap]
            fires = here & judged.alive
            nulls = {}
            if len(best):
                nulls = {
                    "shared": np.mean(best >= SHARED),
                    "partly shared": np.mean((best >= PARTLY) & (best < SHARED)),
                }
            if between is not None and np.isfinite(between[fires]).any():
                nulls["specific"] = np.nanmean(between[fires])
            for category in CATEGORIES:
                if category == "backbone":
                    continue
                among = here if category == "never fires" else fires
                n, total = int((judged.category[among] == category).sum()), int(among.sum())
                interval = None
                if total and len(judgement.drawn[side]):
                    drawn = (judgement.drawn[side][:, among] == category).mean(1)
                    interval = tuple(float(x) for x in np.percentile(drawn, INTERVAL))
                    # The margins make the draws a little stricter than the whole: its own share is always inside.
                    interval = (min(interval[0], n / total), max(interval[1], n / total))
                null = float(nulls[category]) if category in nulls else None
                name = None if tap is None else judged.layout.taps[tap]
                null_is = NULLS[category] if null is not None else ""
                found.append(Share(side, name, category, n, total, interval, null, null_is))
    return found


def summary_of(judgement: Judgement, pool: Pool, names: dict[str, str]) -> dict:
    """The summary of a comparison of packs: JSON values. Besides "shares" and "says":

    references: by side, the share that is shared one to one by the correlation alone (`plain`), the same with another
    seed of the same pack (`own_seeds`: what two trainings of one lens reach), and with the other pack were another seed
    in the lens's place (`other_seed_instead`); the share without a match of `PARTLY`, of latents (`unmatched`) and of
    random directions (`unmatched_random`). halves: mean share of latents whose category is the same in two random
    halves of the cases. influence: see `_influence_overlap`.
    """
    references, halves = {}, {}
    for side in SIDES:
        judged, other = judgement.sides[side], judgement.sides[OTHER[side]]
        seeds = judgement.pooled.with_seeds(side)
        instead = shared_with_seed_instead(judged, judgement.pooled.across(side, "seed"), other.alive)
        fires = judged.alive
        references[side] = {
            "plain": float(np.mean(judged.matches.one[fires] >= SHARED)) if fires.any() else None,
            "own_seeds": shared_between_seeds(judged, seeds),
            "other_seed_instead": instead,
            "mutual": float(np.mean(judged.matches.mutual[fires])) if fires.any() else None,
            "unmatched": float(np.mean(judged.matches.best[fires] < PARTLY)) if fires.any() else None,
            "unmatched_random": (
                float(np.mean(judgement.random_best[side] < PARTLY)) if len(judgement.random_best[side]) else None
            ),
            "median_best": float(np.median(judged.matches.best[fires])) if fires.any() else None,
            "median_random": float(np.median(judgement.random_best[side]))
            if len(judgement.random_best[side])
            else None,
        }
        known = judged.halves[fires]
        halves[side] = float(known.mean()) if len(known) and np.isfinite(known).all() else None
    found = shares(judgement)
    return {
        "shares": [vars(share) for share in found],
        "says": _says(found, references, halves, names),
        "references": references,
        "halves": halves,
        "influence": _influence_overlap(judgement, pool),
        "cases": list(pool.cases),
    }


def _influence_overlap(judgement: Judgement, pool: Pool, shuffles: int = 2000) -> dict:
    """Whether latents that are alike also hold up the same regions. by_region: Spearman's rho, over a's shared and
    partly shared latents, of the change of a region's log odds when a latent and when its partner is suppressed, with
    p by shuffling the partners. by_category: what share of the sum of the sizes of all changes lies in each category,
    by side and region."""
    from scipy.stats import rankdata

    own, other = pool.mean_influence("a"), pool.mean_influence("b")
    if own is None or other is None:
        return {}
    judged = judgement.sides["a"]
    alike = np.flatnonzero(np.isin(judged.category, ["shared", "partly shared"]))
    partner = np.where(judged.category == "shared", judged.matches.one_partner, judged.matches.best_partner)[alike]
    by_region, rng = {}, np.random.default_rng(0)
    for i, region in enumerate(REGIONS):
        x, y = own[i, alike], other[i, partner]
        known = np.isfinite(x) & np.isfinite(y)
        if known.sum() < 5 or np.ptp(x[known]) == 0 or np.ptp(y[known]) == 0:
            continue
        x, y = (rankdata(v[known]) - (known.sum() + 1) / 2 for v in (x, y))
        scale = np.linalg.norm(x) * np.linalg.norm(y)
        rho = float(x @ y / scale)
        null = np.array([x @ rng.permutation(y) for _ in range(shuffles)]) / scale
        p = float((1 + np.count_nonzero(np.abs(null) >= abs(rho))) / (1 + shuffles))
        by_region[region] = {"rho": rho, "p": p, "pairs": int(known.sum())}
    by_category = {}
    for side, change in (("a", own), ("b", other)):
        size = np.abs(np.nan_to_num(change))
        total = size.sum(1)
        kinds = judgement.sides[side].category
        by_category[side] = {
            region: {c: float(size[i, kinds == c].sum() / total[i]) for c in dict.fromkeys(kinds)}
            for i, region in enumerate(REGIONS)
            if total[i] > 0
        }
    return {"by_region": by_region, "by_category": by_category}


def _says(found: list[Share], references: dict, halves: dict, names: dict[str, str]) -> list[str]:
    def share(side: str, category: str) -> Share:
        return next(s for s in found if (s.side, s.tap, s.category) == (side, None, category))

    def words(s: Share) -> str:
        span = f" ({100 * s.interval[0]:.0f} to {100 * s.interval[1]:.0f})" if s.interval else ""
        return f"{100 * s.share:.0f} %{span}" if s.total else "none"

    first = " and ".join(f"{words(share(s, 'shared'))} of {names[s]}'s" for s in SIDES)
    says = [f"Shared: {first} latents that fire have a one-to-one partner in the other segmenter."]
    kinds = ("shared", "partly shared", "specific")
    if not any(share(s, kind).n for s in SIDES for kind in kinds):
        says.insert(
            0,
            f"No latent of {names['a']} or {names['b']} is shared, partly shared or specific beyond what random "
            "directions of the same layers show.",
        )
    for side in SIDES:
        noise, specific = share(side, "not distinguishable from seed noise"), share(side, "specific")
        null = "" if specific.null is None else f" (the same rule between its own seeds: {100 * specific.null:.1f} %)"
        says.append(
            f"{names[side]}: {words(share(side, 'partly shared'))} partly shared, {words(specific)} specific{null}, "
            f"{words(noise)} not distinguishable from seed noise: another training of the same lens does not find "
            "these again, so that nothing is said of them."
        )
        reference = references[side]
        if reference["own_seeds"] is not None:
            says.append(
                f"For scale: another seed of {names[side]}'s own lenses shares {100 * reference['own_seeds']:.0f} % of "
                f"its latents by the same correlation; the other segmenter shares {100 * reference['plain']:.0f} %."
            )
        null = share(side, "shared").null
        if null is not None:
            says.append(
                f"Of random directions of {names[side]} that fire as often as its latents, {100 * null:.0f} % find a "
                "latent of the other segmenter as alike as what is called shared."
            )
        if reference["unmatched_random"] is not None:
            says.append(
                f"{100 * reference['unmatched']:.0f} % of {names[side]}'s latents have no match of {PARTLY} in the "
                f"other segmenter, and so have {100 * reference['unmatched_random']:.0f} % of random directions: to "
                "have no match says little, and latents are called specific only at taps most of whose latents have "
                "one, or where they match less than random directions do."
            )
        if halves[side] is not None:
            says.append(
                f"In two random halves of the cases {100 * halves[side]:.0f} % of {names[side]}'s latents fall into "
                "the same category."
            )
    return says
