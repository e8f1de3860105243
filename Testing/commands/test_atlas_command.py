"""`medseglens atlas`: whole or not at all, into its own folder, and no word of what it does not know."""

import json

import pytest

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cases.writing import write_case
from MedSegLensLib.cli import main
from MedSegLensLib.commands.atlas import replaced_folder
from MedSegLensLib.errors import OutputError
from MedSegLensLib.reports.atlas import DATA, DATA_BEGINS, PAGE

SMALL = {"size": (48, 60, 20), "spacing": (3.5, 3.5, 7.0)}


@pytest.fixture
def cases(tmp_path):
    """One phantom, and a folder that is no case."""
    write_case(phantom(1, **SMALL), tmp_path / "cases" / "phantom-1")
    (tmp_path / "cases" / "notes").mkdir()
    return tmp_path / "cases"


def test_the_folder_has_the_page_its_data_and_pictures_and_says_what_was_left_out(
    cases, pack, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("MEDSEGLENS_NOTES", str(tmp_path / "notes"))
    out = tmp_path / "made" / "atlas"
    arguments = ["atlas", "--pack", str(pack), "--cases", str(cases), "--out", str(out), "--tap", "upcat_3"]
    assert main([*arguments, "--examples", "3", "--citation", "Nobody et al.", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["cases"] == ["phantom-1"] and list(said["left_out"]) == ["notes"]
    assert said["latents"] == 24 and said["latents_with_examples"] > 0
    data = json.loads((out / DATA).read_text(encoding="utf-8").removeprefix(DATA_BEGINS).rstrip().removesuffix(";"))
    page = (out / PAGE).read_text(encoding="utf-8")
    assert "Nobody et al." in page
    wanted = set()
    for latent in data["latents"]:
        examples = latent.get("examples", [])
        assert len(examples) <= 3
        assert [e["value"] for e in examples] == sorted((e["value"] for e in examples), reverse=True)
        wanted |= {f"images/lens-0/{latent['latent']}-{e['n']}.png" for e in examples}
        wanted |= {f"images/case-0/{e['slice']}-{m}.webp" for e in examples for m in ("t1n", "t1c", "t2w", "t2f")}
    for number, at in data["cases"][0]["slices"].items():
        wanted |= {f"images/case-0/{number}-{kind}.png" for kind in at["outlines"]}
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == wanted | {PAGE, DATA}

    assert main(arguments) == OutputError.exit_code  # once more: it is there already
    assert "--replace" in capsys.readouterr().err
    (out / "stale").write_text("of an earlier run")
    assert main([*arguments, "--replace", "--json"]) == 0
    assert not (out / "stale").exists()
    assert [p.name for p in out.parent.iterdir()] == ["atlas"], "nothing unfinished lies about"


def test_what_is_no_atlas_is_never_replaced(cases, pack, tmp_path, capsys):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter.txt").write_text("years of work")
    arguments = ["atlas", "--pack", str(pack), "--cases", str(cases), "--out", str(out), "--replace"]
    assert main(arguments) == OutputError.exit_code
    assert "no atlas" in capsys.readouterr().err
    assert (out / "chapter.txt").read_text(encoding="utf-8") == "years of work"


@pytest.mark.parametrize("how", [KeyboardInterrupt, ValueError])
def test_after_a_cancel_or_a_failure_nothing_is_left_and_the_old_one_stays(tmp_path, how):
    out = tmp_path / "atlas"
    out.mkdir()
    (out / PAGE).write_text("old")
    with pytest.raises(how), replaced_folder(out) as folder:
        (folder / PAGE).write_text("half a page")
        raise how
    assert [p.name for p in tmp_path.iterdir()] == ["atlas"]
    assert (out / PAGE).read_text(encoding="utf-8") == "old"


def test_wrong_use_is_said_before_any_work(cases, pack, tmp_path, capsys):
    start = ["atlas", "--pack", str(pack), "--cases", str(cases), "--out", str(tmp_path / "atlas")]
    for more, words in ((["--examples", "0"], "1 to 12"), (["--tap", "nowhere"], "upcat_3")):
        assert main([*start, *more]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "atlas").exists()
