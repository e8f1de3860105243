"""Training learns, and learns the same from the same seed."""

import dataclasses

import pytest
import torch

from MedSegLensLib.cases.case import Case
from MedSegLensLib.cases.conform import InputSpec
from MedSegLensLib.errors import CaseError, PackError
from MedSegLensLib.segmenters.architectures import SegmenterConfig, build_network
from MedSegLensLib.segmenters.training import TrainingConfig, train_segmenter

SPEC = InputSpec(spacing=(None, None, None), size_divisor=(16, 16, 1), may_be_missing=("t1n", "t1c", "t2w", "t2f"))
TINY = TrainingConfig(
    SegmenterConfig("unet", {"features": [8, 8, 8, 16, 16, 8]}),
    SPEC,
    crop=(1, 32, 32),
    steps=25,
    batch_size=4,
    learning_rate=0.01,
    phantoms=0,
    seed=3,
)


def test_the_loss_falls(small_phantom):
    _, log = train_segmenter([small_phantom], TINY)
    longer = dataclasses.replace(TINY, steps=100)
    _, log = train_segmenter([small_phantom], longer)
    assert log[-1]["loss"] < 0.85 * log[0]["loss"]


def test_the_same_seed_gives_the_same_weights(small_phantom):
    short = dataclasses.replace(TINY, steps=4)
    first, second = (train_segmenter([small_phantom], short)[0].state_dict() for _ in range(2))
    other = train_segmenter([small_phantom], dataclasses.replace(short, seed=4))[0].state_dict()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-4, atol=1e-5)
    assert any(not torch.allclose(first[name].float(), other[name].float()) for name in first)


def test_a_3d_segmenter_trains_on_patches(small_phantom):
    config = TrainingConfig(
        SegmenterConfig(
            "segresnet", {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}, "patches", (16, 16, 16)
        ),
        dataclasses.replace(SPEC, size_divisor=(2, 2, 2)),
        crop=(16, 16, 16),
        steps=3,
        batch_size=2,
        phantoms=0,
    )
    network, log = train_segmenter([small_phantom], config)
    assert network(torch.zeros(1, 4, 16, 16, 16)).shape == (1, 4, 16, 16, 16) and log[-1]["loss"] > 0


def test_a_case_without_labels_cannot_be_trained_on(small_phantom):
    with pytest.raises(CaseError, match="labels"):
        train_segmenter([Case("blind", small_phantom.images)], TINY)


def test_a_configuration_survives_json():
    assert TrainingConfig.from_json(TINY.to_json()) == TINY


@pytest.mark.parametrize("config", [SegmenterConfig("transformer9000"), SegmenterConfig("unet", {"feathers": 4})])
def test_an_unknown_architecture_or_argument_is_said(config):
    with pytest.raises(PackError):
        build_network(config)
