"""Bring your own segmenter: a MONAI bundle and a torch function become packs, get a lens, and are opened and edited."""

import contextlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import save_file

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cases.reading import read_case
from MedSegLensLib.cases.writing import write_case
from MedSegLensLib.editing.recipe import Edit, PackReference, Recipe
from MedSegLensLib.editing.session import Session
from MedSegLensLib.lenses.files import load_lens, save_lens
from MedSegLensLib.packs.pack import load_pack
from MedSegLensLib.packs.verify import verify
from MedSegLensLib.segmenters.engine import Engine
from MedSegLensLib.segmenters.sampling import whole
from MedSegLensLib.segmenters.taps import changed
from MedSegLensLib.segmenters.trust import VARIABLE

for room in ("packs", "editing"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / room))
from bundles import ABOUT, OWN_MODULE, settle, write_bundle  # noqa: E402
from tiny_packs import random_lens  # noqa: E402

LENS = ["--width", "24", "--k", "4", "--steps", "20", "--batch", "256", "--tokens", "3000", "--device", "cpu"]


@pytest.fixture(autouse=True)
def no_trust(monkeypatch):
    """What one test trusts, the next does not."""
    monkeypatch.setenv(VARIABLE, "")


@pytest.fixture(scope="module")
def case():
    return phantom(1, size=(40, 48, 14), spacing=(4.0, 4.0, 9.0))


@pytest.fixture(scope="module")
def cases(tmp_path_factory, case):
    folder = tmp_path_factory.mktemp("cases")
    write_case(case, folder / "somebody")
    return folder


@pytest.fixture
def about(tmp_path):
    """about(**fields): a file with the fields every pack needs, and these."""

    def write(**fields):
        path = tmp_path / "about.json"
        path.write_text(json.dumps(ABOUT | fields))
        return path

    return write


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module `own_net` of the user's own, on the search path, and its weights."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "own_net.py").write_text(OWN_MODULE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "own_net", raising=False)
    namespace: dict = {"__name__": "elsewhere"}
    exec(OWN_MODULE, namespace)
    torch.manual_seed(0)
    network = namespace["make"](8).eval()
    settle(network, 3 * torch.nn.functional.avg_pool2d(torch.randn(4, 4, 32, 32), 3, 1, 1))
    save_file(network.state_dict(), tmp_path / "own.safetensors")
    return folder, tmp_path / "own.safetensors"


OWN = {
    "input": {"modalities": ["t1n", "t1c", "t2w", "t2f"]},
    "segmenter": {"sampling": "slices", "arguments": {"width": 8}},
    "outputs": {"kind": "softmax", "channels": ["background", "NCR", "ED", "ET"]},
}


def naive(session, recipe) -> np.ndarray:
    """The labels by the plain way: the whole network with the edits in forward hooks."""
    tap, lens = session.pack.default_tap, session.lenses[session.pack.default_tap]
    latents = torch.tensor([edit.latent for edit in recipe.edits])
    codes, logits = session.codes_at(tap), []
    for sample in range(session.sampling.count):
        dense = torch.from_numpy(np.stack([codes.dense(int(j))[sample] for j in latents]))
        added = -torch.einsum("j...,jc->c...", dense, lens.W_dec[latents])
        with torch.no_grad(), changed(session.network, {tap: lambda x, added=added: x + added.to(x)}):
            x = session.engine.place(session.sampling.inputs(session._volume, [sample]))
            logits.append(session.network(x).float())
    return session.labels_of(torch.cat(logits), whole(session.labels.shape))


def assert_edits_like_the_plain_way(folder, case) -> Session:
    pack = load_pack(folder)
    session = Session(case, pack, engine=Engine("cpu", torch.float32, False, 2))
    codes = session.codes_at(pack.default_tap)
    firing = [j for j in range(pack.lens().d_sae) if codes.dense(j).any()]
    assert firing
    recipe = Recipe("none", PackReference.of(pack), tuple(Edit(pack.default_tap, j, "scale", 0.0) for j in firing))
    edited = session.edit(recipe).labels
    assert (edited != session.labels).any()
    difference = edited != naive(session, recipe)
    assert difference.mean() < 1e-3  # sums in another order, where two labels are all but equal
    return session


