"""How fast lenses are trained, beside sae-lens, overcomplete and dictionary_learning: BatchTopK on the same tokens.

Tokens are those of the SegFormer pack's fused feature (256 channels), centred and scaled to a mean norm of sqrt(256);
2048 latents, k = 32, batches of 4096, Adam with the same learning rate, warm-up and decay for all, each library's own
trainer with its defaults otherwise. Explained variance is on tokens that none was trained on, with the k * n largest
activations of each, so that the L0 is the same; `inference_l0` is what each keeps by its own threshold.

Where another library explains over half a percent of the variance more after as many steps, ours is trained again with
twice as many, and so on, until it does not: `at_equal_explained_variance` says after how many, and that library's time
over ours then (`ratio`).

On a CPU the ratio is of CPU seconds, which other work on the machine disturbs less; wall seconds are given too. A
library that is not there is named. They install beside sae-lens (`make .venv-saelens/.installed`) by
  pip install --no-deps overcomplete==0.3.0 dictionary-learning==0.1.0 einops "matplotlib<3.9"
with stand-ins, made here, for what training does not use: torchvision, timm, cv2 and skimage (overcomplete), nnsight
(dictionary_learning).
"""

import argparse
import contextlib
import importlib.machinery
import io
import os
import resource
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from common import machine, show, validation_cases

from MedSegLensLib.editing.harvest import harvest
from MedSegLensLib.lenses.beginning import geometric_median
from MedSegLensLib.lenses.files import load_lens
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.lenses.lens_config import LensConfig
from MedSegLensLib.lenses.measures import explained_variance
from MedSegLensLib.lenses.sampling import TokenBuffer
from MedSegLensLib.lenses.token_store import TokenStore
from MedSegLensLib.lenses.training import Training, train_lenses
from MedSegLensLib.packs.pack import load_pack
from MedSegLensLib.segmenters.engine import best_device, choose_engine

PACK, TAP = "glioma-segformer", "model.decode_head.activation"
WIDTH, K, BATCH, LR, WARMUP, DECAY = 2048, 32, 4096, 1e-3, 0.03, 0.25
MISSING = "not installed: "
EQUAL = 0.005
"""Explained variances no further apart count as equal."""
MOST_DOUBLINGS = 3


@dataclass
class Trained:
    """activations, rows, bias: of the trained SAE on tokens; inference_l0 by its own threshold."""

    activations: Callable[[torch.Tensor], torch.Tensor]
    rows: torch.Tensor
    bias: torch.Tensor
    inference_l0: float | None


def of_lens(lens: Lens, x: torch.Tensor) -> Trained:
    def activations(tokens):
        return torch.addmm(lens.b_enc, tokens - lens.b_dec, lens.W_enc).relu()

    return Trained(activations, lens.W_dec, lens.b_dec, float((lens.encode(x) > 0).sum() / len(x)))


def ours(tokens: TokenBuffer, steps: int, device: str) -> Trained:
    config = LensConfig(TAP, WIDTH, K, steps=steps, batch=BATCH, lr=LR, warmup=WARMUP, decay=DECAY, device=device)
    return of_lens(train_lenses([Training(tokens, config)])[0], tokens.held_out)


def sae_lens(tokens: TokenBuffer, steps: int, device: str) -> Trained:
    from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, SAETrainer
    from sae_lens.config import LoggingConfig, SAETrainerConfig

    torch.manual_seed(0)
    sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(d_in=tokens.d_in, d_sae=WIDTH, k=K, device=device))
    settings = SAETrainerConfig(
        total_training_samples=steps * BATCH,
        train_batch_size_samples=BATCH,
        lr=LR,
        lr_end=LR,
        lr_warm_up_steps=round(WARMUP * steps),
        lr_decay_steps=round(DECAY * steps),
        device=device,
        logger=LoggingConfig(log_to_wandb=False),
    )
    SAETrainer(settings, sae, tokens.batches(BATCH, 0)).fit()
    with tempfile.TemporaryDirectory() as folder:
        sae.save_inference_model(folder)
        return of_lens(load_lens(Path(folder)), tokens.held_out)


def overcomplete(tokens: TokenBuffer, steps: int, device: str) -> Trained:
    stand_in(
        "torchvision", "torchvision.transforms", "timm", "timm.data", "timm.data.transforms_factory", "cv2", "skimage"
    )
    from overcomplete.sae import BatchTopKSAE, train_sae

    torch.manual_seed(0)
    sae = BatchTopKSAE(tokens.d_in, nb_concepts=WIDTH, top_k=K * BATCH, device=device)
    optimizer = torch.optim.Adam(sae.parameters(), lr=LR)
    train_sae(
        sae,
        first(tokens.batches(BATCH, 0), steps),
        lambda x, x_hat, *_: (x - x_hat).square().mean(),
        optimizer,
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step / steps)),
        nb_epochs=1,
        monitoring=0,
        device=device,
    )
    sae.eval()
    with torch.no_grad():
        z = sae.encode(tokens.held_out.to(device))[1]
        rows = sae.get_dictionary().detach().cpu()
    bias = torch.zeros(tokens.d_in)
    return Trained(lambda x: sae.encoder(x.to(device))[1].cpu(), rows, bias, float((z > 0).sum() / len(z)))


