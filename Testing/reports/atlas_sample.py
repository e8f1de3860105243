"""A tiny pack with a catalogue of every kind of row, and its atlas over two small phantoms."""

import sys
from dataclasses import replace
from pathlib import Path

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.packs.build import write_pack
from MedSegLensLib.packs.catalogue import catalogue_table
from MedSegLensLib.packs.pack import LensPack, load_pack
from MedSegLensLib.reports.atlas import AtlasRequest, write_atlas

EDITING = str(Path(__file__).parents[1] / "editing")
SMALL = {"size": (48, 60, 20), "spacing": (3.5, 3.5, 7.0)}

RIM = 3
"""Of the first lens: the latent that has everything, named and stable."""
UNCLEAR = 4
"""The one whose evidence is weak."""


def pack_with_catalogue(name: str, folder: Path, rows: list[dict]) -> LensPack:
    """The tiny pack `name` with a catalogue of these rows; the first lens's come first."""
    if EDITING not in sys.path:
        sys.path.append(EDITING)
    import torch
    from tiny_packs import write_tiny_pack

    torch.manual_seed(1)
    bare = write_tiny_pack(name, folder / "bare")
    lenses = [bare.lens(tap) for tap in bare.taps]
    info = replace(bare.info, citation=("A citation of the pack",))
    table = catalogue_table([row | {"tap": bare.taps[row["tap"]]} for row in rows])
    write_pack(folder / "pack", info, bare.state_dict(), lenses, table, "# Tiny\n", default_tap=bare.taps[0])
    return load_pack(folder / "pack")


def old_row(latent: int, tap: int = 0, **shares: float) -> dict:
    """A row as version 0.2 wrote it."""
    shares = {"share_brain": 1.0} | shares
    row = {"tap": tap, "latent": latent, "fires_share": 0.001 * (latent + 1), "mean": 1.0, "max": 4.0}
    return row | {"best_case": "phantom-1", "best_slice": 7} | shares


def full_rows() -> list[dict]:
    """Rows of two lenses of 24 latents; RIM and UNCLEAR are as a new catalogue has them, the others as an old one;
    the last latent of the second lens is not there."""
    rows = [old_row(j, tap) for tap in (0, 1) for j in range(24 - tap)]
    rows[RIM] |= {
        "share_brain": 0.1,
        "share_ed": 0.8,
        "share_et": 0.1,
        "n_cases": 7,
        "extent_ml": 12.5,
        "quantiles": [0.0, 0.5, 1.0, 1.5, 2.0, 3.5, 4.0],
        "histogram": [40, 30, 20, 10] + [1] * 16,
        "auroc_ed": 0.91,
        "auroc_wt": 0.88,
        "auroc_wt_border": 0.71,
        "iou_ed": 0.42,
        "intensity_t2f": 1.8,
        "laterality": -0.5,
        "slice_profile": [0.0, 0.1, 0.2, 0.3, 0.2, 0.1, 0.1, 0.0, 0.0, 0.0],
        "influence_wt": -1.25,
        "near_duplicates": [UNCLEAR],
        "children": [7, 8],
        "examples": [{"case": "phantom-1", "slice": 7, "row": 20, "column": 30, "value": 4.0}],
        "stability": 0.83,
        "name": "FLAIR-bright rim outside the <enhancing> tumour",
        "name_score": 0.61,
        "name_evidence": "80 % of it lies in edema; FLAIR is 1.8 sd brighter there.",
        "name_prediction": 0.79,
    }
    rows[UNCLEAR] |= {"name": "unclear", "stability": 0.31, "auroc_ed": 0.55, "share_brain": 0.4, "share_et": 0.6}
    return rows


def write_sample(folder: Path, rows: list[dict], notes: dict | None = None) -> dict:
    """The atlas in `folder`/atlas; what write_atlas says."""
    pack = pack_with_catalogue("unet", folder, rows)
    cases = {f"phantom-{n}": (lambda n=n: phantom(n, **SMALL)) for n in (1, 2)}
    (folder / "atlas").mkdir()
    notes = {(pack.taps[number], latent): note for (number, latent), note in (notes or {}).items()}
    return write_atlas(AtlasRequest(pack, cases, pack.taps, notes=notes), folder / "atlas")
