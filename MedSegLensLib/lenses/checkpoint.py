"""A training that was stopped, as one file from which it goes on to the same result."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from MedSegLensLib.cases.writing import atomic_path
from MedSegLensLib.errors import OutputError, UsageError

CHECKPOINT_NAME = "checkpoint.safetensors"


def write_checkpoint(path: Path, tensors: dict[str, Tensor], facts: dict) -> None:
    """One safetensors file with the facts (JSON) in its header: there is no moment when the two do not belong together.

    Raises OutputError when it cannot be written; an earlier checkpoint then stays.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"facts": json.dumps(facts)})
        except SafetensorError as error:
            cause = f"the checkpoint cannot be written ({error})."
            raise OutputError(path, cause, "Free some space and go on with --resume.") from error


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and facts. Raises UsageError for a file that no training wrote."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UsageError(
            path, f"is not a checkpoint of a lens's training ({error}).", "Start without --resume."
        ) from error
