"""What a proposal is said to do, in one sentence."""

from types import SimpleNamespace

from MedSegLensLib.failures.repair import Gain
from MedSegLensLib.failures.repair_words import describe

NAMES = {("tap", 1): "Edema", ("tap", 2): "bright FLAIR", ("tap", 3): "Edema", ("tap", 4): "T1-dark areas"}


def said(*gains, reason=""):
    return describe(SimpleNamespace(gains=tuple(Gain("tap", j, g) for j, g in gains), reason=reason), NAMES)


def test_what_is_done_stands_before_what_it_is_done_to():
    assert said((1, 0.01), (2, 0.0)) == "Suppressing 2 latents: Edema, bright FLAIR"
    assert said((2, 0.5)) == "Lowering 1 latent: bright FLAIR"


def test_several_kinds_of_change_are_counted_apart():
    assert said((1, 0.0), (2, 3.0), (4, 0.0)) == "Suppressing 2 latents, raising 1: Edema, bright FLAIR, T1-dark areas"


def test_a_name_is_said_once_and_a_nameless_latent_only_counted():
    assert said((1, 2.0), (3, 2.0), (9, 2.0)) == "Raising 3 latents: Edema"
    assert said((9, 2.0)) == "Raising 1 latent"


def test_where_nothing_is_proposed_the_reason_is_given():
    assert said(reason="No latent fires here.") == "No latent fires here."
