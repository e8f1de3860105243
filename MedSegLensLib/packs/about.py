"""What the maker of a pack says of it in a JSON file (--about), as the parts of pack.json.

Fields: name, version, licence, description, trained_on, citation, limits, labels; and, for a segmenter that was not
trained here, input, segmenter and outputs, which are laid out as in pack.json (docs/your-segmenter.md).
"""

from datetime import date

from MedSegLensLib.cases.conform import InputSpec
from MedSegLensLib.errors import UsageError
from MedSegLensLib.packs.info import Code, Label, PackInfo, TrainedOn
from MedSegLensLib.segmenters.architectures import SegmenterConfig
from MedSegLensLib.segmenters.outputs import outputs_problem

BRATS_LABELS = (
    Label(1, "NCR", "Necrotic tumour core", Code("6574001", "Necrosis"), (0, 114, 178)),
    Label(2, "ED", "Peritumoural edema", Code("79654002", "Edema"), (240, 228, 66)),
    Label(3, "ET", "Enhancing tumour", Code("86049000", "Malignant neoplasm, primary"), (213, 94, 0)),
)
"""Of a segmenter whose `outputs` name its channels: they mean these."""

NEEDED = {
    "name": "lower-case letters, digits and . _ -",
    "version": "as 1.0.0",
    "licence": "of the weights, an SPDX identifier such as Apache-2.0",
    "description": "one paragraph",
    "trained_on": "the data in words",
}
SEGMENTER_FIELDS = ("architecture", "arguments", "sampling", "patch_size", "overlap")
INPUT_FIELDS = ("modalities", "spacing", "size_divisor", "orientation", "normalisation", "may_be_missing")


def completed(about: dict, found: dict) -> dict:
    """What was found, with what the user says over it; sections are completed field by field."""
    whole = dict(found)
    for key, value in about.items():
        inner = isinstance(value, dict) and isinstance(whole.get(key), dict) and key in ("input", "segmenter")
        whole[key] = {**whole[key], **value} if inner else value
    return whole


def check_complete(about: dict, subject: object, unread: dict[str, str] | None = None) -> None:
    """Raise UsageError that names every field which is missing, and why it could not be read from elsewhere."""
    missing = []
    for field, why in (unread or {}).items():
        section, _, name = field.partition(".")
        inside = about.get(section)
        given = name in inside if name and isinstance(inside, dict) else (not name and section in about)
        given = given or (name in ("axcodes", "pixdim") and _said_our_way(about, name))
        if not given:
            missing.append(f"{field} ({why})")
    missing += [
        f"{field} ({why})" for field, why in NEEDED.items() if not about.get(field) and field not in (unread or {})
    ]
    if "labels" not in about and "outputs" not in about:
        missing.append(
            'labels (what values 1, 2, 3 mean), or outputs (what the channels mean, such as "TC", "WT", "ET")'
        )
    if missing:
        raise UsageError(subject, f"does not say: {'; '.join(missing)}.", "Say it in --about (docs/your-segmenter.md).")


def _said_our_way(about: dict, name: str) -> bool:
    return {"axcodes": "orientation", "pixdim": "spacing"}[name] in about.get("input", {})


def foreign_config(about: dict, subject: object) -> tuple[SegmenterConfig, dict]:
    """The segmenter's configuration and the fields of its InputSpec, of a completed `about`.

    Raises UsageError for a field that is not known or has no sensible value.
    """
    segmenter, given = dict(about.get("segmenter", {})), dict(about.get("input", {}))
    flat = segmenter.get("sampling") == "slices"
    axcodes, pixdim = given.pop("axcodes", None), given.pop("pixdim", None)
    order = (1, 0, 2) if flat else (2, 1, 0)
    if axcodes is not None and "orientation" not in given:
        if not isinstance(axcodes, str) or len(axcodes) != 3:
            raise UsageError(subject, f"has axcodes {axcodes!r}.", "Give three letters, such as RAS.")
        given["orientation"] = "".join(axcodes[i] for i in order)
    if pixdim is not None and "spacing" not in given:
        given["spacing"] = [pixdim[i] for i in order]
    for section, known in ((segmenter, SEGMENTER_FIELDS), (given, INPUT_FIELDS)):
        alien = [name for name in section if name not in known]
        if alien:
            raise UsageError(subject, f"has the unknown field {alien[0]!r}.", f"Known are: {', '.join(known)}.")
    problem = outputs_problem(about.get("outputs"))
    if problem:
        raise UsageError(subject, f"{problem}.", "Correct outputs in --about.")
    sampling, patch = segmenter.get("sampling"), segmenter.get("patch_size")
    if sampling not in ("slices", "patches"):
        raise UsageError(subject, "does not say segmenter.sampling.", "Say slices (2D) or patches (3D).")
    sound = isinstance(patch, list | tuple) and len(patch) == 3 and all(type(n) is int and 8 <= n <= 512 for n in patch)
    if sampling == "patches" and not sound:
        raise UsageError(subject, f"has patch_size {patch!r}.", "Give three counts of voxels (z, y, x), 8 to 512.")
    overlap = segmenter.get("overlap", 0.25)
    if not isinstance(overlap, int | float) or not 0 <= overlap <= 0.9:
        raise UsageError(subject, f"has overlap {overlap!r}.", "Give a fraction from 0 to 0.9.")
    if not isinstance(segmenter.get("arguments", {}), dict):
        raise UsageError(subject, "has arguments that are no object.", 'Write them as {"channels": [16, 32]}.')
    config = SegmenterConfig(
        segmenter["architecture"],
        segmenter.get("arguments", {}),
        sampling,
        tuple(patch) if sampling == "patches" else None,
        overlap,
        about.get("outputs"),
    )
    return config, given


def pack_info(about: dict, segmenter: SegmenterConfig, spec: InputSpec, cases: list[str], subject: object) -> PackInfo:
    """`pack.json` but for its lenses and files. Raises UsageError for a field that is missing or misshapen."""
    try:
        labels = BRATS_LABELS
        if "labels" in about:
            labels = tuple(
                Label(
                    **{
                        **entry,
                        "code": Code(**entry["code"]) if entry["code"] else None,
                        "colour": tuple(entry["colour"]),
                    }
                )
                for entry in about["labels"]
            )
        return PackInfo(
            name=about["name"],
            version=about["version"],
            licence=about["licence"],
            created=about.get("created", date.today().isoformat()),
            description=about["description"],
            trained_on=TrainedOn(
                about["trained_on"], tuple(cases), tuple(about.get("held_out", ())), about.get("split", "")
            ),
            input=spec.to_json(),
            labels=labels,
            segmenter=segmenter,
            citation=tuple(about.get("citation", ())),
            limits=tuple(about.get("limits", ())),
        )
    except KeyError as problem:
        raise UsageError(subject, f"has no {problem}.", "See Resources/Configurations for an example.") from None
    except TypeError as problem:
        raise UsageError(
            subject, f"has a field that is not as it must be ({problem}).", "See docs/pack-format.md."
        ) from None
