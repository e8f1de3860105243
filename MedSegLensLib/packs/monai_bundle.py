"""A MONAI bundle as a segmenter: what its configuration says of network, input and output, read and not executed.

Read are configs/metadata.json, configs/inference.json (or .yaml) and models/model.safetensors or model.pt. A bundle's
configuration is a program: names after `_target_` are called, texts after `$` are evaluated. Here both are looked at as
text. What they say in a standard way is taken over; of the rest `unread` says what is missing, and the user says it
with --about.
"""

import ast
from dataclasses import dataclass, field
from pathlib import Path

from MedSegLensLib.cases.modality_words import modality_of, modality_of_ending
from MedSegLensLib.errors import PackError
from MedSegLensLib.packs.checked_json import parse_json
from MedSegLensLib.segmenters.foreign import ALIASES, MONAI, MONAI_NETWORKS, TORCH
from MedSegLensLib.segmenters.outputs import BACKGROUND

MAX_BYTES, MAX_DEPTH, MAX_VALUES = 2 * 2**20, 16, 100_000
HARMLESS = (
    "LoadImaged", "EnsureChannelFirstd", "EnsureTyped", "ToTensord", "CastToTyped", "ToDeviced",
    "SpatialPadd", "DivisiblePadd", "AsChannelFirstd", "AddChanneld", "DeleteItemsd",
)  # fmt: skip
"""Steps that change neither the values nor the grid of what the network sees within the brain."""

OUTPUT_WORDS = {
    "WT": ("wt", "whole tumor", "whole tumour"),
    "TC": ("tc", "tumor core", "tumour core"),
    "ET": ("et", "enhancing tumor", "enhancing tumour", "enhancing", "gd-enhancing tumor"),
    "NCR": ("ncr", "ncr/net", "necrosis", "necrotic core", "necrotic tumor core", "necrotic tumour core"),
    "ED": ("ed", "edema", "oedema", "peritumoral edema", "peritumoural oedema", "snfh"),
    BACKGROUND: ("background", "bg"),
}


@dataclass
class Bundle:
    """found: what could be read, laid out as --about is; unread: by dotted field, why it could not be."""

    folder: Path
    weights: Path
    found: dict = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)


class _Expression(Exception):
    """A value that would have to be executed."""


def read_bundle(folder: Path) -> Bundle:
    """Raises PackError for a folder that is no bundle, or one whose network is code."""
    metadata = _configuration(folder, "metadata", "Give the folder of a whole MONAI bundle, with configs and models.")
    inference = _configuration(folder, "inference", "Its configs/inference.json says what network it is.")
    bundle = Bundle(folder, _weights(folder))
    _texts(bundle, metadata)
    dims = _network(bundle, inference)
    _channels(bundle, metadata, inference)
    _sampling(bundle, inference, dims)
    _input(bundle, inference, dims)
    return bundle


def _configuration(folder: Path, name: str, remedy: str) -> dict:
    for suffix in (".json", ".yaml", ".yml"):
        path = folder / "configs" / (name + suffix)
        if not path.is_file():
            continue
        try:
            data = path.read_bytes()
            if len(data) > MAX_BYTES:
                raise ValueError("it is too large for a configuration")
            document = parse_json(data) if suffix == ".json" else _yaml(data)
        except (OSError, ValueError) as problem:
            raise PackError(path, f"it cannot be read ({problem}).", "Correct it.") from problem
        if not isinstance(document, dict):
            raise PackError(path, "it holds no names and values.", "Correct it.")
        return document
    raise PackError(folder, f"there is no configs/{name}.json in it: this is no MONAI bundle.", remedy)


