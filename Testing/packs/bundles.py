"""A MONAI bundle in the standard layout, with small weights of our own, and a module of a user's own."""

import copy
import json
from pathlib import Path

import torch

from MedSegLensLib.segmenters.architectures import SegmenterConfig, build_network

METADATA = {
    "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
    "version": "0.3.0",
    "monai_version": "1.4.0",
    "pytorch_version": "2.4.0",
    "name": "Small glioma",
    "task": "Brain tumour segmentation",
    "description": "A small network for brain tumour regions",
    "authors": "Nobody",
    "copyright": "Nobody",
    "data_source": "Procedural phantoms",
    "references": ["Nobody (2026)"],
    "intended_use": "Tests only",
    "network_data_format": {
        "inputs": {
            "image": {
                "type": "image",
                "format": "magnitude",
                "modality": "MR",
                "num_channels": 4,
                "spatial_shape": ["8*n", "8*n", "8*n"],
                "channel_def": {"0": "T1c", "1": "T1", "2": "T2", "3": "FLAIR"},
            }
        },
        "outputs": {
            "pred": {
                "type": "image",
                "format": "segmentation",
                "num_channels": 3,
                "channel_def": {"0": "Tumor core", "1": "Whole tumor", "2": "Enhancing tumor"},
            }
        },
    },
}
INFERENCE = {
    "imports": ["$import glob"],
    "bundle_root": ".",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "width": 8,
    "network_def": {
        "_target_": "SegResNet",
        "spatial_dims": 3,
        "init_filters": "@width",
        "in_channels": 4,
        "out_channels": 3,
        "norm": ["BATCH", {"eps": 1e-4}],
        "blocks_down": [1, 1, 1],
        "blocks_up": [1, 1],
        "dropout_prob": 0.2,
    },
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True},
        ],
    },
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 24], "sw_batch_size": 1, "overlap": 0.5},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
            {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
        ],
    },
}
ARGUMENTS = {k: v for k, v in INFERENCE["network_def"].items() if k != "_target_"} | {"init_filters": 8}

OWN_MODULE = """
from torch import nn


class Small(nn.Module):
    # `tokens` has no spatial axes, `last` has its channels behind, `twice` runs twice.

    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(4, width, 3, padding=1)
        self.middle = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.twice = nn.ReLU()
        self.tokens = nn.Linear(width, width)
        self.last = nn.Identity()
        self.out = nn.Conv2d(width, 4, 1)

    def forward(self, x):
        x = self.middle(self.twice(self.first(x)))
        tokens = self.tokens(x.flatten(2).transpose(1, 2))
        x = x + self.twice(tokens.transpose(1, 2).reshape(x.shape))
        x = self.last(x.movedim(1, -1)).movedim(-1, 1)
        return nn.functional.interpolate(self.out(x), scale_factor=2.0, mode="bilinear")


def make(width=8):
    return Small(width)


class Moody(Small):
    # Its Python looks at the values, which no graph can follow.

    def forward(self, x):
        return super().forward(x if float(x.abs().max()) > 0 else x + 0.5)


def make_moody(width=8):
    return Moody(width)


def no_network():
    return 7
"""
ABOUT = {
    "name": "small-glioma",
    "version": "1.0.0",
    "licence": "Apache-2.0",
    "description": "For tests.",
    "trained_on": "Nothing.",
}


def write_bundle(folder: Path, metadata: dict | None = None, inference: dict | None = None) -> Path:
    """A bundle with random weights whose labels vary; `metadata` and `inference` replace whole entries."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "metadata.json").write_text(json.dumps(METADATA | (metadata or {})))
    (folder / "configs" / "inference.json").write_text(json.dumps(INFERENCE | (inference or {})))
    torch.save(network().state_dict(), folder / "models" / "model.pt")
    return folder


def network() -> torch.nn.Module:
    """The bundle's network, with noise through it once so that batch norm fits, its hook taken off."""
    torch.manual_seed(3)
    made = build_network(SegmenterConfig("monai:SegResNet", copy.deepcopy(ARGUMENTS)))
    made._forward_hooks.clear()
    settle(made, torch.nn.functional.avg_pool3d(3 * torch.randn(2, 4, 32, 32, 32), 3, 1, 1))
    return made.eval()


def settle(made: torch.nn.Module, noise: torch.Tensor) -> None:
    """Fit batch norm to noise, and the last convolution so that each output channel is about as often below as above
    0."""
    for module in made.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        made.train()(noise)
        logits = made.eval()(noise).transpose(0, 1).flatten(1)
        last = [m for m in made.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Conv3d)][-1]
        scale = 2 / logits.std(1)
        last.weight.mul_(scale.view(-1, *[1] * (last.weight.ndim - 1)))
        last.bias.copy_((last.bias - logits.mean(1)) * scale)
