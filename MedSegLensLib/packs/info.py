"""What a pack says of itself: `pack.json` as typed values. Imports no torch, so it can be read inside Slicer."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.segmenters.architectures import SegmenterConfig, architecture_problem
from MedSegLensLib.segmenters.foreign import arguments_problem
from MedSegLensLib.segmenters.outputs import outputs_problem

if TYPE_CHECKING:
    from MedSegLensLib.cases.conform import InputSpec

FORMAT_VERSION = 1
SCHEMA = Path(__file__).parent / "schema" / "pack.schema.json"

SEGMENTER_FILE = "segmenter.safetensors"
CATALOGUE_FILE = "catalogue.parquet"
MODEL_CARD_FILE = "MODEL_CARD.md"
LENS_CONFIGURATION = "cfg.json"
LENS_WEIGHTS = "sae_weights.safetensors"


@dataclass(frozen=True)
class Code:
    """A term of a terminology, as DICOM writes it: value, meaning, scheme ('SCT' is SNOMED CT)."""

    value: str
    meaning: str
    scheme: str = "SCT"


@dataclass(frozen=True)
class Label:
    """One value of the segmentation: `name` is short ('ED'), `region` says it in words; colour is 0..255 RGB."""

    value: int
    name: str
    region: str
    code: Code | None
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class LensInfo:
    """Where a lens is and how large: `d_in` channels at `tap`, `d_sae` latents, on average `k` active a token."""

    tap: str
    folder: str
    d_in: int
    d_sae: int
    k: float
    default: bool = False


@dataclass(frozen=True)
class FileInfo:
    """A file's SHA-256 (64 hex digits) and size."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class TrainedOn:
    """The data in words; ids of the cases learned from and of those held out for `quality`; how they were split."""

    text: str
    cases: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    split: str = ""


@dataclass(frozen=True)
class PackInfo:
    """`pack.json`, see docs/pack-format.md.

    input: as `InputSpec.to_json` writes it; `input_spec()` gives it typed.
    lenses, files: empty until `write_pack` has filled them.
    quality: measured numbers, free in form; the model card explains them.
    """

    name: str
    version: str
    licence: str
    created: str
    description: str
    trained_on: TrainedOn
    input: dict
    labels: tuple[Label, ...]
    segmenter: SegmenterConfig
    citation: tuple[str, ...] = ()
    quality: dict = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    lenses: tuple[LensInfo, ...] = ()
    files: dict[str, FileInfo] = field(default_factory=dict)

    def input_spec(self) -> "InputSpec":
        """What the segmenter takes. Raises PackError for what this version does not know."""
        from MedSegLensLib.cases.conform import InputSpec

        return InputSpec.from_json(self.input)

    def to_json(self) -> dict:
        """The document for `pack.json`; `from_json` gives an equal object back."""
        segmenter = {**asdict(self.segmenter), "spatial_dims": self.segmenter.spatial_dims}
        for optional in ("outputs", "taps"):  # left out where unused: packs of earlier versions keep their hash
            if not segmenter[optional]:
                del segmenter[optional]
        return {
            "medseglens_pack": FORMAT_VERSION,
            "name": self.name,
            "version": self.version,
            "licence": self.licence,
            "citation": list(self.citation),
            "created": self.created,
            "description": self.description,
            "trained_on": _lists(asdict(self.trained_on)),
            "input": self.input,
            "labels": [_lists(asdict(label)) for label in self.labels],
            "segmenter": _lists(segmenter),
            "lenses": [asdict(lens) for lens in self.lenses],
            "files": {name: asdict(file) for name, file in sorted(self.files.items())},
            "quality": self.quality,
            "limits": list(self.limits),
        }

    @staticmethod
    def from_json(document: dict) -> "PackInfo":
        """The info of a document that keeps to the schema (`verify` finds out)."""
        segmenter = {key: value for key, value in document["segmenter"].items() if key != "spatial_dims"}
        if segmenter["patch_size"] is not None:
            segmenter["patch_size"] = tuple(segmenter["patch_size"])
        segmenter["taps"] = tuple(segmenter.get("taps", ()))
        trained_on = document["trained_on"]
        return PackInfo(
            name=document["name"],
            version=document["version"],
            licence=document["licence"],
            created=document["created"],
            description=document["description"],
            trained_on=TrainedOn(
                trained_on["text"], tuple(trained_on["cases"]), tuple(trained_on["held_out"]), trained_on["split"]
            ),
            input=document["input"],
            labels=tuple(
                Label(
                    label["value"],
                    label["name"],
                    label["region"],
                    None if label["code"] is None else Code(**label["code"]),
                    tuple(label["colour"]),
                )
                for label in document["labels"]
            ),
            segmenter=SegmenterConfig(**segmenter),
            citation=tuple(document["citation"]),
            quality=document["quality"],
            limits=tuple(document["limits"]),
            lenses=tuple(LensInfo(**lens) for lens in document["lenses"]),
            files={name: FileInfo(**file) for name, file in document["files"].items()},
        )


def contradictions(info: PackInfo) -> Iterator[tuple[str, str]]:
    """What a schema cannot say: pairs of a JSON pointer and a cause, for fields that contradict each other."""
    for at, what, values in (
        ("/input/modalities", "modality", info.input["modalities"]),
        ("/labels", "label value", [label.value for label in info.labels]),
        ("/labels", "label name", [label.name for label in info.labels]),
        ("/lenses", "tap", [lens.tap for lens in info.lenses]),
        ("/lenses", "lens folder", [lens.folder.lower() for lens in info.lenses]),
        ("/files", "file, but for capitals,", [name.lower() for name in info.files]),
    ):
        twice = sorted({str(value) for value in values if values.count(value) > 1})
        if twice:
            yield at, f"the {what} {twice[0]!r} is there twice"
    defaults = sum(lens.default for lens in info.lenses)
    if info.lenses and defaults != 1:
        yield "/lenses", f"{defaults} lenses are marked default; exactly one must be"
    problem = architecture_problem(info.segmenter.architecture)
    if problem:
        yield "/segmenter/architecture", problem
    problem = arguments_problem(info.segmenter.arguments)
    if problem:
        yield "/segmenter/arguments", problem
    problem = outputs_problem(info.segmenter.outputs)
    if problem:
        yield "/segmenter/outputs", problem
    alien = [m for m in info.input["may_be_missing"] if m not in info.input["modalities"]]
    if alien:
        yield "/input/may_be_missing", f"{alien[0]} is not among the modalities"
    required = [SEGMENTER_FILE, MODEL_CARD_FILE]
    for lens in info.lenses:
        required += [f"{lens.folder}/{LENS_CONFIGURATION}", f"{lens.folder}/{LENS_WEIGHTS}"]
    for name in required:
        if name not in info.files:
            yield "/files", f"{name} is not listed, and a pack must have it"


def _lists(document: dict) -> dict:
    """Tuples as lists, as they come back from JSON."""
    return {
        key: list(v) if isinstance(v, tuple) else _lists(v) if isinstance(v, dict) else v for key, v in document.items()
    }
