"""Foreign networks: what a pack may name, what its channels mean, and that nothing absurd is built."""

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from MedSegLensLib.cases.case import REGIONS
from MedSegLensLib.errors import PackError, UsageError
from MedSegLensLib.segmenters.architectures import SegmenterConfig, architecture_problem, build_network
from MedSegLensLib.segmenters.fitness import check_taps
from MedSegLensLib.segmenters.foreign import MONAI_NETWORKS, arguments_problem
from MedSegLensLib.segmenters.graph import CannotCapture, capture
from MedSegLensLib.segmenters.outputs import BACKGROUND, LabelLogits, outputs_problem
from MedSegLensLib.segmenters.taps import changed, list_taps
from MedSegLensLib.segmenters.trust import is_trusted, trust, trusted_modules


@pytest.fixture(autouse=True)
def nothing_trusted(monkeypatch):
    monkeypatch.setenv("MEDSEGLENS_TRUSTED_MODULES", "")


def labels_of(outputs, channels: torch.Tensor) -> np.ndarray:
    """channels (C, n) -> labels (n,)."""
    logits = LabelLogits(outputs, 2)(None, (), channels[None, :, :, None])
    return logits[0, :, :, 0].argmax(0).numpy()


@given(
    st.lists(st.tuples(*[st.floats(-30, 30, width=32)] * 3), min_size=1, max_size=20),
    st.permutations(["WT", "TC", "ET"]),
)
@settings(max_examples=60, deadline=None)
def test_sigmoid_regions_become_the_likeliest_nested_labels(values, order):
    region = {name: np.array([v[i] for v in values], np.float64) for i, name in enumerate(order)}
    got = labels_of({"kind": "sigmoid", "channels": order}, torch.tensor(values, dtype=torch.float32).T)
    likelihood = []
    for label in range(
        4
    ):  # log of the product of sigmoids, for the regions that the label lies in and those it does not
        inside = {name: label in REGIONS[name] for name in order}
        likelihood.append(sum(-np.logaddexp(0, -region[n] if inside[n] else region[n]) for n in order))
    likelihood = np.array(likelihood)
    best = likelihood.max(0)
    assert (likelihood[got, np.arange(len(got))] >= best - 1e-4).all()


def test_where_thresholded_regions_are_nested_the_label_is_theirs():
    for wt, tc, et in itertools.product((-3.0, -0.01, 0.01, 3.0), repeat=3):
        nested = (et < 0 or tc > 0) and (tc < 0 or wt > 0)
        expected = 3 if et > 0 else 1 if tc > 0 else 2 if wt > 0 else 0
        channels = torch.tensor([[tc], [wt], [et]])
        if nested:
            outputs = {"kind": "sigmoid", "channels": ["TC", "WT", "ET"]}
            assert labels_of(outputs, channels)[0] == expected
            assert labels_of(outputs, channels.bfloat16())[0] == expected  # small ones beside large ones are not lost


@pytest.mark.parametrize(
    ("outputs", "channels", "expected"),
    [
        (
            {"kind": "softmax", "channels": ["ET", BACKGROUND, "NCR", "ED"]},
            [[9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 0, 9]],
            [3, 0, 2],
        ),
        ({"kind": "softmax", "channels": [BACKGROUND, "WT"]}, [[1, 0], [0, 1]], [0, 2]),
        ({"kind": "sigmoid", "channels": ["WT"]}, [[-1], [1]], [0, 2]),
        ({"kind": "sigmoid", "channels": ["ET"]}, [[-1], [1]], [0, 3]),
        ({"kind": "sigmoid", "channels": ["NCR", "ED", "ET"]}, [[-1, -1, -1], [2, 1, -1], [-1, 3, 1]], [0, 1, 2]),
    ],
)
def test_channels_in_any_order_and_number(outputs, channels, expected):
    assert labels_of(outputs, torch.tensor(channels, dtype=torch.float32).T).tolist() == expected


@pytest.mark.parametrize(
    "outputs",
    [
        [],
        {"kind": "softmax"},
        {"kind": "argmax", "channels": ["WT"]},
        {"kind": "softmax", "channels": ["NCR", "ED"]},
        {"kind": "softmax", "channels": [BACKGROUND]},
        {"kind": "softmax", "channels": [BACKGROUND, "WT", "ED"]},
        {"kind": "sigmoid", "channels": [BACKGROUND, "WT"]},
        {"kind": "sigmoid", "channels": ["WT", "WT"]},
        {"kind": "sigmoid", "channels": []},
    ],
)
def test_outputs_that_mean_nothing_are_refused(outputs):
    assert outputs_problem(outputs)


@pytest.mark.parametrize("name", ["ViT", "os.system", "nets.UNet", "DenseNet121", "", "unet", "UNet "])
def test_only_segmenters_of_monai_are_named(name):
    assert architecture_problem(f"monai:{name}")
    with pytest.raises(PackError):
        build_network(SegmenterConfig(f"monai:{name}"))


