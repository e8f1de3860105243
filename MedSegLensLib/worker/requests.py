"""What a client may ask, checked: each request's fields as a typed model, and the work that answers it."""

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from MedSegLensLib.cases.case import MODALITIES
from MedSegLensLib.editing.recipe import Recipe
from MedSegLensLib.errors import WorkerError
from MedSegLensLib.failures.points import MAX_POINTS, Point
from MedSegLensLib.worker.jobs import Job
from MedSegLensLib.worker.opened_case import OpenedCase, overlay_message
from MedSegLensLib.worker.protocol import Message
from MedSegLensLib.worker.ranking import Ranking

Coordinate = Annotated[FiniteFloat, Field(ge=-1e5, le=1e5)]
Ras = tuple[Coordinate, Coordinate, Coordinate]
Row = tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]
Affine = tuple[Row, Row, Row, Row]
Name = Annotated[str, Field(max_length=1000)]
Latent = Annotated[int, Field(ge=0, lt=2**31)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class VolumeFields(_Request):
    modality: Name  # 'reference' for the labels; another is refused by name when the case is put together
    array: Name
    ijk_to_ras: Affine
    name: Name


class EngineFields(_Request):
    device: Annotated[str, Field(max_length=20)]
    dtype: Literal["float32", "bfloat16"]
    channels_last: bool
    batch: Annotated[int, Field(ge=1, le=256)]


class PartnerFields(_Request):
    """That the pack is wanted beside another one, for a latent of the lens that it was compared by."""

    beside: Name
    tap: Name
    lens: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class OpenFields(_Request):
    case: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
    name: Name
    pack: Name
    volumes: Annotated[list[VolumeFields], Field(min_length=1, max_length=len(MODALITIES) + 1)]
    expected_hash: Name | None = None
    engine: EngineFields | None = None
    partner: PartnerFields | None = None


class EditFields(_Request):
    recipe: dict
    near_ras: Annotated[list[Ras], Field(max_length=16)] = []

    def work(self, case: OpenedCase, ranking: Ranking, arrays: dict, job: Job) -> Message:
        return case.edit(Recipe.from_json(self.recipe), self.near_ras, job.say, job.offer)


class PreviewFields(_Request):
    recipe: dict
    ras: Ras

    def work(self, case: OpenedCase, ranking: Ranking, arrays: dict, job: Job) -> Message:
        return case.preview(Recipe.from_json(self.recipe), self.ras)


class LatentsFields(_Request):
    tap: Name
    rank: Name
    region: Name | None = None
    ras: Ras | None = None
    mask_ijk_to_ras: Affine | None = None
    measure: Annotated[int, Field(ge=0, le=1000)] = 0

    def work(self, case: OpenedCase, ranking: Ranking, arrays: dict, job: Job) -> Message:
        mask = None
        if self.mask_ijk_to_ras is not None:
            mask = _array(arrays, "mask", 3), np.array(self.mask_ijk_to_ras)
        return ranking.latents(self.tap, self.rank, self.region, self.ras, mask, self.measure, job.say)


class DetailFields(_Request):
    tap: Name
    latent: Latent

    def work(self, case: OpenedCase, ranking: Ranking, arrays: dict, job: Job) -> Message:
        return Message("result", ranking.detail(self.tap, self.latent))


class ActivationFields(_Request):
    tap: Name
    latent: Latent

    def work(self, case: OpenedCase, ranking: Ranking, arrays: dict, job: Job) -> Message:
        return overlay_message(case.activation(self.tap, self.latent))


class PointFields(_Request):
    ras: Ras
    says: Annotated[str, Field(max_length=40)]

    def point(self) -> Point:
        return Point.saying(self.ras, self.says)


class ProposeFields(_Request):
    """earlier: the points in force, which the new one must not contradict."""

    point: PointFields
    recipe: dict
    earlier: Annotated[list[PointFields], Field(max_length=MAX_POINTS)] = []

    def work(self, case: OpenedCase, ranking: Ranking, arrays: dict, job: Job) -> Message:
        from MedSegLensLib.worker.proposing import proposed

        earlier = [one.point() for one in self.earlier]
        return proposed(case, self.point.point(), Recipe.from_json(self.recipe), earlier, job.say)


class CheckFields(_Request):
    recipe: dict | None = None

    def work(self, case: OpenedCase, ranking: Ranking, arrays: dict, job: Job) -> Message:
        from MedSegLensLib.worker.checking import checked_case

        return checked_case(case, None if self.recipe is None else Recipe.from_json(self.recipe), job.say)


class ProbabilityFields(_Request):
    region: Name
    recipe: dict | None = None

    def work(self, case: OpenedCase, ranking: Ranking, arrays: dict, job: Job) -> Message:
        recipe = None if self.recipe is None else Recipe.from_json(self.recipe)
        return overlay_message(case.probability(self.region, recipe))


ASKED = {
    "edit": EditFields,
    "preview": PreviewFields,
    "latents": LatentsFields,
    "detail": DetailFields,
    "activation": ActivationFields,
    "probability": ProbabilityFields,
    "propose": ProposeFields,
    "check": CheckFields,
}
"""What can be asked of an open case, by the last part of its address."""


def checked(model: type[_Request], message: Message) -> _Request:
    """The fields of a message as a model. Raises WorkerError for fields that do not fit."""
    try:
        return model.model_validate(message.fields)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False, include_context=False)[0]
        where = "/".join(map(str, first["loc"])) or "fields"
        raise WorkerError(
            "request", f"at {where}: {first['msg']}.", "See that client and worker have the same version."
        ) from None


def checked_open(message: Message) -> OpenFields:
    """The fields of a request to open a case, whose arrays are all there. Raises WorkerError."""
    fields = checked(OpenFields, message)
    kinds = [v.modality for v in fields.volumes]
    if len(set(kinds)) < len(kinds) or set(kinds) <= {"reference"}:
        raise WorkerError("request", "its volumes are given twice, or are none.", "Give each modality once.")
    for volume in fields.volumes:
        _array(message.arrays, volume.array, None)
    return fields


def _array(arrays: dict, name: str, dimensions: int | None) -> np.ndarray:
    if name not in arrays or (dimensions is not None and arrays[name].ndim != dimensions):
        raise WorkerError("request", f"its array {name!r} is missing or not a volume.", "Ask again.")
    return arrays[name]