def dictionary_learning(tokens: TokenBuffer, steps: int, device: str) -> Trained:
    stand_in("nnsight", "wandb", "datasets", "zstandard")
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer

    trainer = BatchTopKTrainer(
        steps, tokens.d_in, WIDTH, K, layer=0, lm_name="none", lr=LR, seed=0, device=device,
        warmup_steps=round(WARMUP * steps), decay_start=round((1 - DECAY) * steps), threshold_start_step=steps // 2,
    )  # fmt: skip
    for step, x in enumerate(first(tokens.batches(BATCH, 0), steps)):
        trainer.update(step, x.to(device))
    sae = trainer.ae
    with torch.no_grad():
        z = sae.encode(tokens.held_out.to(device))
    rows, bias = sae.decoder.weight.detach().T.cpu(), sae.b_dec.detach().cpu()
    return Trained(
        lambda x: sae.encode(x.to(device), return_active=True)[2].cpu(), rows, bias, float((z > 0).sum() / len(z))
    )


LIBRARIES = {
    "medseglens": ours,
    "sae-lens": sae_lens,
    "overcomplete": overcomplete,
    "dictionary_learning": dictionary_learning,
}


def stand_in(*names: str) -> None:
    """Empty modules for packages that an import wants and training does not use."""

    class Anything:
        def __init__(self, *args, **kwargs):
            raise RuntimeError("a stand-in of the benchmark")

    def anything(attribute: str):
        if attribute.startswith("__"):  # a module without a file, to whom it may concern
            raise AttributeError(attribute)
        return Anything

    for name in names:
        with contextlib.suppress(ImportError):
            __import__(name)
            continue
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        module.__path__ = []
        module.__getattr__ = anything
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


def first(batches: Iterator[torch.Tensor], steps: int) -> Iterator[torch.Tensor]:
    for _, batch in zip(range(steps), batches, strict=False):
        yield batch


def schedule(progress: float) -> float:
    return min(1.0, (progress + 1e-3) / WARMUP, (1.0 - progress) / DECAY)


@torch.no_grad()
def variance_at_k(trained: Trained, x: torch.Tensor) -> float:
    """Explained variance with the k * n largest activations of the n tokens."""
    a = trained.activations(x)
    least = a.flatten().kthvalue(a.numel() - K * len(x)).values
    return explained_variance(x, torch.where(a > least, a, 0.0) @ trained.rows + trained.bias)


def gather_tokens(device: str) -> tuple[TokenBuffer, str]:
    pack = load_pack(PACK)
    network, config, spec = pack.network(), pack.info.segmenter, pack.input_spec()
    engine, _ = choose_engine(network, (len(spec.modalities), 160, 160), device)
    prepared = engine.prepare(network, config.spatial_dims)
    cases, which = validation_cases()
    cases, which = cases[:1], which.split(",")[0]
    chunks = (chunk for case in cases for chunk in harvest(case, prepared, config, spec, TAP, engine))
    return scaled(TokenBuffer.gather(chunks, capacity=200_000, held_out=8192)), which


def stored_tokens(folder: Path) -> tuple[TokenBuffer, str]:
    """Those that `train lens --store` kept, instead of harvesting: of the tap above, all cases."""
    store = TokenStore.open(folder)
    source, index = store.tokens(TAP), store.plan.taps.index(TAP)
    pools: dict[int, list[torch.Tensor]] = {}
    for case in source.cases:
        for stratum, tokens in case.by_stratum(TAP, index).items():
            pools.setdefault(stratum, []).append(tokens.float())
    joined = {stratum: torch.cat(parts) for stratum, parts in pools.items()}
    buffer = TokenBuffer(joined, source.held_out[:8192], source.held_out_strata[:8192], source.shares)
    return scaled(buffer), f"{len(source.cases)} stored cases; measured on {source.held_out_said}"


def scaled(buffer: TokenBuffer) -> TokenBuffer:
    centre = geometric_median(buffer.held_out)
    scale = buffer.d_in**0.5 / (buffer.held_out - centre).norm(dim=1).mean()
    pools = {s: (pool - centre) * scale for s, pool in buffer.pools.items()}
    held_out = (buffer.held_out - centre) * scale
    return TokenBuffer(pools, held_out, buffer.held_out_strata, buffer.shares)


