"""The page of a comparison: no claim without its null, pictures of the right place, nothing from elsewhere."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from chromium import Chromium, chromium_path
from comparison_samples import TAPS, cohorts_comparison, models_comparison
from read_page import Read

from MedSegLensLib.cohorts.acquisitions import Acquisition
from MedSegLensLib.cohorts.cohort import Cohort, CohortCase
from MedSegLensLib.cohorts.phantoms import PhantomRequest
from MedSegLensLib.diffing.comparison import CohortSide, Comparison, LatentFinding
from MedSegLensLib.errors import Cancelled, OutputError
from MedSegLensLib.reports.charts import Series
from MedSegLensLib.reports.diff_figures import Mark, intervals
from MedSegLensLib.reports.diff_page import render_diff_page, write_diff_page
from MedSegLensLib.reports.diff_pictures import gallery
from MedSegLensLib.reports.diff_words import KINDS
from MedSegLensLib.reports.seen_case import SeenCase

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "editing"))

from tiny_packs import write_tiny_pack  # noqa: E402

SMALL = {"size": (48, 60, 20), "spacing": (3.5, 3.5, 7.0)}


# -- words and numbers ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models() -> Read:
    return Read(render_diff_page(models_comparison()))


@pytest.fixture(scope="module")
def cohorts() -> Read:
    return Read(render_diff_page(cohorts_comparison()))


def test_plain_words_come_first_and_tables_after(models):
    assert not models.open
    order = ["are shared with the other segmenter", "How much is shared", "Where it lies", "How much performance rests"]
    places = [
        models.text.index(words) for words in [*order, "How sure we are", "Latent by latent", "The words of this"]
    ]
    assert places == sorted(places)
    assert "BraTS2021_00477 was left out" in models.text and "has only 9 cases" in models.text


def test_every_claim_has_its_count_interval_and_null(models, cohorts):
    claims = re.search(r"How much is shared, how much is specific (.*?) What became", models.text).group(1)
    share = next(s for s in models_comparison().shares if (s.side, s.tap, s.category) == ("a", None, "shared"))
    assert f"{share.n} of {share.total} latents of glioma-unet, {100 * share.share:.0f} % (95 % interval" in claims
    numbers = re.findall(r"\d+ of \d+ latents of [\w-]+, \d+ % \(([^)]*)\)", claims)
    assert len(numbers) == 10 and all("null 4 %" in each and "95 % interval" in each for each in numbers)
    said = re.search(r"How much is shared, how much is specific (.*?) What became", cohorts.text).group(1)
    assert len(re.findall(r"latents of glioma-unet at [\w.]+, \d+ % \(null 2 % in random splits\)", said)) == 8
    assert "26 % of glioma-unet's latents (null 4 %)" in models.text, "in the headline too"


def test_where_nothing_is_specific_that_is_said_without_a_number_to_mistake():
    comparison = cohorts_comparison(TAPS["a"][:1])
    shares = [row | ({"n": 0} if row["category"] == "specific" else {}) for row in comparison.summary["shares"]]
    read = Read(render_diff_page(replace(comparison, summary={**comparison.summary, "shares": shares})))
    assert "none are specific to one" in read.text and "Specific. None of 60 latents" in read.text


def test_where_nothing_is_shared_that_is_the_headline():
    comparison = models_comparison()
    shares = [row | ({"n": 0} if row["category"] == "shared" else {}) for row in comparison.summary["shares"]]
    read = Read(render_diff_page(replace(comparison, summary={**comparison.summary, "shares": shares})))
    said = "None of glioma-unet's latents and none of glioma-segformer's latents are shared with the other segmenter"
    assert said in read.text and "Shared. None of 114 latents of glioma-unet, 0 % (95 % interval" in read.text


def test_a_share_that_its_null_reaches_is_said_not_to_be_beyond_it():
    comparison = cohorts_comparison(TAPS["a"][:1])
    shares = [row | {"null": 1.0, "null_is": "of random latents"} for row in comparison.summary["shares"]]
    read = Read(render_diff_page(replace(comparison, summary={**comparison.summary, "shares": shares})))
    assert re.search(r"latents \d+ % \(not beyond its null, 100 %\) behave alike in both", read.text)
    assert "null 100 % of random latents; not beyond its null): they fire as often" in read.text


def test_no_latent_is_called_specific_without_a_null_in_its_row(models, cohorts):
    for read, length in ((models, 10), (cohorts, 9)):
        head = next(row for row in read.rows if "Specific to" in row)
        null = head.index("Null")
        rows = [row for row in read.rows if len(row) == len(head) == length and row != head]
        assert rows and all(re.fullmatch(r"−?\d\.\d\d", row[null]) for row in rows)


def test_phantoms_and_simulated_cohorts_are_named_so():
    invented = CohortSide("shapes", "made", 4, invented=True)
    read = Read(render_diff_page(models_comparison(cohort=invented)))
    assert "shapes: PHANTOMS, invented anatomy" in read.text and "not patients" in read.text
    simulated = Read(render_diff_page(cohorts_comparison()))
    assert "low-field: SIMULATED acquisitions" in simulated.text
    assert "no scanner made these images" in simulated.text


def test_performance_stands_beside_random_latents(cohorts):
    rows = [row for row in cohorts.rows if row and "specific latents" in row[0]]
    others = [row for row in cohorts.rows if row and row[0].startswith("as many random latents")]
    assert len(rows) == len(others) == 3
    assert rows[0] == ["4 specific latents suppressed, WT", "low-field", "0.702", "−0.121", "−0.171 to −0.081", "9"]
    assert others[0][3:] == ["−0.011", "−0.030 to 0.002", "9"]
    assert ["Dice of WT", "low-field", "0.702", "−0.169", "−0.250 to −0.080", "9"] in cohorts.rows


def test_what_the_regions_hang_on_is_told_of_two_packs(models):
    assert "Spearman 0.41 over 51 pairs" in models.text and "in under 0.1 % of the trials" in models.text
    bare = models_comparison()
    bare = replace(bare, summary={**bare.summary, "influence": {}})
    assert "It was not measured here" in Read(render_diff_page(bare)).text


def test_nothing_but_the_tables_is_linked_and_nothing_is_loaded(models):
    assert {a["href"] for a in models.attributes_of("a")} == {
        "#words",
        "comparison.csv",
        "comparison.parquet",
        "comparison.json",
    }
    page = render_diff_page(models_comparison())
    assert "default-src 'none'" in page and "http:" not in page and "https:" not in page


def test_a_comparison_in_which_nothing_fires_is_a_page_too():
    none = (LatentFinding("a", "t", 0, "never fires"), LatentFinding("b", "u", 0, "never fires"))
    given = models_comparison(findings=none, summary={"shares": []})
    assert "Nothing can be said of glioma-unet and glioma-segformer" in Read(render_diff_page(given)).text


def test_names_from_outside_are_text_and_no_markup():
    cohort = CohortSide("<script>alert(1)</script>", "a & b", 3)
    page = render_diff_page(models_comparison(cohort=cohort, notes=("<b>bold</b> & more",)))
    assert "<script" not in page and "<b>bold" not in page and "&lt;b&gt;bold&lt;/b&gt; &amp; more" in page


def test_kinds_are_told_apart_without_colour():
    """Of two kinds that stand in one bar, the lightness differs, or one is striped."""
    for alone in ({"backbone"}, {"shared", "partly shared"}):
        shown = [(colour, striped) for kind, (_, colour, striped) in KINDS.items() if kind not in alone]
        for n, (colour, striped) in enumerate(shown):
            for other, other_striped in shown[n + 1 :]:
                assert striped != other_striped or abs(_lightness(colour) - _lightness(other)) > 8, (colour, other)


def _lightness(colour: str) -> float:
    """CIE L*, 0..100."""
    linear = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in linear]
    y = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return 116 * y ** (1 / 3) - 16


def test_a_chart_keeps_what_lies_beyond_its_axis_at_the_end_and_says_the_number():
    series = {"x": Series("x", "#0072B2")}
    chart = str(intervals([("<row>", [Mark("x", 5.0, (-9.0, 9.0), 0.5, "5.0")])], series, 0, 1, "title", "unit"))
    mark = float(re.findall(r'<circle cx="([\d.]+)"', chart)[-1])  # the first is the legend's
    right = max(float(x) for x in re.findall(r"H([\d.]+)", chart))
    assert mark == pytest.approx(right) and "5.0" in chart and "&lt;row&gt;" in chart


# -- pictures ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    import torch

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("packs")
    return tuple(write_tiny_pack(name, folder / name) for name in ("unet", "segformer"))


def phantoms(name: str, seeds, acquisition: Acquisition | None = None) -> Cohort:
    cases = tuple(
        CohortCase(f"phantom-{seed}", f"subject-{seed}", phantom=PhantomRequest(seed, **SMALL), acquisition=acquisition)
        for seed in seeds
    )
    return Cohort(name, "invented", "CC0", cases)


def compared(packs) -> Comparison:
    taps = {"a": packs[0].taps, "b": packs[1].taps}
    names = tuple(pack.info.name for pack in packs)
    return models_comparison(taps, names, latents=24, cohort=CohortSide("shapes", "made", 2, invented=True))


def test_one_case_seen_by_two_packs_lies_in_one_place(packs):
    """The two networks' grids differ; what the one saw lies on the other's where the brain lies."""
    case = phantoms("shapes", [3]).cases[0].read()
    a, b = (SeenCase.by(case, pack, set(pack.taps)) for pack in packs)
    assert a.labels.shape != b.labels.shape
    moved = b.on_grid_of(a, b.conformed.brain, nearest=True) > 0
    assert (moved == a.conformed.brain).mean() > 0.999
    tap = packs[1].taps[0]
    volume = b.on_grid_of(a, b.activation(tap, 0))
    assert volume.shape == a.labels.shape and volume[~a.conformed.brain].max() <= volume.max()
    total = b.totals(tap)[0]
    assert total > 0 and b.totals(tap, (1, 2, 3))[0] <= total
    assert b.totals(tap, (0, 1, 2, 3))[0] == pytest.approx(total)
    assert b.active_ml(tap, 0) == pytest.approx(len(b.codes[tap].latent(0)[0]) * 4 * 4 * 3.5 * 3.5 * 7 / 1000, rel=1e-6)


def test_pairs_are_pictured_side_by_side_and_a_case_that_cannot_be_opened_is_told(packs, tmp_path):
    said = []
    gone = CohortCase("gone", "gone", volumes={"t2f": tmp_path / "not-there.nii.gz"})
    cohort = phantoms("shapes", [1])
    cohort = replace(cohort, cases=(gone, *cohort.cases))
    files = write_diff_page(
        compared(packs), tmp_path / "page", packs, (cohort,), lambda what, share: said.append(share)
    )
    assert [path.name for path in files] == ["index.html", "comparison.parquet", "comparison.csv", "comparison.json"]
    assert all(path.is_file() for path in files) and said == sorted(said) and said[-1] == 1.0
    read = Read(files[0].read_text(encoding="utf-8"))
    images = read.attributes_of("img")
    assert len(images) == 2 * (4 + 2 + 2) and all(i["src"].startswith("data:image/jpeg") for i in images)
    assert read.text.count("(a phantom, not a patient)") >= 8
    assert "No picture of gone" in read.text and "From 1 case that was opened" in read.text
    assert "Shared: latent" in read.text and "Specific to tiny-unet" in read.text
    assert "Specific to tiny-segformer" in read.text
    assert re.search(r"tiny-unet, latent \d+ of upcat_3: fires in [\d.]+ mL", read.text)
    assert re.search(r"Axial slice \d+ of 20, [IS] [\d.]+ mm\.", read.text)
    sizes = {(image["width"], image["height"]) for image in images}
    assert len(sizes) == 1, "both pictures of a pair have one size: that of pack A's grid of the case"


def test_where_no_pair_is_shared_the_most_alike_ones_are_shown_and_nothing_is_claimed_of_them(packs):
    found = compared(packs)
    undecided = tuple(replace(f, category="undecided") if f.category == "shared" else f for f in found.findings)
    shown = gallery(replace(found, findings=undecided), packs, (phantoms("shapes", [1]),))
    assert shown.shared == [] and len(shown.alike) == 2
    page = Read(render_diff_page(replace(found, findings=undecided), shown))
    assert "Undecided: latent" in page.text and "no claim is made of those" in page.text
    assert len(page.attributes_of("img")) == 2 * (2 + 2 + 2)


def test_a_latent_of_two_cohorts_is_pictured_in_one_patient_on_one_scale(packs):
    pack = packs[0]
    tap = pack.default_tap
    found = tuple(
        LatentFinding("a", tap, latent, "specific", "noisy", measure=2.0, null=0.8, evidence=f"More of {latent}.")
        for latent in range(6)
    )
    sides = CohortSide("plain", "", 2, invented=True), CohortSide("noisy", "", 2, simulated=True, invented=True)
    comparison = Comparison("cohorts", *sides, found, pack=None)
    cohorts = phantoms("plain", [1, 2]), phantoms("noisy", [2, 3], Acquisition("noise"))
    shown = gallery(comparison, (pack,), cohorts, cases=1)
    assert len(shown.specific) == 2 and not shown.problems
    for pair in shown.specific:
        assert "phantom-2 (a phantom, not a patient)" in pair.left.caption
        assert "phantom-2 (a phantom, not a patient; simulated: noise, strength 1)" in pair.right.caption
        assert pair.left.place == pair.right.place and pair.here == "one patient, in both cohorts"
        assert pair.evidence.startswith("More of")


def test_giving_up_leaves_nothing_written(packs, tmp_path):
    def stop(_what, _share):
        raise Cancelled("pictures")

    with pytest.raises(Cancelled):
        write_diff_page(compared(packs), tmp_path / "page", packs, (phantoms("shapes", [1]),), stop)
    assert not (tmp_path / "page").exists()


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be made"):
        write_diff_page(models_comparison(), tmp_path / "file" / "page")


# -- in a browser -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(chromium_path() is None, reason="needs Chromium")
@pytest.mark.parametrize("make", [models_comparison, cohorts_comparison])
def test_in_a_browser_nothing_is_cut_off_and_nothing_is_asked_for(make, tmp_path):
    page_file, *_ = write_diff_page(make(), tmp_path)
    with Chromium() as browser:
        page = browser.open(page_file)
        for width in (1280, 700):
            page.resize(width, 900)
            assert page.js("document.documentElement.scrollWidth") <= width
            cut = page.js(
                "[...document.querySelectorAll('svg.chart')].flatMap((s) => { const f = s.getBoundingClientRect();"
                "return [...s.querySelectorAll('text')].filter((t) => { const r = t.getBoundingClientRect();"
                "return r.left < f.left - 1 || r.right > f.right + 1 || r.bottom > f.bottom + 1; })"
                ".map((t) => t.textContent); })"
            )
            assert cut == []
        assert page.complaints == [] and page.requests == [Path(page_file).resolve().as_uri()]