def test_a_monai_bundle_becomes_a_pack_gets_its_lens_and_is_edited(run, about, tmp_path, case, cases):
    bundle, pack = write_bundle(tmp_path / "bundle"), tmp_path / "pack"
    code, built = run(
        "pack", "build", "--monai-bundle", bundle, "--taps", "up_layers.0", "--about", about(), "--out", pack
    )
    assert code == 0, built
    assert built["input"]["orientation"] == "SAR" and built["input"]["modalities"][0] == "t1c"
    assert built["taps"][0]["channels"] == 16 and built["taps"][0]["grid"] == [16, 16, 12]
    assert [f.severity for f in verify(pack)] == ["warning"]  # no lens yet

    code, trained = run(
        "train", "lens", "--pack", pack, "--tap", "up_layers.0", "--cases", cases, "--out", tmp_path / "lens", *LENS
    )
    assert code == 0, trained
    code, added = run("pack", "add-lens", pack, "--lens", tmp_path / "lens", "--out", tmp_path / "whole")
    assert code == 0 and added["lenses"] == ["up_layers.0"], added
    assert verify(tmp_path / "whole") == []

    session = assert_edits_like_the_plain_way(tmp_path / "whole", case)
    assert not session.notes or "cannot be captured" not in " ".join(session.notes)
    regions = regions_of_the_bundle(session)
    thresholded = regions > 0
    nested = (~thresholded[2] | thresholded[0]) & (~thresholded[0] | thresholded[1])
    labels = np.where(thresholded[2], 3, np.where(thresholded[0], 1, np.where(thresholded[1], 2, 0)))
    inside = np.abs(regions).min(0) > 1e-3
    assert np.array_equal(session.labels[nested & inside], labels[nested & inside])
    assert len(np.unique(session.labels)) >= 3 and (nested & inside).mean() > 0.2


def regions_of_the_bundle(session) -> np.ndarray:
    """TC, WT, ET as MONAI's own sliding window gives them for the bundle's own network."""
    from monai.inferers import sliding_window_inference

    network = session.pack.network()
    network._forward_hooks.clear()
    volume, shape = session._volume, session.labels.shape
    after = [p - v for p, v in zip(session.sampling.padded, shape, strict=True)]  # MONAI would pad on both sides
    volume = torch.nn.functional.pad(volume, (0, after[2], 0, after[1], 0, after[0]))
    with torch.no_grad():
        regions = sliding_window_inference(volume[None], (32, 32, 24), 1, network, overlap=0.5, mode="gaussian")
    return regions[0, :, : shape[0], : shape[1], : shape[2]].numpy()


def test_the_worker_opens_a_bundles_pack_with_axes_of_its_own(run, about, tmp_path, case):
    from MedSegLensLib.worker.client import WorkerClient
    from MedSegLensLib.worker.opened_case import _engine_of

    bundle, pack = write_bundle(tmp_path / "bundle"), tmp_path / "pack"
    assert run("pack", "build", "--monai-bundle", bundle, "--about", about(), "--out", pack)[0] == 0
    with contextlib.closing(WorkerClient(device="cpu")) as client:
        volumes = {modality: volume_of(image) for modality, image in case.images.items()}
        remote = client.open_case(volumes, "somebody", str(pack)).result(400)
    session = Session(case, load_pack(pack), engine=_engine_of(remote._engine))  # each would choose by timing
    assert np.array_equal(remote.opened.labels, sitk.GetArrayFromImage(session.to_case(session.labels)))


