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

from MedSegLensLib import __version__
from MedSegLensLib.errors import UsageError
from MedSegLensLib.lenses.files import load_lens
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.lenses.measures import measure_lens
from MedSegLensLib.lenses.sampling import TokenSource
from MedSegLensLib.lenses.training import LensConfig, geometric_median, schedule


def check_sae_lens(kind: str) -> None:
    """Raise UsageError where sae-lens is not installed: before the minutes that a harvest may take."""
    if importlib.util.find_spec("sae_lens") is None:
        remedy = 'Run `pip install "medseglens[train]"`, or use batch_topk, topk, matryoshka or archetypal.'
        raise UsageError(kind, "is trained by sae-lens, which is not installed.", remedy)


def train_by_sae_lens(
    tokens: TokenSource, config: LensConfig, progress: Callable[[str, float], None] | None = None
) -> Lens:
    """Train a lens of a kind in SAE_LENS_KINDS; the same configuration, tokens, centring and schedule as for ours.

    k: matching pursuit takes at most k rounds; JumpReLU is trained with the quadratic loss towards an L0 of k
    (sae-lens' `target_l0`); of gated and standard lenses the L1 coefficient is moved during the first three quarters of
    the training until the L0 is about k. What L0 came out is in the measures; the threshold is left as trained.

    Raises UsageError where sae-lens is not installed, the tokens do not vary, or the loss is no number any more.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_sae_lens(config.kind)
        from sae_lens import SAETrainer
        from sae_lens.config import LoggingConfig, SAETrainerConfig
        from sae_lens.registry import get_sae_training_class

        logging.getLogger("sae_lens").setLevel(logging.ERROR)
        batches = tokens.batches(config.batch, config.seed)
        first = next(batches).to(config.device)
        centre = geometric_median(first)
        norm = (first - centre).norm(dim=1).mean()
        if not torch.isfinite(norm) or norm <= 1e-12:
            cause = "the tokens are all alike or not finite; there is nothing to learn."
            raise UsageError(config.tap, cause, "Check the tap and the cases.")
        scale = tokens.d_in**0.5 / norm
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
        settings = make_config(d_in=tokens.d_in, d_sae=config.width, device=config.device, **own)
        trainer_settings = SAETrainerConfig(
            total_training_samples=config.steps * config.batch,
            train_batch_size_samples=config.batch,
            lr=config.lr,
            lr_end=config.lr,
            device=config.device,
            logger=LoggingConfig(log_to_wandb=False),
        )
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            sae = made(settings)
            trainer = SAETrainer(trainer_settings, sae, iter(()))
            log, seconds = _fit(trainer, batches, centre, scale, config, progress)
        with tempfile.TemporaryDirectory() as folder:
            sae.save_inference_model(folder)
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
            "seconds": round(seconds, 1),
            "tokens_per_second": round(config.steps * config.batch / seconds),
        },
        "log": log,
        "threshold": float(lens.threshold.mean()),
        "held_out": measures.to_json(),
    }
    return lens


def _fit(trainer, batches, centre, scale, config: LensConfig, progress) -> tuple[list[dict], float]:
    """`SAETrainer.fit` without its progress bar, with our schedule of the learning rate; the log and the seconds."""
    log, started, l0 = [], time.perf_counter(), float(config.k)
    for step in range(config.steps):
        factor = schedule(step / config.steps, config.warmup, config.decay)
        for group in trainer.optimizer.param_groups:
            group["lr"] = config.lr * factor
        x = (next(batches).to(config.device) - centre) * scale
        output = trainer.step(x)
        trainer.n_training_steps += 1
        active = float((output.feature_acts > 0).sum()) / len(x)
        l0 = 0.95 * l0 + 0.05 * active
        if "l1" in trainer.coefficient_schedulers and config.steps // 20 < step < 0.75 * config.steps:
            # An L0 twice too high raises the coefficient by 0.7 % a step: doubled in 100 steps.
            ratio = min(max(l0 / config.k, 0.5), 2.0)
            trainer.coefficient_schedulers["l1"].final_value *= ratio**0.01
        error = float((x - output.sae_out.detach()).square().mean())
        if not math.isfinite(error):
            remedy = f"Train with a lower lr (it was {config.lr:g})."
            raise UsageError(config.tap, f"the loss of its lens is no number any more at step {step}.", remedy)
        if step % config.log_every == 0 or step == config.steps - 1:
            variance = float((x - x.mean(0)).square().mean())
            entry = {"step": step, "loss": round(error, 6), "l0": round(active, 2)}
            entry["dead_share"] = round(float(trainer.dead_neurons.float().mean()), 4)
            log.append(entry | {"explained_variance": round(1 - error / variance, 5)})
        if progress and (step % 10 == 0 or step == config.steps - 1):
            speed = (step + 1) * config.batch / (time.perf_counter() - started)
            said = f"training a {config.kind} lens by sae-lens, loss {error:.4f}, L0 {active:.1f}"
            progress(f"{said}, {speed / 1000:.0f}k tokens/s", (step + 1) / config.steps)
    return log, time.perf_counter() - started
