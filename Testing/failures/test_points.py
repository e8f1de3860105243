"""What a reader says at single places, as files and as words."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from MedSegLensLib.cases.case import REGIONS
from MedSegLensLib.errors import UsageError
from MedSegLensLib.failures.points import Point, check_points, read_points

millimetres = st.floats(-300, 300)
points = st.builds(
    Point, st.tuples(millimetres, millimetres, millimetres), st.booleans(), st.sampled_from(sorted(REGIONS))
)


def markups(tmp_path, *controls, name="points", system="LPS"):
    path = tmp_path / "points.mrk.json"
    document = {"markups": [{"name": name, "coordinateSystem": system, "controlPoints": list(controls)}]}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@given(points)
def test_what_a_point_says_is_read_back_from_its_words(point):
    assert Point.from_json(json.loads(json.dumps(point.to_json()))) == point


@given(st.text(max_size=30))
def test_any_label_is_either_understood_or_refused(label):
    try:
        assert Point.saying((0, 0, 0), label).region in REGIONS
    except UsageError as problem:
        assert "tumour" in problem.remedy


def test_slicers_markups_are_read_in_ras(tmp_path):
    path = markups(tmp_path, {"position": [10, 20, 30], "label": "not ET"}, {"position": [1, 2, 3], "label": "Tumor"})
    assert read_points(path) == [Point((-10, -20, 30), False, "ET"), Point((-1, -2, 3), True)]


def test_older_markups_in_ras_stay_as_they_are(tmp_path):
    assert read_points(markups(tmp_path, {"position": [1, 2, 3], "label": "ED"}, system="RAS"))[0].ras == (1, 2, 3)


def test_a_lists_name_speaks_for_points_that_say_nothing(tmp_path):
    path = markups(tmp_path, {"position": [0, 0, 0], "label": "F-1"}, name="not tumour")
    assert read_points(path) == [Point((0, 0, 0), False)]


def test_points_that_were_never_placed_are_left_out(tmp_path):
    unplaced = {"position": [0, 0, 0], "label": "ET", "positionStatus": "undefined"}
    assert len(read_points(markups(tmp_path, unplaced, {"position": [1, 1, 1], "label": "ET"}))) == 1


def test_a_table_is_read_too(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("R,A,S,label\n1,2,3,not tumour\n4.5,5,6,NCR\n", encoding="utf-8")
    assert read_points(path) == [Point((1, 2, 3), False), Point((4.5, 5, 6), True, "NCR")]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"markups": [{"controlPoints": [{"position": [1]}]}]}', "R,A,S\n"])
def test_a_file_without_points_says_what_to_give(tmp_path, text):
    for name in ("points.json", "points.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match="points.*(Slicer|CSV|place|columns|Place)"):
            read_points(path)


def test_a_label_that_says_nothing_is_told_with_what_labels_can_say(tmp_path):
    with pytest.raises(UsageError, match='F-1.*Label each point "tumour"'):
        read_points(markups(tmp_path, {"position": [0, 0, 0], "label": "F-1"}))


PACK = SimpleNamespace(name="some-pack", labels=[SimpleNamespace(value=v) for v in (1, 2, 3)])


@pytest.mark.parametrize(("one", "other"), [("tumour", "not tumour"), ("ET", "ED"), ("ET", "not tumour")])
def test_points_that_contradict_each_other_at_one_place_are_refused(one, other):
    pair = [Point.saying((0, 0, 0), one), Point.saying((1, 0, 0), other)]
    with pytest.raises(UsageError, match="within 1.5 mm"):
        check_points(pair, PACK)
    check_points([pair[0], Point.saying((9, 0, 0), other)], PACK)


@pytest.mark.parametrize(("one", "other"), [("tumour", "ET"), ("not ET", "ED"), ("not ET", "not NCR")])
def test_points_that_agree_may_be_near_each_other(one, other):
    check_points([Point.saying((0, 0, 0), one), Point.saying((0, 0, 1), other)], PACK)


def test_a_region_that_the_pack_does_not_tell_is_refused():
    pack = SimpleNamespace(name="whole-only", labels=[SimpleNamespace(value=2)])
    with pytest.raises(UsageError, match="whole-only does not tell ET apart"):
        check_points([Point((0, 0, 0), True, "ET")], pack)
