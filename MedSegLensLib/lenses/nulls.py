"""What a lens has to beat: dictionaries that learned nothing, or only half of what a lens learns.

Korznikov et al. 2026 ("Sanity checks for sparse autoencoders", arXiv 2602.14111) found that SAEs with a frozen random
decoder or encoder come near to trained ones in most published measures; so each measure stands beside these here.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from MedSegLensLib.lenses.calibration import threshold_at_k
from MedSegLensLib.lenses.dictionary import starting_rows
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.lenses.stability import rows_stability


def principal_components(tokens: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Mean (d,) and the first k principal directions (d, k) of tokens (n, d); k is at most d."""
    x = tokens.double()
    mean = x.mean(0)
    _, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    return mean.float(), vectors.flip(1)[:, : min(k, x.shape[1])].float()


def on_components(tokens: Tensor, mean: Tensor, basis: Tensor) -> Tensor:
    """The tokens projected onto principal directions: a dense code of as many numbers, the best linear one."""
    return mean + (tokens - mean) @ basis @ basis.T


def random_rows(m: int, d: int, seed: int) -> Tensor:
    """m random unit rows (m, d), uniform on the sphere."""
    return F.normalize(torch.randn(m, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def untrained_lens(tokens: Tensor, rows: Tensor, like: Lens, natural: Tensor) -> Lens:
    """Rows (m, d) as a lens that nobody trained: tied encoder, and the threshold at which its L0 on `natural` tokens is
    the k of `like`."""
    mean = tokens.float().mean(0)
    lens = Lens(like.tap, rows.T.contiguous(), torch.zeros(len(rows)), rows, mean, torch.zeros(len(rows)), like.k)
    lens.threshold.fill_(threshold_at_k(lens, natural))
    return lens


def random_encoder_lens(tokens: Tensor, like: Lens, natural: Tensor, seed: int = 0) -> Lens:
    """A lens of the size of `like` whose encoder is frozen at random and whose decoder is the best for it.

    The codes of a random tied dictionary at L0 = k, and the decoder by least squares (with a ridge of 1e-4 of the mean
    diagonal): no training with that encoder frozen can explain more of `tokens`.
    """
    lens = untrained_lens(tokens, random_rows(like.d_sae, like.d_in, seed), like, natural)
    m = lens.d_sae
    gram, right = torch.zeros(m + 1, m + 1, dtype=torch.float64), torch.zeros(m + 1, lens.d_in, dtype=torch.float64)
    for x in tokens.split(4096):
        z = torch.cat([lens.encode(x.float()), torch.ones(len(x), 1)], 1)
        gram += z.T @ z
        right += (z.T @ x.float()).double()
    ridge = 1e-4 * gram.diagonal()[:m].mean() + 1e-12
    gram.diagonal()[:m].add_(ridge)
    solution = torch.linalg.solve(gram, right).float()
    return _unit(lens.tap, lens.W_enc, lens.b_enc, lens.b_dec, solution[:m], solution[m], lens.threshold, lens.k)


def random_decoder_lens(
    tokens: Tensor,
    like: Lens,
    natural: Tensor,
    steps: int = 600,
    batch: int = 2048,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> Lens:
    """A lens of the size of `like` trained by BatchTopK with its decoder's rows frozen at random.

    Encoder and biases learn on `tokens` by Adam at 1e-3, falling to zero over the last quarter. Fewer steps than a
    lens has, so what it reaches is a lower bound of this null; say the number beside it.
    """
    torch.manual_seed(seed)
    mean = tokens.float().mean(0)
    scale = like.d_in**0.5 / (tokens.float() - mean).norm(dim=1).mean()
    rows = random_rows(like.d_sae, like.d_in, seed)
    W_enc = rows.T.clone().contiguous().requires_grad_()
    b_enc, b_dec = torch.zeros(like.d_sae, requires_grad=True), torch.zeros(like.d_in, requires_grad=True)
    optimizer = torch.optim.Adam([W_enc, b_enc, b_dec], lr=1e-3)
    keep = 1 - like.k / like.d_sae
    with torch.enable_grad():
        for step in range(steps):
            if progress:
                progress("training the null with a random decoder", step / steps)
            optimizer.param_groups[0]["lr"] = 1e-3 * min(1.0, 4 * (1 - step / steps))
            x = (tokens[torch.randint(len(tokens), (batch,))].float() - mean) * scale
            a = torch.addmm(b_enc, x - b_dec, W_enc)
            some = a.detach().reshape(-1)[torch.randint(a.numel(), (1 << 15,))]
            threshold = some.kthvalue(max(round(keep * len(some)), 1)).values.clamp_min(0)
            loss = (x - b_dec - F.threshold(a, float(threshold), 0.0) @ rows).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    W_enc, b_enc, b_dec = W_enc.detach(), b_enc.detach(), b_dec.detach()
    lens = Lens(like.tap, W_enc, b_enc / scale, rows, b_dec / scale + mean, torch.zeros(like.d_sae), like.k)
    lens.threshold.fill_(threshold_at_k(lens, natural))
    return lens


def stability_nulls(
    tokens: Tensor, m: int, seeds: int, seed: int = 0, init: str = "tokens", noise: float = 1.0
) -> dict[str, tuple[list[Tensor], np.ndarray]]:
    """How stable dictionaries are in which nothing was learned, as `stability.decoder_stability` over `seeds` lenses.

    Name -> (rows (m, d) of each lens, stability float32 (m,) of the first): "random" rows; "start", rows as a training
    with this `init` and `noise` starts (`dictionary.starting_rows`), each from another half of the tokens; "tokens",
    directions of tokens without noise, of which two sets match better than any noisy start does. `tokens` in the
    mixture that the training sees.
    """
    d, centred = tokens.shape[1], tokens - tokens.mean(0)

    def start(s: int) -> Tensor:
        generator = torch.Generator().manual_seed(s)
        half = torch.randperm(len(tokens), generator=generator)[: max(len(tokens) // 2, 1)]
        return starting_rows(centred[half], m, init, noise, generator)

    makers = {
        "random": lambda s: random_rows(m, d, s),
        "start": start,
        "tokens": lambda s: starting_rows(centred, m, "tokens", 0.0, torch.Generator().manual_seed(s)),
    }
    found = {}
    for name, make in makers.items():
        lenses = [make(seed + 1000 * s) for s in range(seeds)]
        found[name] = (lenses, rows_stability(lenses[0].numpy(), [rows.numpy() for rows in lenses[1:]]))
    return found


def _unit(tap, W_enc, b_enc, b_dec_in, W_dec, b_dec, threshold, k) -> Lens:
    """A lens whose encoder subtracts b_dec_in, with rows of any norm and another output bias, in `Lens`' form."""
    norm = W_dec.norm(dim=1).clamp_min(1e-8)
    b_enc = b_enc + (b_dec - b_dec_in) @ W_enc  # Lens subtracts the same bias that it adds at the end
    return Lens(tap, W_enc * norm, b_enc * norm, W_dec / norm[:, None], b_dec, threshold * norm, k)
