"""Which Python modules a pack's segmenter may be made by: those that the user named, no others. Imports no torch.

A pack holds no code. It may name a function of a module that the user has on their own machine; to call it is to run
that module, so the user says first that it is theirs: by `--trust-module`, or by the variable
`MEDSEGLENS_TRUSTED_MODULES`, which the worker that Slicer starts inherits.
"""

import os
import re
from collections.abc import Iterable

from MedSegLensLib.errors import UsageError

VARIABLE = "MEDSEGLENS_TRUSTED_MODULES"
"""Names of modules, separated by commas or spaces."""

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def is_module_name(name: str) -> bool:
    return _MODULE.fullmatch(name) is not None


def trusted_modules() -> tuple[str, ...]:
    return tuple(name for name in re.split(r"[,\s]+", os.environ.get(VARIABLE, "")) if name)


def trust(names: Iterable[str]) -> None:
    """Trust these modules in this process and in those it starts. Raises UsageError for what is no module's name."""
    names = tuple(names)
    for name in names:
        if not is_module_name(name):
            raise UsageError(name, "is not the name of a Python module.", "Give it as in `import`, such as mylab.nets.")
    os.environ[VARIABLE] = ",".join(dict.fromkeys([*trusted_modules(), *names]))


def is_trusted(module: str) -> bool:
    """Whether the module, or a package it lies in, was named."""
    return any(module == name or module.startswith(f"{name}.") for name in trusted_modules())
