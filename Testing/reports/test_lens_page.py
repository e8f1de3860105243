"""The page of a lens: a verdict first, every number beside its null, and what is not known said so."""

import json
import re
from xml.etree import ElementTree

import pytest
from lens_facts import lens_facts
from read_page import Read

from MedSegLensLib.errors import OutputError
from MedSegLensLib.reports.charts import Series, bars, curve, dots
from MedSegLensLib.reports.lens_page import render_lens_page, write_lens_page


@pytest.fixture(scope="module")
def page() -> str:
    return render_lens_page(lens_facts())


def test_the_verdict_comes_first_and_says_why(page):
    read = Read(page)
    assert not read.open
    assert re.search(r"<h1 id=\"verdict\">With care</h1>", page)
    assert read.text.index("With care") < read.text.index("The measures, and what was asked of each")
    assert "keeps what the segmenter uses" in read.text and "Among the cases are phantoms." in read.text


def test_every_measure_stands_beside_its_null(page):
    rows = Read(page).rows
    assert ["explained variance on the lesion", "0.963", "0.810", "at least 0.95", "below 0.9", "✓good"] in rows
    stable = ["latents of the lesion that every seed finds again", "42 %", "22 %", "at least 50 %", "below 25 %"]
    assert [*stable, "!with care"] in rows
    assert any(row[0] == "necrotic core" and row[2:6] == ["17 (low)", "0.880", "−0.004", "+0.020"] for row in rows)
    assert any(row[0] == "whole tumour" and row[-3:] == ["0.970", "−0.015", "+0.008"] for row in rows)
    assert ["17", "301", "0.91", "4.30", "1.20"] in rows


def test_says_the_numbers_in_sentences(page):
    text = Read(page).text
    for words in (
        "loses 0.70 points of Dice at worst and 0.55 on average over 2 regions",
        "it recovers 99.4 % (a random encoder: 56.0 %)",
        "2.3 % of the latents fire on none of 140,000 tokens",
        "Of the 214 latents of the lesion, 42 % have a partner",
        "Untrained directions of tokens: 22 % (they explain 0.41 of the variance",
        "50 % of the 2 edits move more of the region than every such push (one more random push: 25 %)",
        "not a medical device",
    ):
        assert words in text


def test_loads_nothing_and_escapes_names(page):
    assert "default-src 'none'" in page and not re.search(r"@import|url\(|<script", page)
    assert all("src" not in attributes and "href" not in attributes for _, attributes in Read(page).tags)
    assert "submodule &lt;last&gt;" in page and "<last>" not in page


def test_what_is_not_known_is_said():
    facts = lens_facts(
        stability=None,
        probes=None,
        selectivity=None,
        substituted=None,
        training={"log": []},
        splice={"cases": {}, "loss_pp": None, "mean_loss_pp": None, "share_recovered": None, "nulls": {}},
    )
    text = Read(render_lens_page(facts)).text
    assert text.count("Not known.") == 3 and "No case has a region to compute Dice of." in text
    assert "give lenses of other seeds" in text and "holds no log" in text


def test_charts_are_drawings_with_words_for_those_who_do_not_see_them(page):
    drawings = re.findall(r"<svg class=\"chart\".*?</svg>", page, re.S)
    assert len(drawings) == 12
    for drawing in drawings:
        assert ElementTree.fromstring(drawing).attrib["aria-label"]
    assert "lesion, this lens: 0.96" in page


def test_a_value_beyond_the_axis_stands_at_its_end_with_its_number():
    chart = str(dots([("a", {"x": -3.5}), ("b", {"x": 0.5})], {"x": Series("x", "#000000")}, 0, 1, "t"))
    assert ">-3.50<" in chart and 'cx="190.0"' in chart


def test_bars_are_shares_of_each_series():
    series = {"a": Series("a", "#000000"), "b": Series("b", "#111111")}
    chart = str(bars(["low", "high"], {"a": [1, 3], "b": [10, 10]}, series, "t", "%"))
    assert "a, high: 75.0 % (3)" in chart and "b, low: 50.0 % (10)" in chart


def test_a_curve_that_does_not_move_is_drawn_too():
    ElementTree.fromstring(re.search(r"<svg class.*</svg>", str(curve([0, 1], [2.0, 2.0], "#000000", "t")))[0])


def test_page_and_data_are_written_together(tmp_path):
    facts = lens_facts()
    page, data = write_lens_page(facts, tmp_path)
    assert page.read_text(encoding="utf-8") == render_lens_page(facts)
    assert json.loads(data.read_text(encoding="utf-8")) == facts
    with pytest.raises(OutputError):
        write_lens_page(facts, tmp_path / "nowhere" / "at all")
