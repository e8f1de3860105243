"""The scene runs in Slicer's own process: it brings nothing that Slicer does not have."""

import subprocess
import sys
from pathlib import Path

import MedSegLensLib.scene

NOT_IN_SLICER = (
    "torch", "monai", "transformers", "nibabel", "scipy", "pandas", "pyarrow", "fastapi", "uvicorn", "PySide6",
)  # fmt: skip


def test_importing_the_whole_scene_loads_nothing_that_slicer_lacks():
    files = Path(MedSegLensLib.scene.__file__).parent.glob("*.py")
    modules = [f"MedSegLensLib.scene.{file.stem}" for file in files if file.stem != "__init__"]
    code = f"import sys, {', '.join(modules)}; print(*[m for m in {NOT_IN_SLICER} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found == []
