"""A proposed repair in one sentence, the same on the command line and in the panel."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from MedSegLensLib.failures.repair import Gain, Proposal

SUPPRESSED = 0.1
"""A gain below this leaves nothing to speak of."""
NAMED = 3
"""Names that one sentence gives; a proposal has at most five latents."""


def describe(proposal: "Proposal", names: Mapping[tuple[str, int], str]) -> str:
    """ "Suppressing 3 latents: bright FLAIR, Edema"; the reason where nothing is proposed.

    names: what latents are called, by (tap, latent); those without a name are only counted. Strongest change first.
    """
    if not proposal.gains:
        return proposal.reason
    done: dict[str, int] = {}
    for gain in proposal.gains:
        done[verb(gain)] = done.get(verb(gain), 0) + 1
    counts = [f"{verb} {count}" for verb, count in done.items()]
    counts[0] += f" latent{'s' * (next(iter(done.values())) != 1)}"
    sentence = ", ".join(counts)
    called = dict.fromkeys(name for gain in proposal.gains if (name := names.get((gain.tap, gain.latent))))
    if called:
        sentence += ": " + ", ".join(list(called)[:NAMED]) + (" and others" if len(called) > NAMED else "")
    return sentence[0].upper() + sentence[1:]


def verb(gain: "Gain") -> str:
    """What a gain does to its latent."""
    return "suppressing" if gain.value < SUPPRESSED else "lowering" if gain.value < 1 else "raising"