def _yaml(data: bytes) -> object:
    try:
        import yaml
    except ImportError:
        raise ValueError("PyYAML is not installed; install it, or convert the file to JSON") from None
    try:
        return yaml.safe_load(data.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise ValueError(str(problem)) from problem


def _weights(folder: Path) -> Path:
    for name in ("model.safetensors", "model.pt"):
        if (folder / "models" / name).is_file():
            return folder / "models" / name
    there = sorted(p.name for p in (folder / "models").glob("*")) if (folder / "models").is_dir() else []
    cause = f"there is no models/model.pt in it{f' (only {chr(44).join(there)})' if there else ''}."
    raise PackError(folder, cause, "Download the bundle's weights; TorchScript files (.ts) are code and not read.")


# -- values -------------------------------------------------------------------------------------------------------


def _value(document: dict, value: object, depth: int = 0, resolved: list[int] | None = None) -> object:
    """A value with its references resolved. Raises _Expression for what would have to be executed, or has no end.

    `resolved` counts the values: references to references to lists grow without bound within any depth.
    """
    resolved = [0] if resolved is None else resolved
    resolved[0] += 1
    if depth > MAX_DEPTH or resolved[0] > MAX_VALUES:
        raise _Expression("it refers to itself")
    for _ in range(16):
        if not isinstance(value, str) or value[:1] not in "@$%":
            break
        if value.startswith("%"):
            raise _Expression(value)
        if value.startswith("$"):
            try:
                return ast.literal_eval(value[1:].strip())
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                raise _Expression(value) from None
        found: object = document
        for key in value[1:].replace("#", "::").split("::"):
            if isinstance(found, dict) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                raise _Expression(value)
        value = found
    else:
        raise _Expression(str(value))
    if isinstance(value, dict):
        return {k: _value(document, v, depth + 1, resolved) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_value(document, v, depth + 1, resolved) for v in value]
    return value


def _class(step: object) -> str:
    """The last part of a step's `_target_`; '' where it has none."""
    return str(step.get("_target_", "")).rsplit(".", 1)[-1] if isinstance(step, dict) else ""


def _steps(inference: dict, name: str) -> list[dict]:
    """The transforms listed under a name, those that are disabled left out."""
    found = inference.get(name)
    if isinstance(found, dict):
        found = found.get("transforms")
    if isinstance(found, str) and found.startswith("@"):
        try:
            found = _value(inference, found)
        except _Expression:
            found = None
    steps = [step for step in found or [] if isinstance(step, dict)] if isinstance(found, list) else []
    return [step for step in steps if not step.get("_disabled_")]


# -- parts --------------------------------------------------------------------------------------------------------


def _texts(bundle: Bundle, metadata: dict) -> None:
    found = bundle.found
    slug = "".join(c if c.isalnum() else "-" for c in bundle.folder.resolve().name.lower()).strip("-")
    found["name"] = slug[:64] or "monai-bundle"
    version = str(metadata.get("version", ""))
    if len(version.split(".")) == 3 and all(part.isdecimal() for part in version.split(".")):
        found["version"] = version
    text = metadata.get("description") or metadata.get("task")
    title = metadata.get("name") if isinstance(metadata.get("name"), str) else bundle.folder.resolve().name
    if isinstance(text, str) and text:
        found["description"] = f"{text.rstrip('.')}. Made from the MONAI bundle {title} {version}".rstrip() + "."
    for key in ("data_source", "image_classes"):
        if isinstance(metadata.get(key), str) and metadata[key]:
            found["trained_on"] = f"{found['trained_on']}; {metadata[key]}" if "trained_on" in found else metadata[key]
    references = metadata.get("references")
    found["citation"] = [r for r in references if isinstance(r, str)] if isinstance(references, list) else []
    if isinstance(metadata.get("intended_use"), str) and metadata["intended_use"]:
        found["limits"] = [metadata["intended_use"]]
    bundle.unread["licence"] = "a bundle's licence is a text; say it as an SPDX identifier, such as Apache-2.0"


def _network(bundle: Bundle, inference: dict) -> int | None:
    """The architecture and its arguments; gives its spatial dimensions where they are said."""
    definition = inference.get("network_def", inference.get("network"))
    target = definition.get("_target_") if isinstance(definition, dict) else None
    where = bundle.folder / "configs"
    if not isinstance(target, str):
        raise PackError(where, "inference.json has no network_def with a _target_.", "Add it, as bundles have it.")
    short = _class(definition)
    short = ALIASES.get(short, short)
    segmenter = bundle.found.setdefault("segmenter", {})
    standard = "." not in target or target.startswith("monai.networks.nets")
    if standard and short in MONAI_NETWORKS:
        segmenter["architecture"] = f"{MONAI}{short}"
    elif "." in target and not target.startswith(("monai.", "$", "@")):
        module, _, name = target.rpartition(".")
        segmenter["architecture"] = f"{TORCH}{module}:{name}"  # refused later unless the user trusts the module
    else:
        cause = f"its network, {target}, is none of the MONAI networks that a pack may name."
        raise PackError(where, cause, f"These may be: {', '.join(MONAI_NETWORKS)}.")
    arguments = {}
    for name, value in definition.items():
        if name.startswith("_"):
            continue
        try:
            arguments[name] = _value(inference, value)
        except _Expression as expression:
            bundle.unread["segmenter.arguments"] = f"{name} is an expression that is not executed ({expression})"
    segmenter["arguments"] = arguments
    dims = arguments.get("spatial_dims", arguments.get("dimensions"))
    if dims is None and segmenter["architecture"].startswith(MONAI):
        dims = _default_dims(short)
    return dims if dims in (2, 3) else None


def _default_dims(name: str) -> int | None:
    import inspect

    from MedSegLensLib.segmenters.foreign import foreign_factory

    parameter = inspect.signature(foreign_factory(MONAI + name)).parameters.get("spatial_dims")
    return parameter.default if parameter else None


def _channels(bundle: Bundle, metadata: dict, inference: dict) -> None:
    data = metadata.get("network_data_format")
    data = data if isinstance(data, dict) else {}
    names = _channel_names(data.get("inputs"))
    modalities = [modality_of_ending(n) or modality_of(n) for n in names]
    if names and all(m in ("t1n", "t1c", "t2w", "t2f") for m in modalities):
        bundle.found.setdefault("input", {})["modalities"] = modalities
    else:
        said = (
            f"metadata.json calls the input channels {names}" if names else "metadata.json does not name the channels"
        )
        bundle.unread["input.modalities"] = f'{said}; say which are which, such as ["t1c", "t1n", "t2w", "t2f"]'
    names = _channel_names(data.get("outputs"))
    words = {word: region for region, all_words in OUTPUT_WORDS.items() for word in all_words}
    regions = [words.get(n.strip().lower()) for n in names]
    kind = _output_kind(inference)
    if names and all(regions) and kind:
        bundle.found["outputs"] = {"kind": kind, "channels": regions}
    else:
        why = f"metadata.json calls the output channels {names}" if names else "metadata.json names no output channels"
        why += "" if kind else ", and inference.json has neither sigmoid nor softmax or argmax after the network"
        bundle.unread["outputs"] = f'{why}; say {{"kind": "sigmoid", "channels": ["TC", "WT", "ET"]}}, for example'


def _channel_names(side: object) -> list[str]:
    """The names in `channel_def` of the first image of a side, in order."""
    for entry in side.values() if isinstance(side, dict) else ():
        named = entry.get("channel_def") if isinstance(entry, dict) else None
        if isinstance(named, dict) and all(isinstance(k, str) and k.isdecimal() for k in named):
            return [str(named[k]) for k in sorted(named, key=int)]
    return []


def _output_kind(inference: dict) -> str | None:
    for step in _steps(inference, "postprocessing"):
        if _class(step) == "Activationsd" and step.get("sigmoid"):
            return "sigmoid"
        if (_class(step) == "Activationsd" and step.get("softmax")) or (
            _class(step) == "AsDiscreted" and step.get("argmax")
        ):
            return "softmax"
    return None


def _sampling(bundle: Bundle, inference: dict, dims: int | None) -> None:
    segmenter = bundle.found["segmenter"]
    if dims is None:
        bundle.unread["segmenter.sampling"] = "it is not said whether the network is 2D (slices) or 3D (patches)"
        return
    segmenter["sampling"] = "slices" if dims == 2 else "patches"
    if dims == 2:
        return
    try:
        inferer = _value(inference, inference.get("inferer", {}))
    except _Expression:
        inferer = {}
    inferer = inferer if isinstance(inferer, dict) else {}
    size = inferer.get("roi_size") if _class(inferer).startswith("SlidingWindowInferer") else None
    if isinstance(size, list) and len(size) == 3 and all(isinstance(n, int) and 8 <= n <= 512 for n in size):
        segmenter["patch_size"] = size
    else:
        bundle.unread["segmenter.patch_size"] = "no SlidingWindowInferer with a roi_size of three numbers was found"
    overlap = inferer.get("overlap", 0.25)
    segmenter["overlap"] = overlap if isinstance(overlap, int | float) and 0 <= overlap <= 0.9 else 0.25


def _input(bundle: Bundle, inference: dict, dims: int | None) -> None:
    """Orientation, spacing and normalisation, from the preprocessing; the network's axes are MONAI's: x first."""
    told = bundle.found.setdefault("input", {})
    axcodes, pixdim, values, problem, cropped = None, None, [], None, False
    for step in _steps(inference, "preprocessing"):
        kind = _class(step)
        try:
            step = _value(inference, {k: v for k, v in step.items() if k != "func"})
        except _Expression as expression:
            problem = f"{kind} has an expression that is not executed ({expression})"
            continue
        if kind == "Orientationd":
            axcodes = step.get("axcodes")
        elif kind == "Spacingd":
            pixdim = step.get("pixdim")
        elif kind in _INTENSITY:
            made = _INTENSITY[kind](step, len(told.get("modalities", [])))
            values.append(made)
            if made is None or (cropped and made not in ("zscore_nonzero", None) and kind != "ScaleIntensityRanged"):
                problem = f"its {kind} does what no normalisation of a pack does"
        elif kind == "CropForegroundd":
            cropped = True
        elif kind not in HARMLESS:
            problem = f"its step {kind} is not known here"
    if isinstance(axcodes, str) and len(axcodes) == 3:
        told["axcodes"] = axcodes
    else:
        bundle.unread["input.axcodes"] = (
            "there is no Orientationd, so it is not said which way its arrays lie; say it as Orientationd's axcodes "
            "(files of BraTS, loaded as they are: LPS)"
        )
    if pixdim is None:
        told["pixdim"] = [None] * 3
    elif isinstance(pixdim, list) and len(pixdim) >= 2 and all(isinstance(n, int | float) for n in pixdim):
        told["pixdim"] = [float(n) if n > 0 else None for n in pixdim[:3]] + [None] * (3 - len(pixdim[:3]))
    else:
        bundle.unread["input.pixdim"] = "its Spacingd has a pixdim that could not be read"
    if len(values) == 1 and values[0] is not None and problem is None:
        told["normalisation"] = values[0]
    else:
        why = problem or ("several steps change the values" if values else "no step normalises the values")
        bundle.unread["input.normalisation"] = f"{why}; say which of docs/pack-format.md it is"


def _normalize_intensity(step: dict, modalities: int) -> object:
    if step.get("subtrahend") is not None or step.get("divisor") is not None:
        return None
    if not step.get("channel_wise") and modalities != 1:
        return None
    return "zscore_nonzero" if step.get("nonzero") else "zscore_volume"


def _scale_range(step: dict, _modalities: int) -> object:
    return _line("range", [step.get("a_min"), step.get("a_max")], step)


def _scale_percentiles(step: dict, modalities: int) -> object:
    if step.get("relative") or (not step.get("channel_wise") and modalities != 1):
        return None
    return _line("percentiles", [step.get("lower"), step.get("upper")], step)


def _scale(step: dict, modalities: int) -> object:
    if step.get("factor") is not None or (not step.get("channel_wise") and modalities != 1):
        return None
    step = {"b_min": step.get("minv", 0.0), "b_max": step.get("maxv", 1.0), "clip": False}
    return _line("percentiles", [0, 100], step)


def _line(kind: str, source: list, step: dict) -> object:
    target = [step.get("b_min"), step.get("b_max")]
    if not all(isinstance(v, int | float) for v in [*source, *target]):
        return None
    return {"kind": kind, "from": source, "to": target, "clip": bool(step.get("clip", False))}


_INTENSITY = {
    "NormalizeIntensityd": _normalize_intensity,
    "ScaleIntensityRanged": _scale_range,
    "ScaleIntensityRangePercentilesd": _scale_percentiles,
    "ScaleIntensityd": _scale,
}
