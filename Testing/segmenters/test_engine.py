"""The engine that is chosen is the fastest of those tried, and is one this machine has."""

import pytest
import torch
from small_networks import SMALL, lively_network

from MedSegLensLib.errors import UsageError
from MedSegLensLib.segmenters.engine import Engine, check_device, choose_engine


def test_the_fastest_of_those_tried_is_chosen():
    network = lively_network(SMALL["unet"][0])
    engine, timings = choose_engine(network, (4, 64, 64), "cpu")
    assert str(engine) == min(timings, key=timings.get)
    assert {"cpu, float32, contiguous", "cpu, float32, channels_last"} <= set(timings)


def test_preparing_leaves_the_network_as_it_was():
    network = lively_network(SMALL["unet"][0])
    before = {k: v.clone() for k, v in network.state_dict().items()}
    prepared = Engine("cpu", torch.float32, True, 2).prepare(network, 2)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert not any(p.requires_grad for p in prepared.parameters()) and not prepared.training
    x = torch.randn(1, 4, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(x), prepared(x), rtol=0, atol=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the GPU that the test must lack")
def test_a_device_that_is_not_there_is_said():
    with pytest.raises(UsageError, match="cuda"):
        choose_engine(lively_network(SMALL["unet"][0]), (4, 64, 64), "cuda")


@pytest.mark.parametrize("device", ["cpu:1", "cuda:99", "cuda:", "cuda:x", "tpu", ""])
def test_a_device_or_a_number_that_names_none(device):
    with pytest.raises(UsageError, match="not available"):
        check_device(device)
    check_device("cpu")
    check_device("cpu:0")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_labels_of_the_cpu():
    network = lively_network(SMALL["unet"][0])
    engine = Engine("cuda", torch.float32, False, 2)
    x = torch.randn(2, 4, 64, 64)
    with torch.no_grad():
        ours = engine.prepare(network, 2)(engine.place(x)).cpu()
    assert (ours.argmax(1) == network(x).argmax(1)).float().mean() > 0.999
