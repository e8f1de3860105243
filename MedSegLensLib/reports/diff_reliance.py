"""How much performance rests on what is specific: Dice with the specific latents suppressed, beside as many others."""

from MedSegLensLib.diffing.comparison import Comparison


def reliance(comparison: Comparison):
    return None
