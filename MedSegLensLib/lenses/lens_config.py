"""How a lens is trained: every kind reads the same configuration."""

from dataclasses import asdict, dataclass

from MedSegLensLib.errors import UsageError
from MedSegLensLib.lenses.matryoshka import default_prefixes

KINDS = ("batch_topk", "topk", "matryoshka", "archetypal")
SAE_LENS_KINDS = ("jumprelu", "gated", "standard", "matching_pursuit")  # trained by by_sae_lens.py
INITS = ("tokens", "centroids", "components")
PRODUCTS = ("auto", "dense", "sparse", "dense_bf16", "sparse_bf16")


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


def comparable(config: LensConfig) -> dict:
    """The configuration as JSON gives it back; the device may change between two runs."""
    values = asdict(config) | {"prefixes": list(config.prefixes)}
    return {name: value for name, value in values.items() if name != "device"}
