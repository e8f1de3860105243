"""A known shift is found and undone; where there is none nothing is changed; labelled cases do not get worse."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.diffing.adaptation import MOST_GAIN, MOST_LOSS, Latents, Setting, adapt, fit_gains, no_worse
from MedSegLensLib.diffing.adaptation_baselines import (
    BatchNorm,
    Head,
    RandomLatents,
    Threshold,
    baselines,
    fires_in_lesion,
)
from MedSegLensLib.diffing.adaptation_loss import dice_of
from MedSegLensLib.diffing.adjustments import ClassBias, Gains
from MedSegLensLib.diffing.applying import mean_gain
from MedSegLensLib.diffing.excerpts import ExcerptReader

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "editing"))
from tiny_packs import write_tiny_pack  # noqa: E402

SMALL = {"size": (40, 48, 14), "spacing": (4.0, 4.0, 9.0)}


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return ExcerptReader(write_tiny_pack("unet", tmp_path_factory.mktemp("packs") / "unet"), device="cpu")


@pytest.fixture(scope="module")
def plain(reader):
    """Excerpts of three phantoms, labelled with what the segmenter says of them."""
    read = [reader.read(phantom(seed, **SMALL)) for seed in (1, 2, 3)]
    return [replace(e, labels=e.logits.argmax(1)) for e in read]


@pytest.fixture(scope="module")
def planted_gains(plain, reader):
    """The two latents whose gains change most labels of a phantom."""
    changed = {j: dice_of(Gains(reader.tap, {j: 3.0}).on(plain[0]), plain[0]) for j in range(plain[0].codes.n_latents)}
    first, second = sorted(changed, key=changed.get)[:2]
    return {first: 3.0, second: 0.2}


@pytest.fixture(scope="module")
def shifted(plain, reader, planted_gains):
    """The same, labelled with what the segmenter would say, were two of its latents stronger or weaker."""
    return [replace(e, labels=Gains(reader.tap, planted_gains).on(e).argmax(1)) for e in plain]


@pytest.fixture(scope="module")
def excerpts(shifted):
    return shifted[:2]


@pytest.fixture(scope="module")
def found(reader, excerpts):
    return adapt(Latents(reader.tap, sizes=(2, 4), stays=(0.0, 0.3)), excerpts)


def test_a_planted_shift_is_found(found, planted_gains):
    assert found.adjustment is not None, found.why
    assert set(planted_gains) <= set(found.adjustment.gains)
    for latent, gain in planted_gains.items():
        assert found.adjustment.gains[latent] == pytest.approx(gain, rel=0.3, abs=0.25), found.adjustment.gains
    assert found.trials[found.setting] == max(found.trials.values()) > 0.005


def test_it_helps_a_case_that_was_not_fitted_on(found, shifted):
    unseen = shifted[2]
    before, after = dice_of(unseen.logits, unseen), dice_of(found.adjustment.on(unseen), unseen)
    assert after > before + 0.5 * (1 - before)


def test_latents_drawn_at_random_do_not(found, reader, excerpts):
    null = adapt(RandomLatents(reader.tap, seed=1, sizes=(2, 4), stays=(0.0, 0.3)), excerpts)
    assert max(null.trials.values()) < found.trials[found.setting] - 0.005


def test_where_the_labels_are_the_segmentation_nothing_is_changed(plain, reader):
    for method in (Latents(reader.tap, sizes=(1, 2)), Threshold()):
        found = adapt(method, plain[:2])
        assert found.adjustment is None and found.why
        assert all(before == after == 1 for before, after in found.labelled.values())


def test_one_patient_is_fitted_with_the_fixed_setting(reader, excerpts):
    method = Latents(reader.tap)
    found = adapt(method, excerpts[:1])
    assert found.trials == {} and found.setting == method.default
    assert found.adjustment is None or len(found.adjustment.gains) == method.default.latents


def test_two_cases_of_one_patient_leave_nobody_out(reader, excerpts):
    twins = [replace(e, subject="one") for e in excerpts]
    assert adapt(Threshold(), twins).trials == {}


def test_no_method_makes_the_labelled_cases_worse(reader, excerpts):
    for method in [Latents(reader.tap), *baselines(reader.network, reader.tap)]:
        found = adapt(replace(method, sizes=(4,)) if hasattr(method, "sizes") else method, excerpts)
        for excerpt in excerpts:
            before, after = found.labelled[excerpt.case]
            assert before == dice_of(excerpt.logits, excerpt) and after >= before - MOST_LOSS
            if found.adjustment:
                assert no_worse(*({case: pair[i] for case, pair in found.labelled.items()} for i in (0, 1)))
                assert after == pytest.approx(dice_of(found.adjustment.on(excerpt), excerpt), abs=1e-6)


def test_gains_stay_within_their_bounds(reader, excerpts, planted_gains):
    extreme = {latent: 50.0 for latent in planted_gains}
    pushed = fit_gains(excerpts, list(extreme), torch.tensor([3.99, 0.0]), 0.0)
    assert ((pushed >= 0) & (pushed <= MOST_GAIN)).all()


def test_a_method_that_makes_a_case_worse_is_given_up(excerpts):
    class Harm:
        name, default = "harm", Setting()

        def fits(self, excerpts, only=None, tick=None):
            return {Setting(): ClassBias(torch.tensor([0.0, -30.0, -30.0, -30.0]))}

    found = adapt(Harm(), excerpts[:1])
    assert found.adjustment is None and "worse" in found.why


def test_a_method_is_weakened_until_no_case_is_worse(excerpts):
    bias = Threshold(stays=(0.0,)).fits(excerpts[:1])[Setting(0, 0.0)].bias
    dice = {s: dice_of(ClassBias(bias * s).on(excerpts[0]), excerpts[0]) for s in (1.0, 16.0, 64.0)}

    class TooMuch:
        name, default = "too much", Setting()

        def fits(self, excerpts, only=None, tick=None):
            return {Setting(): ClassBias(bias * 4)}

    found = adapt(TooMuch(), excerpts[:1])
    before, after = found.labelled[excerpts[0].case]
    assert after >= before and found.share in (0.0, 0.25, 0.5, 1.0), dice


def test_a_segmenter_without_batch_norm_has_no_statistics(excerpts):
    plain = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 1), torch.nn.InstanceNorm2d(4))
    found = adapt(BatchNorm(plain), excerpts)
    assert found.adjustment is None and "does not apply" in found.why


def test_statistics_are_those_of_the_labelled_slices(reader, excerpts):
    whole = BatchNorm(reader.network).fits(excerpts, Setting(0, 0.0, 1.0))[Setting(0, 0.0, 1.0)]
    name = next(n for n in whole.weights if n.endswith("running_mean"))
    seen = []
    module = reader.network.get_submodule(name.removesuffix(".running_mean"))
    handle = module.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0].mean((0, 2, 3))))
    with torch.no_grad():
        for excerpt in excerpts:
            for part in excerpt.inputs.split(4):
                reader.network(part)
    handle.remove()
    torch.testing.assert_close(whole.weights[name], torch.stack(seen).mean(0), atol=1e-4, rtol=1e-3)
    assert not torch.equal(whole.weights[name], whole.own[name])


def test_a_head_has_the_weights_behind_the_tap_alone(reader, excerpts):
    fitted = Head(reader.network, stays=(0.3,), rounds=2).fits(excerpts[:1])[Setting(0, 0.3)]
    assert fitted.weights and all(not name.startswith(("conv_0", "down_", "upcat_4")) for name in fitted.weights)
    own = dict(reader.network.named_parameters())
    assert all(torch.equal(own[name], fitted.own[name]) for name in fitted.own), "the network itself is as it was"


def test_random_latents_fire_in_the_lesion(reader, excerpts):
    firing = fires_in_lesion(excerpts)
    for seed in (0, 1):
        gains = RandomLatents(reader.tap, seed, sizes=(8,), stays=(3.0,)).fits(excerpts[:1])[Setting(8, 3.0)].gains
        assert len(gains) == 8 and all(firing[j] for j in gains)


def test_no_worse_asks_for_a_gain_on_average_and_no_large_loss():
    assert no_worse({"a": 0.5, "b": None}, {"a": 0.6, "b": None})
    assert no_worse({"a": 0.5, "b": 0.5}, {"a": 0.6, "b": 0.49})
    assert not no_worse({"a": 0.5, "b": 0.5}, {"a": 0.9, "b": 0.45})
    assert not no_worse({"a": 0.5, "b": 0.5}, {"a": 0.505, "b": 0.49})
    assert not no_worse({"a": 0.5}, {"a": 0.5})
    assert not no_worse({"a": None}, {"a": None})


def test_a_mean_gain_has_an_interval_from_three_cases_on():
    assert mean_gain([]) == {"cases": 0, "mean": None, "interval": None}
    assert mean_gain([0.1, 0.3])["interval"] is None
    found = mean_gain([0.0, 0.1, 0.2, 0.3])
    assert found["mean"] == pytest.approx(0.15) and found["interval"][0] < 0.15 < found["interval"][1]
    assert mean_gain([0.2, 0.2, 0.2])["interval"] == [0.2, 0.2]


def test_cancelling_is_heard_during_a_fit(reader, excerpts):
    from MedSegLensLib.errors import Cancelled

    def stop():
        raise Cancelled

    with pytest.raises(Cancelled):
        adapt(Latents(reader.tap, sizes=(1,)), excerpts, stop)
