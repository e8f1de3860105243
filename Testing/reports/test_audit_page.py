"""The page of an audit: what it says first, its table, its pictures; and that it loads nothing."""

import csv
import io
import json

import numpy as np
import pytest
from chromium import Chromium, chromium_path

from MedSegLensLib.cohorts.acquisitions import Acquisition
from MedSegLensLib.cohorts.cohort import CohortCase
from MedSegLensLib.cohorts.mapping import Failure
from MedSegLensLib.errors import OutputError
from MedSegLensLib.failures.audit import Audit, AuditedCase, acquisition_of, agreement, risk_of
from MedSegLensLib.failures.failure_groups import failure_groups
from MedSegLensLib.failures.findings import Check, Quality, Reason, Shift, Suspect
from MedSegLensLib.failures.suspect_slices import SuspectSlice
from MedSegLensLib.reports.audit_page import headline, render_audit_page, table, write_audit_page

NAMED = Reason("model.1", 17, "bright FLAIR along the ventricles", 2.1, 0.4)
UNNAMED = Reason("model.0", 3, "", 0.1, 0.9)


def suspect(kind="false positive", region="ED", risk=0.8, reasons=(NAMED,), ml=3.2) -> Suspect:
    words = f"A piece of {region} is likely {'not one' if kind == 'false positive' else 'missed'}: <b>bright</b>."
    return Suspect(kind, "component", region, risk, (-20.0, 12.0, 30.0), ml, reasons, words)


def slice_of(number: int) -> SuspectSlice:
    """A slice with an oval brain, a round tumour, and a false piece of edema beside it."""
    y, x = np.mgrid[-60:60, -48:48]
    brain = (y / 58) ** 2 + (x / 46) ** 2 < 1
    labels = np.zeros(brain.shape, np.uint8)
    labels[(y - 10) ** 2 + (x + 15) ** 2 < 400] = 2
    labels[(y - 10) ** 2 + (x + 15) ** 2 < 120] = 3
    truth = labels.copy()
    wrong = (y + 20) ** 2 + (x - 18) ** 2 < 90
    labels[wrong] = 2
    grey = np.where(brain, 90 + 30 * np.sin(x / 6) + 60 * (labels == 2), 0)
    layers = np.stack([grey, brain, labels, 220 * wrong, truth]).astype(np.uint8)
    return SuspectSlice(layers, (1.5, 1.5), (-72.0, -90.0, 30.0), "t2f", number, (40, 66))


def audited(name: str, dice: float, suspects=(), true: dict | None = None, **described) -> AuditedCase:
    quality = tuple(Quality(r, d, d - 0.1, min(d + 0.1, 1.0)) for r, d in (("WT", dice + 0.05), ("ET", dice)))
    words = "This study drives latents as none of the 7 reference studies does: T1 differs most."
    check = Check(name, "p", quality, Shift(2.5, 0.0, {"usage": 2.5}, "t1n", words), tuple(suspects), (), 1.0)
    case = CohortCase(name, name, **described)
    ml = {"WT": 30.0, "TC": 10.0, "ET": 6.0}
    risk, why = risk_of(check, ml)
    slices = (slice_of(0),) if suspects else ()
    return AuditedCase(case, check, risk, why, ml, true or {}, acquisition_of(case), slices)


@pytest.fixture(scope="module")
def found() -> Audit:
    field = {"acquisition": Acquisition("low-field")}
    cases = [
        audited("BraTS2021_00001", 0.35, [suspect(), suspect(risk=0.2)], {"WT": 0.4, "TC": None, "ET": 0.2}, **field),
        audited("BraTS2021_00002", 0.5, [suspect(risk=0.6)], {"WT": 0.6, "TC": 0.5, "ET": 0.5}, **field),
        audited("case <3>", 0.6, [suspect("missed", "ET", 0.7, (UNNAMED,))]),
        audited("BraTS2021_00004", 0.9, (), {"WT": 0.93, "TC": 0.9, "ET": 0.9}),
    ]
    groups = tuple(failure_groups([(one.name, one.acquisition, one.check) for one in cases]))
    failures = (Failure("broken", "its t1n is missing, and the pack needs it.", "Add the volume."),)
    notes = ("Acquisitions were simulated from these cases: no scanner measured them.",)
    return Audit(
        "p", "1.0.0", "ward", "Folder ward", tuple(cases), groups, failures, notes, ("a", "b"), agreement(cases)
    )


