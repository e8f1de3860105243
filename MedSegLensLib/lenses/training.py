"""Training lenses: the loop that all our kinds share. What a kind does otherwise stands on its own page.

batch_topk.py, topk.py: which activations of a batch stay (the cut). matryoshka.py: the loss over nested dictionaries.
dictionary.py, archetypal.py: what the decoder's rows are. products.py: how the products are computed.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from MedSegLensLib import __version__
from MedSegLensLib.errors import Cancelled, MedSegLensError, UsageError
from MedSegLensLib.lenses import batch_topk, topk
from MedSegLensLib.lenses.archetypal import ArchetypalDictionary
from MedSegLensLib.lenses.beginning import BEGIN, STEP, centre_and_scale, first_tokens, rows_to_start
from MedSegLensLib.lenses.calibration import threshold_at_k
from MedSegLensLib.lenses.checkpoint import (
    LossIsNoNumber,
    check_same,
    read_checkpoint,
    read_failure,
    write_checkpoint,
    write_failure,
)
from MedSegLensLib.lenses.dictionary import Dictionary
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.lenses.lens_config import KINDS, LensConfig, comparable
from MedSegLensLib.lenses.matryoshka import nested_loss
from MedSegLensLib.lenses.measures import measure_lens
from MedSegLensLib.lenses.products import SPARSE_BELOW, ActiveValues, Pattern, SparseDecode
from MedSegLensLib.lenses.ranks import Ranks, device_of
from MedSegLensLib.lenses.sampling import TokenSource, generator_of


def train_lens(
    tokens: TokenSource,
    config: LensConfig,
    progress: Callable[[str, float], None] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> Lens:
    """Train one lens; see `Training` for what is done.

    checkpoint: the file to which the training is written now and then; resume: go on from it, where it is there.
    Raises LossIsNoNumber when the loss is no number any more; whatever `progress` raises passes.
    """
    training = Training(tokens, config, checkpoint)
    if resume:
        training.resume()
    lens = train_lenses([training], progress)[0]
    if training.failed:
        raise training.failed
    return lens


def train_lenses(
    trainings: Sequence["Training"],
    progress: Callable[[str, float], None] | None = None,
    checkpoint_every: int = 500,
) -> list[Lens | None]:
    """Train several lenses side by side, step by step, in one pass over their tokens.

    Each becomes what it would become alone. Every `checkpoint_every` steps, and when `progress` raises Cancelled, each
    training that has a checkpoint file is written to it.

    A training whose loss is no number any more ends there, and the others go on: its `failed` says why, its place in
    the result is None, and beside its checkpoint file lies the account (`checkpoint.write_failure`), by which a resumed
    training knows of it. Whatever `progress` raises passes.
    """
    steps = sum(t.config.steps for t in trainings)
    started, tokens = time.perf_counter(), 0
    try:
        for step in range(min(t.done for t in trainings), max(t.config.steps for t in trainings)):
            going = [t for t in trainings if not t.failed and t.done == step < t.config.steps]
            for training in going:
                try:
                    training.step()
                except LossIsNoNumber as problem:
                    training.fail(problem)
                    continue
                tokens += training.config.batch
                if training.done % checkpoint_every == 0:
                    training.save()
            left = sum(t.config.steps - t.done for t in trainings if not t.failed)
            if progress and going and (step % 10 == 0 or not left):
                progress(_said(trainings, tokens / (time.perf_counter() - started)), 1 - left / steps)
            if not left:
                break
    except Cancelled:
        for training in trainings:
            training.save()
        raise
    lenses: list[Lens | None] = []
    for training in trainings:
        training.save()
        try:
            lenses.append(None if training.failed else training.lens())
        except LossIsNoNumber as problem:
            training.fail(problem)
            lenses.append(None)
    return lenses


class Training:
    """One lens on its way: a sparse autoencoder with an auxiliary loss against dead latents.

    In each batch the kind's cut says which activations stay; dead latents learn to reconstruct what the live ones leave
    (AuxK, Gao et al. 2024, arXiv 2406.04093); the decoder's rows have unit norm and the gradient along them is removed.
    The inference threshold of all kinds but TopK is set at the end so that the mean L0 on `tokens.natural` is k: the
    training mixture is lesion-balanced, whole cases are not, and the running mean of the cuts alone misses k there.

    Tokens are centred on their geometric median and scaled to a mean norm of sqrt(d_in); both are folded into the
    weights at the end, so the lens reads plain activations.

    Every random number comes from the seed and the step, so that a training that was stopped goes on to the same
    result (to the bit on one CPU thread).
    """

    def __init__(
        self, tokens: TokenSource, config: LensConfig, checkpoint: Path | None = None, ranks: Ranks | None = None
    ):
        """Raises UsageError when the tokens do not vary or are not finite, or the kind is not ours."""
        if config.kind not in KINDS:
            raise UsageError(config.kind, "it is trained by sae-lens.", "Use `lenses.by_sae_lens.train_by_sae_lens`.")
        self.tokens, self.config, self.checkpoint = tokens, config, checkpoint
        self.ranks = ranks or Ranks()
        self.device = torch.device(device_of(config.device))
        data = first_tokens(tokens, config).to(self.device)
        self.centre, self.scale = centre_and_scale(data, config)
        self.dictionary = self._begin((data - self.centre) * self.scale)
        self.parameters = self.dictionary.parameters()
        self._fit_encoder_length((data[: config.batch] - self.centre) * self.scale)
        self.optimizer = torch.optim.Adam(self.parameters.values(), lr=config.lr, betas=(0.9, 0.999), fused=True)
        self.idle = torch.zeros(config.width, device=self.device)
        self.running = torch.zeros((), device=self.device)
        self.done, self.seconds, self.log = 0, 0.0, []
        self.failed: MedSegLensError | None = None
        self.last: dict = {}
        self._rooms: dict[str, Tensor] = {}
        self.products = config.products
        if self.products == "auto":
            self.products = self._fastest()
        self._batches = self._batches_from(0)

    def step(self) -> None:
        """One step of the optimiser. Raises LossIsNoNumber when the loss is not finite."""
        started, config = time.perf_counter(), self.config
        x = (next(self._batches).to(self.device, non_blocking=True) - self.centre) * self.scale
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * schedule(self.done / config.steps, config.warmup, config.decay)
        total, loss, threshold, active, fired = self._loss(x, self.products)
        threshold = threshold.mean()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.ranks.mean_([p.grad for p in self.parameters.values()] + [threshold, loss])
        # All processes see the same mean, so that none waits for one that has stopped. Reading it waits for a GPU.
        if (self.device.type == "cpu" or self.done % 20 == 0) and not math.isfinite(float(loss)):
            raise self._lost()
        self.dictionary.before_step()
        self.optimizer.step()
        self.dictionary.after_step()
        self.running = threshold if self.done == 0 else 0.99 * self.running + 0.01 * threshold
        self.idle = torch.where(self.ranks.any_(fired), 0.0, self.idle + config.batch)
        self.done += 1
        self.seconds += time.perf_counter() - started
        self.last = {"x": x, "loss": loss, "active": active, "threshold": threshold}
        if (self.done - 1) % config.log_every == 0 or self.done == config.steps:
            self.log.append(self.figures())

    def figures(self) -> dict:
        """Of the last step, as in the log."""
        x, loss = self.last["x"], float(self.last["loss"])
        variance = float((x - x.mean(0)).square().mean())
        return {
            "step": self.done - 1,
            "loss": round(loss, 6),
            "l0": round(float(self.last["active"]) / len(x), 2),
            "dead_share": round(float((self.idle >= self.config.dead_after).float().mean()), 4),
            "explained_variance": round(1 - loss / variance, 5),
            "threshold": round(float(self.last["threshold"] / self.scale), 6),
        }

    def lens(self) -> Lens:
        """The trained lens on the CPU, its threshold set and measured; x_trained = (x - centre) * scale folded in.

        Its metadata hold the configuration, the training log (`log`: step, loss, l0, dead_share, explained_variance,
        threshold) and the measures on the held-out tokens, overall and by stratum.

        Raises LossIsNoNumber when the last steps left weights that are no numbers.
        """
        if not self._is_sound():
            raise self._lost()
        config, p = self.config, {name: tensor.detach() for name, tensor in self.parameters.items()}
        lens = Lens(
            tap=config.tap,
            W_enc=p["encoder"].T.contiguous(),
            b_enc=p["b_enc"] / self.scale,
            W_dec=self.dictionary.rows().detach().clone(),
            b_dec=p["b_dec"] / self.scale + self.centre,
            threshold=torch.zeros_like(p["b_enc"]),
            k=config.k,
            activation="topk" if config.kind == "topk" else "jumprelu",
        )
        lens.metadata = {
            "medseglens_version": __version__,
            "training": {
                **asdict(config),
                "products_used": self.products,
                "seconds": round(self.seconds, 1),
                "tokens_per_second": round(self.done * config.batch / max(self.seconds, 1e-9)),
            },
            "threshold_running": float(self.running / self.scale),
            "log": self.log,
        }
        return calibrate(lens, self.tokens)

    def save(self) -> None:
        """Write the checkpoint, where the training has a file for it and is sound. Raises OutputError."""
        if not self.checkpoint or not self.ranks.first or self.failed or not self._is_sound():
            return
        tensors = {"idle": self.idle, "running": self.running, "centre": self.centre, "scale": self.scale}
        tensors |= {f"parameter.{name}": tensor for name, tensor in self.parameters.items()}
        tensors |= {f"constant.{name}": tensor for name, tensor in self.dictionary.constants().items()}
        for name, tensor in self.parameters.items():
            tensors |= {f"adam.{key}.{name}": value for key, value in self.optimizer.state[tensor].items()}
        facts = {"config": comparable(self.config), "done": self.done, "seconds": self.seconds, "log": self.log}
        write_checkpoint(self.checkpoint, tensors, facts | {"products": self.products})

    def fail(self, problem: LossIsNoNumber) -> None:
        """End here: nothing is trained or saved any more, and the account is written in the checkpoint's place."""
        self.failed = problem
        if self.checkpoint and self.ranks.first:
            facts = {"config": comparable(self.config), "step": self.done, "log": self.log}
            write_failure(self.checkpoint, problem, facts)
        self._rooms.clear()
        self.optimizer.state.clear()

    def resume(self) -> bool:
        """Go on from the checkpoint; False where there is none.

        Where this training failed before, `failed` says so: the same configuration would fail again. Raises UsageError
        for the checkpoint of another configuration, or of other tokens.
        """
        self.failed = self.checkpoint and read_failure(self.checkpoint, comparable(self.config))
        if self.failed:
            return False
        if not self.checkpoint or not self.checkpoint.exists():
            return False
        tensors, facts = read_checkpoint(self.checkpoint)
        check_same(self.checkpoint, self.config, facts, tensors, self.centre)
        self.centre, self.scale = tensors["centre"].to(self.device), tensors["scale"].to(self.device)
        self.idle, self.running = tensors["idle"].to(self.device), tensors["running"].to(self.device)
        with torch.no_grad():
            for name, tensor in self.parameters.items():
                tensor.copy_(tensors[f"parameter.{name}"])
                names = ("step", "exp_avg", "exp_avg_sq")
                self.optimizer.state[tensor] = {n: tensors[f"adam.{n}.{name}"].to(self.device) for n in names}
            for name, tensor in self.dictionary.constants().items():
                tensor.copy_(tensors[f"constant.{name}"])
        self.done, self.seconds, self.log = facts["done"], facts["seconds"], facts["log"]
        self.products = facts["products"]
        self._batches = self._batches_from(self.done)
        return True

    def _loss(self, x: Tensor, products: str):
        """(what is minimised, mean square error, cut, entries above it, which latents fired) for tokens x (n, d)."""
        config, dictionary = self.config, self.dictionary
        generator = generator_of(config.seed, STEP, self.done)
        cut = topk.cut if config.kind == "topk" else batch_topk.cut
        p, rows, bf16 = self.parameters, dictionary.rows(), products.endswith("bf16")
        if products.startswith("sparse"):
            with torch.no_grad():
                centred = x - p["b_dec"]
                if bf16:
                    a = torch.addmm(p["b_enc"].bfloat16(), centred.bfloat16(), p["encoder"].bfloat16().T).float()
                else:
                    a = torch.addmm(p["b_enc"], centred, p["encoder"].T, out=self._room("a", len(x), torch.float32))
                threshold = cut(a, config.k, generator)
                active = torch.gt(a, threshold, out=self._room("active", len(x), torch.bool))
                pattern = Pattern.of(active, config.prefixes)
            values = ActiveValues.apply(p["encoder"], p["b_enc"], p["b_dec"], centred, a, pattern)
            parts = SparseDecode.apply(values, rows, pattern).view(len(x), -1, x.shape[1]).unbind(1)
            active, fired = torch.tensor(float(len(values))), pattern.fired
        else:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                a = F.linear(x - p["b_dec"], p["encoder"], p["b_enc"])
                threshold = cut(a.detach().float(), config.k, generator)
                z = torch.where(a > threshold, a, 0.0)
                edges = (0, *config.prefixes, config.width)
                parts = [(z[:, i:j] @ rows[i:j]).float() for i, j in zip(edges[:-1], edges[1:], strict=True)]
            counts = (z.detach() > 0).sum(0)
            active, fired = counts.sum(), counts > 0
        rebuilt, errors = p["b_dec"], []
        for part in parts:
            rebuilt = rebuilt + part
            errors.append(x - rebuilt)
        loss = errors[-1].square().mean()
        nested = nested_loss(errors) if config.prefixes else loss
        total = nested + config.aux_weight * self._revive(x, errors[-1].detach(), rows)
        return total, loss.detach(), threshold, active, fired

    def _revive(self, x: Tensor, error: Tensor, rows: Tensor) -> Tensor:
        """AuxK: what the largest d/2 activations of dead latents leave of the error, as mean square.

        Of every fourth token: the expectation is the same, and where many are dead its products are dense ones.
        """
        columns = (self.idle >= self.config.dead_after).nonzero().squeeze(1)
        if not len(columns):
            return error.new_zeros(())
        x, error, p = x[::4], error[::4], self.parameters
        a = F.linear(x - p["b_dec"], p["encoder"][columns], p["b_enc"][columns]).relu()
        top = a.topk(min(len(columns), max(1, error.shape[1] // 2)), dim=1)
        z = torch.zeros_like(a).scatter(1, top.indices, top.values)
        return (error - z @ rows[columns]).square().mean()

    def _is_sound(self) -> bool:
        return all(bool(torch.isfinite(p).all()) for p in self.parameters.values())

    def _lost(self) -> LossIsNoNumber:
        return LossIsNoNumber.at(self.config.tap, self.done, self.config.lr)

    def _batches_from(self, step: int):
        size = max(self.config.batch // self.ranks.size, 1)
        return self.tokens.batches(size, self.config.seed + 1_000_003 * self.ranks.rank, step)

    def _begin(self, data: Tensor) -> Dictionary | ArchetypalDictionary:
        config = self.config
        if config.kind == "archetypal":
            count, generator = config.centroids or 2 * config.width, generator_of(config.seed, BEGIN)
            return ArchetypalDictionary(data, config.width, count, config.relaxation, generator)
        return Dictionary(rows_to_start(data, config))

    def _room(self, name: str, n: int, dtype: torch.dtype) -> Tensor:
        """Room (n, width), the same at each step: fresh memory costs a third of the product that fills it."""
        if name not in self._rooms or len(self._rooms[name]) != n:
            self._rooms[name] = torch.empty(n, self.config.width, dtype=dtype)
        return self._rooms[name]

    @torch.no_grad()
    def _fit_encoder_length(self, x: Tensor) -> None:
        """Scale the encoder so that what begins reconstructs tokens x (n, d) at their own length, by least squares.

        Rows that point alike fire together and give a token many times over (90 times, for 2048 rows at the SegFormer's
        fused feature), and Adam's small steps are long in coming down: after 300 of them the explained variance was
        -2.4, and 0.96 with this. Principal components are apart and keep a factor of 1.
        """
        p, config = self.parameters, self.config
        a = F.linear(x - p["b_dec"], p["encoder"], p["b_enc"])
        cut = topk.cut if config.kind == "topk" else batch_topk.cut
        kept = torch.where(a > cut(a, config.k, generator_of(config.seed, BEGIN)), a, 0.0) @ self.dictionary.rows()
        length = kept.square().sum()
        if length > 0:
            p["encoder"] *= (x * kept).sum() / length

    def _fastest(self) -> str:
        """The products to use. Timed only where the device has bfloat16 products worth trying."""
        cpu, config = self.device.type == "cpu", self.config
        if cpu:
            pays = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
            plain = "sparse" if config.k / config.width <= SPARSE_BELOW else "dense"
            tried = [plain, f"{plain}_bf16", "dense_bf16"] if pays else [plain]
        else:
            pays = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
            tried = ["dense", "dense_bf16"] if pays else ["dense"]
        if len(set(tried)) == 1:
            return tried[0]
        x = (next(self.tokens.batches(config.batch, config.seed)).to(self.device) - self.centre) * self.scale
        seconds = {}
        for products in dict.fromkeys(tried):
            for _ in range(3):
                started = time.perf_counter()
                self._loss(x, products)[0].backward()
                if x.is_cuda:
                    torch.cuda.synchronize()
                seconds[products] = min(seconds.get(products, math.inf), time.perf_counter() - started)
        self.optimizer.zero_grad(set_to_none=True)
        return min(seconds, key=seconds.__getitem__)


def calibrate(lens: Lens, tokens: TokenSource) -> Lens:
    """The lens on the CPU with the threshold at which its mean L0 on `tokens.natural` is k, measured on
    `tokens.held_out`. A lens without a threshold (TopK), or with one that sae-lens learned, keeps what it has."""
    if lens.activation == "jumprelu" and lens.metadata.get("training", {}).get("by") != "sae-lens":
        lens.threshold.fill_(threshold_at_k(lens, tokens.natural))
    lens = lens.to("cpu")
    measures = measure_lens(lens, [(tokens.held_out.cpu(), tokens.held_out_strata)])
    lens.metadata |= {"threshold": float(lens.threshold[0]), "held_out": measures.to_json()}
    return lens


def _said(trainings: Sequence[Training], speed: float) -> str:
    """The progress line: figures of the lens, or the range of them over several."""
    figures = [t.figures() for t in trainings if t.last and not t.failed]
    failed = sum(t.failed is not None for t in trainings)

    def spread(name: str, form: str) -> str:
        low, high = (form.format(f([v[name] for v in figures])) for f in (min, max))
        return low if low == high else f"{low} to {high}"

    if not figures:
        return "no lens is left to train"
    what = "training the lens" if len(trainings) == 1 else f"training {len(trainings) - failed} lenses"
    what += f" ({failed} stopped: no number)" if failed else ""
    loss, ev = spread("loss", "{:.4f}"), spread("explained_variance", "{:.3f}")
    active, dead = spread("l0", "{:.1f}"), spread("dead_share", "{:.1%}")
    return f"{what}, loss {loss}, EV {ev}, L0 {active}, dead {dead}, {speed / 1000:.0f}k tokens/s"


def schedule(progress: float, warmup: float, decay: float) -> float:
    """Factor of the learning rate at a progress of 0..1: linear up, flat, linear down."""
    return min(1.0, (progress + 1e-3) / warmup if warmup else 1.0, (1.0 - progress) / decay if decay else 1.0)