def test_each_network_of_the_list_is_in_monai():
    import monai.networks.nets

    assert [name for name in MONAI_NETWORKS if not isinstance(getattr(monai.networks.nets, name, None), type)] == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"spatial_dims": 2, "in_channels": 4, "out_channels": 4, "features": [2048] * 6},
        {"spatial_dims": 3, "in_channels": 2048, "out_channels": 2048, "features": [2048] * 6},
    ],
)
def test_absurd_sizes_are_refused_before_memory_is_asked_for(arguments):
    with pytest.raises(PackError, match="more than 1,000,000 numbers"):
        build_network(SegmenterConfig("monai:BasicUNet", arguments), 1_000_000)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"a": {"b": {"c": {"d": {"e": {}}}}}}, "nested too deeply"),
        ({"channels": list(range(40))}, "40 entries"),
        ({"norm": "x" * 65}, "65 characters"),
        ({"pretrained": True}, "brings its own"),
        ({"width": 4096}, "2048 is the most"),
        ({"f": print}, "no number"),
    ],
)
def test_arguments_are_small_json(arguments, said):
    assert said in arguments_problem(arguments)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2048, 2048) | st.floats(-2048, 2048) | st.text(max_size=64),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=8), json_values, max_size=4))
def test_arguments_that_pass_are_what_the_schema_takes(arguments):
    from MedSegLensLib.packs.info import SCHEMA

    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    import jsonschema

    rules = {"$defs": schema["$defs"], "type": "object", "additionalProperties": {"$ref": "#/$defs/argument"}}
    if arguments_problem(arguments) is None:
        jsonschema.validate(arguments, rules)


def test_trust_is_by_whole_names():
    trust(["mylab.nets"])
    assert is_trusted("mylab.nets") and is_trusted("mylab.nets.unet")
    assert not is_trusted("mylab") and not is_trusted("mylab.nets2") and not is_trusted("os")
    trust(["other"])
    assert trusted_modules() == ("mylab.nets", "other")
    for name in ("a b", "../x", "1a", "", "a;b"):
        with pytest.raises(UsageError):
            trust([name])


class Moody(torch.nn.Module):
    """Its Python looks at the values, and `kept` returns fewer places for some inputs."""

    def __init__(self):
        super().__init__()
        self.first, self.kept, self.out = torch.nn.Conv2d(4, 6, 1), torch.nn.Identity(), torch.nn.Conv2d(6, 4, 1)

    def forward(self, x):
        lively = float(x.abs().max()) > 0
        x = self.first(x)
        if lively:
            self.kept(x)
            return self.out(x)
        self.kept(x[..., ::2])
        return self.out(x) * 2


def test_a_tap_whose_shape_depends_on_the_input_is_refused():
    torch.manual_seed(0)
    with pytest.raises(UsageError, match="changes its shape"):
        check_taps(Moody(), SegmenterConfig("unet"), 4, (16, 32), ["kept"])


def test_a_network_that_looks_at_values_is_said_to_be_uncapturable():
    with pytest.raises(CannotCapture):
        capture(Moody(), torch.zeros(2, 4, 16, 32), ["first"])


SWIN = {"spatial_dims": 2, "in_channels": 4, "out_channels": 3, "feature_size": 12, "depths": [1, 1, 1, 1]}
SWIN_OUTPUTS = {"kind": "sigmoid", "channels": ["TC", "WT", "ET"]}


@pytest.fixture(scope="module")
def swin():
    pytest.importorskip("einops")
    torch.manual_seed(0)
    return build_network(SegmenterConfig("monai:SwinUNETR", SWIN, outputs=SWIN_OUTPUTS)).eval()


def test_taps_of_a_transformer_are_those_with_channels_first(swin):
    names = {tap.name: tap for tap in list_taps(swin, (4, 64, 96))}
    assert names["swinViT.layers1.0"].channels == 24 and names["swinViT.layers1.0"].grid == (16, 24)
    assert "swinViT.layers1.0.blocks.0" not in names
    config = SegmenterConfig("monai:SwinUNETR", SWIN, outputs=SWIN_OUTPUTS)
    assert check_taps(swin, config, 4, (64, 96), ["swinViT.layers1.0"])[0].channels == 24
    with pytest.raises(UsageError, match=r"not the first axis.*swinViT\.layers1\.0"):
        check_taps(swin, config, 4, (64, 96), ["swinViT.layers1.0.blocks.0"])
    with pytest.raises(UsageError, match=r"Like it are: swinViT\.layers1"):
        check_taps(swin, config, 4, (64, 96), ["swinViT.layer1"])


def test_a_captured_transformer_gives_its_own_numbers_and_edits(swin):
    x = torch.randn(3, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    graph = capture(swin, torch.zeros(2, 4, 64, 64), ["swinViT.layers1.0"])
    with torch.no_grad():
        assert torch.equal(graph(x), swin(x))
        with changed(swin, {"swinViT.layers1.0": lambda value: value * 0.5}):
            edited = swin(x)
    assert edited.shape == (3, 4, 64, 64) and not torch.equal(edited, graph(x))
