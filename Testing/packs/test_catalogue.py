"""The catalogue's table: columns, types, and refusal of files that are none."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from MedSegLensLib.errors import PackError
from MedSegLensLib.packs.catalogue import CATALOGUE_SCHEMA, catalogue_table, read_catalogue, write_catalogue

ROW = {"tap": "a", "latent": 3, "fires_share": 0.25, "best_case": "case", "best_slice": 70}


def test_round_trip_keeps_types_descriptions_and_further_columns(tmp_path):
    table = catalogue_table([ROW, {"tap": "a", "latent": 4, "fires_share": 0.0}])
    write_catalogue(table, tmp_path / "c.parquet")
    assert read_catalogue(tmp_path / "c.parquet").equals(table)
    assert all(field.metadata[b"description"] for field in read_catalogue(tmp_path / "c.parquet").schema)
    assert table.column("mean").to_pylist() == [None, None]
    wider = table.append_column("name", pa.array(["rim", None]))
    write_catalogue(wider, tmp_path / "w.parquet")
    assert read_catalogue(tmp_path / "w.parquet").column("name").to_pylist() == ["rim", None]


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
    from MedSegLensLib.packs.catalogue import described

    row = {"mean": 1.0, "share_ncr": 0.1, "share_ed": 0.7, "share_et": None, "share_brain": 0.2, "share_air": 0.0}
    assert described(row) == "70% in edema"
    assert described({**row, "mean": None}) == "silent on the training cases"
