"""`medseglens diff models`: a comparison from the shell, and what cannot be compared said before the work begins."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tiny_packs import write_tiny_pack

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cases.writing import write_case
from MedSegLensLib.diffing.comparison import Comparison
from MedSegLensLib.lenses.files import load_lens, save_lens


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("other") / "tiny-segformer"
    write_tiny_pack("segformer", folder)
    return folder


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    for seed in (1, 2):
        write_case(phantom(seed, size=(40, 48, 10), spacing=(4.0, 4.0, 12.0)), folder / f"p{seed}")
    return folder


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def compare(run, pack, other, cases, out, *more):
    return run("diff", "models", pack, other, "--cohort", cases, "--out", out, "--workers", "0", *more)


def test_two_packs_are_compared_and_everything_is_written(run, pack, other, cases, tmp_path):
    lens_folder = next((pack / "lenses").iterdir())
    lens = load_lens(lens_folder)
    lens.W_dec = lens.W_dec.flip(1)
    save_lens(lens, tmp_path / "seeds" / "tiny-unet" / "tap" / "seed-2")
    out = tmp_path / "out"
    options = ("--no-influence", "--pictures", "0", "--seeds", tmp_path / "seeds", "--journal", tmp_path / "journal")
    code, said = compare(run, pack, other, cases, out, *options)
    assert code == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "comparison.csv",
        "comparison.json",
        "comparison.parquet",
        "index.html",
    ]
    comparison = Comparison.load(out)
    assert comparison == Comparison.from_table(pq.read_table(out / "comparison.parquet"))
    assert (comparison.a.name, comparison.b.name, comparison.cohort.n_cases) == ("tiny-unet", "tiny-segformer", 2)
    assert comparison.cohort.invented and any("few" in note for note in comparison.notes)
    assert len(comparison.findings) == 4 * 24
    assert not any(f.category == "specific" for f in comparison.findings_of("b")), "it has no other seeds"
    for side in "ab":
        shares = [s for s in comparison.shares if s.side == side and s.tap is None and s.category != "never fires"]
        assert sum(s.n for s in shares) == shares[0].total > 0
    assert said["summary"]["says"] == comparison.summary["says"] and len(said["panel"]) == 2
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "2 cases (phantoms)" in page and "latents that fire have a one-to-one partner" in page

    again = tmp_path / "again"
    compare(run, pack, other, cases, again, *options)
    first, second = ((folder / "comparison.json").read_text(encoding="utf-8") for folder in (out, again))
    assert json.loads(first) == json.loads(second), "a result from the journal is the same"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--taps", "nowhere"], "neither pack has a lens"),
        (["--seeds", "missing"], "no such folder"),
        (["--pictures", "-1"], "negative"),
        (["--workers", "-1"], "negative"),
    ],
)
def test_wrong_options_are_refused_before_the_work(run, pack, other, cases, tmp_path, arguments, words):
    code, said = run("diff", "models", pack, other, "--cohort", cases, "--out", tmp_path / "out", *arguments)
    assert code == 2 and words in json.dumps(said) and not (tmp_path / "out").exists()


def test_a_folder_without_seeds_of_either_pack_is_refused(run, pack, other, cases, tmp_path):
    (tmp_path / "seeds").mkdir()
    code, said = compare(run, pack, other, cases, tmp_path / "out", "--seeds", tmp_path / "seeds")
    assert code == 2 and "tiny-unet or tiny-segformer" in said["error"]["cause"]


def test_a_pack_is_not_compared_with_itself(run, pack, cases, tmp_path):
    code, said = compare(run, pack, pack, cases, tmp_path / "out")
    assert code == 2 and "twice" in said["error"]["cause"]


def test_one_case_is_not_enough(run, pack, other, cases, tmp_path):
    only = tmp_path / "one"
    only.mkdir()
    (only / "p1").symlink_to(cases / "p1")
    code, said = compare(run, pack, other, only, tmp_path / "out")
    assert code == 3 and "one case" in said["error"]["cause"]


def test_cases_without_what_a_pack_needs_are_refused_with_both_sides_named(run, pack, other, tmp_path):
    folder = tmp_path / "poor"
    for seed in (1, 2):
        made = phantom(seed, size=(24, 30, 8), spacing=(6.0, 6.0, 14.0))
        made.images.pop("t2f")
        write_case(made, folder / f"p{seed}")
    code, said = compare(run, pack, other, folder, tmp_path / "out")
    assert code == 2 and "needs t2f" in said["error"]["cause"] and "cannot meet" in said["error"]["cause"]


def test_a_cohort_that_is_not_there_is_said(run, pack, other, tmp_path):
    code, said = compare(run, pack, other, tmp_path / "nowhere", tmp_path / "out")
    assert code == 3 and "nowhere" in said["error"]["subject"]


def test_diff_cohorts_says_what_is_wrong_before_the_work(run, pack, cases, tmp_path):
    code, said = run("diff", "cohorts", cases, cases, "--pack", pack, "--out", tmp_path / "out", "--taps", "nowhere")
    assert code == 2 and "nowhere" in json.dumps(said)
