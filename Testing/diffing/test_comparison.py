"""A comparison is kept whole by its files, and claims nothing specific without a null."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from MedSegLensLib.diffing.comparison import (
    CATEGORIES,
    CohortSide,
    Comparison,
    LatentFinding,
    PackSide,
    Share,
    finite,
)
from MedSegLensLib.errors import UsageError

numbers = st.floats(-1e6, 1e6, allow_nan=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@st.composite
def finding(draw):
    category = draw(st.sampled_from(CATEGORIES))
    specific = category == "specific"
    return LatentFinding(
        draw(st.sampled_from("ab")),
        draw(texts),
        draw(st.integers(0, 2**31 - 1)),
        category,
        draw(texts) if specific else None,
        draw(st.none() | texts),
        draw(st.none() | st.integers(0, 4096)),
        draw(st.none() | numbers),
        draw(st.none() | st.tuples(numbers, numbers)),
        draw(numbers) if specific else draw(st.none() | numbers),
        draw(st.none() | st.floats(0, 1)),
        draw(texts),
        draw(st.dictionaries(texts, numbers, max_size=3)),
    )


def comparison(findings=(), kind="models"):
    pack = PackSide("one", "1.0", "f" * 64, {"tap": "0" * 64})
    cohort = CohortSide("cases", "somewhere", 5, simulated=True)
    of_packs = kind == "models"
    return Comparison(
        kind,
        pack if of_packs else cohort,
        pack if of_packs else cohort,
        tuple(findings),
        cohort if of_packs else None,
        None if of_packs else pack,
        {"shared": 0.7},
        {"shares": [vars(Share("a", None, "shared", 3, 4, (0.5, 0.9), 0.1, "random"))], "says": ["Much is shared."]},
        ("A note.",),
    )


@given(st.lists(finding(), max_size=4), st.sampled_from(["models", "cohorts"]))
def test_nothing_is_lost_through_table_and_json(findings, kind):
    before = comparison(findings, kind)
    assert Comparison.from_table(before.to_table()) == before
    assert Comparison.from_dict(before.to_dict()) == before


def test_files_are_read_again_and_the_csv_has_a_column_a_number(tmp_path):
    found = [LatentFinding("a", "tap", 1, "shared", measure=0.9, numbers={"lesion": 0.5})]
    before = comparison(found)
    parquet, table, document = before.save(tmp_path)
    assert Comparison.load(parquet) == Comparison.load(document) == Comparison.load(tmp_path) == before
    with open(table, encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["latent"], row["measure"], row["lesion"], row["null"]) == ("1", "0.9", "0.5", "")


def test_specific_needs_a_null_and_a_name():
    with pytest.raises(ValueError, match="null"):
        LatentFinding("a", "tap", 0, "specific", "one")
    with pytest.raises(ValueError, match="specific"):
        LatentFinding("a", "tap", 0, "specific", null=0.1)
    with pytest.raises(ValueError, match="category"):
        LatentFinding("a", "tap", 0, "unique")


def test_shares_come_back_as_shares():
    (share,) = comparison().shares
    assert share.share == 0.75 and share.interval == (0.5, 0.9) and share.null_is == "random"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"medseglens_comparison": 99}', "\ud800"])
def test_other_files_are_refused_in_words(tmp_path, text):
    path = tmp_path / "comparison.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UsageError, match="comparison"):
        Comparison.load(tmp_path)


def test_numbers_are_finite():
    assert finite({"a": 1, "b": None, "c": float("nan")}) == {"a": 1.0}
