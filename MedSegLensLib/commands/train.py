"""`medseglens train`: a segmenter, or (train_lens.py) lenses at its taps."""

import json
from pathlib import Path

from MedSegLensLib.commands.common import Result, add_command, output_folder, progress_bar
from MedSegLensLib.commands.train_lens import add_lens_parser
from MedSegLensLib.errors import CaseError, UsageError

SEGMENTER_FILE, TRAINING_FILE = "segmenter.safetensors", "training.json"


def add_parser(commands) -> None:
    group = commands.add_parser("train", help="train a segmenter or a lens")
    actions = group.add_subparsers(dest="action", metavar="WHAT", required=True)
    segmenter = add_command(actions, "segmenter", "train a segmenter on labelled cases and phantoms", run_segmenter)
    segmenter.add_argument("--config", type=Path, required=True, help="JSON, as in Resources/Configurations")
    segmenter.add_argument("--cases", type=Path, required=True, help="folder with the case folders the config names")
    segmenter.add_argument("--out", type=Path, required=True, help="folder for weights, configuration and log")
    segmenter.add_argument("--steps", type=int, help="instead of the configuration's number (a quick try)")
    segmenter.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
    add_lens_parser(actions)


def read_config(path: Path) -> dict:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as problem:
        raise UsageError(path, f"is not a readable configuration ({problem}).", "Give a JSON file.") from None
    if not isinstance(values, dict):
        raise UsageError(path, "is not a configuration: it holds no names and values.", "See docs/training.md.")
    return values


def read_cases(folder: Path, names: list[str]):
    """The named cases of a folder. Raises CaseError for one that is not there."""
    from MedSegLensLib.cases.reading import read_case

    missing = [name for name in names if not (folder / name).is_dir()]
    if missing:
        raise CaseError(folder / missing[0], "is named by the configuration and is not there.", "Correct --cases.")
    return [read_case(folder / name) for name in names]


def run_segmenter(options) -> Result:
    from safetensors.torch import save_file

    from MedSegLensLib.cases.writing import atomic_path, check_folder
    from MedSegLensLib.segmenters.engine import best_device, check_device
    from MedSegLensLib.segmenters.training import TrainingConfig, train_segmenter

    check_folder(options.out)
    device = options.device or best_device()
    check_device(device)
    values = read_config(options.config)
    names = values.pop("cases", [])
    if options.steps:
        values["steps"] = options.steps
    try:
        config = TrainingConfig.from_json(values)
    except (TypeError, KeyError) as problem:
        raise UsageError(
            options.config, f"does not describe a training ({problem}).", "See docs/training.md."
        ) from None
    cases = read_cases(options.cases, names)
    out = output_folder(options.out)
    with progress_bar(options.json) as progress:
        network, log = train_segmenter(cases, config, device, progress)
    with atomic_path(out / SEGMENTER_FILE) as temporary:
        save_file({k: v.contiguous() for k, v in network.state_dict().items()}, temporary)
    record = {"config": config.to_json(), "cases": names, "log": log}
    with atomic_path(out / TRAINING_FILE) as temporary:
        temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
    data = {"folder": str(out), "loss": log[-1]["loss"], "seconds": log[-1]["seconds"], "steps": config.steps}
    return Result(data, [f"Trained for {config.steps} steps, loss {log[-1]['loss']}. Written: {out}"])


def trained_segmenter(folder: Path):
    """(network in eval mode, SegmenterConfig, InputSpec, training record) of a folder that `train segmenter` wrote."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from MedSegLensLib.segmenters.architectures import build_network
    from MedSegLensLib.segmenters.training import TrainingConfig

    record = read_config(folder / TRAINING_FILE)
    config = TrainingConfig.from_json(record["config"])
    network = build_network(config.segmenter)
    try:
        network.load_state_dict(load_file(folder / SEGMENTER_FILE))
    except (OSError, SafetensorError, RuntimeError) as problem:
        raise UsageError(folder, f"does not hold this segmenter's weights ({problem}).", "Train it again.") from None
    return network.eval(), config.segmenter, config.input, record
