"""`medseglens train lens`: from a pack or a configuration, several at once, stopped and gone on with."""

import json
import sys
from pathlib import Path

import pytest
import torch

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cases.writing import write_case
from MedSegLensLib.errors import UsageError
from MedSegLensLib.lenses.files import load_lens
from MedSegLensLib.lenses.training import Training

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "editing"))
from tiny_packs import write_tiny_pack  # noqa: E402

TAP, EARLY = "upcat_3", "down_2"
QUICK = ("--width", 48, "--k", 4, "--steps", 12, "--batch", 256, "--tokens", 4000)


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    for i in range(4):
        write_case(phantom(i, size=(40, 48, 10), spacing=(4.0, 4.0, 12.0)), folder / f"case-{i}")
    return folder


@pytest.fixture
def run(run):
    return lambda *arguments: run("train", "lens", *arguments, "--device", "cpu")


def test_one_lens_of_one_case_without_a_configuration(run, pack, cases, tmp_path):
    code, data = run(
        "--pack",
        pack,
        "--tap",
        TAP,
        "--cases",
        cases / "case-0",
        "--out",
        tmp_path / "lens",
        *QUICK,
        "--dtype",
        "float16",
    )
    assert code == 0 and data["tap"] == TAP and data["held_out"]["n_tokens"] > 0
    assert sorted(p.name for p in (tmp_path / "lens").iterdir()) == [
        "cfg.json", "sae_weights.safetensors", "training.html",
    ]  # fmt: skip
    lens = load_lens(tmp_path / "lens")
    assert (lens.d_sae, lens.k, lens.metadata["cases"]) == (48, 4, ["case-0"])
    assert lens.metadata["stored_dtype"] == "float16"
    assert "training cases" in lens.metadata["held_out_tokens"]


def test_a_sweep_over_taps_kinds_and_seeds_is_one_pass(run, pack, cases, tmp_path):
    sweep = ("--tap", TAP, "--tap", EARLY, "--kind", "batch_topk", "topk", "--seed", 0, 1)
    code, data = run("--pack", pack, *sweep, "--cases", cases, "--out", tmp_path, "--store", tmp_path / "kept", *QUICK)
    assert code == 0 and len(data["lenses"]) == 8
    for entry in data["lenses"]:
        lens = load_lens(Path(entry["folder"]))
        assert lens.tap == entry["tap"] and lens.metadata["training"]["seed"] == entry["seed"]
        assert lens.activation == ("topk" if entry["kind"] == "topk" else "jumprelu")
        assert (Path(entry["folder"]) / "training.html").exists()
    assert len({entry["folder"] for entry in data["lenses"]}) == 8
    page = (tmp_path / "training.html").read_text(encoding="utf-8")
    assert page.count("<polyline") == 4 * 8 and "http" not in page and "held-out case" in page
    assert len(list((tmp_path / "kept" / "cases").iterdir())) == 4


