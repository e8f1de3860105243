"""The catalogue: what is known of each latent of a pack, one row per latent, in `catalogue.parquet`."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from MedSegLensLib.errors import PackError

MAX_BYTES = 64 * 2**20
MAX_ROWS = 1_000_000


def _column(name: str, kind: pa.DataType, description: str, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"description": description})


CATALOGUE_SCHEMA = pa.schema(
    [
        _column("tap", pa.string(), "Tap of the lens that the latent belongs to.", nullable=False),
        _column("latent", pa.int32(), "Number of the latent in its lens, from 0.", nullable=False),
        _column("fires_share", pa.float32(), "Share (0..1) of the training cases' brain tokens where its code is > 0."),
        _column("mean", pa.float32(), "Mean of its code over the tokens where it fires; null if it never does."),
        _column("max", pa.float32(), "Largest code on the training cases; null if it never fires."),
        _column("share_ncr", pa.float32(), "Share (0..1) of the sum of its code that lies in necrotic core (NCR)."),
        _column("share_ed", pa.float32(), "Share (0..1) of the sum of its code that lies in edema (ED)."),
        _column("share_et", pa.float32(), "Share (0..1) of the sum of its code that lies in enhancing tumour (ET)."),
        _column("share_brain", pa.float32(), "Share (0..1) of the sum of its code in brain outside the tumour."),
        _column("share_air", pa.float32(), "Share (0..1) of the sum of its code on tokens mostly outside the brain."),
        _column("best_case", pa.string(), "Training case on which it fires most strongly; null if it never fires."),
        _column("best_slice", pa.int32(), "Axial slice of that maximum, from 0, on the case's own grid."),
    ]
)
"""Columns of the catalogue; each field's metadata says what it is. Regions are by the expert labels of the training
cases, a token counting for the label that most of its voxels have."""


def catalogue_table(rows: Iterable[dict]) -> pa.Table:
    """The catalogue of rows with the keys of `CATALOGUE_SCHEMA`; a key that may be null can be left out.

    Raises ValueError for an unknown key, a missing `tap` or `latent`, or a latent given twice.
    """
    rows = list(rows)
    known = set(CATALOGUE_SCHEMA.names)
    for row in rows:
        if set(row) - known:
            raise ValueError(f"{sorted(set(row) - known)} are not columns of the catalogue")
        if row.get("tap") is None or row.get("latent") is None:
            raise ValueError("a row of the catalogue lacks its tap or latent")
    if len({(row["tap"], row["latent"]) for row in rows}) < len(rows):
        raise ValueError("a latent is in the catalogue twice")
    return pa.Table.from_pylist(rows, schema=CATALOGUE_SCHEMA)


def write_catalogue(table: pa.Table, path: Path) -> None:
    """Write `table` (as `catalogue_table` makes it; further columns are kept) to `path`, parquet with zstd."""
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd")


def read_catalogue(path: Path) -> pa.Table:
    """The catalogue in `path`, with at least the columns of `CATALOGUE_SCHEMA`, in its types.

    Raises PackError for a file that is no parquet, too large, or lacks a column.
    """
    import pyarrow.parquet as pq

    remedy = "Copy or download the pack again, or ask its maker to build it again."
    try:
        with pq.ParquetFile(path, memory_map=False) as file:
            if path.stat().st_size > MAX_BYTES or file.metadata.num_rows > MAX_ROWS:
                raise PackError(path, "it is too large for a catalogue.", "Do not use this pack.")
            table = file.read()
        missing = [name for name in CATALOGUE_SCHEMA.names if name not in table.column_names]
        if missing:
            raise PackError(path, f"it has no column {missing[0]}.", remedy)
        for field in CATALOGUE_SCHEMA:
            column = table.column(field.name).cast(field.type)
            table = table.set_column(table.column_names.index(field.name), field, column)
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise PackError(path, f"it is not a readable catalogue ({problem}).", remedy) from problem
    return table


def described(row: dict) -> str:
    """Where a latent fired on the training cases, in a few words, from one row of the catalogue."""
    if row["mean"] is None:
        return "silent on the training cases"
    words = {
        "share_ncr": "in necrosis",
        "share_ed": "in edema",
        "share_et": "in enhancing tumour",
        "share_brain": "in brain outside the tumour",
        "share_air": "at the edge of the brain",
    }
    name, share = max(((k, row[k] or 0.0) for k in words), key=lambda item: item[1])
    return f"{share:.0%} {words[name]}"
