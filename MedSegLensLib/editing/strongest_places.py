"""Where each latent of a case is strongest: its best slices, as voxels of the case's own grid."""

import numpy as np

from MedSegLensLib.editing.places import token_middle
from MedSegLensLib.editing.session import Session


def strongest_places(session: Session, tap: str, most: int = 8) -> list[list[tuple[float, int, int, int]]]:
    """Of each latent, its strongest token in each of at most `most` slices, strongest first.

    (code, slice, row, column): the voxel (Z, Y, X) of the case's reference volume in which the token's middle lies.
    """
    codes = session.codes_at(tap)
    per_sample = codes.n_tokens // codes.grid[0]
    # A slice of the tap: one sample of a 2D segmenter, one layer of a window of a 3D one.
    per_slice = per_sample // (codes.grid[1] if len(codes.grid) == 4 else 1)
    found: list[list[tuple[float, int, int, int]]] = []
    reference = session.conformed.reference
    for latent in range(codes.n_latents):
        tokens, values = codes.latent(latent)
        if not len(tokens):
            found.append([])
            continue
        starts = np.flatnonzero(np.diff(tokens // per_slice, prepend=-1))
        largest = np.maximum.reduceat(values, starts)
        ends = np.append(starts[1:], len(tokens))
        places = []
        for run in np.argsort(-largest, kind="stable")[:most]:
            entry = starts[run] + int(np.argmax(values[starts[run] : ends[run]]))
            places.append((float(values[entry]), *_own_voxel(session, int(tokens[entry]), codes.grid, reference)))
        found.append(places)
    return found


def _own_voxel(session: Session, token: int, grid: tuple[int, ...], reference) -> tuple[int, int, int]:
    conformed = session.conformed
    middle = token_middle(token, session.sampling, grid)
    index = tuple(i + s for i, s in zip(middle[::-1], conformed.start, strict=True))
    own = reference.TransformPhysicalPointToContinuousIndex(conformed.grid.point(index))
    # Half a voxel is rounded down, so that a token of an even number of voxels has a place.
    x, y, z = (int(min(max(np.ceil(c - 0.5), 0), n - 1)) for c, n in zip(own, reference.GetSize(), strict=True))
    return z, y, x
