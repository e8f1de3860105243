"""Exact edits: what comes of them shows in their places alone, voxel by voxel.

A token covers several voxels and the layers behind it look further still, so that an edit reaches beyond its place. Of
exact edits each place shows what all edits up to its own make there; what an earlier place shows stays, unless a later
one covers it. So a point that was answered is not undone by the answer to the next one beside it.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from MedSegLensLib.cases.boxes import box_of
from MedSegLensLib.editing.recipe import Edit
from MedSegLensLib.segmenters.sampling import Box, union, whole

if TYPE_CHECKING:
    from MedSegLensLib.editing.session import Session

AT_ONCE = 16
"""Samples that are finished before the next ones are begun: a cancel is heard in between."""


def in_their_places(
    session: "Session", edits: Sequence[Edit], samples: list[int] | None, read
) -> Iterator[tuple[int, Box, object]]:
    """As `Session.replayed`, for edits of which some are exact: places in the order in which they come first."""
    everywhere = whole(session.sampling.sample_shape)
    places = list(dict.fromkeys(edit.where for edit in edits if edit.exact))
    steps = [([edit for edit in edits if not edit.exact], None)]
    for number, where in enumerate(places, start=1):
        mine = [edit for edit in edits if not edit.exact or edit.where in places[:number]]
        steps.append((mine, torch.from_numpy(session.voxels_in(where).astype(np.float32))[None]))
    wanted = list(range(session.sampling.count)) if samples is None else list(samples)
    for some in (wanted[i : i + AT_ONCE] for i in range(0, len(wanted), AT_ONCE)):
        shown: dict[int, object] = {}
        boxes: dict[int, list[Box]] = {}
        for mine, place in steps:
            here = {s: session.sampling.inputs(place, [s])[0, 0] > 0 for s in some} if place is not None else {}
            touched = [s for s in some if place is None or here[s].any()]
            for sample, box, made in session.replayed(mine, touched, read) if touched and mine else ():
                if sample not in shown:
                    shown[sample] = _copy(_unedited(session, sample, everywhere, read))
                base = shown[sample]
                base[(..., *box)] = made if place is None else _chosen(here[sample][box], made, base[(..., *box)])
                boxes.setdefault(sample, []).append(box if place is None else box_of(here[sample].numpy()))
        for sample in some:
            if sample in shown:
                box = union(boxes[sample])
                yield sample, box, shown[sample][(..., *box)]


def _unedited(session: "Session", sample: int, box: Box, read):
    """What a replay without an edit would yield there."""
    logits = session.replay.logits[(sample, slice(None), *box)]
    return logits if read is None else read(logits[None])[0]


def _chosen(here: torch.Tensor, inside, outside):
    """One of two arrays or tensors of the same kind, by voxel."""
    if isinstance(inside, np.ndarray):
        return np.where(here.numpy(), inside, outside)
    return torch.where(here.to(inside.device), inside, outside)


def _copy(values):
    return values.copy() if isinstance(values, np.ndarray) else values.clone()
