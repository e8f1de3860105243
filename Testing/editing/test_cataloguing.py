"""The catalogue of whole packs, of slices and of patches: cases add up, and nothing is said of what is not known."""

import numpy as np
import pytest

from MedSegLensLib.cases.case import Case
from MedSegLensLib.editing.cataloguing import TISSUES, catalogue_table_of, summary_of
from MedSegLensLib.errors import CaseError


@pytest.mark.parametrize(
    "pack", ["unet", "segformer", pytest.param("segresnet", marks=pytest.mark.slow)], indirect=True, scope="session"
)
def test_the_catalogue_adds_up_over_cases(pack, session, case):
    unlike = Case("other", case.images, case.labels)
    table = catalogue_table_of(pack, [case, unlike])
    rows = table.to_pylist()
    assert len(rows) == sum(lens.d_sae for lens in pack.info.lenses)
    assert [summary.tap for summary in summary_of(table)] == list(pack.taps)
    for tap in pack.taps:
        of_tap = {row["latent"]: row for row in rows if row["tap"] == tap}
        summary = session.codes[tap].summary()
        for latent, row in of_tap.items():
            # the same case twice: shares and maxima are those of the one
            assert row["fires_share"] == pytest.approx(
                summary.count[latent] / session.brain_tokens[tap].sum(), rel=1e-2
            )
            if summary.count[latent]:
                assert row["max"] == pytest.approx(float(summary.maximum[latent]), rel=1e-3)  # of another engine
                assert row["best_case"] == case.name
                assert sum(row[t] for t in TISSUES) == pytest.approx(1.0)
                assert row["n_cases"] == 2 and np.isclose(sum(row["slice_profile"]), 1, atol=1e-4)
                assert len({(e["case"], e["slice"]) for e in row["examples"]}) == len(row["examples"])


def test_a_cohort_without_any_label_is_refused(pack, case):
    with pytest.raises(CaseError, match="none has labels"):
        catalogue_table_of(pack, [Case(case.name, case.images)])
