"""What the worker's messages say, as the plain values of `answers.py`."""

import numpy as np

from MedSegLensLib.editing.recipe import Recipe
from MedSegLensLib.failures.findings import Check
from MedSegLensLib.failures.points import Point as ReaderPoint
from MedSegLensLib.worker.answers import CheckAnswer, LabelBox, LatentRow, Opened, Overlay, ProposalAnswer
from MedSegLensLib.worker.protocol import Message


def label_box(said: Message) -> LabelBox:
    """The only box of an answer."""
    return LabelBox(tuple(said.fields["lower"]), tuple(said.fields["upper"]), said.arrays["labels"])


def part_of(said: Message, name: str) -> LabelBox | None:
    """A box of several in one answer; None where it is not there."""
    corners = said.fields[name]
    return None if corners is None else LabelBox(tuple(corners[0]), tuple(corners[1]), said.arrays[name])


def overlay_of(said: Message) -> Overlay:
    """`Overlay`."""
    return Overlay(said.arrays["array"], np.array(said.fields["ijk_to_ras"]), said.fields["maximum"])


def opened_of(said: Message) -> Opened:
    """`Opened`."""
    fields = dict(said.fields)
    fields["ijk_to_ras"] = np.array(fields["ijk_to_ras"])
    return Opened(labels=said.arrays["labels"], **fields)


def latent_rows(said: Message) -> list[LatentRow]:
    """The rows of a table that came as columns."""

    def numbers(name: str) -> list[float | None]:
        return [None if value != value else value for value in said.arrays[name].tolist()]  # nan: not asked for

    columns = {name: numbers(name) for name in ("active_ml", "brain_share", "maximum", "mean")}
    columns |= {name: numbers(name) for name in ("here", "attribution_ml", "suppressed_ml")}
    stability = numbers("stability")
    rows = zip(
        said.arrays["latent"].tolist(),
        said.fields["names"],
        *columns.values(),
        said.arrays["dense"].tolist(),
        map(tuple, said.arrays["peak_ras"].tolist()),
        said.fields["where"],
        stability,
        said.arrays["unclear"].tolist(),
        strict=True,
    )
    return [LatentRow(said.fields["tap"], *row) for row in rows]


def check_of(said: Message) -> CheckAnswer:
    """`CheckAnswer`."""
    return CheckAnswer(Check.from_json(said.fields["check"]), overlay_of(said))


def proposal_of(said: Message, point: ReaderPoint, before: Recipe) -> ProposalAnswer:
    """`ProposalAnswer` to a point that was asked over a recipe."""
    told = dict(said.fields)
    after = Recipe.from_json(told.pop("recipe"))
    told |= {name: part_of(said, name) for name in ("box", "tissue")}
    return ProposalAnswer(point, before, after, **told)
