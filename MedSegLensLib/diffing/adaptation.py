"""Adaptation to another cohort without retraining: gains of few latents, fitted on a few labelled cases of it.

reader = ExcerptReader(pack)
excerpts = [reader.read(case.read(), case.subject) for case in labelled]
adapted = adapt(Latents(pack.default_tap), excerpts)
adapted.adjustment.recipe(pack, "to the new cohort")      # None where no latent does this

Latents are chosen by the gradient of the error with respect to their gains, a few at a time, the gradient taken anew at
the gains found so far. How many, and how strongly the rest must stay put, is chosen by leaving labelled patients out in
turn; for one patient fixed values are used. What is found may not make the labelled cases worse (`no_worse`): else it
is halved, and halved again, and else nothing is changed. What it is compared with (adaptation_baselines.py) goes
through the same choice and the same rule.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch

from MedSegLensLib.diffing.adaptation_loss import dice_of
from MedSegLensLib.diffing.adjustments import Adjustment, Gains
from MedSegLensLib.diffing.excerpts import Excerpt
from MedSegLensLib.diffing.fitting import minimise, slopes

Tick = Callable[[], None]

SIZES = (2, 4, 8)
"""Numbers of latents tried; a recipe of more than 8 is none that a reader would look through."""

STAYS = (0.3, 3.0)
"""Weights of the stay-put term that are tried."""

MOST_GAIN = 4.0
"""Gains lie between 0 and this. Beyond it a code is outside of anything that the tail has seen."""

LEAST_GAIN = 0.005
"""Mean Dice that a setting must gain on left-out cases to be worth a change."""

FOLDS = 3
"""Of the cross-validation at most: with up to three patients each is left out in turn."""

MOST_LOSS = 0.02
"""Dice that a single labelled case may lose while they gain on average. A rule of no loss at all gives up what helps
four cases in five for a thousandth on the fifth."""

SHARES = (1.0, 0.5, 0.25)
"""Shares of the change that are tried, the first that does not make the labelled cases worse being taken."""


class Setting(NamedTuple):
    """What cross-validation chooses. latents: how many (0 for what has none). stay: weight of the stay-put term.
    mix: share of the new statistics, of batch norm alone."""

    latents: int = 0
    stay: float = 0.0
    mix: float = 1.0


class Method(Protocol):
    """Something that can be fitted on excerpts. name: in words. default: the setting for one labelled patient."""

    name: str
    default: Setting

    def fits(
        self, excerpts: Sequence[Excerpt], only: Setting | None = None, tick: Tick | None = None
    ) -> dict[Setting, Adjustment]:
        """What each setting gives, fitted on these excerpts; `only` one of them, or all. Empty where the method does
        not apply to this segmenter."""


@dataclass(frozen=True)
class Adapted:
    """What `adapt` found. adjustment: None where nothing is to be changed, and `why` then says why.

    setting, share: see `Setting` and `SHARES`. trials: mean Dice gained on left-out cases, by setting; empty for one
    patient. labelled: Dice of the excerpts before and after, by case (None for a case without tumour).
    """

    method: str
    adjustment: Adjustment | None
    setting: Setting | None
    share: float
    trials: dict[Setting, float]
    labelled: dict[str, tuple[float | None, float | None]]
    why: str = ""

    def to_json(self) -> dict:
        return {
            "method": self.method,
            "found": self.adjustment.to_json() if self.adjustment else None,
            "setting": self.setting._asdict() if self.setting else None,
            "share": self.share,
            "left_out_gain": [{**setting._asdict(), "dice_gain": gain} for setting, gain in self.trials.items()],
            "labelled_excerpt_dice": {case: list(pair) for case, pair in self.labelled.items()},
            "why": self.why,
        }


@dataclass(frozen=True)
class Latents:
    """Gains of few latents at a tap, the latents chosen by their influence on the error."""

    tap: str
    sizes: tuple[int, ...] = SIZES
    stays: tuple[float, ...] = STAYS
    name: str = "gains of latents"
    default: Setting = Setting(2, 3.0)

    def fits(self, excerpts, only=None, tick=None):
        found: dict[Setting, Adjustment] = {}
        for stay in (only.stay,) if only else self.stays:
            chosen, gains = [], torch.zeros(0)
            for size in [s for s in self.sizes if s <= only.latents] if only else self.sizes:
                order = self.order(excerpts, chosen, gains, stay)
                chosen = chosen + order[: size - len(chosen)]
                if not chosen:
                    return {}
                start = torch.cat([gains, torch.ones(len(chosen) - len(gains))])
                gains = fit_gains(excerpts, chosen, start, stay, tick)
                found[Setting(size, stay)] = Gains(self.tap, dict(zip(chosen, gains.tolist(), strict=True)))
        return {only: found[only]} if only else found

    def order(self, excerpts: Sequence[Excerpt], chosen: list[int], gains: torch.Tensor, stay: float) -> list[int]:
        """Latents not chosen yet that the error hangs on, by the size of its gradient at the gains so far."""
        total = torch.zeros(excerpts[0].codes.n_latents, dtype=torch.float64)
        for excerpt in excerpts:
            total += slopes(excerpt, _moved(excerpt, chosen, gains), stay) / len(excerpts)
        order = torch.argsort(-total.abs(), stable=True).tolist()
        return [j for j in order if j not in chosen and total[j] != 0]


def fit_gains(
    excerpts: Sequence[Excerpt], latents: list[int], start: torch.Tensor, stay: float, tick: Tick | None = None
) -> torch.Tensor:
    """Gains (J,) of these latents between 0 and `MOST_GAIN` at which the error is least, from `start` on."""
    effects = [excerpt.effects(latents) for excerpt in excerpts]

    def logits_of(i: int, free: torch.Tensor) -> torch.Tensor:
        return excerpts[i].scaled(effects[i], MOST_GAIN * free.sigmoid())

    # A sigmoid keeps the gains within their bounds; near a bound it is flat, so none starts closer than this.
    free = (start / MOST_GAIN).clamp(0.02, 0.98).logit()
    return MOST_GAIN * minimise(free, logits_of, excerpts, stay, tick=tick).sigmoid()


def adapt(method: Method, excerpts: Sequence[Excerpt], tick: Tick | None = None) -> Adapted:
    """The method fitted on the excerpts, its setting chosen by cross-validation over their patients."""
    before = {e.case: dice_of(e.logits, e) for e in excerpts}
    nothing = {case: (dice, dice) for case, dice in before.items()}
    subjects = list(dict.fromkeys(e.subject for e in excerpts))
    trials = cross_validated(method, excerpts, subjects, tick) if len(subjects) > 1 else {}
    if trials:
        # Of equal ones the setting with fewer latents and the stronger hold.
        setting = max(trials, key=lambda s: (trials[s], -s.latents, s.stay))
        if trials[setting] < LEAST_GAIN:
            why = f"On left-out cases no setting gained {LEAST_GAIN} Dice (the best {trials[setting]:+.4f})."
            return Adapted(method.name, None, None, 0.0, trials, nothing, why)
    else:
        setting = method.default
    fitted = method.fits(excerpts, setting, tick).get(setting)
    if fitted is None:
        return Adapted(method.name, None, None, 0.0, trials, nothing, "It does not apply to this segmenter.")
    for share in SHARES:
        adjustment = fitted if share == 1 else fitted.weaker(share)
        with torch.no_grad():
            after = {e.case: dice_of(adjustment.on(e), e) for e in excerpts}
        if no_worse(before, after):
            pairs = {case: (before[case], after[case]) for case in before}
            return Adapted(method.name, adjustment, setting, share, trials, pairs)
    return Adapted(method.name, None, setting, 0.0, trials, nothing, "What was fitted made the labelled cases worse.")


def cross_validated(
    method: Method, excerpts: Sequence[Excerpt], subjects: list[str], tick: Tick | None = None
) -> dict[Setting, float]:
    """Mean Dice gained on the excerpts of patients left out, by setting; empty where the method does not apply."""
    from sklearn.model_selection import GroupKFold

    gained: dict[Setting, list[float]] = {}
    folds = GroupKFold(min(FOLDS, len(subjects))).split(excerpts, groups=[e.subject for e in excerpts])
    for rest, left_out in folds:
        for setting, adjustment in method.fits([excerpts[i] for i in rest], None, tick).items():
            for excerpt in [excerpts[i] for i in left_out]:
                with torch.no_grad():
                    before, after = dice_of(excerpt.logits, excerpt), dice_of(adjustment.on(excerpt), excerpt)
                if before is not None:
                    gained.setdefault(setting, []).append(after - before)
    return {setting: float(np.mean(gains)) for setting, gains in gained.items()}


def no_worse(before: dict[str, float | None], after: dict[str, float | None]) -> bool:
    """Whether the labelled cases gained Dice on average and none lost more than `MOST_LOSS`; cases without tumour say
    nothing."""
    gains = [after[case] - dice for case, dice in before.items() if dice is not None]
    return bool(gains) and float(np.mean(gains)) > 0 and min(gains) >= -MOST_LOSS


def _moved(excerpt: Excerpt, latents: list[int], gains: torch.Tensor) -> torch.Tensor:
    if not latents:
        return excerpt.x
    change = (gains - 1).to(excerpt.x).view(-1, *(1,) * excerpt.brain.ndim)
    return excerpt.moved(excerpt.codes_of(latents) * change, excerpt.decoder[latents])