def volume_of(image: sitk.Image):
    """As the scene gives it to the worker."""
    from MedSegLensLib.worker.client import Volume

    ras, affine = np.diag([-1.0, -1.0, 1.0]), np.eye(4)
    affine[:3, :3] = ras @ np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    affine[:3, 3] = ras @ np.array(image.GetOrigin())
    return Volume(sitk.GetArrayFromImage(image), affine, "")


def test_a_torch_function_is_refused_until_its_module_is_named(run, about, own, tmp_path, case, cases):
    _, weights = own
    arguments = ["pack", "build", "--torch", "own_net:make", "--weights", weights, "--about", about(**OWN)]
    code, refused = run(*arguments, "--out", tmp_path / "pack")
    assert code == 4 and "--trust-module own_net" in refused["error"]["remedy"]
    assert "own_net" not in sys.modules and not (tmp_path / "pack").exists()

    code, built = run(*arguments, "--taps", "middle", "--trust-module", "own_net", "--out", tmp_path / "pack")
    assert code == 0 and built["input"]["size_divisor"] == [2, 2, 1], built
    code, _ = run(
        "train",
        "lens",
        "--pack",
        tmp_path / "pack",
        "--tap",
        "middle",
        "--cases",
        cases,
        *LENS,
        "--out",
        tmp_path / "lens",
    )
    assert code == 0
    code, _ = run("pack", "add-lens", tmp_path / "pack", "--lens", tmp_path / "lens", "--out", tmp_path / "whole")
    assert code == 0
    assert_edits_like_the_plain_way(tmp_path / "whole", case)

    os.environ[VARIABLE] = ""  # another user, on another day
    code, refused = run("segment", cases / "somebody", "--pack", tmp_path / "whole", "--out", tmp_path / "s.nii.gz")
    assert code == 4 and VARIABLE in refused["error"]["remedy"]
    code, _ = run("pack", "show", tmp_path / "whole")  # what a pack says of itself is read without its code
    assert code == 0


SWIN_MODULE = """
from monai.networks.nets import SwinUNETR


def make(**arguments):
    return SwinUNETR(**arguments)
"""
SWIN_ARGUMENTS = {"in_channels": 4, "out_channels": 3, "feature_size": 12, "depths": [1, 1, 1, 1]}
SWIN = {
    "input": {"modalities": ["t1n", "t1c", "t2w", "t2f"]},
    "outputs": {"kind": "sigmoid", "channels": ["TC", "WT", "ET"]},
    "held_out": ["case-2"],
}
SAMPLED = {2: {"sampling": "slices"}, 3: {"sampling": "patches", "patch_size": [64, 64, 64], "overlap": 0.25}}


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
def test_a_swin_transformer_becomes_a_pack_and_goes_all_the_way(run, about, tmp_path, monkeypatch, dims):
    pytest.importorskip("einops")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "swin_net.py").write_text(SWIN_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    monkeypatch.delitem(sys.modules, "swin_net", raising=False)
    from monai.networks.nets import SwinUNETR

    torch.manual_seed(0)
    arguments = SWIN_ARGUMENTS | {"spatial_dims": dims}
    network = SwinUNETR(**arguments).eval()
    smooth = torch.nn.functional.avg_pool2d if dims == 2 else torch.nn.functional.avg_pool3d
    settle(network, smooth(3 * torch.randn(1, 4, *[64] * dims), 3, 1, 1))
    save_file(network.state_dict(), tmp_path / "swin.safetensors")
    size, spacing = ((60, 64, 10), (3.0, 3.0, 16.0)) if dims == 2 else ((60, 64, 48), (3.0, 3.0, 3.5))
    for seed in (1, 2):
        write_case(phantom(seed, size=size, spacing=spacing), tmp_path / "cases" / f"case-{seed}")
    tap, cases, case = "decoder2", tmp_path / "cases", tmp_path / "cases" / "case-2"
    trusted = ("--trust-module", "swin_net")

    def done(*arguments) -> dict:
        code, said = run(*arguments, *trusted)
        assert code == 0, said
        return said

    fields = SWIN | {"segmenter": SAMPLED[dims] | {"arguments": arguments}}
    made = ("--torch", "swin_net:make", "--weights", tmp_path / "swin.safetensors", "--about", about(**fields))
    built = done("pack", "build", *made, "--taps", tap, "--out", tmp_path / "bare")
    assert built["taps"][0]["channels"] == 12 and len(built["taps"][0]["grid"]) == dims
    trained = done(
        "train", "lens", "--pack", tmp_path / "bare", "--tap", tap, "--cases", cases, *LENS, "--out", tmp_path / "lens"
    )
    assert load_lens(tmp_path / "lens").metadata["cases"] == ["case-1"] and trained["held_out"]["n_tokens"] > 0
    pack = tmp_path / "pack"
    added = done("pack", "add-lens", tmp_path / "bare", "--lens", tmp_path / "lens", "--out", pack)
    assert added["lenses"] == [tap]
    assert [f.severity for f in verify(pack)] == ["warning"]  # its code is the user's own

    judged = done("evaluate", "lens", "--pack", pack, "--cases", cases, "--quick", "--out", tmp_path / "report")
    assert judged["verdict"]["word"] in ("With care", "Do not trust") and (tmp_path / "report" / "lens.html").exists()
    done("segment", case, "--pack", pack, "--out", tmp_path / "plain.nii.gz")
    read = read_case(case)
    session = assert_edits_like_the_plain_way(pack, read)
    latent = max(range(24), key=lambda j: float(session.codes_at(tap).dense(j).sum()))
    done("edit", case, "--pack", pack, "--latent", latent, "--scale", "0", "--out", tmp_path / "edited.nii.gz")
    plain, edited = (sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"{n}.nii.gz"))) for n in ("plain", "edited"))
    assert plain.shape == sitk.GetArrayFromImage(read.labels).shape and len(np.unique(plain)) >= 3
    assert (plain != edited).any()