def test_a_configuration_may_hold_lists_and_a_sweep_and_flags_go_before_it(run, pack, cases, tmp_path):
    config = {"tap": TAP, "width": [32, 48], "k": 4, "steps": 500, "batch": 256, "tokens": 3000, "held_out": 0}
    config |= {"cases": ["case-1", "case-2"], "sweep": [{"lr": 0.001}, {"lr": 0.01, "init": "centroids"}]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    arguments = ("--config", tmp_path / "config.json", "--pack", pack, "--cases", cases, "--steps", 4)
    code, data = run(*arguments, "--out", tmp_path / "out")
    trained = [load_lens(Path(entry["folder"])).metadata for entry in data["lenses"]]
    assert code == 0
    assert [(m["training"]["width"], m["training"]["lr"]) for m in trained] == [
        (32, 0.001), (48, 0.001), (32, 0.01), (48, 0.01),
    ]  # fmt: skip
    assert all(m["training"]["steps"] == 4 and m["cases"] == ["case-1", "case-2"] for m in trained)


def test_a_training_that_was_stopped_goes_on_and_harvests_nothing_again(run, pack, cases, tmp_path, monkeypatch):
    arguments = ("--pack", pack, "--tap", TAP, "--cases", cases, "--seed", 0, 1, *QUICK, "--checkpoint-every", 4)
    step, harvested = Training.step, []

    def stopping(training):
        if training.done == 9:
            raise KeyboardInterrupt
        step(training)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", stopping)
        code, _ = run(*arguments, "--out", tmp_path / "stopped")
    assert code == 130 and len(list((tmp_path / "stopped").rglob("checkpoint.safetensors"))) == 2
    code, data = run(*arguments, "--out", tmp_path / "stopped")
    assert code == 2 and "--resume" in data["error"]["remedy"]
    code, data = run(*arguments, "--out", tmp_path / "stopped", "--resume", "--lr", 0.5)
    assert code == 2 and "lr was 0.001 and is 0.5" in data["error"]["cause"]
    with monkeypatch.context() as patch:
        patch.setattr("MedSegLensLib.editing.harvest.harvest_taps", lambda *a, **k: harvested.append(a))
        code, went_on = run(*arguments, "--out", tmp_path / "stopped", "--resume")
    assert code == 0 and not harvested
    _, at_once = run(*arguments, "--out", tmp_path / "at once")
    for a, b in zip(went_on["lenses"], at_once["lenses"], strict=True):
        assert torch.equal(load_lens(Path(a["folder"])).W_dec, load_lens(Path(b["folder"])).W_dec)
    assert not list((tmp_path / "stopped").rglob("checkpoint*")) and not (tmp_path / "stopped" / ".harvested").exists()


def test_one_lens_that_runs_away_does_not_stop_the_others(run, pack, cases, tmp_path):
    config = {"tap": TAP, "width": 48, "k": 4, "steps": 12, "batch": 256, "tokens": 3000, "log_every": 4}
    sweep = [{"seed": 1}, {"lr": 1e20, "warmup": 0.0, "seed": 2}, {"seed": 3}]
    (tmp_path / "config.json").write_text(json.dumps(config | {"sweep": sweep}))
    arguments = ("--config", tmp_path / "config.json", "--pack", pack, "--cases", cases, "--out", tmp_path / "out")
    code, data = run(*arguments)
    assert code == 0 and [entry["seed"] for entry in data["lenses"]] == [1, 3]
    (failed,) = data["failed"]
    assert "no number any more at step" in failed["cause"] and "lower lr (it was 1e+20)" in failed["remedy"]
    assert [path.name for path in Path(failed["folder"]).iterdir()] == ["failed.json"]
    (tmp_path / "config.json").write_text(json.dumps(config | {"sweep": sweep[1:2] * 2}))
    code, data = run(*arguments[:-1], tmp_path / "none")
    assert code == 2 and "all 2 lenses" in data["error"]["subject"] and "lower lr" in data["error"]["remedy"]


def test_a_sweep_that_goes_on_says_again_which_lens_had_run_away(run, pack, cases, tmp_path, monkeypatch):
    config = {"tap": TAP, "width": 48, "k": 4, "steps": 12, "batch": 256, "tokens": 3000}
    sweep = [{"seed": 1}, {"lr": 1e20, "warmup": 0.0, "seed": 2}]
    (tmp_path / "config.json").write_text(json.dumps(config | {"sweep": sweep}))
    arguments = ("--config", tmp_path / "config.json", "--pack", pack, "--cases", cases, "--out", tmp_path / "out")
    arguments += ("--checkpoint-every", 4)
    step, steps = Training.step, []

    def stopping(training):
        if training.done == 9:
            raise KeyboardInterrupt
        step(training)

    def counting(training):
        steps.append(training.config.seed)
        step(training)

    monkeypatch.setattr(Training, "step", stopping)
    assert run(*arguments)[0] == 130
    monkeypatch.setattr(Training, "step", counting)
    code, data = run(*arguments, "--resume")
    assert code == 0 and set(steps) == {1} and len(steps) < 12
    assert [entry["seed"] for entry in data["lenses"]] == [1] and "at step" in data["failed"][0]["cause"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tap", "upcat3"], ["upcat3", "not a module", "upcat_3"]),
        (["--tap", "convs.conv_0"], ["not a module", "down_1.convs.conv_0"]),
        ([], ["no tap"]),
        (["--tap", TAP, "--k", 60], ["0 < k < width"]),
        (["--tap", TAP, "--kind", "none"], ["batch_topk, topk"]),
        (["--tap", TAP, "--held-out", 4], ["none to train on"]),
        (["--tap", TAP, "--lr", 1e20], ["no number any more at step", "lower lr"]),
    ],
)
def test_what_cannot_work_is_refused_in_words(run, pack, cases, tmp_path, arguments, words):
    code, data = run("--pack", pack, "--cases", cases, "--out", tmp_path / "out", *QUICK, *arguments)
    assert code == 2
    for word in words:
        assert word in str(data["error"])


