"""The networks a pack may name: an architecture and its arguments, no code.

A pack holds a name from `ARCHITECTURES` and the keyword arguments of that network, both checked before anything is
built. Every network maps `(B, C, *spatial)` to logits `(B, K, *spatial)` at the input's own resolution.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from MedSegLensLib.errors import PackError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SegmenterConfig:
    """What rebuilds a segmenter: architecture, arguments, and how a volume is cut into its inputs.

    `sampling` is "slices" (2D: one input per axial slice) or "patches" (3D sliding window of `patch_size` voxels
    (z, y, x), neighbours overlapping by the fraction `overlap`).
    """

    architecture: str
    arguments: dict = field(default_factory=dict)
    sampling: str = "slices"
    patch_size: tuple[int, int, int] | None = None
    overlap: float = 0.25

    @property
    def spatial_dims(self) -> int:
        return 2 if self.sampling == "slices" else 3


def unet(in_channels: int = 4, out_channels: int = 4, features=(16, 32, 64, 128, 256, 16)) -> "nn.Module":
    """MONAI BasicUNet, 2D, batch norm.

    Batch norm on purpose: instance norm ties a whole slice together, so that no box of it could be computed alone.
    """
    import contextlib
    import io

    from monai.networks.nets.basic_unet import BasicUNet

    with contextlib.redirect_stdout(io.StringIO()):  # BasicUNet prints its features
        return BasicUNet(2, in_channels, out_channels, features=tuple(features), norm="batch", dropout=0.0)


def strided_unet(
    in_channels: int = 4, out_channels: int = 4, channels=(32, 64, 128, 256, 256), residual_units: int = 2
) -> "nn.Module":
    """MONAI UNet, 2D, batch norm: residual units, and a first convolution with stride 2 (Kerfoot et al. 2019).

    No stage but the last runs at the full resolution, so a pass takes 0.4 of the time of `unet` and its tail after
    the last decoder stage a tenth of the pass: an edit there is answered at once.
    """
    from monai.networks.nets.unet import UNet

    strides = (2,) * (len(channels) - 1)
    return UNet(2, in_channels, out_channels, tuple(channels), strides, num_res_units=residual_units, norm="batch")


def segformer(
    in_channels: int = 4,
    out_channels: int = 4,
    depths=(2, 2, 2, 2),
    hidden_sizes=(32, 64, 160, 256),
    decoder_hidden_size: int = 256,
) -> "nn.Module":
    """transformers' SegFormer (MiT-B0 by default; Xie et al. 2021, arXiv 2105.15203), logits resized to the input."""
    import torch.nn.functional as F
    from torch import nn
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    class Segformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = SegformerForSemanticSegmentation(
                SegformerConfig(
                    num_channels=in_channels,
                    num_labels=out_channels,
                    depths=list(depths),
                    hidden_sizes=list(hidden_sizes),
                    decoder_hidden_size=decoder_hidden_size,
                )
            )

        def forward(self, x):
            logits = self.model(pixel_values=x).logits
            return F.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=False)

    return Segformer()


def segresnet(
    in_channels: int = 4, out_channels: int = 4, init_filters: int = 8, blocks_down=(1, 2, 2, 2), blocks_up=(1, 1, 1)
) -> "nn.Module":
    """MONAI SegResNet, 3D, batch norm (Myronenko 2018, arXiv 1810.11654)."""
    from monai.networks.nets.segresnet import SegResNet

    return SegResNet(
        spatial_dims=3,
        init_filters=init_filters,
        in_channels=in_channels,
        out_channels=out_channels,
        blocks_down=tuple(blocks_down),
        blocks_up=tuple(blocks_up),
        norm="BATCH",
    )


ARCHITECTURES: dict[str, Callable[..., "nn.Module"]] = {
    "unet": unet,
    "strided_unet": strided_unet,
    "segformer": segformer,
    "segresnet": segresnet,
}


def build_network(config: SegmenterConfig) -> "nn.Module":
    """The untrained network of a config. Raises PackError for an unknown architecture or arguments it does not take."""
    if config.architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise PackError(config.architecture, "is not an architecture this version knows.", f"Known are: {known}.")
    try:
        return ARCHITECTURES[config.architecture](**config.arguments)
    except (TypeError, ValueError, AssertionError) as problem:
        raise PackError(
            config.architecture,
            f"cannot be built with the arguments {config.arguments} ({problem}).",
            "Correct the arguments in the pack or the configuration.",
        ) from problem
