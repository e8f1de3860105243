"""The networks a pack may name: an architecture and its arguments, no code.

A pack holds a name from `ARCHITECTURES`, or that of a foreign network (foreign.py), and the keyword arguments of that
network, both checked before anything is built. Every network built here maps `(B, C, *spatial)` to logits
`(B, K, *spatial)` of the labels, at the input's own resolution.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from MedSegLensLib.errors import PackError
from MedSegLensLib.segmenters.foreign import arguments_problem, as_json, foreign_factory, foreign_problem, is_foreign

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SegmenterConfig:
    """What rebuilds a segmenter: architecture, arguments, and how a volume is cut into its inputs.

    `sampling` is "slices" (2D: one input per axial slice) or "patches" (3D sliding window of `patch_size` voxels
    (z, y, x), neighbours overlapping by the fraction `overlap`). `outputs` says what its channels mean where they are
    not the logits of background, NCR, ED and ET (outputs.py). `taps` are those its maker proposes for lenses.
    """

    architecture: str
    arguments: dict = field(default_factory=dict)
    sampling: str = "slices"
    patch_size: tuple[int, int, int] | None = None
    overlap: float = 0.25
    outputs: dict | None = None
    taps: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "taps", tuple(self.taps))

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


MOST_NUMBERS = 2**30
"""Weights and buffers of a network of which nothing is known yet: 4 GiB in float32, twice what a pack can hold."""


def architecture_problem(architecture: str) -> str | None:
    """Why this name is no architecture, in words; None for one. Imports no network library."""
    if architecture in ARCHITECTURES:
        return None
    if is_foreign(architecture):
        return foreign_problem(architecture)
    return f"{architecture!r} is not one that this version knows ({', '.join(ARCHITECTURES)}, monai:..., torch:...)"


def build_network(config: SegmenterConfig, most_numbers: int = MOST_NUMBERS) -> "nn.Module":
    """The untrained network of a config; it gives logits of the labels.

    most_numbers: weights and buffers it may hold in all; more is refused before memory is asked for. Raises PackError
    for an unknown architecture, arguments it does not take, and code of a module that the user did not name.
    """
    from torch import nn

    from MedSegLensLib.segmenters.budget import Budget, TooLarge
    from MedSegLensLib.segmenters.outputs import LabelLogits

    name = config.architecture
    problem = architecture_problem(name) or arguments_problem(config.arguments)
    if problem:
        raise PackError(name, f"{problem}.", "Correct the pack or the configuration.")
    factory = foreign_factory(name) if is_foreign(name) else ARCHITECTURES[name]
    remedy = "Correct the arguments in the pack or the configuration."
    try:
        with Budget(most_numbers):
            network = factory(**config.arguments)
    except PackError:
        raise
    except TooLarge as problem:
        raise PackError(name, f"with the arguments {as_json(config.arguments)} {problem}.", remedy) from problem
    except ImportError as problem:
        cause = f"it needs a Python package that is not installed ({problem})."
        raise PackError(name, cause, "Install it into the Python that runs MedSegLens.") from problem
    except Exception as problem:  # whatever a foreign constructor makes of its arguments
        what = str(problem).splitlines()[0][:200] if str(problem) else type(problem).__name__
        cause = f"it cannot be built with the arguments {as_json(config.arguments)} ({what})."
        raise PackError(name, cause, remedy) from problem
    if not isinstance(network, nn.Module):
        cause = f"it gives a {type(network).__name__}, not a torch.nn.Module."
        raise PackError(name, cause, "Let the factory return the network.")
    if is_foreign(name) or config.outputs is not None:
        network.register_forward_hook(LabelLogits(config.outputs, config.spatial_dims))
    return network
