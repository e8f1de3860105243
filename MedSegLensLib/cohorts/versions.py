"""Which versions a process works with: results of several processes are put together, so they must be of one make."""

import importlib.metadata
import platform
from functools import cache

from MedSegLensLib import __version__
from MedSegLensLib.errors import WorkerError

WHOLE = ("medseglens", "distributed")
"""Alike to the last figure: what travels between processes is pickled by these."""
BEGINNING = ("python", "numpy", "torch", "monai")
"""Alike in the first two figures: the last one, or a build for another processor, changes no result that counts."""

ASK = f"""(lambda util, metadata, platform: {{
    "medseglens": __import__("MedSegLensLib").__version__ if util.find_spec("MedSegLensLib") else None,
    "python": platform.python_version(),
    **{{name: (lambda found: found[0].version if found else None)(list(metadata.distributions(name=name)))
        for name in {(*WHOLE[1:], *BEGINNING[1:])!r}}},
}})(__import__("importlib.util").util, __import__("importlib.metadata").metadata, __import__("platform"))"""
"""A Python expression for `versions()`, to be asked of a process that may not have this module, nor this library."""


@cache
def versions() -> dict[str, str | None]:
    """This process's, by name; None for what is not installed. Imports nothing heavy."""
    found: dict[str, str | None] = {"medseglens": __version__, "python": platform.python_version()}
    for name in (*WHOLE[1:], *BEGINNING[1:]):
        there = list(importlib.metadata.distributions(name=name))
        found[name] = there[0].version if there else None
    return found


def check_versions(here: dict[str, str | None], there: dict[str, str | None], who: str) -> None:
    """Raise WorkerError where `there`, the versions of the process `who`, do not go with those `here`."""
    differing = [name for name in (*WHOLE, *BEGINNING) if not _alike(name, here.get(name), there.get(name))]
    if differing:
        said = ", ".join(
            f"{name} {there.get(name) or 'absent'} (here {here.get(name) or 'absent'})" for name in differing
        )
        remedy = "Install the same versions on every machine: constraints.txt names ours."
        raise WorkerError(who, f"it works with other versions: {said}.", remedy)


def _alike(name: str, a: str | None, b: str | None) -> bool:
    if a is None or b is None:
        return a == b
    return a == b if name in WHOLE else _beginning(a) == _beginning(b)


def _beginning(version: str) -> list[str]:
    return version.partition("+")[0].split(".")[:2]
