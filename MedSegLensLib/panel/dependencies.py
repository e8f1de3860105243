"""Python packages that the worker and its client need: installed at the first Apply, and only with consent.

Nothing of Slicer's own is replaced: numpy, SimpleITK and the rest of what is here stay at their versions, by a
constraints file. torch comes from the PyTorch extension, which chooses the build for the GPU.
"""

import importlib.metadata
import re
import tempfile
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from MedSegLensLib.errors import UsageError

TORCH = ("torch", "2.8")
PACKAGES = (
    ("monai", "1.5"),
    ("transformers", "4.55"),
    ("safetensors", "0.5"),
    ("pyarrow", "17"),
    ("jsonschema", "4.22"),
    ("nibabel", "5.3"),
    ("fastapi", "0.115"),
    ("uvicorn", "0.30"),
    ("httpx", "0.27"),
)
"""Distribution and lowest version; those of pyproject.toml that Slicer does not bring, which a test compares."""

KEPT = ("numpy", "scipy", "SimpleITK", "requests", "torch", "pillow", "packaging")
"""Never replaced by another version, where they are there."""


def missing() -> list[str]:
    """Requirements ("monai>=1.5") that are not met here. Imports none of them."""
    return [f"{name}>={lowest}" for name, lowest in (TORCH, *PACKAGES) if not _isMet(name, lowest)]


def _isMet(name: str, lowest: str) -> bool:
    installed = _version(name)
    return installed is not None and _numbers(installed) >= _numbers(lowest)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.match(r"\d+(?:\.\d+)*", version).group().split("."))


def ensureDependencies() -> None:
    """Install what is missing, asking first. Raises UsageError where the user declines or it cannot be installed."""
    wanted = missing()
    if not wanted:
        return
    torch = [r for r in wanted if r.startswith("torch>=")]
    others = [r for r in wanted if not r.startswith("torch>=")]
    question = _(
        "MedSegLens needs {count} Python packages that are not installed in Slicer ({names}). About 1 GB is "
        "downloaded, with a GPU up to 4 GB. Nothing of Slicer's own is replaced.\n\nInstall them now?"
    ).format(count=len(wanted), names=", ".join(wanted))
    if not slicer.util.confirmOkCancelDisplay(question, windowTitle=_("MedSegLens: install Python packages")):
        raise UsageError(
            _("Python packages"),
            _("they were not installed, as you chose; without them nothing can be segmented."),
            _("Press Apply again to be asked again."),
        )
    if torch:
        _installTorch()
    if others:
        _install(others)
    still = missing()
    if still:
        raise UsageError(
            _("Python packages"),
            _("these are still missing: {names}.").format(names=", ".join(still)),
            _("See the Python console for what pip said, then press Apply again."),
        )


def _installTorch() -> None:
    try:
        import PyTorchUtils
    except ImportError as problem:
        raise UsageError(
            _("torch"),
            _("the PyTorch extension is not installed."),
            _("Install PyTorch in the Extensions Manager, restart Slicer, then press Apply again."),
        ) from problem
    logic = PyTorchUtils.PyTorchUtilsLogic()
    if logic.installTorch(askConfirmation=True, torchVersionRequirement=f">={TORCH[1]}") is None:
        raise UsageError(_("torch"), _("it was not installed."), _("Press Apply again to be asked again."))


def _install(requirements: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text(constraintsText(), encoding="utf-8")
        try:
            try:
                import slicer.packaging  # Slicer 5.12 and later

                slicer.packaging.pip_ensure(
                    requirements, constraints=str(constraints), prompt_install=False, requester="MedSegLens"
                )
            except ImportError:
                slicer.util.pip_install(["-c", str(constraints), *requirements])
        except Exception as problem:  # pip's failure, as whichever Slicer version raises it
            raise UsageError(
                _("Python packages"),
                _("pip could not install them ({problem}).").format(problem=problem),
                _("Check the connection and the Python console, then press Apply again."),
            ) from problem


def constraintsText() -> str:
    """Lines for pip's constraints file: wheels only, and what is here keeps its version."""
    kept = [(name, _version(name)) for name in KEPT]
    return "\n".join(["--only-binary :all:", *(f"{name}=={version}" for name, version in kept if version)]) + "\n"
