"""Every kind of lens on the same tokens: what it keeps of the lesion, and whether another seed finds its latents again.

Tokens are those that `train lens --store` kept; one case is held out whole and measured on. Width, k, steps, batch,
learning rate with its schedule, and start are the same for all, and no kind was tuned: few steps say which kind is
quick as much as which is good. `stable` is the share of the latents that fire on over 1 % of the lesion's held-out
tokens and have a partner of decoder cosine 0.7 or more in the other seed; `stable_untrained` the same of the rows that
the kind starts from. `inference_l0` is by the kind's own threshold, on held-out tokens of whole cases. Kinds of
sae-lens need it (`make .venv-saelens/.installed`); what is not there is named.
"""

import argparse
import contextlib
import io
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import machine, show

from MedSegLensLib.errors import UsageError
from MedSegLensLib.lenses.beginning import centre_and_scale, first_tokens, rows_to_start
from MedSegLensLib.lenses.by_sae_lens import train_by_sae_lens
from MedSegLensLib.lenses.lens_config import KINDS, SAE_LENS_KINDS, LensConfig
from MedSegLensLib.lenses.measures import explained_variance, l0
from MedSegLensLib.lenses.sampling import LESION
from MedSegLensLib.lenses.stability import decoder_stability, rows_stability, stable_share
from MedSegLensLib.lenses.token_store import TokenStore
from MedSegLensLib.lenses.training import Training, train_lens

SEEDS = (21, 22)
ON_LESION = 0.01


def trained(tokens, config: LensConfig):
    return (train_lens if config.kind in KINDS else train_by_sae_lens)(tokens, config)


def starts(tokens, config: LensConfig) -> np.ndarray:
    """The decoder's unit rows (width, d) before the first step."""
    if config.kind == "archetypal":
        return Training(tokens, config).dictionary.rows().detach().numpy()
    data = first_tokens(tokens, config)
    centre, scale = centre_and_scale(data, config)
    return rows_to_start((data - centre) * scale, config).numpy()


def lesion_of_unseen(store: TokenStore, tokens, tap: str) -> torch.Tensor:
    """The lesion's stored tokens (n, d) of the cases held out."""
    index = store.plan.taps.index(tap)
    unseen = [case for case in store.cases() if case.name in tokens.held_out_cases]
    return torch.cat([case.by_stratum(tap, index)[LESION].float() for case in unseen])


def measured(tokens, lesion: torch.Tensor, config: LensConfig) -> dict:
    """The figures of one kind; the lens that is measured is that of the first seed."""
    started = time.process_time()
    first, other = (trained(tokens, replace(config, seed=seed)) for seed in SEEDS)
    spent = time.process_time() - started
    of = first.metadata["held_out"]
    z = first.encode(lesion)
    fires = (z > 0).float().mean(0).numpy() > ON_LESION
    begun = [starts(tokens, replace(config, seed=seed)) for seed in SEEDS]
    return {
        "lesion_explained_variance": explained_variance(lesion, first.decode(z)),
        "explained_variance": of["explained_variance"],
        "inference_l0": of["l0"],
        "l0_lesion": l0(z),
        "dead_share": of["dead_share"],
        "latents_on_lesion": int(fires.sum()),
        "stable": stable_share(decoder_stability(first, [other]), fires),
        "stable_untrained": stable_share(rows_stability(begun[0], begun[1:])),
        "cpu_seconds_a_seed": spent / len(SEEDS),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--store", type=Path, required=True, help="tokens that `train lens --store` kept")
    parser.add_argument("--tap", help="default: the first of the store")
    parser.add_argument("--kinds", nargs="+", choices=KINDS + SAE_LENS_KINDS, default=list(KINDS + SAE_LENS_KINDS))
    parser.add_argument("--init", default="components")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore")
    store = TokenStore.open(chosen.store)
    tap = chosen.tap or store.plan.taps[0]
    tokens = store.tokens(tap, held_out=1)
    config = LensConfig(tap, chosen.width, chosen.k, steps=chosen.steps, lr=chosen.lr, init=chosen.init)
    lesion = lesion_of_unseen(store, tokens, tap)
    figures, missing = {}, {}
    for kind in chosen.kinds:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                figures[kind] = measured(tokens, lesion, replace(config, kind=kind))
        except UsageError as problem:
            missing[kind] = str(problem)
        print(f"{kind}: {figures.get(kind) or missing[kind]}", file=sys.stderr, flush=True)
    setting = {name: getattr(config, name) for name in ("width", "k", "steps", "batch", "lr", "init")}
    result = {"tap": tap, "measured_on": tokens.held_out_said, "setting": setting, "seeds": list(SEEDS)}
    result |= {"lesion_tokens": len(lesion), "kinds": figures, "missing": missing, "machine": machine()}
    lines = [f"{tap}, {setting}, measured on {tokens.held_out_said}"]
    for kind, of in figures.items():
        lines.append(f"{kind:17} " + "  ".join(f"{name} {value:.3f}" for name, value in of.items()))
    show(result, chosen.json, [*lines, *(f"{kind}: {why}" for kind, why in missing.items())])


if __name__ == "__main__":
    main()
