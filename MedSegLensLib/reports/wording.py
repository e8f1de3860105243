"""Numbers and findings in the words of a report."""

ABSENT, UNKNOWN = "absent", "not measured"


def millilitres(ml: float) -> str:
    """A volume that exists: '12.3', '0.45', 'under 0.01'."""
    if 0 < abs(ml) < 0.005:
        return "under 0.01"
    return f"{ml:.1f}" if abs(ml) >= 10 else f"{ml:.2f}"


def volume(ml: float | None) -> str:
    """A region's volume; one of none is absent, one not known is said to be so."""
    if ml is None:
        return UNKNOWN
    return millilitres(ml) if ml > 0 else ABSENT


def signed(ml: float | None) -> str:
    """A change of volume with its sign (a true minus): '+0.45', '−12.3', '0'."""
    if ml is None:
        return UNKNOWN
    if ml == 0:
        return "0"
    sign = "+" if ml > 0 else "−"
    return f"{sign}{millilitres(abs(ml))}" if abs(ml) >= 0.005 else f"{sign}{abs(ml):.1g}"


def percent(before: float, after: float) -> str:
    """The change of a region's volume as a share of what it was."""
    if before <= 0:
        return "new" if after > 0 else ABSENT
    change = 100 * (after - before) / before
    if change == 0:
        return "0 %"
    sign = "+" if change > 0 else "−"
    return f"{sign}{abs(change):.0f} %" if abs(change) >= 1 else f"{sign}{abs(change):.1g} %"


def dice(value: float | None, reference_ml: float | None) -> str:
    """A Dice score, or why there is none."""
    if value is not None:
        return f"{value:.2f}"
    return ABSENT if reference_ml is not None and reference_ml <= 0 else UNKNOWN


def place(ras: tuple[float, float, float]) -> str:
    """A point in the patient, RAS mm, as 'R 12, A 30, S 5'."""
    return ", ".join(f"{names[int(v >= 0)]} {abs(v):.0f}" for names, v in zip(("LR", "PA", "IS"), ras, strict=True))


def seconds(value: float) -> str:
    """A duration: '85 ms', '3.2 s', '2 min 5 s'."""
    if value < 0.9995:
        return f"{1000 * value:.0f} ms" if value >= 0.001 else "under 1 ms"
    return f"{value:.1f} s" if value < 60 else f"{int(value // 60)} min {value % 60:.0f} s"


def agreement(rho: float | None, count: int, region: str) -> str:
    """What the rank correlation of estimated and measured influence says, in one or two sentences."""
    if rho is None:
        return (
            f"Whether the estimated influence agrees with what suppressing does cannot be said: {count} latents were "
            "suppressed, or their effects did not differ."
        )
    if rho >= 0.8:
        verdict = "agrees well with"
    elif rho >= 0.5:
        verdict = "agrees roughly with"
    elif rho >= 0.2:
        verdict = "agrees only weakly with"
    elif rho > -0.2:
        verdict = "says nothing about"
    else:
        verdict = "contradicts"
    advice = (
        f"Latents that were not suppressed can be ranked by it for {region} in this case."
        if rho >= 0.5
        else f"Trust the measured effect on {region}, not the estimate, in this case."
    )
    sign = "−" if rho < 0 else ""
    return (
        f"Gradient × activation {verdict} actually suppressing: Spearman {sign}{abs(rho):.2f} over {count} latents. "
        f"{advice}"
    )
