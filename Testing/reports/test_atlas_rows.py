"""What the page is told of a latent, from catalogues old and new and from the reader's notes."""

import numpy as np
from atlas_sample import RIM, UNCLEAR, full_rows, old_row

from MedSegLensLib.packs.catalogue import CATALOGUE_SCHEMA
from MedSegLensLib.reports.atlas_examples import BestExamples
from MedSegLensLib.reports.atlas_rows import latent_entry


def entry(row: dict | None, note: dict | None = None) -> dict:
    if row is not None:
        row = (
            dict.fromkeys(CATALOGUE_SCHEMA.names) | row
        )  # as `read_catalogue` gives it: all columns, unknown ones null
    return latent_entry(0, 7, row, note or {}, BestExamples(24, 5, 1, np.zeros(24)), [])


def test_an_old_row_says_where_it_fires_and_claims_nothing_else():
    told = entry(old_row(7))
    assert (told["title"], told["from"], told["mostly"]) == ("100% in brain outside the tumour", "where", "brain")
    assert told["catalogueExamples"] == [{"case": "phantom-1", "slice": 7, "value": 4.0}]
    assert not {"named", "stability", "auroc", "influence", "histogram", "evidence"} & set(told)


def test_a_new_row_brings_name_scores_and_relatives():
    told = entry(full_rows()[RIM])
    assert told["from"] == "catalogue" and told["named"] is True and told["where"] == "80% in edema"
    assert told["auroc"] == {"ed": 0.91, "wt": 0.88, "wt_border": 0.71}
    assert told["nearDuplicates"] == [UNCLEAR] and told["histogramOf"] == "catalogue"


def test_an_unclear_one_is_titled_by_its_place():
    told = entry(full_rows()[UNCLEAR])
    assert told["from"] == "where" and told["named"] is False and told["title"] == "60% in enhancing tumour"


def test_the_readers_name_goes_first_and_the_catalogues_is_told_too():
    told = entry(full_rows()[RIM], {"name": "mine", "comment": "see case 3", "favourite": True})
    assert (told["title"], told["from"], told["comment"], told["favourite"]) == ("mine", "yours", "see case 3", True)
    assert told["catalogueName"].startswith("FLAIR-bright rim")


def test_what_is_not_finite_is_not_known():
    told = entry(old_row(7) | {"stability": float("nan"), "auroc_ed": float("inf")})
    assert "stability" not in told and "auroc" not in told


def test_a_latent_that_the_catalogue_lacks_is_said_to_be_so():
    told = entry(None)
    assert told["title"] == "not in the catalogue" and "mostly" not in told
