"""Small networks of the architectures, and taps of theirs from early to late."""

import torch

from MedSegLensLib.segmenters.architectures import SegmenterConfig, build_network

SMALL = {
    "unet": (SegmenterConfig("unet", {"features": [8, 8, 12, 16, 20, 8]}), (5, 64, 80)),
    "strided_unet": (SegmenterConfig("strided_unet", {"channels": [8, 12, 16, 20]}), (5, 64, 80)),
    "segformer": (SegmenterConfig("segformer"), (5, 64, 96)),
    "segresnet": (
        SegmenterConfig("segresnet", {"init_filters": 8}, sampling="patches", patch_size=(32, 32, 32), overlap=0.25),
        (24, 40, 48),
    ),
}
TAPS = {
    "unet": ["down_2", "down_4", "upcat_3", "upcat_1"],
    "strided_unet": ["model.1.submodule.0", "model.1.submodule.1.submodule", "model.1.submodule", "model.1"],
    "segformer": ["model.segformer.stages.2", "model.segformer.stages.3", "model.decode_head.activation"],
    "segresnet": ["down_layers.3", "up_layers.0", "up_layers.1"],
}


def lively_network(config: SegmenterConfig):
    """A random network whose batch norm and last layer were set on noise, so that signals pass and labels vary.

    As initialised, a deep network hardly passes on what is early in it and calls every voxel the same.
    """
    torch.manual_seed(1)
    network = build_network(config)
    shape = (32, 32, 32) if config.sampling == "patches" else (64, 64)
    noise = torch.nn.functional.avg_pool3d(
        torch.randn(4, 4, *([1] * (3 - len(shape))), *shape), (1, 3, 3), 1, (0, 1, 1)
    )
    noise = 3 * noise.reshape(4, 4, *shape)
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(noise)
        network.eval()
        last = [
            m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Conv3d) and m.out_channels == 4
        ]
        logits = network(noise).transpose(0, 1).flatten(1)
        scale = (2 / logits.std(1)).view(4, *[1] * (last[-1].weight.ndim - 1))
        last[-1].weight.mul_(scale)
        last[-1].bias.copy_((last[-1].bias - logits.mean(1)) * scale.flatten())
    return network
