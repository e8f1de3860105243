"""A reader's point, answered by the worker: what few latents can do for it, on the case's own grid."""

from collections.abc import Sequence

import numpy as np

from MedSegLensLib.editing.places import voxels_of
from MedSegLensLib.editing.recipe import Recipe
from MedSegLensLib.failures.points import Point, check_points
from MedSegLensLib.failures.repair import propose
from MedSegLensLib.failures.repair_words import describe
from MedSegLensLib.packs.catalogue import clear_name
from MedSegLensLib.segmenters.sampling import whole
from MedSegLensLib.worker.answers import LabelBox
from MedSegLensLib.worker.opened_case import OpenedCase, Say
from MedSegLensLib.worker.protocol import Message


def proposed(case: OpenedCase, point: Point, recipe: Recipe, earlier: Sequence[Point], say: Say) -> Message:
    """`ProposalAnswer`. earlier: the points that are in force already.

    Raises UsageError for a point outside the volume or the brain, one that contradicts an earlier one, or a region that
    the pack does not tell apart; RecipeError for a recipe of another pack.
    """
    session, grid = case.session, case.grid
    recipe.check_pack(session.pack)
    check_points([*earlier, point], session.pack.info)
    grid.index(point.ras)  # else a point beside the volume would be one in air
    proposal = propose(session, point, recipe, progress=say, earlier=earlier)
    names = latent_names(case, [(g.tap, g.latent) for g in proposal.gains])
    box = grid.changed(session.labels, proposal.after, whole(session.labels.shape))
    tissue = None
    if proposal.where is not None:
        inside = voxels_of(proposal.where, session.conformed, proposal.after).astype(np.uint8)
        tissue = grid.changed(np.zeros_like(inside), inside, whole(inside.shape))
    fields = {
        "recipe": proposal.recipe.to_json(),
        "words": describe(proposal, names),
        "reason": proposal.reason,
        "tissue_ml": proposal.tissue_ml,
        "moved": proposal.moved,
        "regions_ml": case.volumes_ml(proposal.after),
        "seconds": proposal.seconds,
        "box": _corners(box),
        "tissue": _corners(tissue),
    }
    arrays = {name: part.labels for name, part in (("box", box), ("tissue", tissue)) if part is not None}
    return Message("result", fields, arrays)


def latent_names(case: OpenedCase, latents: Sequence[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """What the pack's catalogue calls latents, by (tap, latent); those that have only a place are left out."""
    rows = {one: case.catalogue[one] for one in latents if one in case.catalogue}
    return {one: name for one, row in rows.items() if (name := clear_name(row))}


def _corners(box: LabelBox | None) -> list[list[int]] | None:
    return None if box is None else [list(box.lower), list(box.upper)]
