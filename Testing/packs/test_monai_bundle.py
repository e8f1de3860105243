"""A MONAI bundle's configuration is read as text: what it says in a standard way is taken over, nothing is run."""

import contextlib
import json

import pytest
import torch
from bundles import INFERENCE, write_bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from MedSegLensLib.errors import PackError
from MedSegLensLib.packs.monai_bundle import _Expression, _value, read_bundle
from MedSegLensLib.segmenters.weights import read_checkpoint


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "small_glioma")


def rewritten(bundle, name, change):
    path = bundle / "configs" / f"{name}.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document))
    return read_bundle(bundle)


def test_network_input_and_output_are_read(bundle):
    found = read_bundle(bundle).found
    assert found["segmenter"]["architecture"] == "monai:SegResNet"
    assert found["segmenter"]["arguments"]["init_filters"] == 8  # through its reference
    assert found["segmenter"]["arguments"]["norm"] == ["BATCH", {"eps": 1e-4}]
    assert found["segmenter"]["sampling"] == "patches"
    assert found["segmenter"]["patch_size"] == [32, 32, 24] and found["segmenter"]["overlap"] == 0.5
    assert found["input"]["modalities"] == ["t1c", "t1n", "t2w", "t2f"]
    assert found["input"]["axcodes"] == "RAS" and found["input"]["normalisation"] == "zscore_nonzero"
    assert found["outputs"] == {"kind": "sigmoid", "channels": ["TC", "WT", "ET"]}
    assert found["version"] == "0.3.0" and "Small glioma 0.3.0" in found["description"]
    assert set(read_bundle(bundle).unread) == {"licence"}


def test_a_bundle_in_yaml_says_the_same(bundle):
    yaml = pytest.importorskip("yaml")
    as_json = read_bundle(bundle).found
    (bundle / "configs" / "inference.json").unlink()
    (bundle / "configs" / "inference.yaml").write_text(yaml.safe_dump(INFERENCE))
    assert read_bundle(bundle).found == as_json


@pytest.mark.parametrize(
    ("step", "normalisation"),
    [
        ({"_target_": "NormalizeIntensityd", "channel_wise": True}, "zscore_volume"),
        (
            {"_target_": "ScaleIntensityRanged", "a_min": 0, "a_max": 500, "b_min": 0.0, "b_max": 1.0, "clip": True},
            {"kind": "range", "from": [0, 500], "to": [0.0, 1.0], "clip": True},
        ),
        (
            {
                "_target_": "ScaleIntensityRangePercentilesd",
                "lower": 1,
                "upper": 99,
                "b_min": -1,
                "b_max": 1,
                "channel_wise": True,
            },
            {"kind": "percentiles", "from": [1, 99], "to": [-1, 1], "clip": False},
        ),
        (
            {"_target_": "ScaleIntensityd", "channel_wise": True},
            {"kind": "percentiles", "from": [0, 100], "to": [0.0, 1.0], "clip": False},
        ),
    ],
)
def test_other_normalisations_are_read(bundle, step, normalisation):
    def change(document):
        document["preprocessing"]["transforms"][-1] = step

    assert rewritten(bundle, "inference", change).found["input"]["normalisation"] == normalisation


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        (lambda d: d["preprocessing"]["transforms"].pop(1), "input.axcodes", "Orientationd"),
        (lambda d: d["preprocessing"]["transforms"].pop(2), "input.normalisation", "no step"),
        (lambda d: d["preprocessing"]["transforms"][2].update(channel_wise=False), "input.normalisation", "Normalize"),
        (lambda d: d["preprocessing"]["transforms"].append({"_target_": "my.Own"}), "input.normalisation", "Own"),
        (lambda d: d["network_def"].update(dropout_prob="$0.1 * 2"), "segmenter.arguments", "$0.1 * 2"),
        (lambda d: d["inferer"].update(roi_size="$@size"), "segmenter.patch_size", "roi_size"),
        (lambda d: d.pop("postprocessing"), "outputs", "sigmoid"),
    ],
)
def test_what_cannot_be_read_is_asked_for(bundle, change, field, said):
    assert said in rewritten(bundle, "inference", change).unread[field]


def test_channels_without_names_are_asked_for(bundle):
    unread = rewritten(bundle, "metadata", lambda d: d.pop("network_data_format")).unread
    assert "input.modalities" in unread and "outputs" in unread


def test_a_network_outside_monai_becomes_the_users_own_module(bundle):
    read = rewritten(bundle, "inference", lambda d: d["network_def"].update(_target_="scripts.net.Mine"))
    assert read.found["segmenter"]["architecture"] == "torch:scripts.net:Mine"


@pytest.mark.parametrize(
    "target", ["os.system:x", "monai.bundle.run", "monai.networks.nets.ViT", "DenseNet121", "$eval"]
)
def test_what_is_no_segmenter_of_monai_is_refused(bundle, target):
    try:
        read = rewritten(bundle, "inference", lambda d: d["network_def"].update(_target_=target))
    except PackError as problem:
        assert "MONAI networks" in problem.cause
    else:  # a name with a dot is somebody's own module, and asks for trust later
        assert read.found["segmenter"]["architecture"].startswith("torch:os")


def test_without_its_parts_it_is_no_bundle(bundle):
    (bundle / "configs" / "metadata.json").unlink()
    with pytest.raises(PackError, match=r"no configs/metadata\.json"):
        read_bundle(bundle)


def test_torchscript_alone_is_not_read(bundle):
    (bundle / "models" / "model.pt").rename(bundle / "models" / "model.ts")
    with pytest.raises(PackError, match=r"only model\.ts"):
        read_bundle(bundle)


class Running:
    def __reduce__(self):
        return (print, ("this would have run",))


def test_weights_that_would_run_code_are_not_loaded(tmp_path, capsys):
    torch.save({"weight": torch.ones(2), "more": Running()}, tmp_path / "model.pt")
    with pytest.raises(PackError, match="could run code"):
        read_checkpoint(tmp_path / "model.pt")
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "script.pt")
    with pytest.raises(PackError):
        read_checkpoint(tmp_path / "script.pt")
    assert "this would have run" not in capsys.readouterr().out


def test_a_checkpoint_around_the_weights_is_opened(tmp_path):
    torch.save({"epoch": 3, "state_dict": {"a": torch.ones(2, dtype=torch.float16)}}, tmp_path / "model.pt")
    assert read_checkpoint(tmp_path / "model.pt")["a"].dtype == torch.float32


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["@a", "@a#0", "$1", "%x", "@b::c"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    document=st.dictionaries(st.sampled_from(["a", "b", "c"]), json_values),
    key=st.sampled_from(["@a", "@b::c", "@a#0"]),
)
def test_references_end(document, key):
    with contextlib.suppress(_Expression):  # unreadable; what must not happen is that it goes on for ever, or runs
        _value(document, key)


def test_references_that_multiply_come_to_an_end():
    document = {"l0": 1} | {f"l{n}": [f"@l{n - 1}"] * 10 for n in range(1, 15)}
    with pytest.raises(_Expression):
        _value(document, "@l14")
    assert _value(document, "@l2") == [[1] * 10] * 10
