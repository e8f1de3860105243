"""Lens files in SAELens' own layout: `cfg.json` and `sae_weights.safetensors` in one folder."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from MedSegLensLib import __version__
from MedSegLensLib.cases.writing import atomic_path
from MedSegLensLib.errors import OutputError, PackError, UsageError
from MedSegLensLib.lenses.layout import weight_shapes
from MedSegLensLib.lenses.lens import Lens

CONFIG_NAME, WEIGHTS_NAME = "cfg.json", "sae_weights.safetensors"  # SAELens' names

# SAELens reads a configuration without this as one of before version 6 and rewrites it. 6.54.12 was tried.
_SAE_LENS_VERSION = "6.54.12"

_DTYPES = {"float32": torch.float32, "float16": torch.float16}
_MAX_SIDE = 1 << 20  # channels or latents; real lenses have at most some ten thousand
_MAX_CONFIG_BYTES = 16 << 20
ARCHITECTURES = ("jumprelu", "standard", "gated", "topk", "matching_pursuit")
"""SAELens' names for what is read. It saves BatchTopK and Matryoshka BatchTopK as jumprelu."""

_REMEDY = "Get the pack again or write the lens again with `medseglens train lens`."


def save_lens(lens: Lens, folder: Path, dtype: str = "float32") -> None:
    """Write a lens so that SAELens' `SAE.load_from_disk(folder)` reads it.

    A BatchTopK lens is written as SAELens writes its own: architecture "jumprelu" with the inference threshold; a TopK
    and a matching pursuit lens as the architectures of these names. Our own
    facts (tap, k, training, version) stand under `metadata`; `hook_name` there is SAELens' word for the tap.

    Args:
        folder: made if it does not exist.
        dtype: of the stored weights, "float32" or "float16" (half the size; relative rounding of 5e-4). The `dtype`
            field, in which SAELens computes, stays "float32": it converts on loading, and its codes equal ours.

    Raises UsageError for another dtype, weights that are no numbers or beyond float16, OutputError when the folder
    cannot be written.
    """
    if dtype not in _DTYPES:
        raise UsageError(dtype, "it is not a dtype of lens files.", f"Use {' or '.join(_DTYPES)}.")
    weights = {
        name: getattr(lens, name).detach().cpu() for name in weight_shapes(lens.activation, lens.d_in, lens.d_sae)
    }
    if lost := _no_numbers(weights):
        raise UsageError(lens.tap, f"its lens cannot be written: {lost}.", "Train it anew with a lower lr.")
    tensors = {name: tensor.to(_DTYPES[dtype]).contiguous() for name, tensor in weights.items()}
    beyond = next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)
    if beyond:
        cause = f"{beyond} of its lens goes to {float(weights[beyond].abs().max()):.3g}, and {dtype} to "
        cause += f"{torch.finfo(_DTYPES[dtype]).max:.3g}."
        raise UsageError(lens.tap, cause, "Store it as float32.")
    own = {
        "jumprelu": {},
        "topk": {"k": lens.k, "rescale_acts_by_decoder_norm": False},
        "matching_pursuit": {
            "max_iterations": lens.k,
            "residual_threshold": float(lens.threshold[0]),
            "stop_on_duplicate_support": True,
        },
    }
    config = {
        "architecture": lens.activation,
        "d_in": lens.d_in,
        "d_sae": lens.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        **own[lens.activation],
        "metadata": {
            "medseglens_version": __version__,
            **lens.metadata,
            "sae_lens_version": _SAE_LENS_VERSION,
            "hook_name": lens.tap,
            "tap": lens.tap,
            "k": lens.k,
            "stored_dtype": dtype,
        },
    }
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        cause = f"the folder cannot be made ({error.strerror})."
        raise OutputError(folder, cause, "Choose another folder or free space.") from error
    # The weights first: a folder with a configuration has its weights.
    with atomic_path(folder / WEIGHTS_NAME) as path:
        try:
            save_file(tensors, path)
        except SafetensorError as error:
            cause = f"the weights cannot be written ({error})."
            raise OutputError(folder / WEIGHTS_NAME, cause, "Choose another folder or free space.") from error
    with atomic_path(folder / CONFIG_NAME) as path:
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_lens(folder: Path) -> Lens:
    """Read a lens, ours or one that SAELens saved, of one of ARCHITECTURES; float32 whatever it is stored in.

    A gated lens is read as JumpReLU and a standard one as JumpReLU with the threshold 0: both give the same codes.
    Decoder rows that are not of unit norm are made so, with the encoder, its bias and the threshold scaled to match
    (SAELens' `fold_W_dec_norm`): reconstructions stay the same and z is in the units of x. Where that would change
    which latents fire (matching pursuit, and TopK that does not weigh by the norm) the rows stay.

    Nothing is allocated before the header's shapes agree with the configuration, and nothing is unpickled.

    Raises PackError when a file is missing, damaged, not what its name says, of another architecture, or holds values
    with which float32 cannot compute.
    """
    folder = Path(folder)
    config = _read_config(folder / CONFIG_NAME)
    d_in, d_sae, metadata = config["d_in"], config["d_sae"], config.get("metadata") or {}
    architecture = config["architecture"]
    shapes = weight_shapes(architecture, d_in, d_sae)
    weights = _read_weights(folder / WEIGHTS_NAME, shapes)
    threshold = weights.get("threshold", torch.zeros(d_sae))
    if lost := _no_numbers(weights):
        raise PackError(folder / WEIGHTS_NAME, f"{lost}.", _REMEDY)
    if (threshold < 0).any():
        cause = f"its threshold is negative for {int((threshold < 0).sum())} latents."
        raise PackError(folder / WEIGHTS_NAME, cause, _REMEDY)
    centred = config.get("apply_b_dec_to_input", True)
    if architecture == "matching_pursuit":
        weights = _matching_pursuit(weights, config, centred)
    else:
        if architecture == "gated":
            weights = _gated(weights)
        weights.setdefault("threshold", threshold)
        if not centred:
            weights["b_enc"] = weights["b_enc"] + weights["b_dec"] @ weights["W_enc"]
        if architecture != "topk" or config.get("rescale_acts_by_decoder_norm"):
            _fold_norm(weights)
    if lost := _no_numbers(weights) or _overflow(weights):
        cause = f"its values are too large to compute with in float32: {lost}."
        raise PackError(folder / WEIGHTS_NAME, cause, "Train the lens anew; its weights have run away.")
    tap = metadata.get("tap") or metadata.get("hook_name") or ""
    activation = architecture if architecture in ("topk", "matching_pursuit") else "jumprelu"
    k = {"topk": config.get("k"), "matching_pursuit": config.get("max_iterations") or d_in}.get(architecture)
    return Lens(tap=str(tap), k=int(k or metadata.get("k") or 0), metadata=metadata, activation=activation, **weights)


