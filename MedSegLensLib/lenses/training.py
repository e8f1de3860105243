"""Training lenses: the loop that all our kinds share. What a kind does otherwise stands on its own page.

batch_topk.py, topk.py: which activations of a batch stay (the cut). matryoshka.py: the loss over nested dictionaries.
dictionary.py, archetypal.py: what the decoder's rows are. products.py: how the products are computed.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from MedSegLensLib import __version__
from MedSegLensLib.errors import Cancelled, UsageError
from MedSegLensLib.lenses import batch_topk, topk
from MedSegLensLib.lenses.archetypal import ArchetypalDictionary
from MedSegLensLib.lenses.checkpoint import read_checkpoint, write_checkpoint
from MedSegLensLib.lenses.dictionary import Dictionary, starting_rows
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.lenses.matryoshka import default_prefixes, nested_loss
from MedSegLensLib.lenses.measures import measure_lens
from MedSegLensLib.lenses.products import SPARSE_BELOW, ActiveValues, Pattern, SparseDecode
from MedSegLensLib.lenses.ranks import Ranks, device_of
from MedSegLensLib.lenses.sampling import TokenSource, generator_of

KINDS = ("batch_topk", "topk", "matryoshka", "archetypal")
SAE_LENS_KINDS = ("jumprelu", "gated", "standard", "matching_pursuit")  # trained by by_sae_lens.py
INITS = ("tokens", "centroids", "components")
PRODUCTS = ("auto", "dense", "sparse", "dense_bf16", "sparse_bf16")

_BEGIN, _STEP = 0, 1  # what a generator is for; its seed is (lens's seed, this, step)


@dataclass(frozen=True)
class LensConfig:
    """How a lens is trained.

    Attributes:
        tap: name of the module whose output the tokens are.
        width: number of latents (d_sae).
        k: mean number of active latents a token.
        seed: of initialisation and batches; on one device the same seed gives the same lens.
        steps, batch: optimiser steps and tokens a step. The default 12 M tokens take two minutes on one AVX-512 thread
            at d = 128.
        lr: peak learning rate of Adam; rises linearly over the first `warmup` of the steps and falls linearly to zero
            over the last `decay` of them.
        aux_weight: weight of the auxiliary loss (1/32 in Gao et al. 2024).
        dead_after: tokens without firing after which a latent counts as dead and the auxiliary loss revives it.
        prefixes: numbers of latents, ascending and below the width; a Matryoshka lens where there are any.
        log_every: steps between entries of the log.
        device: where to train; "cuda" uses TF32 products, a CPU float32.
        kind: one of KINDS, or of SAE_LENS_KINDS, which `Training` does not train.
        init: how the decoder starts, one of INITS; noise: how much noise is in that, in units of the row's own length.
        centroids: of an archetypal lens, how many tokens its rows are mixed of; 0 for twice the width.
        relaxation: of an archetypal lens, how far a row may leave their hull, as a share of their mean norm.
        products: how the products are computed (see products.py), one of PRODUCTS; "auto" takes the fastest.
    """

    tap: str
    width: int = 1024
    k: int = 32
    seed: int = 0
    steps: int = 6000
    batch: int = 2048
    lr: float = 1e-3
    warmup: float = 0.03
    decay: float = 0.25
    aux_weight: float = 1 / 32
    dead_after: int = 500_000
    prefixes: tuple[int, ...] = ()
    log_every: int = 200
    device: str = "cpu"
    kind: str = "batch_topk"
    init: str = "tokens"
    noise: float = 1.0
    centroids: int = 0
    relaxation: float = 0.1
    products: str = "auto"

    def __post_init__(self):
        for name, known in (("kind", KINDS + SAE_LENS_KINDS), ("init", INITS), ("products", PRODUCTS)):
            if getattr(self, name) not in known:
                cause = f"it is no {name} of a lens's training."
                raise UsageError(getattr(self, name), cause, f"Use one of {', '.join(known)}.")
        if not 0 < self.k < self.width:
            raise UsageError(f"k = {self.k}", f"a lens of {self.width} latents needs 0 < k < width.", "Change k.")
        if self.steps < 1 or self.batch < 1 or not self.lr > 0:
            raise UsageError("lens training", "steps, batch and lr must be above zero.", "Correct the configuration.")
        if self.seed < 0:
            raise UsageError(f"seed = {self.seed}", "a seed is not negative.", "Correct the configuration.")
        if self.kind == "matryoshka" and not self.prefixes:
            object.__setattr__(self, "prefixes", default_prefixes(self.width))
        if self.kind == "batch_topk" and self.prefixes:
            object.__setattr__(self, "kind", "matryoshka")
        object.__setattr__(self, "prefixes", tuple(self.prefixes))
        ascending = [0, *self.prefixes, self.width]
        if any(a >= b for a, b in zip(ascending, ascending[1:], strict=False)):
            cause = f"{list(self.prefixes)} is not ascending from above 0 to below the width {self.width}."
            raise UsageError("prefixes", cause, "Correct the configuration.")


def train_lens(
    tokens: TokenSource,
    config: LensConfig,
    progress: Callable[[str, float], None] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> Lens:
    """Train one lens; see `Training` for what is done, and `train_lenses` for what is raised.

    checkpoint: the file to which the training is written now and then; resume: go on from it, where it is there.
    """
    training = Training(tokens, config, checkpoint)
    if resume:
        training.resume()
    return train_lenses([training], progress)[0]


def train_lenses(
    trainings: Sequence["Training"],
    progress: Callable[[str, float], None] | None = None,
    checkpoint_every: int = 500,
) -> list[Lens]:
    """Train several lenses side by side, step by step, in one pass over their tokens.

    Each becomes what it would become alone. Every `checkpoint_every` steps, and when `progress` raises Cancelled, each
    training that has a checkpoint file is written to it.

    Raises UsageError when a loss is no number any more (the last checkpoint stays); whatever `progress` raises passes.
    """
    steps = sum(t.config.steps for t in trainings)
    done = sum(t.done for t in trainings)
    started, tokens = time.perf_counter(), 0
    try:
        for step in range(min(t.done for t in trainings), max(t.config.steps for t in trainings)):
            for training in trainings:
                if training.done != step or step == training.config.steps:
                    continue
                training.step()
                done, tokens = done + 1, tokens + training.config.batch
                if training.done % checkpoint_every == 0:
                    training.save()
            if progress and (step % 10 == 0 or done == steps):
                progress(_said(trainings, tokens / (time.perf_counter() - started)), done / steps)
    except Cancelled:
        for training in trainings:
            training.save()
        raise
    for training in trainings:
        training.save()
    return [training.lens() for training in trainings]


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
        data = self._first_tokens()
        self.centre = geometric_median(data[: max(config.batch, 2048)])
        norm = (data - self.centre).norm(dim=1).mean()
        if not torch.isfinite(norm) or norm <= 1e-12:
            cause = "the tokens are all alike or not finite; there is nothing to learn."
            raise UsageError(config.tap, cause, "Check the tap and the cases.")
        self.scale = tokens.d_in**0.5 / norm
        self.dictionary = self._begin((data - self.centre) * self.scale)
        self.parameters = self.dictionary.parameters()
        self._fit_encoder_length((data[: config.batch] - self.centre) * self.scale)
        self.optimizer = torch.optim.Adam(self.parameters.values(), lr=config.lr, betas=(0.9, 0.999), fused=True)
        self.idle = torch.zeros(config.width, device=self.device)
        self.running = torch.zeros((), device=self.device)
        self.done, self.seconds, self.log = 0, 0.0, []
        self.last: dict = {}
        self._rooms: dict[str, Tensor] = {}
        self.products = config.products
        if self.products == "auto":
            self.products = self._fastest()
        self._batches = self._batches_from(0)

    def step(self) -> None:
        """One step of the optimiser. Raises UsageError when the loss is not finite."""
        started, config = time.perf_counter(), self.config
        x = (next(self._batches).to(self.device, non_blocking=True) - self.centre) * self.scale
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * schedule(self.done / config.steps, config.warmup, config.decay)
        total, loss, threshold, active, fired = self._loss(x, self.products)
        self._check(loss)
        threshold = threshold.mean()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.ranks.mean_([p.grad for p in self.parameters.values()] + [threshold])
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
        """
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
        """Write the checkpoint, where the training has a file for it. Raises OutputError."""
        if not self.checkpoint or not self.ranks.first:
            return
        tensors = {"idle": self.idle, "running": self.running, "centre": self.centre, "scale": self.scale}
        tensors |= {f"parameter.{name}": tensor for name, tensor in self.parameters.items()}
        tensors |= {f"constant.{name}": tensor for name, tensor in self.dictionary.constants().items()}
        for name, tensor in self.parameters.items():
            tensors |= {f"adam.{key}.{name}": value for key, value in self.optimizer.state[tensor].items()}
        facts = {"config": _comparable(self.config), "done": self.done, "seconds": self.seconds, "log": self.log}
        write_checkpoint(self.checkpoint, tensors, facts | {"products": self.products})

    def resume(self) -> bool:
        """Go on from the checkpoint; False where there is none.

        Raises UsageError for the checkpoint of another configuration, or of other tokens.
        """
        if not self.checkpoint or not self.checkpoint.exists():
            return False
        tensors, facts = read_checkpoint(self.checkpoint)
        mine, theirs = _comparable(self.config), facts.get("config", {})
        different = [name for name in mine if mine[name] != theirs.get(name)]
        if different:
            words = ", ".join(f"{name} was {theirs.get(name)} and is {mine[name]}" for name in different)
            remedy = "Give the configuration it was started with, or choose another --out to start anew."
            raise UsageError(self.checkpoint, f"it is of another configuration: {words}.", remedy)
        if not torch.allclose(tensors["centre"].to(self.device), self.centre, rtol=1e-4, atol=1e-6):
            remedy = "Give the cases and the segmenter it was started with, or choose another --out to start anew."
            raise UsageError(self.checkpoint, "it was trained on other tokens.", remedy)
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
        generator = generator_of(config.seed, _STEP, self.done)
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

    def _check(self, loss: Tensor) -> None:
        # Reading the loss waits for a GPU, so there not at each step.
        if self.device.type != "cpu" and self.done % 20:
            return
        if not math.isfinite(float(loss)):
            remedy = f"Train anew with a lower lr (it was {self.config.lr:g})"
            if self.checkpoint and self.checkpoint.exists():
                remedy += f", and remove {self.checkpoint} or choose another --out"
            raise UsageError(
                self.config.tap, f"the loss of its lens is no number any more at step {self.done}.", f"{remedy}."
            )

    def _batches_from(self, step: int):
        size = max(self.config.batch // self.ranks.size, 1)
        return self.tokens.batches(size, self.config.seed + 1_000_003 * self.ranks.rank, step)

    def _first_tokens(self) -> Tensor:
        """What the training begins with: a batch; some thirty tokens for each centroid or component made of it."""
        config, count = self.config, 0
        if config.kind == "archetypal":
            count = config.centroids or 2 * config.width
        elif config.init == "centroids":
            count = config.width
        elif config.init == "components":
            count = 1 << 11  # the most there may be: the smaller components differ from sample to sample
        batches = self.tokens.batches(config.batch, config.seed)
        wanted = max(1, math.ceil(min(32 * count, 1 << 16) / config.batch))
        return torch.cat([next(batches) for _ in range(wanted)]).to(self.device)

    def _begin(self, data: Tensor) -> Dictionary | ArchetypalDictionary:
        config, generator = self.config, generator_of(self.config.seed, _BEGIN)
        if config.kind == "archetypal":
            count = config.centroids or 2 * config.width
            return ArchetypalDictionary(data, config.width, count, config.relaxation, generator)
        return Dictionary(starting_rows(data, config.width, config.init, config.noise, generator))

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
        kept = torch.where(a > cut(a, config.k, generator_of(config.seed, _BEGIN)), a, 0.0) @ self.dictionary.rows()
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
        lens.threshold.fill_(_calibrated_threshold(lens, tokens.natural))
    lens = lens.to("cpu")
    measures = measure_lens(lens, [(tokens.held_out.cpu(), tokens.held_out_strata)])
    lens.metadata |= {"threshold": float(lens.threshold[0]), "held_out": measures.to_json()}
    return lens


def _said(trainings: Sequence[Training], speed: float) -> str:
    """The progress line: figures of the lens, or the range of them over several."""
    figures = [t.figures() for t in trainings if t.last]

    def spread(name: str, form: str) -> str:
        low, high = (form.format(f([v[name] for v in figures])) for f in (min, max))
        return low if low == high else f"{low} to {high}"

    what = "training the lens" if len(trainings) == 1 else f"training {len(trainings)} lenses"
    loss, ev = spread("loss", "{:.4f}"), spread("explained_variance", "{:.3f}")
    active, dead = spread("l0", "{:.1f}"), spread("dead_share", "{:.1%}")
    return f"{what}, loss {loss}, EV {ev}, L0 {active}, dead {dead}, {speed / 1000:.0f}k tokens/s"


def _comparable(config: LensConfig) -> dict:
    """The configuration as JSON gives it back; the device may change between two runs."""
    values = asdict(config) | {"prefixes": list(config.prefixes)}
    return {name: value for name, value in values.items() if name != "device"}


def schedule(progress: float, warmup: float, decay: float) -> float:
    """Factor of the learning rate at a progress of 0..1: linear up, flat, linear down."""
    return min(1.0, (progress + 1e-3) / warmup if warmup else 1.0, (1.0 - progress) / decay if decay else 1.0)


def geometric_median(x: Tensor, iterations: int = 30) -> Tensor:
    """Point with the least sum of distances to the tokens (Weiszfeld's iteration): a mean that outliers do not pull."""
    median = x.mean(0)
    for _ in range(iterations):
        weight = 1 / (x - median).norm(dim=1, keepdim=True).clamp_min(1e-6)
        median = (weight * x).sum(0) / weight.sum()
    return median


@torch.no_grad()
def _calibrated_threshold(lens: Lens, x: Tensor) -> float:
    """The threshold at which exactly k * len(x) activations of tokens x remain: an order statistic, so no bisection."""
    keep = min(lens.k, lens.d_sae) * len(x)
    largest = torch.empty(0)
    for block in x.split(2048):
        a = torch.addmm(lens.b_enc, block.to(lens.W_enc) - lens.b_dec, lens.W_enc)
        largest = torch.cat([largest, a[a > 0].cpu()])
    if len(largest) <= keep:
        return 0.0
    return float(np.partition(largest.numpy(), len(largest) - keep - 1)[len(largest) - keep - 1])
