"""What detection.py reads of one case with both packs, in one go: the readings of its places, and what the baselines
need and the library does not keep. In a module that worker processes import.

Arrays, each after "<pack>: ": those of `failures.place_readings.read_places`; "moments <tap>", "mean <tap>": float64
(C, C) and (C,), second moment and mean of the tap's own activation over the brain's tokens; "seconds": of the
segmenter's pass while it is recorded, of encoding, of reading the places. And "pair dice": of WT, TC and ET between the
two packs' segmentations on the case's own grid, nan where neither has the region.
"""

import time
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from MedSegLensLib.cohorts.cohort import CohortCase
from MedSegLensLib.cohorts.mapping import key_of
from MedSegLensLib.editing.pack_at_work import PackAtWork
from MedSegLensLib.editing.session import Session
from MedSegLensLib.failures.detector import reading_session
from MedSegLensLib.failures.place_readings import LAYOUT, dice_of, read_places
from MedSegLensLib.failures.suspects import JUDGED
from MedSegLensLib.segmenters.taps import changed


@dataclass(frozen=True)
class DetectionWork:
    packs: tuple[PackAtWork, ...]

    def key(self) -> str:
        return key_of(self, LAYOUT)

    def __call__(self, case: CohortCase) -> dict[str, np.ndarray]:
        volumes, found, labels = case.read(), {}, []
        for at_work in self.packs:
            name = at_work.source
            session = reading_session(at_work, volumes)
            truth = session.conformed.labels(volumes.labels)
            started = time.perf_counter()
            _, arrays = read_places(session, truth)
            reading = time.perf_counter() - started
            arrays |= tap_moments(session)
            arrays["seconds"] = np.array([session.timings["segment"], session.timings["encode"], reading])
            found |= {f"{name}: {key}": array for key, array in arrays.items()}
            labels.append(sitk.GetArrayFromImage(session.to_case(session.labels)))
            del session
        found["pair dice"] = np.array([dice_of(labels[0], labels[1], region) for region in JUDGED])
        return found


@torch.no_grad()
def tap_moments(session: Session) -> dict[str, np.ndarray]:
    """Mean and second moment of each tap's activation over the brain's tokens, by a second pass of the network over
    every fourth sample: still some 10 000 tokens at the smallest tap of a real case."""
    engine, sampling = session.engine, session.sampling
    volume = torch.from_numpy(session.conformed.array)
    sums: dict[str, list] = {tap: [0.0, 0.0, 0] for tap in session.replay.taps}
    looked_at = list(range(0, sampling.count, 4))
    for first in range(0, len(looked_at), engine.batch):
        samples = looked_at[first : first + engine.batch]

        def look(tap: str, x: torch.Tensor, samples=samples) -> None:
            tokens = x.flatten(2).transpose(1, 2).flatten(0, 1).float()
            tokens = tokens[torch.from_numpy(session.brain_tokens[tap][samples].ravel())]
            sums[tap][0] = sums[tap][0] + tokens.double().sum(0)
            sums[tap][1] = sums[tap][1] + (tokens.T @ tokens).double()
            sums[tap][2] += len(tokens)

        with changed(session.network, {tap: lambda x, tap=tap: look(tap, x) for tap in sums}):
            session.network(engine.place(sampling.inputs(volume, samples)))
    found = {}
    for tap, (total, square, count) in sums.items():
        found |= {f"mean {tap}": (total / count).numpy(), f"moments {tap}": (square / count).numpy()}
    return found
