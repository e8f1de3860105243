"""Cutting a volume into samples and putting outputs together again."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from MedSegLensLib.segmenters.sampling import Patches, Slices, union, whole


def test_slices_come_back_as_they_were():
    volume = torch.randn(3, 5, 6, 7)
    sampling = Slices((5, 6, 7))
    inputs = sampling.inputs(volume, list(range(5)))
    assert inputs.shape == (5, 3, 6, 7)
    assert torch.equal(sampling.merge(inputs, whole((5, 6, 7))), volume)
    box = (slice(1, 3), slice(2, 6), slice(0, 4))
    assert torch.equal(sampling.merge(inputs, box), volume[(slice(None), *box)])


@pytest.mark.parametrize("shape", [(24, 40, 36), (16, 20, 64)])
def test_patches_blend_as_monai_does(shape):
    from monai.inferers import sliding_window_inference

    torch.manual_seed(0)
    network = torch.nn.Conv3d(2, 4, 3, padding=1).eval()
    volume = torch.randn(2, *shape)
    sampling = Patches(shape, (16, 16, 16), 0.25)
    with torch.no_grad():
        outputs = network(sampling.inputs(volume, list(range(sampling.count))))
        theirs = sliding_window_inference(volume[None], (16, 16, 16), 4, network, overlap=0.25, mode="gaussian")[0]
    torch.testing.assert_close(sampling.merge(outputs, whole(shape)), theirs, rtol=0, atol=1e-5)


boxes = st.tuples(*(st.tuples(st.integers(0, n - 1), st.integers(1, n)).map(sorted) for n in (20, 24, 22)))


@given(boxes)
@settings(max_examples=30, deadline=None)
def test_a_box_merged_alone_equals_that_box_of_the_whole(corners):
    box = tuple(slice(a, max(b, a + 1)) for a, b in corners)
    sampling = Patches((20, 24, 22), (12, 12, 12), 0.25)
    outputs = torch.randn(sampling.count, 2, 12, 12, 12, generator=torch.Generator().manual_seed(1))
    everything = sampling.merge(outputs, whole((20, 24, 22)))
    assert torch.equal(sampling.merge(outputs, box), everything[(slice(None), *box)])


@pytest.mark.parametrize("shape", [(20, 24, 22), (8, 30, 12)])
def test_the_say_of_all_windows_sums_to_one(shape):
    sampling = Patches(shape, (12, 12, 12), 0.25)
    total = torch.zeros(sampling.padded)
    for sample, window in enumerate(sampling.windows):
        total[window] += sampling.say(sample)
    inside = total[: shape[0], : shape[1], : shape[2]]
    torch.testing.assert_close(inside, torch.ones(shape))
    assert float(total.sum()) == pytest.approx(inside.numel(), rel=1e-5), "nothing beyond the volume has a say"


def test_a_volume_smaller_than_the_window_is_padded():
    sampling = Patches((8, 30, 12), (12, 12, 12), 0.25)
    volume = torch.ones(1, 8, 30, 12)
    inputs = sampling.inputs(volume, [0])
    assert inputs.shape == (1, 1, 12, 12, 12) and float(inputs.sum()) == 8 * 12 * 12
    assert sampling.place(0, whole((12, 12, 12)))[0] == slice(0, 8)


def test_the_union_of_boxes_holds_both():
    assert union([(slice(1, 3), slice(4, 6)), (slice(2, 9), slice(0, 5))]) == (slice(1, 9), slice(0, 6))
