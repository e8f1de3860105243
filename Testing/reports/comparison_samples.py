"""What a comparison of two packs, and of two cohorts, could have found: every category, with intervals and nulls."""

import random
from dataclasses import asdict

from MedSegLensLib.diffing.comparison import CATEGORIES, CohortSide, Comparison, LatentFinding, PackSide, Share

UNET, SEGFORMER = "glioma-unet", "glioma-segformer"
TAPS = {
    "a": ("model.1", "model.1.submodule.1.submodule.1.submodule"),
    "b": ("model.decode_head.activation", "model.segformer.stages.2"),
}
MODEL_ODDS = {
    "shared": 15,
    "partly shared": 9,
    "specific": 5,
    "not distinguishable from seed noise": 21,
    "undecided": 6,
    "too few cases": 3,
    "never fires": 3,
}
COHORT_ODDS = {"backbone": 25, "specific": 5, "not distinguishable from seed noise": 6, "undecided": 12}

INFLUENCE = {
    "by_region": {"WT": {"rho": 0.41, "p": 0.0005, "pairs": 51}, "ET": {"rho": -0.08, "p": 0.52, "pairs": 51}},
    "by_category": {
        side: {
            region: {"shared": 0.44, "specific": 0.06, "not distinguishable from seed noise": 0.5}
            for region in ("WT", "TC", "ET")
        }
        for side in "ab"
    },
}


def models_comparison(taps=TAPS, names=(UNET, SEGFORMER), latents: int = 60, **changes) -> Comparison:
    chance = random.Random(1)
    findings = []
    for side, name, other in (("a", *names), ("b", *reversed(names))):
        partners = taps["b" if side == "a" else "a"]
        for tap in taps[side]:
            for latent in range(latents):
                category = chance.choices(list(MODEL_ODDS), MODEL_ODDS.values())[0]
                findings.append(_of_model(side, name, other, tap, partners[0], latent, category, chance, latents))
    shares = [asdict(share) for share in shares_of(findings)]
    for share in shares:
        part = share["n"] / share["total"] if share["total"] else 0.0
        share["interval"] = [max(0.0, part - 0.06), min(1.0, part + 0.06)]
        share["null"], share["null_is"] = 0.04, "random latents in place of the other pack's"
    says = [
        "A quarter of what either segmenter looks at is found in the other too",
        "That is more than random latents give, and less than two seeds of one segmenter share (31 %).",
    ]
    given = {
        "kind": "models",
        "a": PackSide(names[0], "0.3.0", "a" * 64, {tap: "a" * 64 for tap in taps["a"]}),
        "b": PackSide(names[1], "0.3.0", "b" * 64, {tap: "b" * 64 for tap in taps["b"]}),
        "findings": tuple(findings),
        "cohort": CohortSide("brats2021-glioma", "BraTS 2021, CC BY 4.0", 9),
        "thresholds": {"shared_correlation": 0.5, "alpha": 0.05},
        "summary": {"shares": shares, "says": says, "influence": INFLUENCE},
        "notes": ("BraTS2021_00477 was left out: its t1c cannot be read.",),
    }
    return Comparison(**(given | changes))


def shares_of(findings: list[LatentFinding]) -> list[Share]:
    """The share of each category by side, over all taps and by tap, without intervals and nulls. Latents that never
    fire are counted in their own row and not in the total of the others."""
    shares = []
    for side in "ab":
        of_side = [f for f in findings if f.side == side]
        taps = list(dict.fromkeys(f.tap for f in of_side))
        for tap in [None, *taps] if of_side else []:
            here = [f.category for f in of_side if tap in (None, f.tap)]
            fires = sum(category != "never fires" for category in here)
            for category in CATEGORIES:
                total = len(here) if category == "never fires" else fires
                shares.append(Share(side, tap, category, here.count(category), total))
    return shares


def _of_model(side, name, other, tap, partner_tap, latent, category, chance, latents) -> LatentFinding:
    numbers = category not in ("too few cases", "never fires")
    measure = chance.uniform(0.5, 0.95) if "shared" in category else chance.uniform(0.05, 0.4)
    partner = chance.randrange(latents)
    interval = (measure - 0.08, measure + 0.04)
    evidence = (
        f"Its best match is latent {partner} of {other}: correlation {measure:.2f} (95 % interval {interval[0]:.2f} to "
        f"{interval[1]:.2f}); with random latents at most 0.21."
    )
    return LatentFinding(
        side,
        tap,
        latent,
        category,
        specific_to=name if category == "specific" else None,
        partner_tap=partner_tap if numbers else None,
        partner_latent=partner if numbers else None,
        measure=measure if numbers else None,
        interval=interval if numbers else None,
        null=0.21 if numbers else None,
        p_adjusted=chance.uniform(0, 0.05) if numbers else None,
        evidence=evidence if numbers else "It fires in one case only.",
    )


def cohorts_comparison(taps=TAPS["a"], pack: str = UNET, latents: int = 60, **changes) -> Comparison:
    chance = random.Random(2)
    names = ("brats-glioma", "low-field")
    findings = []
    for tap in taps:
        for latent in range(latents):
            category = chance.choices(list(COHORT_ODDS), COHORT_ODDS.values())[0]
            to = chance.choice(names) if category == "specific" else None
            effect = chance.uniform(1.2, 3.0) if to else chance.uniform(-0.4, 0.4)
            text = f"It fires {2**effect:.1f} times as often in {names[0]}: g {effect:.2f}; in random splits 0.90."
            interval = (effect - 0.5, effect + 0.5)
            findings.append(
                LatentFinding(
                    "a", tap, latent, category, to, None, None, effect, interval, 0.9, 0.01, text.replace("-", "−")
                )
            )
    shares = [asdict(share) for share in shares_of(findings) if share.tap is not None]
    for share in shares:
        share["null"], share["null_is"] = 0.02, "in random splits"
    given = {
        "kind": "cohorts",
        "a": CohortSide(names[0], "BraTS 2021, CC BY 4.0", 9),
        "b": CohortSide(names[1], "simulated from brats-glioma", 9, simulated=True),
        "findings": tuple(findings),
        "pack": PackSide(pack, "0.3.0", "a" * 64, {tap: "a" * 64 for tap in taps}),
        "thresholds": {"effect_size": 0.8, "alpha": 0.05},
        "summary": {"shares": shares, "says": ["Null: 2% differ in random splits."]} | performance(names),
    }
    return Comparison(**(given | changes))


def performance(names: tuple[str, str]) -> dict:
    """What was measured of the Dice, as `diffing.cohort_diff` gives it."""
    dice = {"region": "WT", "x": 0.871, "y": 0.702, "difference": -0.169, "n": [9, 9], "interval": [-0.25, -0.08]}
    edits = []
    for cohort, what, change in (
        (names[1], "suppressed", -0.121),
        (names[0], "suppressed", 0.0),
        (names[1], "restored", 0.034),
    ):
        edits.append(
            {
                "tap": TAPS["a"][0],
                "cohort": cohort,
                "what": what,
                "region": "WT",
                "latents": 4,
                "dice": 0.702,
                "n": 9,
                "random_sets": 5,
                "change": change,
                "interval": [change - 0.05, change + 0.04],
                "random_change": -0.011,
                "random_interval": [-0.03, 0.002],
                "beyond_random": change + 0.011,
                "beyond_interval": [change - 0.06, change + 0.05],
                "says": f"{what.capitalize()} 4 specific latents in {cohort} changes the Dice of WT by {change:+.3f}.",
            }
        )
    return {"dice": [dice], "suppression": edits}
