"""A training that was stopped, as a file from which it goes on to the same result; one that failed, as its account."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from MedSegLensLib.cases.writing import atomic_path
from MedSegLensLib.errors import OutputError, UsageError
from MedSegLensLib.lenses.lens_config import LensConfig, comparable

CHECKPOINT_NAME, FAILURE_NAME = "checkpoint.safetensors", "failed.json"


class LossIsNoNumber(UsageError):
    """A training whose loss, or a weight, is not a number any more."""

    @staticmethod
    def at(tap: str, step: int, lr: float, when: str = "") -> "LossIsNoNumber":
        cause = f"the loss of its lens is no number any more at step {step}{when and ' '}{when}."
        return LossIsNoNumber(tap, cause, f"Train it anew with a lower lr (it was {lr:g}).")


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


def check_same(checkpoint: Path, config: LensConfig, facts: dict, tensors: dict[str, Tensor], centre: Tensor) -> None:
    """Raise UsageError where a checkpoint is of another configuration, or of tokens with another centre (d_in,)."""
    mine, theirs = comparable(config), facts.get("config", {})
    different = [name for name in mine if mine[name] != theirs.get(name)]
    if different:
        words = ", ".join(f"{name} was {theirs.get(name)} and is {mine[name]}" for name in different)
        remedy = "Give the configuration it was started with, or choose another --out to start anew."
        raise UsageError(checkpoint, f"it is of another configuration: {words}.", remedy)
    if not torch.allclose(tensors["centre"].to(centre), centre, rtol=1e-4, atol=1e-6):
        remedy = "Give the cases and the segmenter it was started with, or choose another --out to start anew."
        raise UsageError(checkpoint, "it was trained on other tokens.", remedy)


def write_failure(checkpoint: Path, problem: LossIsNoNumber, facts: dict) -> None:
    """The account of a training that failed, in the place of its checkpoint: facts hold its `config` (as JSON), `step`
    and `log`. The checkpoint goes: from there the same configuration would fail again. Raises OutputError."""
    account = {"subject": problem.subject, "cause": problem.cause, "remedy": problem.remedy, **facts}
    with atomic_path(checkpoint.with_name(FAILURE_NAME)) as temporary:
        temporary.write_text(json.dumps(account, indent=1) + "\n", encoding="utf-8")
    checkpoint.unlink(missing_ok=True)


def read_failure(checkpoint: Path, config: dict) -> LossIsNoNumber | None:
    """What `write_failure` wrote beside this checkpoint for the same configuration; None where there is no such."""
    try:
        account = json.loads(checkpoint.with_name(FAILURE_NAME).read_text(encoding="utf-8"))
        if account["config"] == config:
            return LossIsNoNumber(account["subject"], account["cause"], account["remedy"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None


def forget_failure(checkpoint: Path) -> None:
    """Remove the account of an earlier failure: the lens is trained now."""
    checkpoint.with_name(FAILURE_NAME).unlink(missing_ok=True)
