"""Networks that are not ours: classes of MONAI, and functions of a module that the user has and names.

`monai:SwinUNETR` is a class of `monai.networks.nets`, one of a list. `torch:mylab.nets:make` is the function `make`
of the user's own module `mylab.nets`; it is imported only when the user named that module (trust.py), and never from
the current folder by accident. Arguments are JSON. What can be said without importing anything is said without it.
"""

import importlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from MedSegLensLib.errors import PackError
from MedSegLensLib.segmenters.trust import VARIABLE, is_trusted

if TYPE_CHECKING:
    from torch import nn

MONAI, TORCH = "monai:", "torch:"

MONAI_NETWORKS = (
    "AHNet", "AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "DynUNet", "FlexUNet", "FlexibleUNet", "HighResNet",
    "MedNeXt", "SegResNet", "SegResNetDS", "SegResNetDS2", "SegResNetVAE", "SwinUNETR", "UNETR", "UNet", "VNet",
)  # fmt: skip
"""The classes of `monai.networks.nets` that take one image and give one map of logits."""

ALIASES = {"Unet": "UNet", "BasicUnet": "BasicUNet", "Basicunet": "BasicUNet", "DynUnet": "DynUNet"}
"""Other names that MONAI has for some of them, as bundles write them."""

MAX_DEPTH, MAX_ITEMS, MAX_LENGTH, MAX_NUMBER = 4, 32, 64, 2048

_FACTORY = re.compile(r"torch:(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*)", re.ASCII)


def is_foreign(architecture: str) -> bool:
    return architecture.startswith((MONAI, TORCH))


def foreign_problem(architecture: str) -> str | None:
    """What is wrong with the name of a foreign architecture, in words; imports nothing."""
    if architecture.startswith(MONAI):
        if architecture.removeprefix(MONAI) in MONAI_NETWORKS:
            return None
        return f"{architecture!r} is none of the MONAI networks that a pack may name ({', '.join(MONAI_NETWORKS)})"
    if _FACTORY.fullmatch(architecture):
        return None
    return f"{architecture!r} is not written as torch:module:factory"


def arguments_problem(arguments: object, at: str = "", depth: int = 0) -> str | None:
    """What is wrong with a network's arguments, in words: only JSON, small in every respect, and nothing to download.

    The bounds are those of the schema of pack.json.
    """
    where = f"the argument {at}" if at else "the arguments"
    if depth > MAX_DEPTH:
        return f"{where} is nested too deeply"
    if isinstance(arguments, dict):
        if len(arguments) > MAX_ITEMS or not all(isinstance(k, str) and len(k) <= MAX_LENGTH for k in arguments):
            return f"{where} has too many or too long names"
        if arguments.get("pretrained") or arguments.get("weights"):
            return f"{where} asks for weights from elsewhere ('pretrained'); a pack brings its own"
        inner = [arguments_problem(v, f"{at}.{k}" if at else k, depth + 1) for k, v in arguments.items()]
        return next((problem for problem in inner if problem), None)
    if isinstance(arguments, list | tuple):
        if len(arguments) > MAX_ITEMS:
            return f"{where} has {len(arguments)} entries; {MAX_ITEMS} are the most"
        inner = [arguments_problem(v, f"{at}[{i}]", depth + 1) for i, v in enumerate(arguments)]
        return next((problem for problem in inner if problem), None)
    if isinstance(arguments, str):
        return f"{where} is a text of {len(arguments)} characters" if len(arguments) > MAX_LENGTH else None
    if arguments is None or isinstance(arguments, bool):
        return None
    if isinstance(arguments, int | float):
        return None if abs(arguments) <= MAX_NUMBER else f"{where} is {arguments}; {MAX_NUMBER} is the most"
    return f"{where} is no number, text, list or object"


def foreign_factory(architecture: str) -> "Callable[..., nn.Module]":
    """What builds the network of a foreign architecture.

    Raises PackError for a name that may not be used, a module that the user did not name, and one that is not there.
    """
    problem = foreign_problem(architecture)
    if problem:
        raise PackError("segmenter", f"{problem}.", "Correct the name, or name your own code as torch:module:factory.")
    if architecture.startswith(MONAI):
        return _monai_class(architecture.removeprefix(MONAI))
    match = _FACTORY.fullmatch(architecture)
    return _own_factory(match["module"], match["name"])


def _monai_class(name: str) -> "type[nn.Module]":
    import monai.networks.nets
    from torch import nn

    network = getattr(monai.networks.nets, name, None)
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        raise PackError(name, f"this MONAI ({monai.__version__}) does not have it.", "Install a newer MONAI.")
    return network


def _own_factory(module: str, name: str) -> "Callable[..., nn.Module]":
    if not is_trusted(module):
        raise PackError(
            f"{module}:{name}",
            f"this segmenter is made by code of the Python module {module}, which a pack does not bring and MedSegLens "
            "does not run unasked.",
            f"If the module is yours, or you trust who wrote it: install it, and add --trust-module {module} or set "
            f"{VARIABLE}={module} (for Slicer: before Slicer is started).",
        )
    try:
        with _without_current_folder():
            found = importlib.import_module(module)
    except ModuleNotFoundError as problem:
        missing = problem.name or module
        if module == missing or module.startswith(f"{missing}."):
            cause = f"the Python module {missing} is not found."
            remedy = "Install it into this Python, or put its folder in PYTHONPATH (the current folder does not count)."
        else:
            cause, remedy = f"the module needs {missing}, which is not installed.", f"Install {missing}."
        raise PackError(f"{module}:{name}", cause, remedy) from problem
    except Exception as problem:
        cause = f"importing the module fails ({type(problem).__name__}: {problem})."
        raise PackError(f"{module}:{name}", cause, "Correct the module.") from problem
    factory = getattr(found, name, None)
    if not callable(factory) or not is_trusted(getattr(factory, "__module__", None) or ""):
        known = ", ".join(n for n, v in vars(found).items() if callable(v) and getattr(v, "__module__", "") == module)
        cause = f"the module {module} does not define {name}." if factory is None else f"{name} is not of this module."
        raise PackError(f"{module}:{name}", cause, f"It defines: {known or 'no function or class'}.")
    return factory


@contextmanager
def _without_current_folder() -> Iterator[None]:
    """While this context lasts, what `python -m` adds to the search path by itself does not count: code that happens
    to lie in the current folder, which may be a pack's, is not found. A folder that the user put there is."""
    path = list(sys.path)
    if path and path[0] in ("", os.getcwd()) and path.count(path[0]) == 1:
        del sys.path[0]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path


def as_json(arguments: dict) -> str:
    """Arguments as a message shows them."""
    text = json.dumps(arguments, default=str)
    return text if len(text) <= 300 else f"{text[:300]} ..."
