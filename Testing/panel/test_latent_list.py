"""Search, filter and order of the latents."""

from MedSegLensLib.panel.latent_list import influence, matching, ordered
from MedSegLensLib.worker.answers import LatentRow


def row(latent, name="", active=1.0, attribution=None, suppressed=None) -> LatentRow:
    return LatentRow("tap", latent, name, active, 0.1, 1.0, 0.5, None, attribution, suppressed, False, (0.0, 0.0, 0.0))


ROWS = [
    row(17, "71% in edema", 3.0, attribution=-1.0),
    row(4, "", 9.0, attribution=5.0, suppressed=-0.5),
    row(170, "rim of enhancing tumour", 1.0, attribution=2.0),
]


def numbers(rows) -> list[int]:
    return [r.latent for r in rows]


def test_a_number_finds_the_latents_that_begin_with_it():
    assert numbers(matching(ROWS, "17", lambda r: True)) == [17, 170]


def test_every_word_must_be_in_the_name():
    assert numbers(matching(ROWS, "Enhancing rim", lambda r: True)) == [170]
    assert numbers(matching(ROWS, "enhancing edema", lambda r: True)) == []


def test_an_empty_search_keeps_the_workers_ranking():
    found = matching(ROWS, "", lambda r: True)
    assert numbers(ordered(found, None, True)) == [17, 4, 170]


def test_a_filter_applies_beside_the_search():
    assert numbers(matching(ROWS, "17", lambda r: r.active_ml > 2)) == [17]


def test_order_by_columns():
    assert numbers(ordered(ROWS, "active", True)) == [4, 17, 170]
    assert numbers(ordered(ROWS, "latent", False)) == [4, 17, 170]
    assert numbers(ordered(ROWS, "name", False)) == [17, 170, 4]  # without a name last


def test_measured_influence_beats_the_predicted():
    assert [influence(r) for r in ROWS] == [-1.0, -0.5, 2.0]
    assert numbers(ordered(ROWS, "influence", True)) == [170, 17, 4]