def test_a_network_that_cannot_be_captured_is_run_whole_for_each_edit(run, about, own, tmp_path, case):
    arguments = ["--torch", "own_net:make_moody", "--trust-module", "own_net", "--weights", own[1]]
    code, built = run("pack", "build", *arguments, "--about", about(**OWN), "--out", tmp_path / "pack")
    assert code == 0, built
    pack = load_pack(tmp_path / "pack")
    save_lens(random_lens(pack.network(), pack.info.segmenter, "middle"), tmp_path / "lens")
    code, _ = run("pack", "add-lens", tmp_path / "pack", "--lens", tmp_path / "lens", "--out", tmp_path / "whole")
    assert code == 0
    session = assert_edits_like_the_plain_way(tmp_path / "whole", case)
    assert "every edit runs the whole network again" in " ".join(session.notes)


@pytest.mark.parametrize(
    ("tap", "said"),
    [
        ("midle", "middle"),
        ("tokens", "no spatial axes"),
        ("last", "not the first axis"),
        ("twice", "runs 2 times"),
    ],
)
def test_taps_that_are_none_are_refused_with_the_reason(run, about, own, tmp_path, tap, said):
    arguments = ["--torch", "own_net:make", "--trust-module", "own_net", "--weights", own[1], "--taps", tap]
    code, refused = run("pack", "build", *arguments, "--about", about(**OWN), "--out", tmp_path / "pack")
    assert code == 2 and said in refused["error"]["cause"] + refused["error"]["remedy"], refused
    assert not (tmp_path / "pack").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"segmenter": {"sampling": "slices", "arguments": {"width": 9}}}, "of another shape: first.weight"),
        ({"segmenter": {"sampling": "slices", "arguments": {"wdith": 8}}}, "wdith"),
        ({"segmenter": {"sampling": "slices", "arguments": {"width": 1e9}}}, "2048 is the most"),
        ({"segmenter": {"sampling": "slices", "arguments": {"pretrained": True}}}, "brings its own"),
        ({"segmenter": {"sampling": "patches", "patch_size": [8, 8]}}, "patch_size"),
        ({"segmenter": {"sampling": "cubes"}}, "segmenter.sampling"),
        ({"outputs": {"kind": "sigmoid", "channels": ["TC", "WT", "ET"]}}, "4 output channels"),
        ({"outputs": {"kind": "sigmoid", "channels": ["TC", "liver"]}}, "liver"),
        ({"outputs": None}, "labels"),
        ({"input": {}}, "input.modalities"),
        ({"input": {"modalities": ["t1n", "t1c"]}}, "does not take 2 channels"),
        ({"input": OWN["input"] | {"normalisation": "none"}}, "zscore_brain"),
        ({"licence": ""}, "SPDX"),
    ],
)
def test_what_does_not_fit_is_said(run, about, own, tmp_path, change, said):
    fields = {k: v for k, v in (OWN | change).items() if v is not None}
    arguments = ["--torch", "own_net:make", "--trust-module", "own_net", "--weights", own[1]]
    code, refused = run("pack", "build", *arguments, "--about", about(**fields), "--out", tmp_path / "pack")
    assert code in (2, 4) and said in " ".join(refused["error"].values()), refused
    assert not (tmp_path / "pack").exists()


