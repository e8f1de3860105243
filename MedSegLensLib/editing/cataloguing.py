"""The catalogue's numbers: what each latent of a pack does over labelled cases."""

from collections.abc import Callable, Iterable

import numpy as np

from MedSegLensLib.cases.case import Case
from MedSegLensLib.editing.harvest import token_values
from MedSegLensLib.editing.session import Session
from MedSegLensLib.errors import CaseError
from MedSegLensLib.packs.pack import LensPack

TISSUES = ("share_air", "share_brain", "share_ncr", "share_ed", "share_et")


def catalogue_rows(
    pack: LensPack, cases: Iterable[Case], progress: Callable[[str, float], None] | None = None
) -> list[dict]:
    """One row per latent of every lens, for `packs.catalogue.catalogue_table`. One case is in memory at a time.

    Raises CaseError for a case without labels.
    """
    totals: dict[str, dict[str, np.ndarray]] = {}
    engine = None
    for case in cases:
        if case.labels is None:
            remedy = "Add its segmentation, or leave it out."
            raise CaseError(case.name, "has no labels to describe latents by.", remedy)
        session = Session(case, pack, engine=engine, progress=progress)
        engine = session.engine
        labels = session.conformed.labels(case.labels)
        tissue = np.where(labels > 0, labels + 1, session.conformed.brain).astype(np.int8)  # 0 air, 1 brain, 2-4 lesion
        for tap, codes in session.codes.items():
            grid = codes.grid[1:]
            of_token = np.stack(
                [token_values(tissue, session.sampling, s, grid, 5) for s in range(session.sampling.count)]
            ).ravel()
            _add(totals.setdefault(tap, {}), tap, of_token, case.name, session)
    return [_row(tap, latent, total) for tap, total in totals.items() for latent in range(len(total["count"]))]


def _add(total: dict[str, np.ndarray], tap: str, tissue: np.ndarray, name: str, session: Session) -> None:
    codes = session.codes[tap]
    m = codes.n_latents
    if not total:
        total |= {"tokens": np.zeros(1), "count": np.zeros(m), "sum": np.zeros((m, len(TISSUES))), "max": np.zeros(m)}
        total |= {"case": np.full(m, "", object), "slice": np.zeros(m, int)}
    latent_of = np.repeat(np.arange(m), np.diff(codes.pointers))
    total["tokens"] += np.count_nonzero(session.brain_tokens[tap])
    total["count"] += np.diff(codes.pointers)
    flat = np.bincount(
        latent_of * len(TISSUES) + tissue[codes.tokens], codes.values.astype(np.float64), m * len(TISSUES)
    )
    total["sum"] += flat.reshape(m, -1)
    maximum = codes.summary().maximum
    for latent in np.flatnonzero(maximum > total["max"]):
        tokens, values = codes.latent(latent)
        index = np.unravel_index(tokens[int(np.argmax(values))], codes.grid)
        cell = tuple(slice(int(i), int(i) + 1) for i in index[1:])
        steps = [n // g for n, g in zip(session.sampling.sample_shape, codes.grid[1:], strict=True)]
        place = session.sampling.place(
            int(index[0]), tuple(slice(c.start * f, c.stop * f) for c, f in zip(cell, steps, strict=True))
        )
        total["max"][latent], total["case"][latent] = maximum[latent], name
        total["slice"][latent] = place[0].start + session.conformed.start[2]


def _row(tap: str, latent: int, total: dict[str, np.ndarray]) -> dict:
    row = {"tap": tap, "latent": latent, "fires_share": float(total["count"][latent] / total["tokens"][0])}
    if total["count"][latent]:
        sums = total["sum"][latent]
        row |= {"mean": float(sums.sum() / total["count"][latent]), "max": float(total["max"][latent])}
        row |= dict(zip(TISSUES, (sums / max(sums.sum(), 1e-12)).tolist(), strict=True))
        row |= {"best_case": str(total["case"][latent]), "best_slice": int(total["slice"][latent])}
    return row