def test_the_page_begins_with_how_many_cases_are_likely_bad(found):
    assert headline(found) == "3 of the 4 cases are likely below Dice 0.7 for the whole tumour"
    page = render_audit_page(found)
    assert "one minus the likely Dice of the whole tumour" in page
    assert headline(found) in page and "case &lt;3&gt;" in page and "<b>bright</b>" not in page


def test_the_table_has_a_row_a_case_and_true_dice_only_where_there_are_labels(found):
    rows = list(csv.DictReader(io.StringIO(table(found))))
    assert [row["case"] for row in rows] == [one.name for one in found.cases]
    assert rows[0]["WT_true_dice"] == "0.4000" and rows[0]["TC_true_dice"] == "" and rows[2]["WT_true_dice"] == ""
    assert rows[0]["suspects"] == "1" and rows[0]["modality"] == "t1n" and float(rows[0]["ET_likely_dice"]) == 0.35


def test_places_with_the_same_reason_are_one_kind_of_failure(found):
    first, second = found.groups
    assert first.cases == ("BraTS2021_00001", "BraTS2021_00002") and first.acquisitions == {"low-field (simulated)": 2}
    assert "ED where there likely is none: 2 places in 2 of 4 cases, 4.5 mL likely wrong" in first.words
    assert "Stronger than where it is right: bright FLAIR along the ventricles (latent 17)" in first.words
    assert second.kind == "missed" and "Weaker than where it is right: latent 3 at model.0" in second.words


def test_without_places_there_is_no_group_and_the_page_says_so():
    cases = (audited("one", 0.9),)
    alone = Audit("p", "1", "c", "s", cases, tuple(failure_groups([])), (), (), ("a",), agreement(cases))
    page = render_audit_page(alone)
    assert headline(alone) == "The one case is not likely below Dice 0.7 for the whole tumour"
    assert "No place with a risk of at least 25 % was found" in page


def test_a_segmentation_of_nothing_is_the_first_to_look_at():
    check = Check("c", "p", (), Shift(1.2, 0.4, {}, None, ""), (), (), 1.0)
    assert risk_of(check, {"WT": 0.0}) == (1.0, "no tumour was segmented")
    risk, why = risk_of(check, {"WT": 3.0})
    assert risk == pytest.approx(1 - 1 / 1.2) and "1.2 times as far" in why


def test_the_whole_tumour_ranks_a_case_and_a_small_part_of_it_does_not():
    def one(**dice: float) -> Check:
        return Check("c", "p", tuple(Quality(r, d, d, d) for r, d in dice.items()), None, (), (), 1.0)

    risk, why = risk_of(one(ET=0.1, WT=0.9), {"WT": 3.0})
    assert risk == pytest.approx(0.1) and why.startswith("likely Dice of WT 0.90")
    assert risk_of(one(ET=0.4, TC=0.3), {"WT": 3.0})[0] == pytest.approx(0.7), (
        "where it is not known, the worst of the rest"
    )


def test_three_files_are_written_and_the_json_has_all_but_the_pictures(found, tmp_path):
    files = write_audit_page(found, tmp_path / "audit")
    assert [path.name for path in files] == ["index.html", "audit.csv", "audit.json"]
    document = json.loads(files[2].read_text(encoding="utf-8"))
    assert document["failures"][0]["case"] == "broken" and len(document["cases"]) == 4
    assert Check.from_json(document["cases"][0]["check"]) == found.cases[0].check
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError):
        write_audit_page(found, tmp_path / "file")


@pytest.mark.skipif(chromium_path() is None, reason="needs a Chromium")
def test_in_a_browser_it_loads_nothing_and_shows_its_pictures(found, tmp_path):
    page, *_ = write_audit_page(found, tmp_path)
    with Chromium() as browser:
        opened = browser.open(page)
        assert opened.complaints == [] and all(address.startswith(("file:", "data:")) for address in opened.requests)
        sizes = opened.js("[...document.images].map(i => i.naturalWidth)")
        assert len(sizes) >= 3 and all(size > 100 for size in sizes)
        assert opened.js("document.documentElement.scrollWidth <= window.innerWidth")
