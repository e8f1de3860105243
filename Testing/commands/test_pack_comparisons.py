"""`medseglens pack add-comparisons`: a pack shipped with what was found of it, and nothing else changed."""

import pytest

from MedSegLensLib.diffing.comparison import CohortSide, Comparison, LatentFinding, PackSide
from MedSegLensLib.errors import OutputError, UsageError
from MedSegLensLib.packs.notes import lens_hash
from MedSegLensLib.packs.pack import load_pack


@pytest.fixture
def compared(pack, tmp_path):
    """A comparison of the pack as `diff models` writes it; `lens` in place of the lens's own hash."""

    def write(lens: str | None = None, cohort: str = "c"):
        opened = load_pack(pack)
        tap = opened.default_tap
        sides = (
            PackSide(opened.info.name, "1.0.0", opened.hash, {tap: lens or lens_hash(opened.info, tap)}),
            PackSide("other", "1.0.0", "b" * 64, {"u": "c" * 64}),
        )
        found = (
            LatentFinding("a", tap, 3, "shared", None, "u", 7, 0.9, (0.8, 0.95), 0.1, 0.001, "Alike."),
            LatentFinding("b", "u", 7, "shared", None, tap, 3, 0.9, (0.8, 0.95), 0.1, 0.001, "Alike."),
        )
        folder = tmp_path / f"compared-{cohort}"
        folder.mkdir()
        Comparison("models", *sides, found, CohortSide(cohort, "", 5)).save(folder)
        return folder

    return write


def test_a_pack_is_shipped_with_comparisons_one_after_the_other(run, pack, compared, tmp_path):
    once, twice, file = tmp_path / "once", tmp_path / "twice", tmp_path / "twice.mslp"
    code, told = run("pack", "add-comparisons", pack, "--comparison", compared(), "--out", once)
    assert code == 0 and told["comparisons"] == 1
    code, told = run(
        "pack", "add-comparisons", once, "--comparison", compared(cohort="d"), "--out", twice, "--zip", file
    )
    assert code == 0 and told["comparisons"] == 2
    shipped = load_pack(file).comparisons()
    assert {one.cohorts[0].name for one in shipped} == {"c", "d"}
    assert [finding.latent for finding in shipped[0].findings] == [3], "what is about the other pack stays out"
    assert load_pack(once).hash != load_pack(pack).hash == load_pack(pack).hash
    code, told = run("pack", "verify", twice)
    assert code == 0 and told["ok"]


def test_a_comparison_of_another_lens_is_refused(run, pack, compared, tmp_path):
    arguments = ("--comparison", compared(lens="0" * 64), "--out", tmp_path / "new")
    code, told = run("pack", "add-comparisons", pack, *arguments)
    assert code == UsageError.exit_code and "not about the lenses" in told["error"]["cause"]
    assert not (tmp_path / "new").exists()


def test_a_folder_without_a_comparison_and_a_pack_that_is_there_are_said(run, pack, compared, tmp_path):
    code, told = run("pack", "add-comparisons", pack, "--comparison", tmp_path, "--out", tmp_path / "new")
    assert code == UsageError.exit_code and "cannot be read as a comparison" in told["error"]["cause"]
    code, told = run("pack", "add-comparisons", pack, "--comparison", compared(), "--out", pack)
    assert code == OutputError.exit_code and "a pack already" in told["error"]["cause"]
