"""Lens kinds that sae-lens trains (`pip install "medseglens[train]"`): JumpReLU, gated, standard, matching pursuit.

It trains these well, so they are not written again: its `SAETrainer` takes batches from our token source, and what it
would save is read as any lens of SAELens is. Only training needs the package; the lens runs without it.
"""

import importlib.util
import logging
import math
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from MedSegLensLib import __version__
from MedSegLensLib.errors import Cancelled, UsageError
from MedSegLensLib.lenses.beginning import centre_and_scale, first_tokens, rows_to_start
from MedSegLensLib.lenses.checkpoint import (
    LossIsNoNumber,
    check_same,
    read_checkpoint,
    read_failure,
    write_checkpoint,
    write_failure,
)
from MedSegLensLib.lenses.files import load_lens
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.lenses.lens_config import LensConfig, comparable
from MedSegLensLib.lenses.measures import measure_lens
from MedSegLensLib.lenses.sampling import TokenSource
from MedSegLensLib.lenses.training import schedule


def check_sae_lens(kind: str) -> None:
    """Raise UsageError where sae-lens is not installed: before the minutes that a harvest may take."""
    if importlib.util.find_spec("sae_lens") is None:
        remedy = 'Run `pip install "medseglens[train]"`, or use batch_topk, topk, matryoshka or archetypal.'
        raise UsageError(kind, "is trained by sae-lens, which is not installed.", remedy)


