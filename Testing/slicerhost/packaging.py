"""`slicer.packaging` (Slicer 5.12 and later): installs nothing, keeps what was asked for in `requested`.

A requirement counts as met when its distribution is installed in this Python in a version that it allows.
"""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

from .dialogs import recorder

requested: list[list[str]] = []


def _listed(requirements) -> list[str]:
    return [str(r) for r in ([requirements] if isinstance(requirements, str | Requirement) else requirements)]


def pip_check(req, _seen=None):
    """Whether every requirement is installed."""

    def met(text):
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate():
            return True
        try:
            return requirement.specifier.contains(version(requirement.name), prereleases=True)
        except PackageNotFoundError:
            return False

    return all(map(met, _listed(req)))


def load_requirements(path):
    """The requirements of a requirements.txt."""
    lines = [line.split("#")[0].strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def load_pyproject_dependencies(path):
    """The dependencies of a pyproject.toml."""
    import tomllib

    return [
        Requirement(r) for r in tomllib.loads(Path(path).read_text(encoding="utf-8"))["project"].get("dependencies", ())
    ]


def isPipInstallInProgress():
    """The host installs nothing."""
    return False


def pip_install(
    requirements,
    constraints=None,
    no_deps_requirements=None,
    skip_packages=None,
    blocking=True,
    show_progress=True,
    requester=None,
    logCallback=None,
    completedCallback=None,
):
    """Keep the requirements in `requested`; install nothing."""
    requested.append(_listed(requirements))
    recorder.add("pip", " ".join(_listed(requirements)), requester or "")
    if completedCallback:
        completedCallback(0)


def pip_uninstall(requirements, blocking=True, logCallback=None, completedCallback=None):
    """Raises: the module removes nothing."""
    raise NotImplementedError("the host does not uninstall")


def pip_ensure(
    requirements,
    constraints=None,
    skip_packages=None,
    prompt_install=True,
    prompt_restart=True,
    requester=None,
    skip_in_testing=True,
    show_progress=True,
):
    """Ask (host.answers.confirm) and note what is missing. Raises RuntimeError when the user refuses."""
    missing = [r for r in _listed(requirements) if not pip_check(r)]
    if not missing:
        return
    if prompt_install:
        recorder.add("confirm", f"Install {', '.join(missing)}?", requester or "")
        if not recorder.answers.confirm:
            raise RuntimeError(f"{requester or 'The module'} needs {', '.join(missing)}; the user refused.")
    pip_install(missing, requester=requester)
