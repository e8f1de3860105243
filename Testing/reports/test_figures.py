"""Pictures: the colours that are said are drawn, where they should be, the right way round, at the right aspect."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from MedSegLensLib.reports import figures
from MedSegLensLib.reports.planes import Planes
from MedSegLensLib.reports.slices import best_slice, key_slice, scroll_slices

SHAPE = (20, 60, 50)


@pytest.fixture
def planes() -> Planes:
    return Planes.around(np.ones(SHAPE, bool), (1.0, 1.0, 1.0))


def near(picture: np.ndarray, colour: str, tolerance: int = 40) -> np.ndarray:
    return np.abs(picture.astype(int) - figures.rgb(colour)).max(axis=-1) < tolerance


def test_outlines_have_their_colours_and_leave_the_inside_free(planes):
    labels = np.zeros(SHAPE, np.uint8)
    labels[10, 10:50, 8:42], labels[10, 18:42, 14:36], labels[10, 24:36, 20:30] = 2, 3, 1
    marks = figures.outline_marks(planes, labels, "axial", 10)
    picture = figures.marked(np.full((*marks.shape, 3), 90, np.uint8), marks)
    # Circumferences in mm: ED and ET have an inner edge too.
    for label, around in ((2, 148 + 92), (3, 92 + 44), (1, 44)):
        drawn = near(picture, figures.LABEL_COLOURS[label], 5).sum()
        assert drawn == pytest.approx(3 * around * figures.PIXELS_PER_MM, rel=0.12)  # three pixels wide
    assert (picture[90, 75] == 90).all()  # the middle of the necrosis shows the anatomy


def test_what_was_added_removed_and_relabelled_differ(planes):
    before, after = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    before[5, 5:25, 5:25], after[5, 5:25, 5:25] = 3, 2  # removed from ET
    before[5, 35:55, 5:25], after[5, 35:55, 5:25] = 2, 3  # added to ET
    after[5, 5:25, 30:45] = 2  # other
    marks = figures.change_marks(planes, before, after, "ET", "axial", 5)
    picture = figures.marked(np.zeros((*marks.shape, 3), np.uint8), marks)
    where = {kind: near(picture, colour, 3) for kind, colour in figures.CHANGE_COLOURS.items()}
    left, upper = np.s_[:, :82], np.s_[:90]
    for kind, inside in (("removed", (slice(0, 90), slice(0, 82))), ("added", (slice(90, None), slice(0, 82)))):
        assert where[kind].sum() > 400 and where[kind].sum() == where[kind][inside].sum()
    assert where["other"].sum() > 300 and not where["other"][left].any() and where["other"][upper].any()
    # Added is plain and removed striped: told apart without colour.
    assert (marks[120:150, 30:60] == figures.FILLS["added"]).all()
    assert 0.3 < (marks[30:60, 30:60] == figures.FILLS["removed"]).mean() < 0.8
    assert not figures.change_marks(planes, before, before, "ET", "axial", 5).any()


def test_a_weak_activation_is_hidden_and_a_strong_one_is_bright(planes):
    activation = np.zeros(SHAPE, np.float16)
    activation[8, 20:40, 5:20], activation[8, 20:40, 30:45] = 10.0, 0.5
    grey = np.full((180, 150, 3), 90, np.uint8)
    picture = figures.heated(grey, planes, activation, 10.0, "axial", 8)
    assert picture[90, 36].min() > 120 and picture[90, 36, 0] > 200
    assert (picture[90, 112] == 90).all() and (picture[3, 3] == 90).all()


@pytest.mark.parametrize(("plane", "size"), [("axial", (120, 150)), ("coronal", (120, 100)), ("sagittal", (150, 100))])
def test_thick_slices_keep_the_aspect(plane, size):
    planes = Planes.around(np.ones((20, 300, 240), bool), (0.5, 0.5, 5.0))
    assert planes.size_mm(plane) == size
    width, height = figures.size_px(planes, plane)
    assert width / height == pytest.approx(size[0] / size[1], rel=0.01)
    assert figures.outline_marks(planes, np.ones((20, 300, 240), np.uint8), plane, 3).shape == (height, width)


def test_the_right_way_round(planes):
    volume = np.zeros(SHAPE, np.uint8)
    volume[15:, 5:15, 35:] = 1  # above, in front, on the patient's left
    axial, coronal, sagittal = (planes.cut(volume, p, i) for p, i in (("axial", 17), ("coronal", 10), ("sagittal", 40)))
    assert axial[10, 40] and not axial[10, 10] and not axial[50, 40]  # front is up, the patient's left is on the right
    assert coronal[2, 40] and not coronal[17, 40] and not coronal[2, 10]
    assert sagittal[2, 10] and not sagittal[2, 50] and not sagittal[17, 10]


def test_positions_are_in_the_patient():
    planes = Planes.around(np.ones(SHAPE, bool), (1.0, 1.0, 2.0), origin=(-25.0, 10.0, -12.0))
    assert planes.position("axial", 9) == "S 6.0 mm" and planes.position("axial", 0) == "I 12.0 mm"
    assert planes.position("sagittal", 0) == "R 25.0 mm" and planes.position("coronal", 0) == "P 10.0 mm"
    assert Planes.around(np.ones(SHAPE, bool), (1, 1, 2)).position("axial", 9) == "z = 18.0 mm"


def test_overlay_and_anatomy_have_one_size_and_the_overlay_is_clear(planes):
    marks = np.zeros((180, 150), np.uint8)
    marks[60:80, 60:80] = 3
    overlay = figures.framed_marks(marks, planes)
    assert overlay.size == figures.framed(np.zeros((180, 150, 3), np.uint8), planes, "axial", 3).size
    stored = np.asarray(_stored(figures.png_uri(overlay)).convert("RGBA"))
    margin = round(figures.MARGIN_MM * figures.pixels_per_mm(planes))
    assert stored[0, 0, 3] == 0 and tuple(stored[margin + 70, margin + 70]) == (*figures.rgb("#D55E00"), 255)


def test_sides_are_lettered_on_black(planes):
    framed = np.asarray(figures.framed(np.zeros((180, 150, 3), np.uint8), planes, "axial", 3))
    height, width = framed.shape[:2]
    for part in (framed[height // 2 - 15 : height // 2 + 15, :30], framed[:30, width // 2 - 15 : width // 2 + 15]):
        assert part.max() == 255


def test_lines_keep_their_colour_in_a_jpeg():
    picture = np.zeros((60, 60, 3), np.uint8)
    picture[20:23] = figures.rgb("#D55E00")
    stored = np.asarray(_stored(figures.jpeg_uri(Image.fromarray(picture))))
    assert near(stored[21], "#D55E00").all()


def test_slices_that_are_chosen():
    brain = np.ones(SHAPE, bool)
    before, after = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    assert "no tumour" in key_slice(brain, before, after, "ET")[1]
    before[4:9] = after[4:9] = 2
    before[6, :10] = after[6, :10] = 3
    assert key_slice(brain, before, after, "ET") == (6, "most of ET is; the edit changes nothing")
    after[8] = 3
    assert key_slice(brain, before, after, "ET")[0] == 8
    assert scroll_slices(brain, [before, after], 8) == [3, 4, 5, 6, 7, 8, 9]
    tall = np.zeros((155, 4, 4), np.uint8)
    tall[10:140] = 1
    chosen = scroll_slices(tall > 0, [tall], 77)
    assert 77 in chosen and len(chosen) <= 20 and chosen[0] == 9
    assert best_slice(before.astype(float), 0) == 6


def _stored(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))
