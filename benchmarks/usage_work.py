"""The work of cohort_scaling.py, in a module that worker processes import: segment a case, and count each latent."""

import os
import resource
import time
from dataclasses import dataclass

import numpy as np

from MedSegLensLib.cases.case import REGIONS
from MedSegLensLib.cohorts.cohort import CohortCase
from MedSegLensLib.cohorts.mapping import key_of
from MedSegLensLib.editing.pack_at_work import PackAtWork


@dataclass(frozen=True)
class UsageWork:
    """mL by region, and at each tap how often and how strongly every latent fires; and of the process that did it its
    number, its peak resident memory in MB so far, and the seconds of processor time it has used so far."""

    pack: PackAtWork

    def key(self) -> str:
        return key_of(self)

    def __call__(self, case: CohortCase) -> dict[str, np.ndarray]:
        session = self.pack.session(case.read(), "cpu")
        found = {"ml": np.array([session.region_ml(session.labels, region) for region in REGIONS])}
        for tap, codes in session.codes.items():
            summary = codes.summary()
            found |= {f"{tap}: count": summary.count, f"{tap}: total": summary.total}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts it in kB
        found["process"] = np.array([os.getpid(), peak, time.process_time()])
        return found
