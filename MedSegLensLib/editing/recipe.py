"""Recipes: lists of edits to latents, saved as one self-contained JSON and applied to any case with the same pack.

Imports no torch, so that Slicer can read, change and save recipes. What an edit does to the activations is in
`session.py`.
"""

import base64
import binascii
import json
import math
import numbers
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from MedSegLensLib.cases.boxes import box_of
from MedSegLensLib.errors import RecipeError, UsageError
from MedSegLensLib.packs.checked_json import parse_json, schema_problems

if TYPE_CHECKING:
    import SimpleITK as sitk

    from MedSegLensLib.packs.pack import LensPack

FORMAT_VERSION = 1
SCHEMA = Path(__file__).parent / "recipe.schema.json"

KINDS = ("scale", "add", "clamp")
MASK_REGIONS = ("WT", "TC", "ET", "NCR", "ED")

MAX_BYTES = 64 * 2**20
"""Of a recipe file."""
MAX_MASK_VOXELS = 2**29
"""Of all voxel masks of a recipe together: 64 MiB of bits."""
MAX_VALUE = 1e6
"""Beyond any use, and small enough that float32 arithmetic on it stays finite."""
MAX_MM = 1e5

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Box:
    """Inside an axis-aligned box in patient coordinates: corners `lower` <= `upper`, RAS, mm, borders included."""

    lower: Triple
    upper: Triple

    def __post_init__(self):
        for name in ("lower", "upper"):
            object.__setattr__(self, name, _numbers(getattr(self, name), 3, f"the box's {name} corner", MAX_MM))
        if any(low > high for low, high in zip(self.lower, self.upper, strict=True)):
            raise UsageError("box", f"its lower corner {self.lower} is above its upper {self.upper}.", "Swap them.")


@dataclass(frozen=True)
class SliceRange:
    """Between two axial planes: `lower` <= S <= `upper`, the third RAS coordinate in mm."""

    lower: float
    upper: float

    def __post_init__(self):
        object.__setattr__(self, "lower", _number(self.lower, "the range's lower plane", MAX_MM))
        object.__setattr__(self, "upper", _number(self.upper, "the range's upper plane", MAX_MM))
        if self.lower > self.upper:
            raise UsageError("slices", f"the lower plane {self.lower} is above the upper {self.upper}.", "Swap them.")


@dataclass(frozen=True)
class RegionOf:
    """Inside a region of the *unedited* segmentation of the case, grown by `dilation` mm (0 to 100)."""

    region: str
    dilation: float = 0.0

    def __post_init__(self):
        if self.region not in MASK_REGIONS:
            raise UsageError(str(self.region), "it is not a region.", f"Use one of {', '.join(MASK_REGIONS)}.")
        object.__setattr__(self, "dilation", _number(self.dilation, "the dilation", 100))
        if self.dilation < 0:
            raise UsageError("dilation", f"{self.dilation} mm is negative.", "Use 0 to 100 mm.")


