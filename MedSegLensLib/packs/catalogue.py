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
        _column("best_slice", pa.int32(), "Slice (Z) of that maximum, from 0, on the case's own grid."),
        _column("n_cases", pa.int32(), "Number of cases on which it fires."),
        _column(
            "extent_ml", pa.float32(), "Volume (mL) of the tokens where it fires, mean over the cases where it does."
        ),
        _column(
            "quantiles", pa.list_(pa.float32()), "0, 25, 50, 75, 90, 99, 100 % quantiles of its code where it fires."
        ),
        _column("histogram", pa.list_(pa.int32()), "Tokens by code, 20 equal bins from 0 to max, where it fires."),
        *(
            _column(
                f"auroc_{r}", pa.float32(), f"AUROC (0..1) of its code for tokens in {r.upper()} among brain tokens."
            )
            for r in ("ncr", "ed", "et", "wt")
        ),
        *(
            _column(
                f"iou_{r}", pa.float32(), f"Overlap (IoU, 0..1) with {r.upper()} at the threshold that is best for it."
            )
            for r in ("ncr", "ed", "et", "wt")
        ),
        *(
            _column(f"{measure}_{band}", pa.float32(), f"{words} for tokens within {where}.")
            for measure, words in (("auroc", "AUROC"), ("iou", "IoU at the best threshold"))
            for band, where in (
                ("wt_border", "3 mm of the whole tumour's border"),
                ("et_border", "3 mm of the enhancing tumour's border"),
                ("ncr_border", "3 mm of the necrotic core's border"),
                ("ed_border", "3 mm of the edema's border"),
                ("brain_edge", "5 mm of the brain's edge"),
                ("midline", "5 mm of the brain's midline"),
            )
        ),
        _column("share_csf", pa.float32(), "Share (0..1) of the sum of its code in cerebrospinal fluid (CSF)."),
        _column("share_gm", pa.float32(), "Share (0..1) of the sum of its code in grey matter outside the tumour."),
        _column("share_wm", pa.float32(), "Share (0..1) of the sum of its code in white matter outside the tumour."),
        *(
            _column(
                f"intensity_{m}",
                pa.float32(),
                f"z-score of {m} where it fires, weighted by its code, less the mean of the brain without tumour.",
            )
            for m in ("t1n", "t1c", "t2w", "t2f")
        ),
        _column("laterality", pa.float32(), "-1 all left .. 1 all right of the patient's midline, mean over cases."),
        _column(
            "slice_profile", pa.list_(pa.float32()), "Share of its code in ten layers of the brain, bottom to top."
        ),
        *(
            _column(
                f"influence_{r}",
                pa.float32(),
                f"Mean change of {r.upper()}'s log odds over its voxels if suppressed, to first order.",
            )
            for r in ("wt", "tc", "et")
        ),
        _column(
            "co_firing", pa.list_(pa.int32()), "Latents that fire on the same tokens (Jaccard >= 0.2), nearest first."
        ),
        _column("near_duplicates", pa.list_(pa.int32()), "Those of nearly the same direction and support as well."),
        _column("children", pa.list_(pa.int32()), "Latents that fire only where this one does, and less often."),
        _column("parents", pa.list_(pa.int32()), "Latents that fire wherever this one does, and more often."),
        _column(
            "examples",
            pa.list_(
                pa.struct(
                    [
                        pa.field("case", pa.string()),
                        pa.field("slice", pa.int32()),
                        pa.field("row", pa.int32()),
                        pa.field("column", pa.int32()),
                        pa.field("value", pa.float32()),
                    ]
                )
            ),
            "Its five strongest places, in different slices: case, voxel (Z, Y, X) of the case's own grid, code.",
        ),
        _column("stability", pa.float32(), "Smallest decoder cosine to its partner in the lenses of other seeds."),
        _column(
            "name", pa.string(), "Name by rule from the evidence; 'unclear' where that is weak or it is not stable."
        ),
        _column(
            "name_score",
            pa.float32(),
            "0..1: share of its code's energy that the name covers, less its share by chance.",
        ),
        _column("name_evidence", pa.string(), "One sentence with the numbers behind the name."),
        _column("name_rule", pa.string(), "The name as a JSON predicate over what is known of a token (packs.naming)."),
        _column(
            "name_prediction", pa.float32(), "Balanced accuracy of the name for its strong firing on unseen cases."
        ),
        _column(
            "name_intervention",
            pa.float32(),
            "Share of other named latents whose suppression changes less, of all it changes, where this name says.",
        ),
    ]
)
"""Columns of the catalogue; each field's metadata says what it is. Regions are by the expert labels of the training
cases, a token counting for the label that most of its voxels have."""

REQUIRED = CATALOGUE_SCHEMA.names[: CATALOGUE_SCHEMA.names.index("n_cases")]
"""Columns that every catalogue has; the others came with version 0.3 and read as null from an older one."""

UNCLEAR = "unclear"
"""The name of a latent whose evidence is too weak for one."""


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
    """The catalogue in `path`, with the columns of `CATALOGUE_SCHEMA`, in its types; further ones follow them.

    Columns that an older version did not write are null. Raises PackError for a file that is no parquet, too large, or
    lacks a column of `REQUIRED`.
    """
    import pyarrow.parquet as pq

    remedy = "Copy or download the pack again, or ask its maker to build it again."
    try:
        with pq.ParquetFile(path, memory_map=False) as file:
            if path.stat().st_size > MAX_BYTES or file.metadata.num_rows > MAX_ROWS:
                raise PackError(path, "it is too large for a catalogue.", "Do not use this pack.")
            table = file.read()
        missing = [name for name in REQUIRED if name not in table.column_names]
        if missing:
            raise PackError(path, f"it has no column {missing[0]}.", remedy)
        columns = {}
        for field in CATALOGUE_SCHEMA:
            known = field.name in table.column_names
            columns[field] = table.column(field.name).cast(field.type) if known else pa.nulls(len(table), field.type)
        further = [name for name in table.column_names if name not in CATALOGUE_SCHEMA.names]
        columns |= {table.schema.field(name): table.column(name) for name in further}
        table = pa.table(list(columns.values()), schema=pa.schema(list(columns), metadata=table.schema.metadata))
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


def shown_name(row: dict, noted: str | None = None) -> str:
    """What a latent is called: the user's own name (`packs.notes`), else the catalogue's, else `described`."""
    return noted or clear_name(row) or described(row)


def clear_name(row: dict) -> str | None:
    """The catalogue's name of a latent; None where it has none, or none that is clear."""
    name = row.get("name")
    return name if name and name != UNCLEAR else None