def test_a_tap_without_axes_over_the_image_is_refused(run, cases, tmp_path):
    segformer = write_tiny_pack("segformer", tmp_path / "pack")
    names = [n for n, _ in segformer.network().named_modules() if n.endswith("attention")]
    arguments = ("--cases", cases / "case-0", "--out", tmp_path / "out", *QUICK)
    code, data = run("--pack", tmp_path / "pack", "--tap", names[0], *arguments)
    assert code == 2 and "no 2 axes over the image" in data["error"]["cause"]


def test_cases_that_a_pack_holds_out_are_not_trained_on(run, pack, cases, tmp_path):
    from MedSegLensLib.commands.cohort_cases import cohort_in
    from MedSegLensLib.commands.train_lens import cases_to_train_on

    assert list(cases_to_train_on(cohort_in(cases), [], ("case-2",))) == ["case-0", "case-1", "case-3"]
    assert list(cases_to_train_on(cohort_in(cases / "case-1"), [], ())) == ["case-1"]
    code, data = run("--pack", pack, "--tap", TAP, "--cases", tmp_path / "nowhere", "--out", tmp_path / "o", *QUICK)
    assert code == 3 and "folder" in data["error"]["cause"]


def chosen(cases: dict, named: bool = False, held_out=(), trained_on=()):
    from MedSegLensLib.commands.train_lens import Segmenter, without_unseen

    return without_unseen(cases, named, Segmenter(None, None, None, held_out, trained_on))


def test_a_case_that_the_pack_holds_out_is_refused_by_name_however_it_was_given():
    a, b = Path("a"), Path("b")
    assert chosen({"a": a}, held_out=("b",)) == ({"a": a}, [])
    for named in (True, False):
        with pytest.raises(UsageError, match=r"b: the pack holds it out"):
            chosen({"a": a, "b": b}, named, held_out=("b",))


def test_what_a_segmenter_was_not_trained_on_stays_unseen_unless_it_is_named():
    a, b, c = Path("a"), Path("b"), Path("c")
    kept, notes = chosen({"a": a, "b": b, "c": c}, trained_on=("a", "c"))
    assert list(kept) == ["a", "c"] and "Left out" in notes[0] and "not trained on them: b." in notes[0]
    kept, notes = chosen({"a": a, "b": b}, True, trained_on=("a",))
    assert list(kept) == ["a", "b"] and "Not unseen any more: the segmenter was not trained on b" in notes[0]
    kept, notes = chosen({"b": b}, trained_on=("a",))  # nothing else is there: it was meant
    assert list(kept) == ["b"] and "Not unseen any more" in notes[0]
    assert chosen({"a": a, "b": b}) == ({"a": a, "b": b}, [])  # whose training is not known
