"""A tiny real pack (a few kB of safetensors), and a copy of it to break."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_lens import TAPS, tiny_lens

from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.packs.build import write_pack
from MedSegLensLib.packs.catalogue import catalogue_table
from MedSegLensLib.packs.info import Code, Label, PackInfo, TrainedOn
from MedSegLensLib.segmenters.architectures import SegmenterConfig


@pytest.fixture(scope="session")
def info() -> PackInfo:
    return PackInfo(
        name="tiny-unet",
        version="1.2.0",
        licence="Apache-2.0",
        created="2026-11-21",
        description="A pack for tests.",
        trained_on=TrainedOn("Nothing.", ("case-1",), ("case-2",), "by hand"),
        input={
            "modalities": ["t1n", "t1c", "t2w", "t2f"],
            "spacing": [1.0, 1.0, None],
            "size_divisor": [16, 16, 1],
            "orientation": "LPS",
            "normalisation": "zscore_brain",
            "may_be_missing": ["t1n"],
        },
        labels=(
            Label(1, "NCR", "necrotic tumour core", Code("6574001", "Necrosis"), (255, 0, 0)),
            Label(2, "ED", "edema", Code("79654002", "Edema"), (0, 255, 0)),
            Label(3, "ET", "enhancing tumour", None, (0, 0, 255)),
        ),
        segmenter=SegmenterConfig("unet", {"features": [4, 4, 4, 4, 4, 4]}),
        citation=("Nobody 2026",),
        quality={"dice": {"case-2": {"WT": 0.5, "ET": None}}},
        limits=("Not for use.",),
    )


@pytest.fixture(scope="session")
def lenses() -> list[Lens]:
    return [tiny_lens(tap, seed) for seed, tap in enumerate(TAPS)]


@pytest.fixture(scope="session")
def state_dict() -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(7)
    return {
        "conv.weight": torch.randn(4, 4, 3, 3, generator=rng),
        "conv.huge": torch.tensor([1.0, 1e6]),
        "bn.running_mean": torch.randn(4, generator=rng) * 1e-3,
        "bn.running_var": torch.tensor([1e-9, 1.0, 1e7, 3.3]),
        "bn.num_batches_tracked": torch.tensor(70_001, dtype=torch.int64),
    }


@pytest.fixture(scope="session")
def catalogue():
    return catalogue_table(
        {"tap": tap, "latent": j, "fires_share": 0.1, "mean": 1.5, "max": 4.0, "share_et": 0.7, "best_case": "case-1"}
        for tap in TAPS
        for j in range(8)
    )


@pytest.fixture(scope="session")
def built(tmp_path_factory, info, state_dict, lenses, catalogue) -> Path:
    """A whole pack; not to be changed."""
    folder = tmp_path_factory.mktemp("built") / "tiny-unet"
    write_pack(folder, info, state_dict, lenses, catalogue, "# Tiny\n", default_tap=TAPS[1])
    return folder


@pytest.fixture
def pack(tmp_path, built) -> Path:
    """A copy of the pack, to break."""
    return Path(shutil.copytree(built, tmp_path / "packs" / "tiny-unet"))


@pytest.fixture
def change(pack):
    """change(function): apply a function to the copy's pack.json document."""

    def apply(function):
        document = json.loads((pack / "pack.json").read_text(encoding="utf-8"))
        function(document)
        (pack / "pack.json").write_text(json.dumps(document))

    return apply


@pytest.fixture
def relist(pack, change):
    """relist(name): list a file of the copy with its present hash and size, as a forger would."""

    def apply(name: str):
        data = (pack / name).read_bytes()
        entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        change(lambda document: document["files"].__setitem__(name, entry))

    return apply
