"""What the command line says of arguments it does not understand, of labels beside single volumes, and of no memory."""

import json
import subprocess
import sys

import pytest

from MedSegLensLib.cli import main


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["segment", "--gain", "2"], "--gain"),
        (["edit", "x", "--latent", "one"], "--latent"),
        (["slice"], "slice"),
        ([], "COMMAND"),
    ],
)
def test_wrong_arguments_are_a_json_error_where_json_was_asked_for(capsys, arguments, word):
    assert main([*arguments, "--json"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert said["exit_code"] == 2 and word in said["error"]["cause"] and "--help" in said["error"]["remedy"]
    assert main(arguments) == 2
    plain = capsys.readouterr()
    assert not plain.out and plain.err.startswith("usage: ") and word in plain.err


def test_labels_may_come_beside_single_volumes(capsys, case, pack, tmp_path):
    files = {path.name.removesuffix(".nii.gz").rpartition("-")[2]: path for path in case.glob("*.nii.gz")}
    volumes = [part for m in ("t1n", "t1c", "t2w", "t2f") for part in (f"--{m}", str(files[m]))]
    arguments = ["demo", *volumes, "--pack", str(pack), "--out", str(tmp_path / "demo"), "--json"]
    assert main([*arguments, "--seg", str(files["seg"])]) == 0
    timings = json.loads(capsys.readouterr().out)["timings"]
    assert {"import libraries", "open pack", "read case", "load network", "load lenses"} <= set(timings)
    spent = sum(v for k, v in timings.items() if k not in ("total", "segment and encode"))
    assert spent == pytest.approx(timings["total"], abs=0.1 + 0.2 * timings["total"]), "what is not timed is little"
    assert "Dice" in (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert (
        main(["demo", str(case), "--pack", str(pack), "--seg", str(files["seg"]), "--out", str(tmp_path), "--json"])
        == 2
    )
    assert "folder" in json.loads(capsys.readouterr().out)["error"]["remedy"]


def test_too_little_memory_is_said_and_has_its_own_exit_code(case, pack, tmp_path):
    """The address space ends 64 MB above what the imports took: numpy or torch really gets no memory."""
    script = f"""
import resource, sys
import MedSegLensLib.editing.influence, MedSegLensLib.editing.session, monai.networks.nets
from MedSegLensLib.cli import main
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
sys.exit(main(["phantom", "--out", {str(tmp_path / "big")!r}, "--json"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    error = json.loads(done.stdout)["error"]
    assert "memory" in error["cause"] and "Close other programs" in error["remedy"]
    assert not (tmp_path / "big").exists(), "nothing is half-written"
