"""The shipped 3D configuration from end to end on phantoms, a few steps of each: segmenter, lens, pack, edit."""

import json
from pathlib import Path

import pytest

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cases.writing import write_case
from MedSegLensLib.cli import main
from MedSegLensLib.packs.verify import verify

CONFIGURATIONS = Path(__file__).resolve().parents[2] / "Resources" / "Configurations"


@pytest.mark.slow
def test_segresnet_is_trained_gets_a_lens_and_becomes_a_pack(tmp_path, capsys):
    def run(*arguments) -> dict:
        code = main([*map(str, arguments), "--json"])
        out = capsys.readouterr().out
        assert code == 0, out
        return json.loads(out)

    names = ["phantom-1", "phantom-2"]
    for seed, name in enumerate(names, 1):
        write_case(phantom(seed, size=(48, 56, 40), spacing=(3.5, 3.5, 4.0)), tmp_path / "cases" / name)
    values = json.loads((CONFIGURATIONS / "glioma-segresnet.json").read_text(encoding="utf-8"))
    values |= {"cases": names[:1], "crop": [32, 32, 32], "phantoms": 1}
    values["segmenter"]["patch_size"] = [32, 48, 48]
    values["input"]["spacing"] = [3.5, 3.5, 4.0]
    (tmp_path / "config.json").write_text(json.dumps(values))
    about = json.loads((CONFIGURATIONS / "about-glioma-unet.json").read_text(encoding="utf-8"))
    about |= {"name": "tiny-segresnet", "held_out": names[1:]}
    (tmp_path / "about.json").write_text(json.dumps(about))

    cases, trained, lens, pack = tmp_path / "cases", tmp_path / "trained", tmp_path / "lens", tmp_path / "pack"
    config = tmp_path / "config.json"
    run("train", "segmenter", "--config", config, "--cases", cases, "--out", trained, "--steps", 4, "--device", "cpu")
    arguments = ["--tap", "up_layers.1", "--width", 32, "--k", 4, "--steps", 20, "--batch", 256, "--tokens", 4000]
    arguments += ["--device", "cpu", "--out", lens]
    run("train", "lens", "--segmenter", trained, "--cases", cases, *arguments)
    about = tmp_path / "about.json"
    built = run(
        "pack", "build", "--segmenter", trained, "--lens", lens, "--about", about, "--cases", cases, "--out", pack
    )
    assert set(built["quality"]["dice"]) == {names[1]} and verify(pack) == []
    out = tmp_path / "edited.nii.gz"
    edited = run("edit", cases / names[1], "--pack", pack, "--latent", 0, "--scale", 0, "--device", "cpu", "--out", out)
    assert out.is_file() and edited["recipe"]["edits"][0]["tap"] == "up_layers.1"