def _no_numbers(weights: dict[str, torch.Tensor]) -> str:
    """Which tensor holds nan or inf, and in how many of its values; empty where none does."""
    for name, tensor in weights.items():
        if lost := int((~torch.isfinite(tensor)).sum()):
            return f"{name} holds nan or inf in {lost:,} of {tensor.numel():,} values"
    return ""


def _overflow(weights: dict[str, torch.Tensor]) -> str:
    """Which product overflows with a token of a thousand in every channel, more than any tap gives; empty where none.

    Finite weights are not enough: one column of 1e38 makes every code of its latent infinite, and every edit nan.
    """
    most, worst = 1000.0, float(torch.finfo(torch.float32).max)
    x = most + weights["b_dec"].double().abs()
    code = (x @ weights["W_enc"].double().abs() + weights["b_enc"].double().abs()).max()
    if code > worst:
        return f"a latent's code may reach {float(code):.1e}"
    rebuilt = (code * weights["W_dec"].double().abs().sum(0)).max()
    return f"a reconstruction may reach {float(rebuilt):.1e}" if rebuilt > worst else ""


def _gated(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A gated SAE as JumpReLU (Rajamanoharan et al. 2024, arXiv 2404.16014, section 3.2.2 and appendix E).

    It fires where pi = c W + b_gate > 0, with the value m = c W exp(r) + b_mag above zero; so pi > 0 is
    m > b_mag - b_gate exp(r).
    """
    gain = weights["r_mag"].exp()
    return {
        "W_enc": weights["W_enc"] * gain,
        "b_enc": weights["b_mag"],
        "W_dec": weights["W_dec"],
        "b_dec": weights["b_dec"],
        "threshold": (weights["b_mag"] - weights["b_gate"] * gain).clamp_min(0),
    }


def _matching_pursuit(weights: dict[str, torch.Tensor], config: dict, centred: bool) -> dict[str, torch.Tensor]:
    rows, enough = weights["W_dec"], float(config.get("residual_threshold", 1e-2))
    return {
        "W_enc": rows.T.contiguous(),
        "b_enc": torch.zeros(len(rows)),
        "W_dec": rows,
        "b_dec": weights["b_dec"] if centred else torch.zeros(rows.shape[1]),
        "threshold": torch.full((len(rows),), enough),
    }


def _fold_norm(weights: dict[str, torch.Tensor]) -> None:
    norm = weights["W_dec"].norm(dim=1)
    if (norm - 1).abs().max() > 1e-3:  # float16 rounding stays below
        norm = norm.clamp_min(1e-8)
        weights["W_dec"] /= norm[:, None]
        for name in ("W_enc", "b_enc", "threshold"):
            weights[name] *= norm


def _read_config(path: Path) -> dict:
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise PackError(path, f"it is over {_MAX_CONFIG_BYTES >> 20} MB, which no configuration is.", _REMEDY)
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PackError(path, "the lens's configuration is missing.", _REMEDY) from error
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not JSON, or not UTF-8
        raise PackError(path, "the lens's configuration cannot be read as JSON.", _REMEDY) from error
    if not isinstance(config, dict) or not isinstance(config.get("metadata") or {}, dict):
        raise PackError(path, "it is not a SAELens configuration.", _REMEDY)
    architecture = config.get("architecture")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        cause = f"its architecture is {architecture!r}, which is not known here."
        raise PackError(path, cause, f"Known are {', '.join(ARCHITECTURES)}; SAELens saves BatchTopK as jumprelu.")
    for key in ("normalize_activations", "reshape_activations"):
        if config.get(key, "none") != "none":
            cause = f"its {key} is {config.get(key)!r}; only 'none' is read."
            raise PackError(path, cause, "Export it from SAELens with its normalisation folded in.")
    for key in ("d_in", "d_sae"):
        value = config.get(key)
        if type(value) is not int or not 0 < value <= _MAX_SIDE:
            raise PackError(path, f"its {key} is {value!r}, not a size from 1 to {_MAX_SIDE}.", _REMEDY)
    active = {"k": (config.get("metadata") or {}).get("k")}
    if architecture == "topk":
        active["k of TopK"] = config.get("k", "missing")
    elif architecture == "matching_pursuit":
        active["max_iterations"] = config.get("max_iterations")
        enough = config.get("residual_threshold", 1e-2)
        if type(enough) not in (int, float) or not 0 <= enough < float("inf"):
            raise PackError(path, f"its residual_threshold is {enough!r}, not a length.", _REMEDY)
        if config.get("stop_on_duplicate_support", True) is not True:
            cause = "it goes on when no new latent is added (stop_on_duplicate_support is not true)."
            raise PackError(path, cause, "Train it with stop_on_duplicate_support.")
    for name, k in active.items():
        most = config["d_sae"] - (architecture == "topk")  # with all of them active there is nothing to choose
        if k is not None and (type(k) not in (int, float) or not 0 < k <= most):
            raise PackError(path, f"its {name} is {k!r}, not a number of latents.", _REMEDY)
    return config


def _read_weights(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    try:
        with open(path, "rb") as file:
            start = file.read(8)
        # A safetensors file begins with its header's length, whose low bytes may well be a pickle's 0x80 or a zip's PK.
        no_header = int.from_bytes(start, "little") > path.stat().st_size
        if no_header and (start[:1] == b"\x80" or start[:2] == b"PK"):
            cause = "it is a pickle or zip (as torch.save writes), not safetensors; it was not opened."
            raise PackError(path, cause, "Never rename such a file; convert its tensors with safetensors.")
        with safe_open(path, framework="pt", device="cpu") as file:
            names = set(file.keys())
            if names != set(shapes):
                cause = f"it holds {sorted(names)} and should hold {sorted(shapes)}."
                raise PackError(path, cause, _REMEDY)
            for name, shape in shapes.items():
                header = file.get_slice(name)
                found, dtype = tuple(header.get_shape()), header.get_dtype()
                if found != shape or dtype not in ("F32", "F16", "BF16"):
                    cause = f"{name} is {dtype} {found} and should be a float of shape {shape}."
                    raise PackError(path, cause, _REMEDY)
            return {name: file.get_tensor(name).float() for name in shapes}
    except FileNotFoundError as error:
        raise PackError(path, "the lens's weights are missing.", _REMEDY) from error
    except (OSError, SafetensorError) as error:
        raise PackError(path, f"the weights are truncated or not safetensors ({error}).", _REMEDY) from error
