"""The parts of an adaptation: an excerpt is the case, and a change does to it what it does to the case."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from MedSegLensLib.cases.case import Case
from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.diffing.adaptation_baselines import DifferenceInMeans, difference_in_means, statistics_of
from MedSegLensLib.diffing.adaptation_loss import dice_of, error
from MedSegLensLib.diffing.adjustments import ClassBias, Gains, Push, Reweighted
from MedSegLensLib.diffing.excerpts import ExcerptReader, labels_of_tokens
from MedSegLensLib.diffing.fitting import slopes
from MedSegLensLib.diffing.tails import TailReader
from MedSegLensLib.editing.session import Session
from MedSegLensLib.editing.splice import dice_by_region
from MedSegLensLib.errors import CaseError, UsageError
from MedSegLensLib.segmenters.engine import Engine

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "editing"))
from tiny_packs import write_tiny_pack  # noqa: E402

SMALL = {"size": (40, 48, 14), "spacing": (4.0, 4.0, 9.0)}


@pytest.fixture(scope="module")
def case():
    return phantom(1, **SMALL)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("segformer", "segresnet")]


@pytest.fixture(scope="module", params=["unet", *SLOW])
def pack(request, tmp_path_factory):
    return write_tiny_pack(request.param, tmp_path_factory.mktemp("packs") / request.param)


@pytest.fixture(scope="module")
def reader(pack):
    return ExcerptReader(pack, device="cpu")


@pytest.fixture(scope="module")
def excerpt(reader, case):
    return reader.read(case)


@pytest.fixture(scope="module")
def session(case, pack):
    """In float32 as excerpts are, so that results can be compared to the voxel."""
    return Session(case, pack, engine=Engine("cpu", torch.float32, False, 4))


def strongest(excerpt, count=3) -> list[int]:
    return [int(j) for j in np.argsort(-excerpt.codes.summary().total)[:count]]


def test_an_excerpt_is_a_part_of_the_case(excerpt, session):
    whole = session.replay.logits[(list(excerpt.samples), slice(None), *excerpt.box)]
    torch.testing.assert_close(excerpt.logits, whole, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(excerpt.behind(excerpt.x), whole, atol=1e-4, rtol=1e-4)
    for latent in strongest(excerpt):
        dense = session.codes[session.pack.default_tap].dense(latent)[(list(excerpt.samples), *excerpt.behind.window)]
        torch.testing.assert_close(excerpt.codes_of([latent])[0], torch.from_numpy(dense), atol=1e-3, rtol=1e-3)


def changes(excerpt, reader):
    first, second, third = strongest(excerpt)
    yield Gains(reader.tap, {first: 0.0, second: 3.0, third: 0.4})
    yield ClassBias(torch.tensor([0.0, 0.3, -0.2, 0.1]))
    yield Push(reader.tap, excerpt.decoder[[first, second]].clone(), torch.tensor([0.7, -0.4]))
    names = excerpt.behind.learnable
    own = {n: w.detach().clone() for n, w in reader.network.named_parameters() if n in names}
    random = torch.Generator().manual_seed(0)
    noisy = {n: w + 0.2 * w.abs().mean() * torch.randn(w.shape, generator=random) for n, w in own.items()}
    yield Reweighted(reader.network, noisy, own)
    statistics = statistics_of(reader.network)
    yield Reweighted(reader.network, {n: 1.3 * s for n, s in statistics.items()}, statistics)


def test_a_change_does_to_the_excerpt_what_it_does_to_the_case(excerpt, reader, session):
    if session.sampling.overlapping:
        pytest.skip("windows overlap: a window's labels are not those of the volume")
    for change in changes(excerpt, reader):
        here = change.on(excerpt).argmax(1).numpy()
        there = change.labels(session)[(list(excerpt.samples), *excerpt.box)]
        assert (there != session.labels[(list(excerpt.samples), *excerpt.box)]).any(), f"{change} must do something"
        assert np.mean(here != there) < 2e-4, f"{type(change).__name__}: but for near ties"


def test_windows_that_overlap_are_changed_too(excerpt, reader, session):
    for change in changes(excerpt, reader):
        assert (change.labels(session) != session.labels).any()
        assert not torch.allclose(change.on(excerpt), excerpt.logits, atol=1e-4)


def test_no_share_of_a_change_is_none(excerpt, reader):
    for change in changes(excerpt, reader):
        torch.testing.assert_close(change.weaker(0.0).on(excerpt), excerpt.logits, atol=1e-3, rtol=1e-3)
        half, full = (change.weaker(s).on(excerpt) - excerpt.logits for s in (0.5, 1.0))
        assert 0 < half.abs().mean() < full.abs().mean()


def test_slopes_are_derivatives_of_the_error(excerpt, reader):
    found = slopes(excerpt, excerpt.x, 1.0)
    silent = [j for j in range(excerpt.codes.n_latents) if not len(excerpt.codes.latent(j)[0])]
    assert all(found[j] == 0 for j in silent)
    for latent in strongest(excerpt):
        step = 0.02
        up, down = (
            float(error(Gains(reader.tap, {latent: 1 + s}).on(excerpt).double(), excerpt, 1.0)) for s in (step, -step)
        )
        assert float(found[latent]) == pytest.approx((up - down) / (2 * step), rel=0.15, abs=2e-5)


def test_the_dice_of_an_excerpt_of_everything_is_that_of_the_case(reader, case, session):
    if session.sampling.overlapping:
        pytest.skip("windows overlap")
    all_of_it = reader.read(case, everything=True)
    scores = dice_by_region(session.labels * session.conformed.brain, session.conformed.labels(case.labels))
    there = [s for s in scores.values() if s is not None]
    assert dice_of(all_of_it.logits, all_of_it) == pytest.approx(np.mean(there), abs=1e-3)


def test_the_stay_put_term_is_nothing_where_nothing_moved(excerpt):
    plain = error(excerpt.logits, excerpt, 0.0)
    torch.testing.assert_close(error(excerpt.logits, excerpt, 5.0), plain, atol=1e-5, rtol=1e-5)
    moved = excerpt.logits + torch.randn(excerpt.logits.shape, generator=torch.Generator().manual_seed(0))
    assert error(moved, excerpt, 5.0) > error(moved, excerpt, 0.0) + 0.1


def test_right_logits_have_less_error_than_wrong_ones(excerpt):
    right = 12.0 * torch.nn.functional.one_hot(excerpt.labels, 4).movedim(-1, 1)
    assert error(right, excerpt, 0.0) < 0.05 and dice_of(right, excerpt) == 1.0
    assert error(-right, excerpt, 0.0) > 1.0


def test_difference_in_means_points_from_healthy_to_lesion(excerpt, reader):
    directions = difference_in_means([excerpt])
    labels = excerpt.token_labels[excerpt.brain]
    there = [k for k in (1, 2, 3) if (labels == k).any()]
    assert directions.shape == (len(there), excerpt.x.shape[1])
    tokens = excerpt.x.movedim(1, -1)[excerpt.brain]
    for direction, k in zip(directions, there, strict=True):
        expected = tokens[labels == k].mean(0) - tokens[labels == 0].mean(0)
        torch.testing.assert_close(direction, expected, atol=1e-4, rtol=1e-4)
    assert len(DifferenceInMeans(reader.tap).fits([excerpt])) == 2


def test_a_token_has_the_label_of_most_of_its_voxels():
    labels = torch.zeros((1, 4, 4), dtype=torch.long)
    labels[0, :2, :2] = torch.tensor([[3, 3], [3, 0]])
    labels[0, 2:, 2:] = torch.tensor([[1, 0], [0, 0]])
    assert labels_of_tokens(labels, (2, 2)).tolist() == [[[3, 0], [0, 0]]]


def test_a_case_without_labels_is_refused(reader, case):
    with pytest.raises(CaseError, match="no labels"):
        reader.read(Case("nobody", case.images))


def test_a_tap_without_a_lens_is_refused(pack):
    with pytest.raises(UsageError, match="no lens"):
        ExcerptReader(pack, "nowhere", "cpu")


def test_a_network_that_cannot_be_captured_is_run_whole(reader, excerpt, monkeypatch):
    from MedSegLensLib.diffing import tails

    def fails(*_):
        raise tails.CannotCapture("as a network whose Python branches on the data")

    monkeypatch.setattr(tails, "capture", fails)
    tail = TailReader(reader.network, reader.tap, tuple(excerpt.inputs.shape[1:]))
    logits, x, skips = tail.values(excerpt.inputs, 4)
    behind = tail.behind(excerpt.inputs, x, skips, excerpt.box)
    torch.testing.assert_close(behind(x), excerpt.logits, atol=1e-4, rtol=1e-4)
    pushed = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    inside = (slice(None), slice(None), *excerpt.behind.window)
    torch.testing.assert_close(behind(pushed), excerpt.behind(pushed[inside]), atol=1e-3, rtol=1e-3)
    assert behind.learnable == ()
