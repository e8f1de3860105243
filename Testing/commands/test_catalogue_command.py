"""`medseglens catalogue` as a user meets it: a pack and cases in, a catalogue with tested names out; and notes."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cases.reading import read_case
from MedSegLensLib.cases.writing import write_case
from MedSegLensLib.cli import main
from MedSegLensLib.editing.cataloguing import Cataloguing, summary_of
from MedSegLensLib.editing.session import Session
from MedSegLensLib.packs.catalogue import read_catalogue
from MedSegLensLib.packs.notes import lens_hash
from MedSegLensLib.packs.pack import load_pack
from MedSegLensLib.packs.verify import verify

SIZE = {"size": (40, 48, 12), "spacing": (4.0, 4.0, 11.0)}


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    for seed, name in enumerate(("one", "two", "other", "bare"), 1):
        write_case(phantom(seed, enhancing=True, **SIZE), folder / name)
    next((folder / "bare").glob("*seg*")).unlink()
    return folder


@pytest.fixture(autouse=True)
def notes_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSEGLENS_NOTES", str(tmp_path / "notes"))


@pytest.fixture
def run(run):
    return lambda *arguments: run("catalogue", *arguments)


def test_a_catalogue_is_made_written_and_told(run, pack, cases, tmp_path):
    code, data = run(
        *("--pack", pack, "--cases", cases, "--only", "one", "two", "bare", "--unseen", "other"),
        *("--out", tmp_path / "c.parquet", "--csv", tmp_path / "c.csv", "--write", tmp_path / "new"),
    )
    assert code == 0 and data["cases"] == ["one", "two", "bare"] and data["unseen"] == ["other"]
    assert any("bare has no labels" in note for note in data["notes"])
    table = read_catalogue(tmp_path / "c.parquet")
    rows = table.to_pylist()
    assert len(rows) == data["latents"] == sum(lens.d_sae for lens in load_pack(pack).info.lenses)
    assert {row["name"] for row in rows} == {"unclear"}, "stability is not known"
    assert any("stability is unknown" in row["name_evidence"] for row in rows)
    with open(tmp_path / "c.csv", encoding="utf-8", newline="") as file:
        told = list(csv.DictReader(file))
    assert len(told) == len(rows) and json.loads(told[0]["examples"])
    new = load_pack(tmp_path / "new")
    assert not verify(tmp_path / "new") and new.catalogue().equals(table)
    assert new.hash != load_pack(pack).hash
    assert all(lens_hash(new.info, tap) == lens_hash(load_pack(pack).info, tap) for tap in new.taps)
    assert [s.tap for s in summary_of(new.catalogue())] == list(new.taps)
    code, data = run("--pack", pack, "--cases", cases, "--only", "one", "--write", tmp_path / "new")
    assert code == 6 and "already" in data["error"]["cause"]


@pytest.fixture(scope="module")
def work(pack, cases) -> Cataloguing:
    work = Cataloguing(load_pack(pack), assume_stable=True, interventions=4)
    for name in ("one", "two"):
        work.add(read_case(cases / name))
    work.name()
    work.test(read_case(cases / "other"))
    return work


def test_examples_lie_where_the_latent_is_strongest_on_the_cases_own_grid(work, pack, cases):
    rows = work.table().to_pylist()
    sessions = {name: Session(read_case(cases / name), load_pack(pack)) for name in ("one", "two")}
    seen = 0
    for row in rows[::5]:
        for place in row["examples"] or []:
            session = sessions[place["case"]]
            volume = session.activation_volume(row["tap"], row["latent"])
            own = sitk.GetArrayFromImage(session.to_case(volume, "linear"))
            z, y, x = place["slice"], place["row"], place["column"]
            assert own[z, y, x] > 0.3 * place["value"]
            assert own[z].max() <= place["value"] * 1.01
            seen += 1
    assert seen > 10
    best = rows[0]["examples"]
    assert rows[0]["best_case"] == best[0]["case"] and rows[0]["best_slice"] == best[0]["slice"]
    assert len({(place["case"], place["slice"]) for place in best}) == len(best)


def test_influence_is_the_slope_of_the_log_odds(work, pack, cases):
    from MedSegLensLib.editing.influence import attribute_log_odds
    from MedSegLensLib.editing.recipe import Edit, PackReference, Recipe

    session = Session(read_case(cases / "one"), load_pack(pack))
    tap = session.pack.default_tap
    change = attribute_log_odds(session, tap, ("WT",))["WT"]
    inside = session.replay.logits.softmax(1)[:, 1:].sum(1) > 0.5

    def odds(latent, gain):
        logits = session.replay.logits.clone()
        recipe = Recipe("step", PackReference.of(session.pack), (Edit(tap, latent, "scale", gain),))
        for sample, box, values in session._run(recipe, None):
            logits[(sample, slice(None), *box)] = values
        logits = logits.double()
        return float((logits[:, 1:].logsumexp(1) - logits[:, 0])[inside].mean())

    latent = int(np.argmax(np.abs(change)))
    slope = (odds(latent, 0.9) - odds(latent, 1.1)) / 0.2
    assert change[latent] == pytest.approx(slope, rel=0.1)


def test_names_are_tested_on_the_unseen_case(work):
    rows = work.table().to_pylist()
    named = [row for row in rows if row["name"] != "unclear"]
    for row in named:
        assert row["name_score"] >= 0.6 and json.loads(row["name_rule"])
    for row in rows:
        if row["name"] == "unclear":
            assert row["name_rule"] is None and row["name_prediction"] is None and row["name_intervention"] is None
        for score in ("name_prediction", "name_intervention"):
            assert row[score] is None or 0 <= row[score] <= 1
    for summary in summary_of(work.table()):
        assert summary.named == sum(row["tap"] == summary.tap for row in named)


@pytest.mark.parametrize(
    "arguments, exit_code, said",
    [
        ((), 2, "nothing was asked"),
        (("--out", "c.parquet"), 2, "nothing was asked"),
        (("--cases", "absent"), 3, "no such folder"),
        (("--cases", "CASES", "--only", "nobody"), 3, "no such case"),
        (("--cases", "CASES", "--only", "one", "--unseen", "one"), 2, "not unseen"),
        (("--cases", "CASES", "--only", "bare", "--unseen"), 3, "none has labels"),
        (("--cases", "CASES", "--out", "/nowhere/c.parquet"), 6, "folder does not exist"),
        (("--favourite", "999"), 2, "no such latent"),
        (("--rename", "x", "y"), 2, "no such latent"),
        (("--favourite", "1", "--tap", "nowhere"), 2, "no lens at this tap"),
        (("--export-notes", "notes.xml"), 2, "not exported"),
        (("--import-notes", "absent.json"), 4, "no such file"),
    ],
)
def test_what_cannot_be_done_is_said(run, pack, cases, arguments, exit_code, said):
    given = [cases if a == "CASES" else a for a in arguments]
    code, data = run("--pack", pack, *given)
    assert code == exit_code and said in data["error"]["cause"]


def test_notes_are_kept_shown_and_exported(run, pack, tmp_path):
    code, data = run("--pack", pack, "--rename", 3, "my rim", "--comment", 3, "seen twice", "--favourite", 5)
    assert code == 0 and data["notes_count"] == 2 and Path(data["notes_file"]).is_file()
    code, data = run("--pack", pack, "--not-favourite", 5, "--export-notes", tmp_path / "notes.csv")
    with open(tmp_path / "notes.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["latent"], row["name"], row["comment"]) for row in rows] == [("3", "my rim", "seen twice")]
    run("--pack", pack, "--export-notes", tmp_path / "notes.json")
    shutil.rmtree(tmp_path / "notes")
    code, data = run("--pack", pack, "--import-notes", tmp_path / "notes.json")
    assert data["imported"] == 1 and data["notes_count"] == 1


def test_latents_are_listed_by_the_users_name(pack, cases, tmp_path, capsys):
    from MedSegLensLib.packs.recatalogue import with_catalogue

    work = Cataloguing(load_pack(pack))
    work.add(read_case(cases / "one"))
    work.name()
    with_catalogue(load_pack(pack), work.table(), tmp_path / "named")
    arguments = ["latents", str(cases / "one"), "--pack", str(tmp_path / "named"), "--region", "WT", "--measure", "0"]
    arguments += ["--volumes", "0", "--out", str(tmp_path / "out"), "--json"]
    assert main(arguments) == 0
    first = json.loads(capsys.readouterr().out)
    with open(tmp_path / "out" / "latents.csv", encoding="utf-8", newline="") as file:
        latent = next(csv.DictReader(file))["latent"]
    main(["catalogue", "--pack", str(tmp_path / "named"), "--rename", latent, "my rim"])
    assert main(arguments) == 0
    with open(tmp_path / "out" / "latents.csv", encoding="utf-8", newline="") as file:
        names = [row["name"] for row in csv.DictReader(file)]
    assert names[0] == "my rim" and " in " in names[1] and first["notes"] is not None


def test_one_other_seed_is_too_few_to_call_a_latent_stable(pack):
    loaded = load_pack(pack)
    tap = loaded.taps[0]
    lens = loaded.lens(tap)
    for seeds, expected in (([1], None), ([1, 2], [1.0] * lens.d_sae)):
        lens.metadata["stability"] = {"seeds": seeds, "decoder_cosine": [1.0] * lens.d_sae}
        known = Cataloguing(loaded)._stability(tap)
        assert expected == (None if known is None else known.tolist())
