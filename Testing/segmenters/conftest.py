"""A small network of each architecture, ready to run."""

import pytest
import torch
from small_networks import SMALL, lively_network

from MedSegLensLib.segmenters.engine import Engine
from MedSegLensLib.segmenters.sampling import sampling_of


@pytest.fixture(scope="session", params=list(SMALL))
def segmenter(request):
    """(name, network as the engine prepares it, sampling, engine, volume (4, Z, Y, X))."""
    torch.manual_seed(1)
    config, shape = SMALL[request.param]
    network = lively_network(config)
    engine = Engine("cpu", torch.float32, channels_last=request.param == "unet", batch=2)
    volume = 2 * torch.randn(4, *shape)
    return request.param, engine.prepare(network, config.spatial_dims), sampling_of(config, shape), engine, volume
