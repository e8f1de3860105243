"""What tracing a network remembers goes with it: a process captures one for every case that it opens."""

import gc

import torch
from small_networks import SMALL, lively_network
from torch._subclasses._fake_tensor_utils import _PySymInputStub

from MedSegLensLib.segmenters import graph


def remembered() -> int:
    """Sizes that the tracer noted, which is most of what it keeps."""
    gc.collect()
    return sum(type(thing) is _PySymInputStub for thing in gc.get_objects())


def test_a_capture_leaves_no_notes_of_the_tracer(monkeypatch):
    network, example = lively_network(SMALL["segformer"][0]), torch.zeros(2, 4, 64, 96)
    before = remembered()
    graph.capture(network, example, ["model.segformer.stages.3"])
    assert remembered() == before
    monkeypatch.setattr(graph, "_forget_tracing", lambda module: None)
    graph.capture(network, example, ["model.segformer.stages.3"])
    assert remembered() > before + 100  # which shows that there is something to forget