@dataclass(frozen=True)
class VoxelMask:
    """Inside a drawn mask: voxels on a grid of their own, which need not be that of the case it is applied to.

    shape: (Z, Y, X) of the mask's box.
    origin: centre of its first voxel, RAS, mm.
    spacing: x, y, z, mm.
    direction: 3 x 3, row by row; its columns are the x, y and z axes in RAS.
    packed: the voxels as bits, x fastest (`numpy.packbits`).
    """

    shape: tuple[int, int, int]
    origin: Triple
    spacing: Triple
    direction: tuple[float, ...]
    packed: bytes = field(repr=False)

    def __post_init__(self):
        shape = tuple(self.shape)
        if len(shape) != 3 or not all(_is_integer(n) and 1 <= n <= 65535 for n in shape):
            raise UsageError("mask", f"its shape {shape} is not three counts.", "Use 1 to 65535.")
        object.__setattr__(self, "shape", tuple(int(n) for n in shape))
        object.__setattr__(self, "origin", _numbers(self.origin, 3, "the mask's origin", MAX_MM))
        object.__setattr__(self, "spacing", _numbers(self.spacing, 3, "the mask's spacing", 1000))
        if not all(s >= 0.001 for s in self.spacing):
            raise UsageError("mask", f"its spacing {self.spacing} is not positive.", "Use 0.001 to 1000 mm.")
        object.__setattr__(self, "direction", _numbers(self.direction, 9, "the mask's direction", 1.001))
        axes = np.reshape(self.direction, (3, 3))
        if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
            raise UsageError("mask", "its direction's axes are not at right angles and of length 1.", "Correct it.")
        if self.voxels > MAX_MASK_VOXELS:
            raise UsageError("mask", f"it has {self.voxels:,} voxels.", f"A recipe takes {MAX_MASK_VOXELS:,} at most.")
        unused = -self.voxels % 8
        if len(self.packed) != self.voxels // 8 + (unused > 0) or self.packed[-1] & ((1 << unused) - 1):
            raise UsageError("mask", "its bits do not match its shape.", "Make it with VoxelMask.from_array.")

    @property
    def voxels(self) -> int:
        """Number of voxels of the box."""
        return math.prod(self.shape)

    @property
    def array(self) -> np.ndarray:
        """The box, bool (Z, Y, X)."""
        bits = np.frombuffer(self.packed, np.uint8)
        return np.unpackbits(bits, count=self.voxels).reshape(self.shape).astype(bool)

    @staticmethod
    def from_array(mask: np.ndarray, origin: Triple, spacing: Triple, direction: tuple[float, ...]) -> "VoxelMask":
        """The mask `mask` != 0 (Z, Y, X), cropped to its voxels; geometry (RAS) is that of the whole array.

        Raises UsageError for an array that is not 3D or has no voxel.
        """
        mask = np.asarray(mask) != 0
        if mask.ndim != 3 or not mask.any():
            raise UsageError("mask", "it has no voxel, or is not 3D.", "Draw where the edit is to act.")
        box = box_of(mask)
        cropped = mask[box]
        first = np.array([part.start for part in box[::-1]]) * np.array(spacing, float)
        moved = np.array(origin, float) + np.reshape(direction, (3, 3)) @ first
        return VoxelMask(cropped.shape, tuple(moved), tuple(spacing), tuple(direction), np.packbits(cropped).tobytes())

    @staticmethod
    def from_image(image: "sitk.Image") -> "VoxelMask":
        """The voxels of a SimpleITK volume (LPS) that are not 0. Raises UsageError as `from_array` does."""
        import SimpleITK as sitk

        ras = np.array([-1.0, -1.0, 1.0])
        direction = ras[:, None] * np.reshape(image.GetDirection(), (3, 3))
        origin = tuple(ras * image.GetOrigin())
        return VoxelMask.from_array(
            sitk.GetArrayViewFromImage(image), origin, image.GetSpacing(), tuple(direction.ravel())
        )

    def to_image(self) -> "sitk.Image":
        """The box as a uint8 SimpleITK volume (LPS): 1 in the mask, 0 elsewhere."""
        import SimpleITK as sitk

        ras = np.array([-1.0, -1.0, 1.0])
        image = sitk.GetImageFromArray(self.array.astype(np.uint8))
        image.SetSpacing(self.spacing)
        image.SetOrigin(tuple(ras * self.origin))
        image.SetDirection(tuple((ras[:, None] * np.reshape(self.direction, (3, 3))).ravel()))
        return image


Where = Box | SliceRange | RegionOf | VoxelMask
_WHERE_TYPES = {"box": Box, "slices": SliceRange, "region": RegionOf, "voxels": VoxelMask}


@dataclass(frozen=True)
class Edit:
    """One change to the code of one latent.

    tap, latent: which; latents are numbered from 0.
    kind, value: 'scale' multiplies the code (0 suppresses, 2 doubles; not negative), 'add' adds to it, 'clamp' sets
        it. For add and clamp the value is in the units of the code.
    where: tokens it acts on; None is everywhere.
    exact: whether what comes of it shows in the voxels of its place alone. A token is often larger than a voxel and the
        layers behind it look further still: without this a change reaches beyond its place. It acts on all tokens that
        its place touches.

    Raises UsageError for a value that is not a finite number up to 1e6, an unknown kind, or exact with no place.
    """

    tap: str
    latent: int
    kind: str
    value: float
    where: Where | None = None
    exact: bool = False

    def __post_init__(self):
        if not isinstance(self.tap, str) or not 1 <= len(self.tap) <= 200:
            raise UsageError("edit", f"{self.tap!r:.80} is not the name of a tap.", "Name a tap of the pack.")
        if not _is_integer(self.latent) or not 0 <= self.latent < 2**31:
            raise UsageError("edit", f"{self.latent!r:.80} is not a latent.", "Use its number, from 0.")
        if self.kind not in KINDS:
            raise UsageError("edit", f"{self.kind!r:.80} is not a kind of edit.", f"Use {', '.join(KINDS)}.")
        what = f"the value of the edit of latent {self.latent}"
        object.__setattr__(self, "latent", int(self.latent))
        object.__setattr__(self, "value", _number(self.value, what, MAX_VALUE))
        if self.kind == "scale" and self.value < 0:
            raise UsageError(what, f"{self.value:g} is negative.", "Scale by 0 (suppress) or more.")
        if self.where is not None and not isinstance(self.where, Where):
            raise UsageError("edit", f"{self.where!r:.80} is not a place.", "Use a box, slices, a region or voxels.")
        if self.exact and self.where is None:
            raise UsageError("edit", "it is exact and has no place.", "Give it a box, slices, a region or voxels.")

    @property
    def target(self) -> tuple[str, int, Where | None]:
        """What it acts on: two edits with one target do not stand in one recipe."""
        return self.tap, self.latent, self.where


