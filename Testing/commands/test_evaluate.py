"""`medseglens evaluate lens` as a user meets it: a lens and cases in, a verdict out; what cannot be known is said."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cases.writing import write_case
from MedSegLensLib.cohorts.acquisitions import Acquisition
from MedSegLensLib.commands.cohort_cases import cohort_in
from MedSegLensLib.commands.evaluate import pack_of_segmenter, parted, record_stability
from MedSegLensLib.errors import CaseError, UsageError
from MedSegLensLib.lenses.files import load_lens, save_lens
from MedSegLensLib.packs.pack import load_pack

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "editing"))
from tiny_packs import CONFIGS  # noqa: E402

SIZE = {"size": (40, 48, 14), "spacing": (4.0, 4.0, 9.0)}


@pytest.fixture(scope="module")
def pack(pack):
    return load_pack(pack)


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    for seed in (1, 2, 3):
        write_case(phantom(seed, **SIZE), folder / f"somebody-{seed}")
    return folder


@pytest.fixture(scope="module")
def lenses(pack, tmp_path_factory) -> Path:
    """The pack's lens in a folder ("a"), trained on somebody-1; one of another seed ("b") that shares half of it."""
    folder, lens = tmp_path_factory.mktemp("lenses"), pack.lens()
    save_lens(replace(lens, metadata={"cases": ["somebody-1"], "training": {"seed": 1}}), folder / "a")
    rows = torch.cat([lens.W_dec[:12], torch.nn.functional.normalize(torch.randn(12, lens.d_in), dim=1)])
    save_lens(replace(lens, W_dec=rows, metadata={"training": {"seed": 2}}), folder / "b")
    return folder


@pytest.fixture
def run(run):
    return lambda *arguments: run("evaluate", "lens", *arguments)


def test_a_lens_is_judged_and_its_stability_recorded(run, pack, cases, lenses, tmp_path):
    mine = tmp_path / "lens"
    shutil.copytree(lenses / "a", mine)
    code, said = run(
        mine,
        "--pack",
        pack.folder,
        "--cases",
        cases,
        "--seed-lens",
        lenses / "b",
        "--record",
        "--quick",
        "--out",
        tmp_path,
    )
    assert code == 0 and said["verdict"]["word"] in ("Trust", "With care", "Do not trust")
    facts = json.loads((tmp_path / "lens.json").read_text(encoding="utf-8"))
    assert (facts["cases"]["fit"], facts["cases"]["score"]) == (["somebody-1"], ["somebody-2", "somebody-3"])
    assert any("phantoms" in note for note in facts["notes"])
    page = (tmp_path / "lens.html").read_text(encoding="utf-8")
    assert said["verdict"]["sentence"] in page and "Found again with another seed?" in page
    recorded = load_lens(mine).metadata["stability"]
    assert recorded["seeds"] == [2] and len(recorded["decoder_cosine"]) == 24
    assert sorted(recorded["decoder_cosine"])[12:] == pytest.approx([1.0] * 12, abs=1e-3)
    assert torch.equal(load_lens(mine).W_dec, load_lens(lenses / "a").W_dec)


def test_recording_keeps_the_rest_of_the_file(lenses, tmp_path):
    shutil.copytree(lenses / "a", tmp_path / "lens")
    before = json.loads((tmp_path / "lens" / "cfg.json").read_text(encoding="utf-8"))
    record_stability(tmp_path / "lens", {"seeds": [4], "decoder_cosine": [0.5] * 24, "share": 0.1})
    after = json.loads((tmp_path / "lens" / "cfg.json").read_text(encoding="utf-8"))
    assert after["metadata"].pop("stability") == {"seeds": [4], "decoder_cosine": [0.5] * 24} and after == before


def test_cases_of_the_training_are_fitted_on_and_unseen_ones_scored_on(cases):
    cohort = parted(cohort_in(cases), {"somebody-2"})
    assert [[c.name for c in part] for part in (cohort.fit, cohort.score)] == [
        ["somebody-2"],
        ["somebody-1", "somebody-3"],
    ]
    assert not any("flatters" in note for note in cohort.notes)


def test_a_cohort_that_was_all_trained_on_flatters(cases):
    cohort = parted(cohort_in(cases), {f"somebody-{i}" for i in (1, 2, 3)})
    assert (len(cohort.fit), len(cohort.score)) == (1, 2) and any("flatters" in note for note in cohort.notes)


def test_a_cohort_of_strangers_is_halved(cases):
    cohort = parted(cohort_in(cases), set())
    assert (len(cohort.fit), len(cohort.score)) == (1, 2) and any("one half" in note for note in cohort.notes)


def test_one_case_is_scored_on_and_nothing_is_fitted(cases, tmp_path):
    shutil.copytree(cases / "somebody-1", tmp_path / "somebody-1")
    cohort = parted(cohort_in(tmp_path), set())
    assert (len(cohort.fit), len(cohort.score)) == (0, 1) and any("one case only" in note for note in cohort.notes)


