"""Works for the tests of mapping: a module of its own, which workers in other processes import too."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from MedSegLensLib.cohorts.cohort import CohortCase
from MedSegLensLib.cohorts.mapping import key_of
from MedSegLensLib.cohorts.phantoms import PhantomRequest
from MedSegLensLib.errors import CaseError, PackError


def phantom_cases(count: int, first: int = 0) -> list[CohortCase]:
    """Phantoms of 8 mm, which take some hundredths of a second."""
    asked = [PhantomRequest(seed, size=(20, 25, 21), spacing=(8, 8, 8)) for seed in range(first, first + count)]
    return [CohortCase(f"phantom-{one.seed}", f"phantom-{one.seed}", phantom=one) for one in asked]


@dataclass(frozen=True)
class LabelCounts:
    """Voxels by label, and who counted them. What is not usual comes by the case's name.

    log: a folder where each start of a case leaves a file.
    """

    log: Path | None = None
    broken: tuple[str, ...] = ()  # CaseError
    odd: tuple[str, ...] = ()  # what nobody foresaw
    poison: tuple[str, ...] = ()  # ends its process
    seconds: float = 0.0
    bad_pack: bool = False

    def key(self) -> str:
        return key_of(self)

    def __call__(self, case: CohortCase) -> dict[str, np.ndarray]:
        if self.log:
            (self.log / f"{case.name} {os.getpid()} {time.time_ns()}").touch()
        if self.bad_pack:
            raise PackError("some-pack", "it is damaged.", "Fetch it again.")
        if case.name in self.broken:
            raise CaseError(case.name, "it has no labels.", "Add them.")
        if case.name in self.odd:
            raise ZeroDivisionError("a quotient by nothing")
        if case.name in self.poison:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)
        labels = sitk.GetArrayFromImage(case.read().labels)
        return {"voxels by label": np.bincount(labels.ravel(), minlength=4), "process": np.array(os.getpid())}


@dataclass(frozen=True)
class NeedsTorch:
    """Work that imports what the client must do without."""

    def key(self) -> str:
        return key_of(self)

    def __call__(self, case: CohortCase) -> dict[str, np.ndarray]:
        import torch

        return {"threads": np.array(torch.get_num_threads())}


@dataclass(frozen=True)
class GivesObjects:
    def key(self) -> str:
        return key_of(self)

    def __call__(self, case: CohortCase) -> dict[str, np.ndarray]:
        return {"words": np.array(["some", None], object)}


def starts(log: Path) -> list[str]:
    """The cases that were begun, in order; one begun twice is there twice."""
    files = sorted(log.iterdir(), key=lambda file: int(file.name.split()[2]))
    return [file.name.split()[0] for file in files]