@dataclass(frozen=True)
class PackReference:
    """The pack that a recipe is for: `hash` is `LensPack.edits_hash`."""

    name: str
    version: str
    hash: str

    @staticmethod
    def of(pack: "LensPack") -> "PackReference":
        """The reference to an open pack."""
        return PackReference(pack.info.name, pack.info.version, pack.edits_hash)

    def __str__(self) -> str:
        return f"{self.name} {self.version} (hash {self.hash[:12]})"


@dataclass(frozen=True)
class Recipe:
    """A named list of edits for one pack.

    edits: applied in this order. Of two edits of the same latent with an equal `where` the later one replaces the
        earlier, in the earlier one's place: moving a slider twice is one edit. Edits of one latent at different
        places both act, one after the other.

    >>> recipe = Recipe("no rim", PackReference.of(pack), (Edit("upcat_2", 17, "scale", 0, RegionOf("ET", 5)),))
    >>> save_recipe(recipe, Path("no-rim.json"))
    """

    name: str
    pack: PackReference
    edits: tuple[Edit, ...] = ()
    comment: str = ""

    def __post_init__(self):
        if not isinstance(self.name, str) or not 1 <= len(self.name) <= 200:
            raise UsageError("recipe", "its name is empty or longer than 200 characters.", "Give it a short name.")
        by_target: dict = {}
        for edit in self.edits:
            by_target[edit.target] = edit
        object.__setattr__(self, "edits", tuple(by_target.values()))

    def check_pack(self, pack: "LensPack") -> None:
        """Whether the recipe can be applied with `pack`.

        Raises RecipeError for another pack than it was made for, UsageError for a tap or latent that the pack lacks.
        """
        here = PackReference.of(pack)
        if here.hash != self.pack.hash:
            if (here.name, here.version) == (self.pack.name, self.pack.version):
                cause = f"it was made for another build of {self.pack}; the open one has the hash {here.hash[:12]}."
            else:
                cause = f"it was made for the pack {self.pack}, and the open pack is {here}."
            remedy = (
                f"Open {self.pack.name} {self.pack.version} to use it, or make a new recipe for {here.name} "
                f"{here.version}: latents of one pack mean nothing in another."
            )
            raise RecipeError(f"recipe {self.name!r}", cause, remedy)
        sizes = {lens.tap: lens.d_sae for lens in pack.info.lenses}
        for edit in self.edits:
            if edit.tap not in sizes:
                known = ", ".join(sizes) or "none"
                cause = f"the pack {here.name} has no lens at the tap {edit.tap!r}."
                raise UsageError(f"recipe {self.name!r}", cause, f"Its taps are: {known}.")
            if edit.latent >= sizes[edit.tap]:
                cause = f"there is no latent {edit.latent} at the tap {edit.tap!r}."
                raise UsageError(f"recipe {self.name!r}", cause, f"Use 0 to {sizes[edit.tap] - 1}.")

    def to_json(self) -> dict:
        """The document of the recipe's file; `from_json` gives an equal recipe back."""
        return {
            "medseglens_recipe": FORMAT_VERSION,
            "name": self.name,
            "comment": self.comment,
            "pack": {"name": self.pack.name, "version": self.pack.version, "hash": self.pack.hash},
            "edits": [
                {
                    "tap": edit.tap,
                    "latent": edit.latent,
                    "kind": edit.kind,
                    "value": edit.value,
                    "where": None if edit.where is None else _where_to_json(edit.where),
                }
                | ({"exact": True} if edit.exact else {})
                for edit in self.edits
            ],
        }

    @staticmethod
    def from_json(document: object, subject: object = "recipe") -> "Recipe":
        """The recipe of a parsed document; `subject` (its file) is named in errors.

        Raises RecipeError, with a JSON pointer to the field, for anything that is not a recipe of this version.
        """
        if not isinstance(document, dict) or "medseglens_recipe" not in document:
            cause = "it has no field medseglens_recipe: this is not a MedSegLens recipe."
            raise RecipeError(subject, cause, "Give a file saved as a recipe.")
        version = document["medseglens_recipe"]
        if version is True or version != FORMAT_VERSION:
            cause = f"its format version is {str(version)[:40]}; this MedSegLens reads version {FORMAT_VERSION}."
            raise RecipeError(subject, cause, "Update MedSegLens, or save the recipe anew.")
        problems = schema_problems(document, SCHEMA)
        if problems:
            more = f" ({len(problems) - 1} more problems)" if len(problems) > 1 else ""
            raise RecipeError(subject, f"{problems[0]}{more}.", "Correct the field, or save the recipe anew.")
        voxels = 0
        edits = []
        for number, edit in enumerate(document["edits"]):
            where = edit["where"]
            if where is not None and where["type"] == "voxels":
                voxels += math.prod(where["shape"])
                if voxels > MAX_MASK_VOXELS:
                    cause = f"at /edits/{number}/where: its masks have over {MAX_MASK_VOXELS:,} voxels."
                    raise RecipeError(subject, cause, "Use smaller masks or boxes.")
            try:
                place = None if where is None else _where_from_json(where)
                exact = edit.get("exact", False)
                edits.append(Edit(edit["tap"], edit["latent"], edit["kind"], edit["value"], place, exact))
            except (UsageError, ValueError) as problem:
                cause = f"{problem.subject}: {problem.cause}" if isinstance(problem, UsageError) else f"{problem}."
                raise RecipeError(subject, f"at /edits/{number}: {cause}", "Correct it, or save anew.") from problem
        pack = PackReference(**document["pack"])
        return Recipe(document["name"], pack, tuple(edits), document.get("comment", ""))


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as JSON, first under a temporary name.

    Raises RecipeError for one that `load_recipe` would refuse (too many edits or mask voxels, text that is not
    Unicode), OutputError where it cannot be written.
    """
    from MedSegLensLib.cases.writing import atomic_path

    try:
        data = (json.dumps(recipe.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except (ValueError, TypeError) as problem:
        cause = f"the recipe cannot be written ({problem})."
        raise RecipeError(path, cause, "Correct its name or comment.") from problem
    _parsed(data, path)
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(data)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe. Raises RecipeError for a file that cannot be read or is not a recipe of this version."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as problem:
        raise RecipeError(path, f"it cannot be read ({problem}).", "Check its name and permissions.") from problem
    return _parsed(data, path)


def _parsed(data: bytes, path: Path) -> Recipe:
    if len(data) > MAX_BYTES:
        raise RecipeError(path, f"it has over {MAX_BYTES:,} bytes.", "Use smaller masks or boxes.")
    try:
        document = parse_json(data)
    except ValueError as problem:
        raise RecipeError(path, f"{problem}.", "Give a file saved as a recipe.") from problem
    return Recipe.from_json(document, path)


def _where_to_json(where: Where) -> dict:
    match where:
        case Box():
            return {"type": "box", "lower": list(where.lower), "upper": list(where.upper)}
        case SliceRange():
            return {"type": "slices", "lower": where.lower, "upper": where.upper}
        case RegionOf():
            return {"type": "region", "region": where.region, "dilation": where.dilation}
        case VoxelMask():
            return {
                "type": "voxels",
                "shape": list(where.shape),
                "origin": list(where.origin),
                "spacing": list(where.spacing),
                "direction": list(where.direction),
                "data": base64.b64encode(zlib.compress(where.packed, 9)).decode("ascii"),
            }


def _where_from_json(document: dict) -> Where:
    """The place of a document that keeps to the schema. Raises ValueError or UsageError."""
    fields = {key: value for key, value in document.items() if key != "type"}
    if document["type"] == "voxels":
        fields["packed"] = _unpacked_bits(fields.pop("data"), math.prod(fields["shape"]))
    return _WHERE_TYPES[document["type"]](**fields)


def _unpacked_bits(data: str, voxels: int) -> bytes:
    """The bits of `voxels` voxels; never allocates more than they take, whatever `data` unpacks to."""
    expected = (voxels + 7) // 8
    try:
        decompressor = zlib.decompressobj()
        packed = decompressor.decompress(base64.b64decode(data, validate=True), expected + 1)
    except (binascii.Error, zlib.error, ValueError) as problem:
        raise ValueError(f"the mask's data is damaged ({problem})") from problem
    if len(packed) != expected or not decompressor.eof or decompressor.unused_data:
        raise ValueError("the mask's data does not match its shape")
    return packed


def _is_integer(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _number(value: object, what: str, limit: float) -> float:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise UsageError(what, f"{value!r:.80} is not a number.", "Give a number.")
    if not -limit <= value <= limit:  # also false for nan
        finite = isinstance(value, numbers.Integral) or math.isfinite(value)
        cause = f"{value!r:.80} is beyond what is allowed." if finite else f"{value} is not finite."
        raise UsageError(what, cause, f"Give a number from {-limit:g} to {limit:g}.")
    return float(value)


def _numbers(values: object, count: int, what: str, limit: float) -> tuple[float, ...]:
    try:
        values = tuple(values)
    except TypeError:
        values = ()
    if len(values) != count:
        raise UsageError(what, f"it is not {count} numbers.", f"Give {count} numbers.")
    return tuple(_number(value, what, limit) for value in values)