def test_cases_without_labels_are_left_out_by_name(cases, tmp_path):
    for seed in (1, 2):
        shutil.copytree(cases / f"somebody-{seed}", tmp_path / f"somebody-{seed}")
    for file in (tmp_path / "somebody-2").glob("*seg*"):
        file.unlink()
    cohort = parted(cohort_in(tmp_path), set())
    assert len(cohort.score) == 1 and any("no labels: somebody-2" in note for note in cohort.notes)
    shutil.rmtree(tmp_path / "somebody-1")
    with pytest.raises(CaseError, match="no labelled case"):
        parted(cohort_in(tmp_path), set())
    with pytest.raises(CaseError, match="no such folder"):
        cohort_in(tmp_path / "nowhere")


def test_a_case_that_cannot_be_read_is_left_out_with_its_cause(cases, tmp_path):
    for seed in (1, 2):
        shutil.copytree(cases / f"somebody-{seed}", tmp_path / f"somebody-{seed}")
    next((tmp_path / "somebody-2").glob("*t1c*")).write_bytes(b"not a volume")
    cohort = parted(cohort_in(tmp_path), set())
    assert [case.name for case in cohort.score] == ["somebody-1"]
    (said,) = [note for note in cohort.notes if note.startswith("Left out: somebody-2")]
    assert "t1c" in said


def test_a_simulated_case_counts_as_the_one_that_it_is_made_from(cases):
    described = cohort_in(cases)
    noisy = replace(described, cases=tuple(replace(c, acquisition=Acquisition("noise")) for c in described.cases))
    cohort = parted(noisy, {"somebody-2"})
    assert [[c.name for c in part] for part in (cohort.fit, cohort.score)] == [
        ["somebody-2"],
        ["somebody-1", "somebody-3"],
    ]
    assert any("Acquisitions were simulated" in note for note in cohort.notes)


def test_a_folder_of_a_trained_segmenter_serves_as_well(tmp_path):
    from safetensors.torch import save_file
    from small_networks import lively_network

    from MedSegLensLib.cases.conform import InputSpec
    from MedSegLensLib.segmenters.training import TrainingConfig

    config = CONFIGS["unet"]
    network = lively_network(config)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "segmenter.safetensors")
    written = TrainingConfig(segmenter=config, input=InputSpec(size_divisor=(16, 16, 1))).to_json()
    (tmp_path / "training.json").write_text(json.dumps({"config": written, "cases": ["x"], "log": []}))
    pack = pack_of_segmenter(tmp_path)
    assert pack.taps == () and pack.info.trained_on.cases == ("x",)
    x = torch.randn(1, 4, 32, 32)
    assert torch.allclose(pack.network()(x), network.eval()(x), atol=2e-2)


@pytest.mark.parametrize(
    "arguments, cause",
    [
        (["--cases", "{cases}"], "none was given"),
        (["{a}", "--cases", "{cases}"], "segmenter is not known"),
        (["{a}", "--pack", "{pack}", "--tap", "x", "--cases", "{cases}"], "names its tap itself"),
        (["--pack", "{pack}", "--cases", "{cases}", "--record", "--seed-lens", "{b}"], "is not changed"),
        (["{a}", "--pack", "{pack}", "--cases", "{cases}", "--record"], "nothing to record"),
        (["{a}", "--pack", "{pack}", "--cases", "{cases}", "--seed-lens", "{a}"], "same lens again"),
        (["{a}", "--pack", "{pack}", "--segmenter", "{a}", "--cases", "{cases}"], "a pack was given too"),
    ],
)
def test_wrong_use_is_said_before_any_work(run, pack, cases, lenses, tmp_path, arguments, cause):
    places = {"cases": cases, "a": lenses / "a", "b": lenses / "b", "pack": pack.folder}
    code, said = run(*(a.format(**places) for a in arguments), "--out", tmp_path / "out")
    assert code == UsageError.exit_code and cause in said["error"]["cause"]
    assert not (tmp_path / "out").exists()


def test_a_lens_of_another_width_is_named(run, pack, cases, lenses, tmp_path):
    lens = load_lens(lenses / "a")
    half = lens.d_in // 2
    narrow = replace(lens, W_enc=lens.W_enc[:half], W_dec=lens.W_dec[:, :half], b_dec=lens.b_dec[:half])
    narrow.W_dec /= narrow.W_dec.norm(dim=1, keepdim=True)
    save_lens(narrow, tmp_path / "narrow")
    code, said = run(tmp_path / "narrow", "--pack", pack.folder, "--cases", cases)
    assert code == UsageError.exit_code and f"reads {half} channels" in said["error"]["cause"]


def test_of_a_large_cohort_the_first_cases_serve(cases):
    cohort = parted(cohort_in(cases), {"somebody-3"}, most=1)
    assert [[c.name for c in part] for part in (cohort.fit, cohort.score)] == [["somebody-3"], ["somebody-1"]]
    assert any("at most 1 of the training" in note for note in cohort.notes)