def measured(train: Callable, tokens: TokenBuffer, steps: int, device: str) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        before, wall = cpu_seconds(), time.perf_counter()
        trained = train(tokens, steps, device)
        wall, used = time.perf_counter() - wall, cpu_seconds() - before
    return {
        "seconds": wall,
        "cpu_seconds": used,
        "tokens_per_s": steps * BATCH / wall,
        "tokens_per_cpu_s": steps * BATCH / used,
        "explained_variance": variance_at_k(trained, tokens.held_out),
        "l0": float(K),
        "inference_l0": trained.inference_l0,
    }


def at_equal_variance(figures: dict, tokens: TokenBuffer, steps: int, device: str, cpu: bool) -> dict[str, dict]:
    """By other library: after how many steps ours explains as much, how much, and the ratio of the times; None for a
    ratio that `MOST_DOUBLINGS` do not bring."""
    if "medseglens" not in figures:
        return {}
    found, ran, clock = {}, {steps: figures["medseglens"]}, "cpu_seconds" if cpu else "seconds"
    for name, other in figures.items():
        if name == "medseglens":
            continue
        more = steps
        enough = other["explained_variance"] - EQUAL
        while ran[more]["explained_variance"] < enough and more < steps * 2**MOST_DOUBLINGS:
            more *= 2
            ran[more] = ran.get(more) or measured(ours, tokens, more, device)
        ours_then = ran[more]
        reached = ours_then["explained_variance"] >= enough
        found[name] = {
            "steps": more,
            "explained_variance": ours_then["explained_variance"],
            "ratio": other[clock] / ours_then[clock] if reached else None,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--device", default=best_device())
    parser.add_argument("--store", type=Path, help="tokens that `train lens --store` kept, instead of harvesting")
    parser.add_argument("--libraries", nargs="+", choices=list(LIBRARIES), default=list(LIBRARIES))
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore")
    os.environ["WANDB_MODE"] = "disabled"
    tokens, which = stored_tokens(chosen.store) if chosen.store else gather_tokens(chosen.device)
    cpu = chosen.device == "cpu"
    figures: dict[str, dict] = {}
    missing: dict[str, str] = {}
    for name in chosen.libraries:
        train = LIBRARIES[name]
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                train(tokens, 3, chosen.device)  # imports, kernels, allocations
            figures[name] = measured(train, tokens, chosen.steps, chosen.device)
        except ImportError as error:
            print(f"{name}: {error}", file=sys.stderr)
            missing[name] = f"{MISSING}{error}; see the top of {Path(__file__).name} for how"
            continue
        print(f"{name}: {figures[name]['tokens_per_cpu_s']:.0f} tokens per CPU second", file=sys.stderr)
    speed = {name: f["tokens_per_cpu_s" if cpu else "tokens_per_s"] for name, f in figures.items()}
    others = {name: s for name, s in speed.items() if name != "medseglens"}
    result = {
        "cases": which,
        "device": chosen.device,
        "steps": chosen.steps,
        "setting": {"d": tokens.d_in, "latents": WIDTH, "k": K, "batch": BATCH, "lr": LR},
        "tokens_per_s": {name: f["tokens_per_s"] for name, f in figures.items()},
        "tokens_per_cpu_s": {name: f["tokens_per_cpu_s"] for name, f in figures.items()},
        "explained_variance": {name: f["explained_variance"] for name, f in figures.items()},
        "l0": {name: f["l0"] for name, f in figures.items()},
        "inference_l0": {name: f["inference_l0"] for name, f in figures.items()},
        "missing": missing,
        "ratio_to_best": speed["medseglens"] / max(others.values()) if others and "medseglens" in speed else None,
        "at_equal_explained_variance": at_equal_variance(figures, tokens, chosen.steps, chosen.device, cpu),
        "best_other": max(others, key=others.__getitem__) if others else None,
        "machine": machine(),
    }
    lines = [f"Tokens of {which}; {chosen.steps} steps of {BATCH} on {chosen.device}"]
    for name, f in figures.items():
        lines.append(
            f"{name:20} {f['tokens_per_s']:9.0f} tokens/s, {f['tokens_per_cpu_s']:9.0f} per CPU second, explained "
            f"variance {f['explained_variance']:.4f} at L0 {K}, inference L0 {f['inference_l0']:.1f}"
        )
    for name, equal in result["at_equal_explained_variance"].items():
        lines.append(f"as much explained as by {name}: {equal}")
    lines += [f"{name:20} {why}" for name, why in missing.items()]
    if result["ratio_to_best"]:
        lines.append(f"ratio to the best other ({result['best_other']}): {result['ratio_to_best']:.2f}")
    show(result, chosen.json, lines)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
