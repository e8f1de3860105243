"""The best examples of a latent: the strongest slices, apart from each other, from no case more than its part."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "editing"))

from MedSegLensLib.editing.session import Session
from MedSegLensLib.reports.atlas_examples import APART_MM, BestExamples
from MedSegLensLib.reports.atlas_pictures import HEIGHT, WIDTH, Canvas


@pytest.fixture(scope="module", params=["unet", "segresnet"])
def session(request, small_phantom, tmp_path_factory):
    """A segmenter that reads slices, and one that reads windows."""
    from tiny_packs import write_tiny_pack

    return Session(small_phantom, write_tiny_pack(request.param, tmp_path_factory.mktemp("packs") / "tiny"))


@pytest.fixture(scope="module")
def found(session):
    tap = session.pack.default_tap
    best = BestExamples(24, 4, 1, np.ones(24))
    best.add(0, session, tap)
    return tap, best


def test_each_is_the_latents_activation_on_its_slice(session, found):
    tap, best = found
    for latent, examples in enumerate(best.best):
        volume = session.activation_volume(tap, latent)
        for example in examples:
            shown = example.map()
            assert shown.max() == pytest.approx(example.value)
            coarse = volume[example.slice]
            step = coarse.shape[0] // shown.shape[0]
            if step == 1:  # windows are merged: the map is the slice itself
                assert np.allclose(shown, coarse, atol=1e-5)
            else:  # of one cell the middle is its own value, but for interpolation
                assert coarse.max() <= example.value + 1e-5


def test_the_strongest_slice_is_among_them_and_they_lie_apart(session, found):
    tap, best = found
    spacing = session.conformed.grid.spacing[2]
    fires = 0
    for latent, examples in enumerate(best.best):
        values = [e.value for e in examples]
        assert values == sorted(values, reverse=True) and len(values) <= 4
        slices = [e.slice for e in examples]
        assert all(abs(a - b) * spacing >= APART_MM for n, a in enumerate(slices) for b in slices[:n])
        if not session.sampling.overlapping and examples:
            assert values[0] == pytest.approx(float(session.codes_at(tap).summary().maximum[latent]))
        fires += bool(examples)
    assert fires > 10


def test_a_later_case_pushes_weaker_slices_out_and_takes_no_more_than_its_part(session):
    tap = session.pack.default_tap
    one, many = BestExamples(24, 3, 1, np.ones(24)), BestExamples(24, 3, 9, np.ones(24))
    for case in range(3):
        many.add(case, session, tap)
    one.add(0, session, tap)
    for few, all_of_them in zip(one.best, many.best, strict=True):
        assert len(all_of_them) == min(3, 2 * len(few)) or len(few) == 1
        assert max([sum(e.case == c for e in all_of_them) for c in range(3)], default=0) <= 2
        assert [e.value for e in all_of_them[:1]] == [e.value for e in few[:1]]


def test_the_histogram_counts_every_place_where_it_fires(session, found):
    tap, best = found
    codes = session.codes_at(tap)
    assert (best.histogram.sum(1) == np.diff(codes.pointers)).all()
    assert best.brain == np.count_nonzero(session.brain_tokens[tap])


def test_a_cell_of_a_coarse_map_is_drawn_over_the_voxels_that_it_covers():
    brain = np.ones((3, 80, 64), bool)
    canvas = Canvas.around(brain, (2.0, 2.0, 5.0))
    from PIL import Image

    coarse = np.zeros((10, 8), np.float32)
    coarse[3, 2] = 1.0
    drawn = canvas.draw(coarse, (8, 8), Image.Resampling.NEAREST)
    fine = canvas.draw(np.kron(coarse, np.ones((8, 8), np.float32)), (1, 1), Image.Resampling.NEAREST)
    assert drawn.shape == (HEIGHT, WIDTH)
    assert (drawn == fine).all() and drawn.sum() == pytest.approx((8 * 2 * 1.5) ** 2, rel=0.05)
    rows, columns = np.nonzero(drawn)
    middle = ((3.5 * 8 - 40) * 2 * 1.5 + HEIGHT / 2, (2.5 * 8 - 32) * 2 * 1.5 + WIDTH / 2)
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == pytest.approx(middle, abs=1)


def test_a_head_too_large_for_the_canvas_is_drawn_smaller():
    canvas = Canvas.around(np.ones((2, 280, 200), bool), (1.0, 1.0, 1.0))
    assert canvas.pixels_per_mm < 1.5 and canvas.width_mm > 200
