"""Dependencies point one way (.importlinter), and what Slicer's own process will import stays light."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_imports_keep_the_contracts():
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True, no_logo=True))"
    result = run_python(code)
    assert result.returncode == 0, result.stdout + result.stderr


def test_reading_cases_and_recipes_imports_no_network_library():
    code = (
        "import sys, MedSegLensLib.cases.reading, MedSegLensLib.editing.recipe; "
        "print(*sorted({'torch', 'monai', 'transformers'} & set(sys.modules)))"
    )
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


def test_every_room_is_packaged():
    """A wheel has what the checkout has: setuptools is given the rooms by name, to add the shipped packs to them."""
    import tomllib

    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    packages = set(tool["setuptools"]["packages"])
    rooms = {str(p.parent.relative_to(ROOT)).replace("/", ".") for p in (ROOT / "MedSegLensLib").rglob("__init__.py")}
    assert packages == rooms | {"MedSegLensLib.packs.shipped"}