def test_weights_are_named_where_they_do_not_fit(run, about, own, tmp_path):
    save_file({"first.weight": torch.ones(8, 4, 3, 3), "head.bias": torch.ones(2)}, tmp_path / "other.safetensors")
    arguments = [
        "--torch",
        "own_net:make",
        "--trust-module",
        "own_net",
        "--about",
        about(**OWN),
        "--out",
        tmp_path / "p",
    ]
    code, refused = run("pack", "build", *arguments, "--weights", tmp_path / "other.safetensors")
    assert code == 4 and "missing: first.bias" in refused["error"]["cause"]
    assert "not of this network: head.bias" in refused["error"]["cause"]
    torch.save({}, tmp_path / "w.pt")
    code, refused = run("pack", "build", *arguments, "--weights", tmp_path / "w.pt")
    assert code == 4 and "could run code" in refused["error"]["cause"]


def test_a_bundle_that_does_not_say_all_asks_for_it_at_once(run, tmp_path):
    bundle = write_bundle(tmp_path / "bundle", metadata={"network_data_format": {}}, inference={"postprocessing": []})
    code, refused = run("pack", "build", "--monai-bundle", bundle, "--out", tmp_path / "pack")
    assert code == 2
    for field in ("licence", "input.modalities", "outputs"):
        assert field in refused["error"]["cause"]


def test_code_in_the_current_folder_does_not_count(run, about, own, tmp_path, monkeypatch):
    (tmp_path / "lying").mkdir()
    (tmp_path / "lying" / "lying_net.py").write_text("raise SystemExit('it ran')")
    monkeypatch.chdir(tmp_path / "lying")
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    arguments = ["--torch", "lying_net:make", "--trust-module", "lying_net", "--weights", own[1]]
    code, refused = run("pack", "build", *arguments, "--about", about(**OWN), "--out", tmp_path / "pack")
    assert code == 4 and "lying_net is not found" in refused["error"]["cause"]


def test_only_what_the_trusted_module_defines_is_called(run, about, own, tmp_path):
    folder, weights = own
    (folder / "own_net.py").write_text(OWN_MODULE + "\nfrom os import getcwd\n")
    for name, said in (("getcwd", "not of this module"), ("absent", "does not define"), ("no_network", "not a torch")):
        arguments = ["--torch", f"own_net:{name}", "--trust-module", "own_net", "--weights", weights]
        fields = OWN | {"segmenter": {"sampling": "slices"}}
        code, refused = run("pack", "build", *arguments, "--about", about(**fields), "--out", tmp_path / "pack")
        assert code == 4 and said in refused["error"]["cause"], refused