def train_by_sae_lens(
    tokens: TokenSource,
    config: LensConfig,
    progress: Callable[[str, float], None] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    checkpoint_every: int = 500,
) -> Lens:
    """Train a lens of a kind in SAE_LENS_KINDS; configuration, tokens, centring, start and schedule are as for ours.

    k: matching pursuit takes at most k rounds; JumpReLU is trained with the quadratic loss towards an L0 of k
    (sae-lens' `target_l0`); of gated and standard lenses the L1 coefficient is moved during the first three quarters of
    the training until the L0 is about k. What L0 came out is in the measures; the threshold is left as trained.

    checkpoint: the file to which the training is written every so many steps, when `progress` raises Cancelled, and at
    the end; resume: go on from it, where it is there, to the same result (to the bit on one CPU thread).

    Raises UsageError where sae-lens is not installed, the tokens do not vary, or the checkpoint is of another training;
    LossIsNoNumber where the loss is none any more (with the account in the checkpoint's place).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_sae_lens(config.kind)
        logging.getLogger("sae_lens").setLevel(logging.ERROR)
        first = first_tokens(tokens, config).to(config.device)
        centre, scale = centre_and_scale(first, config)
        rows = rows_to_start((first - centre) * scale, config)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            fit = _Fit(_trainer(rows, config), config, centre, scale, checkpoint)
            if resume:
                fit.resume()
            fit.run(tokens, progress, checkpoint_every)
        with tempfile.TemporaryDirectory() as folder:
            fit.trainer.sae.save_inference_model(folder)
            lens = load_lens(Path(folder))
    lens.tap, lens.k = config.tap, config.k
    # x_trained = (x - centre) * scale folded into the weights, as in training.py
    scale, centre = scale.cpu(), centre.cpu()
    lens.b_enc, lens.threshold = lens.b_enc / scale, lens.threshold / scale
    lens.b_dec = lens.b_dec / scale + centre
    measures = measure_lens(lens, [(tokens.held_out.cpu(), tokens.held_out_strata)])
    lens.metadata = {
        "medseglens_version": __version__,
        "training": {
            **asdict(config),
            "by": "sae-lens",
            "seconds": round(fit.seconds, 1),
            "tokens_per_second": round(config.steps * config.batch / max(fit.seconds, 1e-9)),
        },
        "log": fit.log,
        "threshold": float(lens.threshold.mean()),
        "held_out": measures.to_json(),
    }
    return lens


def _trainer(rows: Tensor, config: LensConfig):
    """sae-lens' `SAETrainer` with an SAE of the kind that is wanted, which starts in the directions of rows (width,
    d_in); as long as sae-lens starts them, and with the encoder tied to them as there. Steps are made by `_Fit`."""
    from sae_lens import SAETrainer
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.registry import get_sae_training_class

    made, make_config = get_sae_training_class(config.kind)
    own = {
        "jumprelu": {
            "jumprelu_sparsity_loss_mode": "quadratic",
            "target_l0": float(config.k),
            "l0_warm_up_steps": config.steps // 10,
        },
        "gated": {"l1_warm_up_steps": config.steps // 20},
        "standard": {"l1_warm_up_steps": config.steps // 20},
        "matching_pursuit": {"max_iterations": config.k, "decoder_init_norm": 1.0},
    }[config.kind]
    sae = made(make_config(d_in=rows.shape[1], d_sae=config.width, device=config.device, **own))
    sae.W_dec.data = rows * sae.W_dec.data.norm(dim=1, keepdim=True)
    if "W_enc" in dict(sae.named_parameters()):
        sae.W_enc.data = sae.W_dec.data.T.clone().contiguous()
    settings = SAETrainerConfig(
        total_training_samples=config.steps * config.batch,
        train_batch_size_samples=config.batch,
        lr=config.lr,
        lr_end=config.lr,
        device=config.device,
        logger=LoggingConfig(log_to_wandb=False),
    )
    return SAETrainer(settings, sae, iter(()))


class _Fit:
    """`SAETrainer.fit` without its progress bar, with our schedule of the learning rate, and with our checkpoints: its
    own are pickles, and know neither our centring nor the L0 that the L1 coefficient is moved by."""

    COUNTS = ("act_freq_scores", "n_forward_passes_since_fired")
    NUMBERS = ("n_training_steps", "n_training_samples", "n_frac_active_samples")
    OF_A_COEFFICIENT = ("current_step", "current_value", "final_value")

    def __init__(self, trainer, config: LensConfig, centre: Tensor, scale: Tensor, checkpoint: Path | None):
        self.trainer, self.config, self.checkpoint = trainer, config, checkpoint
        self.centre, self.scale = centre, scale
        self.seconds, self.log, self.l0 = 0.0, [], float(config.k)

    @property
    def done(self) -> int:
        return self.trainer.n_training_steps

    def run(self, tokens: TokenSource, progress: Callable[[str, float], None] | None, checkpoint_every: int) -> None:
        config, started, begun = self.config, time.perf_counter(), self.done
        before = self.seconds
        batches = tokens.batches(config.batch, config.seed, self.done)
        try:
            while self.done < config.steps:
                error, active = self.step(next(batches).to(config.device))
                self.seconds = before + time.perf_counter() - started
                if self.done % checkpoint_every == 0:
                    self.save()
                if progress and ((self.done - 1) % 10 == 0 or self.done == config.steps):
                    speed = (self.done - begun) * config.batch / (time.perf_counter() - started)
                    said = f"training a {config.kind} lens by sae-lens, loss {error:.4f}, L0 {active:.1f}"
                    progress(f"{said}, {speed / 1000:.0f}k tokens/s", self.done / config.steps)
        except LossIsNoNumber as problem:
            if self.checkpoint:
                facts = {"config": comparable(config), "step": self.done, "log": self.log}
                write_failure(self.checkpoint, problem, facts)
            raise
        except Cancelled:
            self.save()
            raise
        self.save()

    def step(self, x: Tensor) -> tuple[float, float]:
        """One step on tokens x (n, d_in); mean square error and active latents a token. Raises LossIsNoNumber."""
        config, trainer, step = self.config, self.trainer, self.done
        factor = schedule(step / config.steps, config.warmup, config.decay)
        for group in trainer.optimizer.param_groups:
            group["lr"] = config.lr * factor
        x = (x - self.centre) * self.scale
        output = trainer.step(x)
        trainer.n_training_steps += 1
        active = float((output.feature_acts > 0).sum()) / len(x)
        self.l0 = 0.95 * self.l0 + 0.05 * active
        if "l1" in trainer.coefficient_schedulers and config.steps // 20 < step < 0.75 * config.steps:
            # An L0 twice too high raises the coefficient by 0.7 % a step: doubled in 100 steps.
            ratio = min(max(self.l0 / config.k, 0.5), 2.0)
            trainer.coefficient_schedulers["l1"].final_value *= ratio**0.01
        error = float((x - output.sae_out.detach()).square().mean())
        last = self.done == config.steps
        if not math.isfinite(error) or (last and not all(torch.isfinite(p).all() for p in trainer.sae.parameters())):
            raise LossIsNoNumber.at(config.tap, step, config.lr)
        if step % config.log_every == 0 or last:
            variance = float((x - x.mean(0)).square().mean())
            entry = {"step": step, "loss": round(error, 6), "l0": round(active, 2)}
            entry["dead_share"] = round(float(trainer.dead_neurons.float().mean()), 4)
            self.log.append(entry | {"explained_variance": round(1 - error / variance, 5)})
        return error, active

    def save(self) -> None:
        """Write the checkpoint, where there is a file for it. Raises OutputError."""
        if not self.checkpoint:
            return
        trainer = self.trainer
        tensors = {"centre": self.centre, "scale": self.scale, "random": torch.get_rng_state()}
        tensors |= {name: getattr(trainer, name) for name in self.COUNTS}
        tensors |= {f"sae.{name}": tensor for name, tensor in trainer.sae.state_dict().items()}
        for name, parameter in trainer.sae.named_parameters():
            tensors |= {f"adam.{key}.{name}": value for key, value in trainer.optimizer.state[parameter].items()}
        facts = {"config": comparable(self.config), "seconds": self.seconds, "log": self.log, "l0": self.l0}
        facts |= {name: getattr(trainer, name) for name in self.NUMBERS}
        facts["coefficients"] = {
            name: {key: getattr(scheduler, key) for key in self.OF_A_COEFFICIENT}
            for name, scheduler in trainer.coefficient_schedulers.items()
        }
        write_checkpoint(self.checkpoint, tensors, facts)

    def resume(self) -> None:
        """Go on from the checkpoint, where there is one. Raises UsageError for one of another configuration, or other
        tokens; LossIsNoNumber where this training failed before."""
        if not self.checkpoint:
            return
        failed = read_failure(self.checkpoint, comparable(self.config))
        if failed:
            raise failed
        if not self.checkpoint.exists():
            return
        tensors, facts = read_checkpoint(self.checkpoint)
        check_same(self.checkpoint, self.config, facts, tensors, self.centre)
        trainer = self.trainer
        trainer.sae.load_state_dict({n[4:]: t for n, t in tensors.items() if n.startswith("sae.")})
        for name, parameter in trainer.sae.named_parameters():
            keys = ("step", "exp_avg", "exp_avg_sq")
            state = {key: tensors[f"adam.{key}.{name}"] for key in keys}
            trainer.optimizer.state[parameter] = {k: t if k == "step" else t.to(parameter) for k, t in state.items()}
        for name in self.COUNTS:
            setattr(trainer, name, tensors[name].to(self.config.device))
        for name in self.NUMBERS:
            setattr(trainer, name, facts[name])
        for name, state in facts["coefficients"].items():
            for key, value in state.items():
                setattr(trainer.coefficient_schedulers[name], key, value)
        self.centre, self.scale = tensors["centre"].to(self.centre), tensors["scale"].to(self.scale)
        self.seconds, self.log, self.l0 = facts["seconds"], facts["log"], facts["l0"]
        torch.set_rng_state(tensors["random"])
