"""The doctor, run by the interpreter that runs the worker: torch is not imported here."""

import shutil
import subprocess
import sys
from pathlib import Path

import MedSegLensLib


def workerPython() -> str:
    """The interpreter for the worker: PythonSlicer in Slicer, which finds Slicer's packages and libraries."""
    return shutil.which("PythonSlicer") or sys.executable


def doctorText(timeout: float = 120.0) -> str:
    """What `medseglens doctor` prints, or why it cannot run."""
    command = [workerPython(), "-m", "MedSegLensLib.cli", "doctor"]
    try:
        answer = subprocess.run(
            command, cwd=Path(MedSegLensLib.__file__).parents[1], capture_output=True, text=True, timeout=timeout
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return f"The doctor cannot run: {problem}"
    return answer.stdout or answer.stderr
