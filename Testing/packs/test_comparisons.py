"""What comparisons found of a pack: kept by its lenses, shipped with it, checked before it is believed."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_lens import TAPS

from MedSegLensLib.diffing.comparison import CATEGORIES, CohortSide, Comparison, LatentFinding, PackSide
from MedSegLensLib.diffing.kept import keep_findings, pack_comparisons
from MedSegLensLib.errors import OutputError, PackError
from MedSegLensLib.packs.build import zip_pack
from MedSegLensLib.packs.comparisons import (
    SCHEMA,
    ComparedCohort,
    PackComparison,
    PackFinding,
    PackFindings,
    PartnerPack,
    checked_comparison,
    comparison_folder,
    kept_comparisons,
    save_comparison,
)
from MedSegLensLib.packs.notes import lens_hash
from MedSegLensLib.packs.pack import load_pack
from MedSegLensLib.packs.shipped_comparisons import with_comparisons
from MedSegLensLib.packs.verify import verify

OTHER = PartnerPack("other", "1.0.0", {"z": "e" * 64})
HASHES = {"a": "0" * 64, "b": "f" * 64}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSEGLENS_COMPARISONS", str(tmp_path / "comparisons"))
    return tmp_path / "comparisons"


def found(latent: int = 1, category: str = "shared", lens: str = HASHES["a"], tap: str = "a", **more) -> PackFinding:
    partner = {"partner_tap": "z", "partner_latent": 41} if "shared" in category else {}
    told = {"evidence": "It correlates with 0.82.", "null": 0.2}
    return PackFinding(lens, tap, latent, category, **(told | partner | more))


def compared(*findings: PackFinding, pack: str = "p", created: str = "2026-11-21", cohort: str = "c") -> PackComparison:
    cohorts = (ComparedCohort(cohort, 9, simulated=True),)
    return PackComparison(pack, "models", ("other",), cohorts, OTHER, created, ("One case failed.",), findings)


def test_what_is_kept_is_found_again_by_its_lens():
    finding = found(interval=(0.7, 0.9), measure=0.82, p_adjusted=0.01)
    kept = compared(finding)
    save_comparison(kept)
    again, problems = kept_comparisons("p")
    assert again == [kept] and problems == []
    assert PackFindings(HASHES, again).of("a", 1) == [(kept, finding)]
    assert PackFindings(HASHES, again).of("a", 2) == [] and PackFindings(HASHES, again).of("b", 1) == []


def test_a_retrained_lens_wears_no_old_finding_and_that_is_told():
    kept = compared(found())
    findings = PackFindings(HASHES | {"a": "1" * 64}, [kept])
    assert not findings and findings.of("a", 1) == [] and findings.outdated == (kept,)
    both = PackFindings(HASHES | {"a": "1" * 64}, [compared(found(), found(lens=HASHES["b"], tap="b"))])
    assert both.of("b", 1) and not both.of("a", 1) and both.outdated == ()


def test_made_again_it_takes_the_place_of_the_former_and_another_stands_beside_it(folder):
    save_comparison(compared(found(category="specific", specific_to="p")))
    save_comparison(compared(found()))
    save_comparison(compared(found(category="backbone"), cohort="another"))
    again, _ = kept_comparisons("p")
    findings = PackFindings(HASHES, again)
    assert len(list((folder / "p").iterdir())) == 2
    assert {finding.category for _, finding in findings.of("a", 1)} == {"shared", "backbone"}


def test_the_users_own_counts_over_the_shipped_one_where_it_is_about_this_lens():
    shipped = compared(found(), found(2))
    own, old = compared(found(category="undecided")), compared(found(category="undecided", lens="9" * 64))
    assert [f.category for _, f in PackFindings(HASHES, [shipped, own]).of("a", 1)] == ["undecided"]
    assert [f.category for _, f in PackFindings(HASHES, [shipped, old]).of("a", 1)] == ["shared"]


def test_two_packs_of_one_name_keep_their_own(folder):
    lenses = {
        "a": PackSide("p", "1.0.0", "1" * 64, {"t": "1" * 64}),
        "b": PackSide("p", "1.0.0", "2" * 64, {"t": "2" * 64}),
    }
    findings = tuple(LatentFinding(side, "t", 0, "shared", None, "t", 0, 0.9, null=0.1) for side in "ab")
    keep_findings(Comparison("models", **lenses, findings=findings, cohort=CohortSide("c", "", 3)))
    again, _ = kept_comparisons("p")
    assert {finding.lens for one in again for finding in one.findings} == {"1" * 64, "2" * 64}


def test_a_comparison_of_packs_is_kept_for_both_and_one_of_cohorts_for_its_pack():
    a, b = PackSide("p", "1.0.0", "1" * 64, {"t": "1" * 64}), PackSide("q", "2.0.0", "2" * 64, {"u": "2" * 64})
    findings = (
        LatentFinding("a", "t", 3, "shared", None, "u", 7, 0.9, (0.8, 0.95), 0.1, 0.001, "Alike."),
        LatentFinding("a", "t", 4, "never fires"),
        LatentFinding("b", "u", 7, "specific", "q", measure=0.1, null=0.2, evidence="Alone."),
    )
    of_p, of_q = pack_comparisons(Comparison("models", a, b, findings, CohortSide("c", "", 9, simulated=True)))
    assert (of_p.pack, of_p.against, of_p.partner.lens_hashes) == ("p", ("q",), {"u": "2" * 64})
    assert [(f.latent, f.partner_latent, f.lens) for f in of_p.findings] == [(3, 7, "1" * 64)]
    assert [(f.category, f.specific_to) for f in of_q.findings] == [("specific", "q")]
    x, y = CohortSide("x", "", 5), CohortSide("y", "", 6, invented=True)
    of_cohorts = LatentFinding("a", "t", 5, "specific", "y", measure=1.5, null=0.6, evidence="More in y.")
    (one,) = pack_comparisons(Comparison("cohorts", x, y, (of_cohorts,), pack=a))
    assert (one.pack, one.against, one.partner, one.cohorts[1].invented) == ("p", ("x", "y"), None, True)
    by_their_own = Comparison("cohorts", x, y, (of_cohorts, replace(of_cohorts, side="b")), pack=a)
    assert pack_comparisons(by_their_own) == [], "lenses of a cohort's own are in no pack"


def test_the_schema_knows_the_categories_of_a_comparison():
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    row = schema["properties"]["findings"]["items"]["properties"]
    assert tuple(row["category"]["enum"]) == CATEGORIES


# -- shipped with a pack ----------------------------------------------------------------------------------------------


def about(pack, *latents: int, tap: str = TAPS[0]) -> PackComparison:
    lens = lens_hash(load_pack(pack).info, tap)
    return compared(*(found(latent, lens=lens, tap=tap) for latent in latents), pack="tiny-unet")


def test_a_pack_is_shipped_with_them_whole_and_with_the_same_lenses(pack, tmp_path):
    before, told = load_pack(pack), about(pack, 0, 7)
    with_comparisons(before, [told], tmp_path / "shipped")
    after = load_pack(tmp_path / "shipped")
    assert verify(after.folder) == [] and after.comparisons() == [told]
    assert after.hash != before.hash and after.edits_hash == before.edits_hash, "recipes stay good"
    assert all(lens_hash(after.info, tap) == lens_hash(before.info, tap) for tap in before.taps)
    zip_pack(after.folder, tmp_path / "shipped.mslp")
    assert load_pack(tmp_path / "shipped.mslp").comparisons() == [told]
    with_comparisons(after, [], tmp_path / "bare")
    assert load_pack(tmp_path / "bare").comparisons() == []


def test_a_large_comparison_is_shipped_in_parts_and_read_as_one(pack, tmp_path):
    lens = lens_hash(load_pack(pack).info, TAPS[0])
    told = about(pack, *range(8))
    long = replace(told, findings=tuple(found(n % 8, lens=lens, tap=TAPS[0], evidence="e" * 1900) for n in range(1500)))
    with_comparisons(load_pack(pack), [long], tmp_path / "shipped")
    assert len(list((tmp_path / "shipped" / "comparisons").iterdir())) == 2
    assert load_pack(tmp_path / "shipped").comparisons() == [long]


@pytest.mark.parametrize("latents, tap, said", [((8,), TAPS[0], "latent 8"), ((0,), "elsewhere", "elsewhere")])
def test_one_about_what_the_pack_does_not_have_is_refused(pack, tmp_path, latents, tap, said):
    told = about(pack, *latents)
    wrong = replace(told, findings=tuple(replace(finding, tap=tap) for finding in told.findings))
    with pytest.raises(PackError, match=said):
        with_comparisons(load_pack(pack), [wrong], tmp_path / "shipped")
    assert not (tmp_path / "shipped").exists()


def test_one_about_a_lens_that_was_trained_since_is_refused(pack, tmp_path):
    old = compared(found(0, tap=TAPS[0]), pack="tiny-unet")
    with pytest.raises(PackError, match="does not have \\(any more\\)"):
        with_comparisons(load_pack(pack), [old], tmp_path / "shipped")


def test_one_that_is_listed_but_is_no_comparison_is_an_error(pack, relist):
    (pack / "comparisons").mkdir()
    (pack / "comparisons" / "x.json").write_text('{"medseglens_pack_comparison": 1}', encoding="utf-8")
    relist("comparisons/x.json")
    (finding,) = [f for f in verify(pack) if f.severity == "error"]
    assert finding.file == "comparisons/x.json" and "is not a comparison" in finding.cause


# -- files that nobody vouched for ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.clear(),
        lambda d: d.update(pack="another"),
        lambda d: d.update(medseglens_pack_comparison=2),
        lambda d: d["findings"][0].update(category="certain"),
        lambda d: d["findings"][0].update(category="specific"),
        lambda d: d["findings"][0].pop("partner_tap"),
        lambda d: d["findings"][0].update(lens="0"),
        lambda d: d["findings"][0].update(latent=-1),
        lambda d: d.update(extra=1),
    ],
)
def test_a_file_that_is_none_of_ours_is_told_and_does_not_hide_the_others(folder, change):
    save_comparison(compared(found()))
    document = compared(found(), cohort="d").to_json()
    change(document)
    bad = comparison_folder("p") / "bad.json"
    bad.write_text(json.dumps(document), encoding="utf-8")
    again, problems = kept_comparisons("p")
    assert len(again) == 1 and len(problems) == 1
    assert "bad.json" in str(problems[0])


def test_a_file_that_is_too_large_is_not_read(folder, monkeypatch):
    path = save_comparison(compared(found()))
    monkeypatch.setattr("MedSegLensLib.packs.comparisons.MAX_BYTES", 10)
    again, (problem,) = kept_comparisons("p")
    assert again == [] and "too large" in str(problem) and path.is_file()


def test_without_any_there_is_nothing_and_nothing_is_said():
    assert kept_comparisons("never compared") == ([], [])


def test_nothing_is_left_half_written(folder, monkeypatch):
    path = save_comparison(compared(found()))
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OutputError, match="disk is full"):
        save_comparison(compared(found(2)))
    monkeypatch.undo()
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


numbers = st.none() | st.floats(-1e9, 1e9)
words = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30)


@given(
    st.lists(st.tuples(st.integers(0, 999), st.sampled_from(CATEGORIES), words, numbers, numbers), max_size=8), words
)
def test_any_comparison_round_trips(rows, cohort):
    findings = []
    for latent, category, text, measure, null in rows:
        if category == "specific":
            findings.append(found(latent, category, specific_to=text, null=null or 0.0, measure=measure, evidence=text))
        else:
            findings.append(found(latent, category, null=null, measure=measure, evidence=text))
    kept = compared(*findings, cohort=cohort)
    document = json.loads(json.dumps(kept.to_json()))
    assert checked_comparison("here", document, "p") == kept
