"""Packs of the three architectures with random weights and random lenses: small, and every part of them real."""

from pathlib import Path

import torch
from small_networks import lively_network

from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.packs.build import write_pack
from MedSegLensLib.packs.info import Code, Label, PackInfo, TrainedOn
from MedSegLensLib.packs.pack import LensPack, load_pack
from MedSegLensLib.segmenters.architectures import SegmenterConfig
from MedSegLensLib.segmenters.taps import changed

CONFIGS = {
    "unet": SegmenterConfig("unet", {"features": [8, 8, 12, 16, 20, 8]}),
    "segformer": SegmenterConfig("segformer"),
    "segresnet": SegmenterConfig("segresnet", {"init_filters": 8}, "patches", (32, 32, 32), 0.25),
}
TAPS = {  # default first; the second one lies before it
    "unet": ("upcat_3", "down_4"),
    "segformer": ("model.decode_head.activation", "model.segformer.stages.2"),
    "segresnet": ("up_layers.0", "down_layers.3"),
}
DIVISOR = {"unet": (16, 16, 1), "segformer": (32, 32, 1), "segresnet": (8, 8, 8)}
LATENTS = 24


def write_tiny_pack(name: str, folder: Path) -> LensPack:
    config = CONFIGS[name]
    network = lively_network(config)
    info = PackInfo(
        name=f"tiny-{name}",
        version="1.0.0",
        licence="Apache-2.0",
        created="2026-11-21",
        description="Random weights, for tests.",
        trained_on=TrainedOn("Nothing."),
        input={
            "modalities": ["t1n", "t1c", "t2w", "t2f"],
            "spacing": [None, None, None],
            "size_divisor": list(DIVISOR[name]),
            "orientation": "LPS",
            "normalisation": "zscore_brain",
            "may_be_missing": ["t1n", "t2w"],
        },
        labels=tuple(
            Label(i, n, n, Code("6574001", "Necrosis"), (i, i, i)) for i, n in enumerate(("NCR", "ED", "ET"), 1)
        ),
        segmenter=config,
    )
    lenses = [random_lens(network, config, tap) for tap in TAPS[name]]
    write_pack(folder, info, network.state_dict(), lenses, None, "# Tiny\n", default_tap=TAPS[name][0])
    return load_pack(folder)


def random_lens(network, config: SegmenterConfig, tap: str) -> Lens:
    """Random directions with a threshold that lets each latent fire on about a tenth of the tokens of noise."""
    seen = []
    shape = (32, 32, 32) if config.sampling == "patches" else (64, 64)
    with torch.no_grad(), changed(network, {tap: lambda x: seen.append(x)}):
        network(torch.randn(2, 4, *shape))
    tokens = seen[0].flatten(2).transpose(1, 2).flatten(0, 1)
    W_dec = torch.nn.functional.normalize(torch.randn(LATENTS, tokens.shape[1]), dim=1).half().float()
    b_dec = tokens.mean(0)
    a = (tokens - b_dec) @ W_dec.T
    return Lens(tap, W_dec.T.contiguous(), torch.zeros(LATENTS), W_dec, b_dec, a.quantile(0.9, dim=0).clamp_min(0), 2)
