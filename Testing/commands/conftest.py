"""What the tests of commands share: a tiny pack and a small case on the disk, and the command line asked for JSON."""

import json
import sys
from pathlib import Path

import pytest

from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.cases.writing import write_case
from MedSegLensLib.cli import main

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "editing"))
from tiny_packs import write_tiny_pack  # noqa: E402


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pack") / "tiny-unet"
    write_tiny_pack("unet", folder)
    return folder


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("case") / "somebody"
    write_case(phantom(1, size=(40, 48, 14), spacing=(4.0, 4.0, 9.0)), folder)
    return folder


@pytest.fixture
def run(capsys):
    """Run the command line with --json; returns (exit code, its JSON)."""

    def run(*arguments):
        code = main([*map(str, arguments), "--json"])
        out = capsys.readouterr()
        assert "Traceback" not in out.err
        return code, json.loads(out.out)

    return run
