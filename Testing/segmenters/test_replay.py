"""Replaying a tail equals running the whole network with the tap's value changed by a hook."""

import pytest
import torch
from small_networks import TAPS

from MedSegLensLib.errors import UsageError
from MedSegLensLib.segmenters.hooked import HookedReplay
from MedSegLensLib.segmenters.replay import Change, Replay, Steering
from MedSegLensLib.segmenters.taps import changed

EXACT = 1e-4  # of logits of size 2 to 10: float32 sums in another order; no label of these cases is that near a tie


@pytest.fixture(scope="module")
def recorded(segmenter):
    name, network, sampling, engine, volume = segmenter
    replay = Replay(network, sampling, engine, TAPS[name], channels=4)
    return replay, replay.record(volume), segmenter


def plain_pass(segmenter, changes_of=lambda sample: {}):
    _, network, sampling, engine, volume = segmenter
    outputs = []
    with torch.no_grad():
        for sample in range(sampling.count):
            with changed(network, changes_of(sample)):
                outputs.append(network(engine.place(sampling.inputs(volume, [sample]))))
    return torch.cat(outputs)


def some_edit(replay, tap, samples=(1, 2)):
    """Two latents: one in a small box of sample 1, one at a corner of both samples."""
    channels, *grid = replay.tap_shapes[tap]
    generator = torch.Generator().manual_seed(5)
    maps = {}
    for sample in samples:
        rows = torch.zeros(2, *grid)
        if sample == samples[0]:
            box = tuple(slice(n // 3, n // 3 + max(1, n // 5)) for n in grid)
            rows[(0, *box)] = 2 * torch.rand(rows[(0, *box)].shape, generator=generator)
        rows[(1, *(0 for _ in grid))] = 1.5
        maps[sample] = rows
    return Steering(tap, torch.randn(2, channels, generator=generator), maps)


def added(steering, sample):
    return lambda x: x + torch.einsum("j...,jc->c...", steering.maps[sample], steering.directions)[None]


def applied(replay, logits, changes):
    result = logits.clone()
    for sample, box, values in changes:
        result[(sample, slice(None), *box)] = values
    return result


def test_recording_gives_the_logits_of_a_plain_pass(recorded):
    _, logits, segmenter = recorded
    plain = plain_pass(segmenter)
    assert torch.equal(logits.argmax(1), plain.argmax(1))
    torch.testing.assert_close(logits, plain, rtol=0, atol=EXACT)


@pytest.mark.parametrize("position", range(3))
def test_an_edit_equals_the_naive_edited_pass(recorded, position):
    replay, logits, segmenter = recorded
    steering = some_edit(replay, TAPS[segmenter[0]][position])
    naive = plain_pass(segmenter, lambda s: {steering.tap: added(steering, s)} if s in steering.maps else {})
    result = applied(replay, logits, replay.replay(steering))
    assert (naive - logits).abs().max() > 20 * EXACT, "the edit must do something, or the test shows nothing"
    torch.testing.assert_close(result, naive, rtol=0, atol=EXACT)
    assert torch.equal(result.argmax(1), naive.argmax(1))


def test_an_edit_of_nothing_runs_nothing(recorded):
    replay, _, segmenter = recorded
    tap = TAPS[segmenter[0]][0]
    empty = Steering(tap, torch.randn(1, replay.tap_shapes[tap][0]), {1: torch.zeros(1, *replay.tap_shapes[tap][1:])})
    assert list(replay.replay(empty)) == []


def test_asked_for_samples_come_first_and_alone(recorded):
    replay, _, segmenter = recorded
    steering = some_edit(replay, TAPS[segmenter[0]][-1])

    def order(samples):
        return list(dict.fromkeys(sample for sample, _, _ in replay.replay(steering, samples=samples)))

    assert order([2]) == [2] and order([2, 1]) == [2, 1] and order([0]) == []


def test_edits_at_two_taps_see_each_other(recorded):
    """The later tap's change depends on the value there, which the earlier edit has already changed."""
    replay, logits, segmenter = recorded
    first, last = TAPS[segmenter[0]][0], TAPS[segmenter[0]][-1]
    steering = some_edit(replay, first, samples=(1,))
    grid = replay.tap_shapes[last][1:]

    def double_where_positive(x):
        return x + torch.where(x > 0.1, x, 0.0)

    everywhere = tuple(slice(0, n) for n in grid)
    later = {last: Change(lambda x, samples, window: double_where_positive(x), {1: everywhere, 2: everywhere})}

    def changes(sample):
        both = {first: added(steering, sample)} if sample in steering.maps else {}
        return both | ({last: double_where_positive} if sample in (1, 2) else {})

    naive = plain_pass(segmenter, changes)
    result = applied(replay, logits, replay.replay(steering, later))
    assert (naive - logits).abs().max() > 20 * EXACT
    torch.testing.assert_close(result, naive, rtol=1e-5, atol=2 * EXACT)


def test_gradients_through_the_tail_are_those_of_the_whole_network(recorded):
    replay, _, segmenter = recorded
    _, network, sampling, engine, volume = segmenter
    for tap in TAPS[segmenter[0]]:
        box = tuple(slice(n // 4, n // 2) for n in sampling.sample_shape)
        change = torch.zeros(replay.tap_shapes[tap], requires_grad=True)
        ours = torch.autograd.grad(replay.logits_near(tap, 1, change, box)[2].sigmoid().sum(), change)[0]
        change = torch.zeros_like(change, requires_grad=True)
        with changed(network, {tap: lambda x, change=change: x + change}):
            logits = network(engine.place(sampling.inputs(volume, [1])))
        whole = torch.autograd.grad(logits[(0, 2, *box)].sigmoid().sum(), change)[0]
        torch.testing.assert_close(ours, whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max()))


def test_what_units_add_near_a_box_adds_up_to_their_change(recorded):
    replay, _, segmenter = recorded
    for tap in TAPS[segmenter[0]]:
        steering = some_edit(replay, tap)
        box = tuple(slice(n // 4, n // 2) for n in replay.sampling.sample_shape)
        change = torch.einsum("j...,jc->c...", steering.maps[1], steering.directions)
        near = replay.near(tap, 1, box)
        effects = [near.effect(*unit) for unit in zip(steering.maps[1], steering.directions, strict=True)]
        with torch.no_grad():
            whole = replay.logits_near(tap, 1, change, box)
            torch.testing.assert_close(near(sum(effects)), whole, rtol=1e-4, atol=EXACT)


def test_the_hooked_replay_gives_the_same(recorded):
    replay, logits, segmenter = recorded
    name, network, sampling, engine, volume = segmenter
    hooked = HookedReplay(network, sampling, engine, TAPS[name], channels=4)
    torch.testing.assert_close(hooked.record(volume), logits, rtol=0, atol=EXACT)
    assert hooked.taps == replay.taps and hooked.tap_shapes == replay.tap_shapes
    steering = some_edit(replay, TAPS[name][1])
    ours, theirs = (applied(r, logits, r.replay(steering)) for r in (replay, hooked))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=EXACT)


def test_what_can_be_collapsed_is_and_what_cannot_is_not(recorded):
    replay, _, (name, *_rest) = recorded
    collapsed = {tap: replay.collapsed(tap) for tap in TAPS[name]}
    if name == "segformer":
        assert collapsed["model.decode_head.activation"] and collapsed["model.segformer.stages.3"]
        assert not collapsed["model.segformer.stages.2"], "attention lies behind it"
    if name == "unet":
        assert collapsed["upcat_1"] and collapsed["upcat_3"], "a 1x1 or a transposed convolution comes next"
        assert not collapsed["down_2"], "it is pooled and kept as a skip"
    if name == "strided_unet":
        assert collapsed["model.1"], "a transposed convolution comes next"
        assert not collapsed["model.1.submodule"], "the other tap comes next"


def test_a_local_edit_touches_a_box_and_not_the_slice(recorded):
    replay, _, (name, *_rest) = recorded
    tap = TAPS[name][-1]
    channels, *grid = replay.tap_shapes[tap]
    rows = torch.zeros(1, *grid)
    rows[(0, *(n // 2 for n in grid))] = 1.0
    ((_, box, _),) = replay.replay(Steering(tap, torch.randn(1, channels), {0: rows}))
    assert all(b.stop - b.start < n for b, n in zip(box, replay.sampling.sample_shape, strict=True))


def test_an_unknown_tap_is_named(segmenter):
    _, network, sampling, engine, _ = segmenter
    with pytest.raises(UsageError, match="nowhere"):
        Replay(network, sampling, engine, ["nowhere"], channels=4)
