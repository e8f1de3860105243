"""The catalogue's table: columns, types, and refusal of files that are none."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from MedSegLensLib.errors import PackError
from MedSegLensLib.packs.catalogue import (
    CATALOGUE_SCHEMA,
    REQUIRED,
    catalogue_table,
    described,
    read_catalogue,
    shown_name,
    write_catalogue,
)

ROW = {"tap": "a", "latent": 3, "fires_share": 0.25, "best_case": "case", "best_slice": 70}


def test_round_trip_keeps_types_descriptions_and_further_columns(tmp_path):
    table = catalogue_table([ROW, {"tap": "a", "latent": 4, "fires_share": 0.0}])
    write_catalogue(table, tmp_path / "c.parquet")
    assert read_catalogue(tmp_path / "c.parquet").equals(table)
    assert all(field.metadata[b"description"] for field in read_catalogue(tmp_path / "c.parquet").schema)
    assert table.column("mean").to_pylist() == [None, None]
    wider = table.append_column("liked_by", pa.array(["one", None]))
    write_catalogue(wider, tmp_path / "w.parquet")
    assert read_catalogue(tmp_path / "w.parquet").column("liked_by").to_pylist() == ["one", None]


def test_lists_and_examples_round_trip(tmp_path):
    full = {
        **ROW,
        "quantiles": [0.1, 0.5],
        "co_firing": [1, 2],
        "examples": [{"case": "case", "slice": 70, "row": 12, "column": 30, "value": 4.5}],
    }
    table = catalogue_table([full, {"tap": "a", "latent": 4}])
    write_catalogue(table, tmp_path / "c.parquet")
    again = read_catalogue(tmp_path / "c.parquet")
    assert again.equals(table)
    assert again.to_pylist()[0]["examples"][0] == full["examples"][0]
    assert again.to_pylist()[1]["examples"] is None


def test_an_older_catalogue_reads_with_nulls_in_the_new_columns(tmp_path):
    table = catalogue_table([ROW]).select(REQUIRED)
    write_catalogue(table, tmp_path / "old.parquet")
    read = read_catalogue(tmp_path / "old.parquet")
    assert read.schema.equals(CATALOGUE_SCHEMA)
    row = read.to_pylist()[0]
    assert row["best_slice"] == 70
    assert all(row[name] is None for name in CATALOGUE_SCHEMA.names if name not in REQUIRED)


def test_no_rows_and_other_integer_types(tmp_path):
    assert catalogue_table([]).schema == CATALOGUE_SCHEMA
    table = catalogue_table([ROW])
    other = table.set_column(1, "latent", table.column("latent").cast(pa.int64()))
    write_catalogue(other, tmp_path / "c.parquet")
    assert read_catalogue(tmp_path / "c.parquet").equals(table)


@pytest.mark.parametrize("row", [{"latent": 1}, {"tap": "a"}, {**ROW, "colour": 1}])
def test_rows_that_are_wrong(row):
    with pytest.raises(ValueError):
        catalogue_table([row])


def test_a_latent_twice():
    with pytest.raises(ValueError, match="twice"):
        catalogue_table([ROW, ROW])


def test_files_that_are_no_catalogue(tmp_path):
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"tap": ["a"]}), path)
    with pytest.raises(PackError, match="no column latent"):
        read_catalogue(path)
    data = path.read_bytes()
    for content in (b"", b"PAR1", data[:-9], b"PAR1" + bytes(100) + b"PAR1"):
        path.write_bytes(content)
        with pytest.raises(PackError, match="not a readable catalogue"):
            read_catalogue(path)
    with pytest.raises(PackError):
        read_catalogue(tmp_path / "absent.parquet")


def test_a_latent_is_described_by_where_most_of_its_code_lies():
    row = {"mean": 1.0, "share_ncr": 0.1, "share_ed": 0.7, "share_et": None, "share_brain": 0.2, "share_air": 0.0}
    assert described(row) == "70% in edema"
    assert described({**row, "mean": None}) == "silent on the training cases"


def test_a_latent_is_called_what_the_user_says_then_the_catalogue_then_where_it_fires():
    row = {"mean": 1.0, "share_ed": 0.7, "share_ncr": 0, "share_et": 0, "share_brain": 0.3, "share_air": 0}
    assert shown_name({**row, "name": "FLAIR-bright edema"}, "my rim") == "my rim"
    assert shown_name({**row, "name": "FLAIR-bright edema"}) == "FLAIR-bright edema"
    assert (
        shown_name({**row, "name": "unclear"}) == shown_name({**row, "name": None}) == shown_name(row) == described(row)
    )
