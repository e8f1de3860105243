"""The page: one file, all numbers, honest words, nothing half-written."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from small_report import small_report

from MedSegLensLib.errors import OutputError
from MedSegLensLib.reports import run_report
from MedSegLensLib.reports.run_report import render_run_report, write_run_report


class Read(HTMLParser):
    """Text by table row, all tags with attributes, and whether tags close."""

    VOID = {"meta", "img", "input", "br", "link"}

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.open, self.text, self.rows = [], [], "", []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" in self.open or "style" in self.open:
            return
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data


def test_loads_nothing_from_anywhere(page):
    read = Read(page)
    assert not read.open  # every tag closes
    for tag, attributes in read.tags:
        for name in ("src", "srcset", "data", "poster", "action", "background"):
            assert attributes.get(name, "data:").startswith("data:"), tag
        if "href" in attributes:
            assert tag == "a" and attributes["href"].startswith("https://arxiv.org/")
    assert not re.search(r"@import|url\(", page)
    assert "default-src 'none'" in page
    assert len(page) < 6e6


def test_says_every_number(page):
    read = Read(page)
    rows = [[cell.strip() for cell in row] for row in read.rows]
    assert ["ET, enhancing tumour", "12.3", "6.17", "−6.17", "−50 %", "11.1", "0.87", "0.43"] in rows
    assert ["123", "upcat_3", "enhancing rim", "4.56", "7.25", "−1.37", "−2.46", "L 5, A 12, S 3"] in rows
    assert ["8", "upcat_3", "", "0.75", "1.5", "+0.02", "not measured", "L 5, A 0, I 3"] in rows
    assert ["segment", "11.3 s"] in rows and ["resegment", "85 ms"] in rows
    for words in ("glioma-unet 1.2.3", "1 × 1 × 3 mm", "Spearman 0.83 over 1 latents", "t1n (T1) is missing."):
        assert words in " ".join(read.text.split())
    for words in ("The enhancing tumour shrinks.", "Look at slice 6.", "activation-123.nii.gz"):
        assert words in read.text
    assert read.text.count("not a medical device") == 1


def test_an_absent_region_is_absent(page):
    row = next(r for r in Read(page).rows if r[0].startswith("NCR"))
    assert row[1:] == ["absent", "absent", "0", "absent", "absent", "absent", "absent"]


def test_scrolls_through_the_lesion(page, report):
    slices = json.loads(re.search(r"const SLICES = (\[.*\]);", page)[1])
    start = int(re.search(r'id="slice"[^>]*value="(\d+)"', page)[1])
    assert "Axial slice 6 of 12, I 1.5 mm" in [s["caption"] for s in slices]
    assert len(slices) == 8  # six slices of tumour and one beyond it on either side
    assert slices[start]["caption"] in Read(page).text
    assert set(slices[0]["overlays"]) == {"before", "after", "change", "reference"}
    assert len(slices[0]["bases"]) == 2


@pytest.fixture(scope="module")
def odd() -> str:
    """A phantom with a name that is no HTML, one modality of three, no reference, and no tumour after the edit."""
    base = small_report()
    return render_run_report(
        small_report(
            case_name='<script>alert("1")</script> & Söhne',
            phantom=True,
            images={"t2f": np.zeros_like(base.images["t2f"]), "t1c": base.images["t1c"]},
            after=np.zeros_like(base.after),
            reference=None,
            rank_correlation=None,
            activations=[],
            notes=(),
        )
    )


def test_a_phantom_is_named_as_such(page, odd):
    assert "PHANTOM" in Read(odd).text and "PHANTOM" not in page


def test_a_name_is_text_not_html(odd):
    read = Read(odd)
    assert '<script>alert("1")</script> & Söhne' in read.text
    assert [tag for tag, _ in read.tags].count("script") == 1


def test_what_is_not_there_is_left_out(odd):
    read = Read(odd)
    assert "T2 FLAIR" not in read.text  # all zero: missing
    assert "T1 with contrast" in read.text
    assert "Dice" not in "".join(cell for row in read.rows for cell in row)
    assert 'value="reference"' not in odd
    assert "cannot be said" in read.text


def test_a_failure_leaves_the_older_page(report, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("older")
    monkeypatch.setattr(run_report, "render_run_report", lambda report: "half \ud800")  # cannot be encoded
    with pytest.raises(UnicodeEncodeError):
        write_run_report(report, path)
    assert path.read_text(encoding="utf-8") == "older" and list(tmp_path.iterdir()) == [path]
    monkeypatch.setattr(run_report, "render_run_report", lambda report: "newer")
    write_run_report(report, path)
    assert path.read_text(encoding="utf-8") == "newer"
    with pytest.raises(OutputError, match="folder does not exist"):
        write_run_report(report, tmp_path / "none" / "report.html")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"after": np.zeros((2, 2, 2), np.uint8)}, "one shape"),
        ({"influence_region": "liver"}, "liver"),
        ({"images": {"t2f": np.zeros((12, 44, 36))}}, "not all zero"),
    ],
)
def test_volumes_that_do_not_belong_together_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        render_run_report(small_report(**changes))
