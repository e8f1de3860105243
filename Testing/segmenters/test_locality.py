"""The reach that is read off the graph is the reach that a perturbation shows."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from MedSegLensLib.segmenters.graph import capture, cut_tail, marked_node, output_node
from MedSegLensLib.segmenters.locality import locality, make_size_free

SIZE = 48


def layer(kind: str, channels: int) -> nn.Module:
    return {
        "conv3": nn.Conv2d(channels, channels, 3, padding=1),
        "conv5": nn.Conv2d(channels, channels, 5, padding=2),
        "dilated": nn.Conv2d(channels, channels, 3, padding=2, dilation=2),
        "conv1": nn.Conv2d(channels, channels, 1),
        "norm": nn.BatchNorm2d(channels),
        "relu": nn.ReLU(),
        "down": nn.MaxPool2d(2),
        "strided": nn.Conv2d(channels, channels, 3, stride=2, padding=1),
        "up": nn.ConvTranspose2d(channels, channels, 2, stride=2),
        "bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
        "nearest": nn.Upsample(scale_factor=2, mode="nearest"),
    }[kind]


KINDS = st.lists(
    st.sampled_from(
        ["conv3", "conv5", "dilated", "conv1", "norm", "relu", "down", "strided", "up", "bilinear", "nearest"]
    ),
    min_size=1,
    max_size=5,
)


def network_of(kinds: list[str]) -> nn.Module | None:
    """tap at half resolution, then the layers, then back to full resolution; None where that is no whole factor."""
    scale = 2  # output voxels per cell
    for kind in kinds:
        scale = (
            scale * 2 if kind in ("down", "strided") else scale / 2 if kind in ("up", "bilinear", "nearest") else scale
        )
        if not 1 <= scale <= 8:
            return None
    layers = [layer(kind, 3) for kind in kinds]
    if scale > 1:
        layers.append(nn.Upsample(scale_factor=scale, mode="nearest"))
    return nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1), *layers).eval()


@settings(max_examples=10, deadline=None)
@given(KINDS, st.integers(0, SIZE // 2 - 1), st.integers(0, SIZE // 2 - 1), st.integers(0, 10**6))
def test_a_crop_reproduces_the_change_exactly(kinds, row, column, seed):
    network = network_of(kinds)
    if network is None:
        return
    torch.manual_seed(seed)
    graph = capture(network, torch.zeros(2, 2, SIZE, SIZE), ["0"])
    start = marked_node(graph, "0")
    tail, skips = cut_tail(graph, start)
    found = locality(tail, start, output_node(graph))
    assert found is not None and not skips
    with torch.no_grad():
        x = torch.randn(1, 3, SIZE // 2, SIZE // 2)
        edited = x.clone()
        edited[..., row, column] += 3 * torch.randn(3)
        before, after = tail(x), tail(edited)
        core = found.core((slice(row, row + 1), slice(column, column + 1)))
        outside = (before != after).clone()
        outside[(..., *core)] = False
        assert not outside.any(), "the change reaches beyond its core"
        crop = found.crop(core)
        make_size_free(tail)
        window = tuple(slice(c.start // s, c.stop // s) for c, s in zip(crop, found.step, strict=True))
        inner = tuple(slice(c.start - k.start, c.stop - k.start) for c, k in zip(core, crop, strict=True))
        cropped = tail(edited[(..., *window)])[(..., *inner)]
        torch.testing.assert_close(cropped, after[(..., *core)], rtol=0, atol=1e-5)


def test_attention_is_not_local():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.attention = nn.Conv2d(2, 4, 1), nn.MultiheadAttention(4, 1, batch_first=True)

        def forward(self, x):
            y = self.first(x)
            tokens = y.flatten(2).transpose(1, 2)
            return y + self.attention(tokens, tokens, tokens)[0].transpose(1, 2).reshape(y.shape)

    graph = capture(Attends().eval(), torch.zeros(2, 2, 8, 8), ["first"])
    start = marked_node(graph, "first")
    tail, _ = cut_tail(graph, start)
    assert locality(tail, start, output_node(graph)) is None


def test_instance_norm_is_not_local():
    network = nn.Sequential(nn.Conv2d(2, 4, 1), nn.InstanceNorm2d(4), nn.Conv2d(4, 2, 1)).eval()
    graph = capture(network, torch.zeros(2, 2, 8, 8), ["0"])
    start = marked_node(graph, "0")
    tail, _ = cut_tail(graph, start)
    assert locality(tail, start, output_node(graph)) is None
