"""What single latents, and few of them together, say of a region, beside raw channels and principal components.

Everything is chosen on training cases and scored on unseen ones: the best of a thousand latents on the cases it was
chosen on would flatter itself. The score is the AUROC: the chance that a token of the region ranks above one outside
it (ties count half), which does not depend on how much of the brain the region fills.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from scipy.stats import rankdata
from torch import Tensor

from MedSegLensLib.lenses.lens import Lens

ROWS_AT_A_TIME = 128
ENOUGH = 20
"""Tokens of a region, and outside it, below which it is not probed: in the training as in the unseen cases."""


def sparse_codes(lens: Lens, tokens: Tensor) -> sp.csc_matrix:
    """Codes of tokens (n, d_in) as a sparse float32 matrix (n, d_sae)."""
    blocks = []
    with torch.inference_mode():
        for x in tokens.split(4096):
            blocks.append(sp.csr_matrix(lens.encode(x.float()).cpu().numpy()))
    return sp.vstack(blocks).tocsc()


def aurocs(features: np.ndarray | sp.csc_matrix, targets: np.ndarray) -> np.ndarray:
    """AUROC of every feature for every target, float64 (m, t): Mann and Whitney's U over its largest possible value.

    features: (n, m); a sparse matrix holds no negative value. targets: bool (n, t). nan where a target has no token or
    nothing else. Ties have their mean rank (Fawcett 2006, section 7).
    """
    targets = targets.astype(np.float64)
    n, positive = len(targets), targets.sum(0)
    negative = n - positive
    if sp.issparse(features):
        ranks = features.copy().astype(np.float64)
        zeros = n - np.diff(features.indptr)
        for j in range(features.shape[1]):
            run = slice(features.indptr[j], features.indptr[j + 1])
            ranks.data[run] = zeros[j] + rankdata(features.data[run])
        fires = sp.csc_matrix((np.ones_like(ranks.data), ranks.indices, ranks.indptr), ranks.shape)
        silent_positive = positive - fires.T @ targets
        total = ranks.T @ targets + silent_positive * ((zeros + 1) / 2)[:, None]
    else:
        total = rankdata(features, axis=0).T @ targets
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total - positive * (positive + 1) / 2) / (positive * negative)


@dataclass(frozen=True)
class Best:
    """The one feature with the best AUROC on the training cases, and what it scores there and on unseen ones.

    sign: -1 where the feature is low in the region (its AUROC is then that of its negative).
    """

    feature: int
    sign: int
    seen: float
    unseen: float


def best_single(seen: np.ndarray, unseen: np.ndarray) -> Best:
    """The feature whose AUROC on the training cases, seen (m,), is farthest from 0.5; scored by unseen (m,)."""
    chosen = int(np.nanargmax(np.abs(seen - 0.5)))
    sign = 1 if seen[chosen] >= 0.5 else -1
    score = [float(a[chosen] if sign > 0 else 1 - a[chosen]) for a in (seen, unseen)]
    return Best(chosen, sign, *score)


@dataclass(frozen=True)
class Probe:
    """A logistic probe: the features it reads, and its AUROC on the training and the unseen cases."""

    features: tuple[int, ...]
    seen: float
    unseen: float


def dense_probe(seen, unseen, y_seen: np.ndarray, y_unseen: np.ndarray) -> Probe:
    """Logistic regression on all features (n, m), each divided by its standard deviation on the training cases.

    Classes weigh alike; the penalty is L2 with C = 1, scikit-learn's default.
    """
    columns = tuple(range(seen.shape[1]))
    return _fitted(seen, unseen, y_seen, y_unseen, columns)[0]


def k_sparse_probe(seen, unseen, y_seen: np.ndarray, y_unseen: np.ndarray, k: int) -> Probe:
    """Logistic regression on only k features (k-sparse probing: Gurnee et al. 2023, arXiv 2305.01610).

    The features are chosen one after another on the training cases: each time the one that is most correlated with what
    the probe so far leaves unexplained (orthogonal matching pursuit with the logistic loss; Lozano et al. 2011), and
    the probe is fitted anew. Cheap: k fits and k products, however many features there are.
    """
    chosen: list[int] = []
    residual = _weighted(y_seen)
    norm = _deviation(seen)
    probe = None
    for _ in range(min(k, int((norm > 0).sum()))):
        slope = np.asarray(seen.T @ residual).ravel() - _mean(seen) * residual.sum()
        strength = np.where(norm > 0, np.abs(slope) / np.where(norm > 0, norm, 1), -1.0)
        strength[chosen] = -1
        chosen.append(int(strength.argmax()))
        probe, predicted = _fitted(seen, unseen, y_seen, y_unseen, tuple(chosen))
        weight = np.where(y_seen, 0.5 / y_seen.sum(), 0.5 / (~y_seen).sum())
        residual = weight * (y_seen - predicted)
    return probe


def shuffled_within(y: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Labels in random order within each group (case): as many as there were, anywhere."""
    rng, shuffled = np.random.default_rng(seed), y.copy()
    for group in np.unique(groups):
        mine = np.flatnonzero(groups == group)
        shuffled[mine] = y[rng.permutation(mine)]
    return shuffled


def _aurocs_along(rows: Tensor, tokens: Tensor, targets: np.ndarray) -> np.ndarray:
    """`aurocs` of the tokens (n, d) along each of the rows (m, d), some at a time: ranks take 8 bytes a value."""
    return np.concatenate([aurocs((tokens @ some.T).numpy(), targets) for some in rows.split(ROWS_AT_A_TIME)])


def _weighted(y: np.ndarray) -> np.ndarray:
    return np.where(y, 0.5 / y.sum(), -0.5 / (~y).sum())


def _mean(x) -> np.ndarray:
    return np.asarray(x.mean(axis=0)).ravel()


def _deviation(x) -> np.ndarray:
    if sp.issparse(x):
        square = np.asarray(x.multiply(x).mean(axis=0)).ravel()
        return np.sqrt(np.maximum(square - _mean(x) ** 2, 0))
    return x.std(axis=0, dtype=np.float64)


def _fitted(seen, unseen, y_seen, y_unseen, columns: tuple[int, ...]) -> tuple[Probe, np.ndarray]:
    """The probe on these columns, and its probabilities on the training cases."""
    from sklearn.linear_model import LogisticRegression

    def part(x):
        x = x[:, list(columns)]
        return x.toarray() if sp.issparse(x) and len(columns) <= 64 else x

    train, test = part(seen), part(unseen)
    scale = 1 / np.maximum(_deviation(train), 1e-6)
    if not sp.issparse(train):  # a sparse one would fill up
        centre = _mean(train)
        train, test = (train - centre) * scale, (test - centre) * scale
    else:
        train, test = (x.multiply(scale).tocsr() for x in (train, test))
    model = LogisticRegression(class_weight="balanced", max_iter=300).fit(train, y_seen)
    score = [
        float(aurocs(np.asarray(model.decision_function(x))[:, None], y[:, None])[0, 0])
        for x, y in ((train, y_seen), (test, y_unseen))
    ]
    return Probe(columns, *score), model.predict_proba(train)[:, 1]


@dataclass(frozen=True)
class TargetProbes:
    """Everything asked of one region or tissue. seen, unseen: tokens of it in the training and the unseen cases.

    latent, channel, component: the best single one of each. Nulls of the best latent: direction, the best of as many
    random directions, without a threshold; null, the best latent of a lens that is none (see
    nulls.random_encoder_lens), where there was one to ask; shuffled, the best latent with the labels in random order.
    sparse: kind ("latent", "channel", "component", and "null" where asked) -> k -> probe on k of these;
    sparse_shuffled: the largest k of latents with random labels; dense: on all raw channels.
    """

    seen: int
    unseen: int
    latent: Best
    channel: Best
    component: Best
    direction: Best
    shuffled: Best
    sparse: dict[str, dict[int, Probe]]
    sparse_shuffled: Probe
    dense: Probe
    null: Best | None = None


def probe(
    lens: Lens,
    seen: tuple[Tensor, dict[str, np.ndarray], np.ndarray],
    unseen: tuple[Tensor, dict[str, np.ndarray], np.ndarray],
    ks: tuple[int, ...] = (1, 5),
    null: Lens | None = None,
    seed: int = 0,
    progress=None,
) -> dict[str, TargetProbes]:
    """Probes of every target that has enough tokens (see ENOUGH) in both sets; the others are left out.

    seen, unseen: (tokens (n, d_in), target -> bool (n,), case number (n,)) of the training and of the unseen cases.
    Principal components are those of the training tokens. Random directions are as many as the lens has latents.
    """
    from MedSegLensLib.lenses.nulls import principal_components, random_rows

    (x, of, case), (x2, of2, case2) = seen, unseen
    names = [t for t in of if all(min(y.sum(), (~y).sum()) >= ENOUGH for y in (of[t], of2[t]))]
    if not names:
        return {}
    mean, basis = principal_components(x, x.shape[1])
    sets = {
        "latent": (sparse_codes(lens, x), sparse_codes(lens, x2)),
        "channel": (x.numpy(), x2.numpy()),
        "component": tuple(((t - mean) @ basis).numpy() for t in (x, x2)),
    }
    if null is not None:
        sets["null"] = (sparse_codes(null, x), sparse_codes(null, x2))
    truth = [np.stack([o[t] for t in names], 1) for o in (of, of2)]
    mixed = [
        np.stack([shuffled_within(y, c, seed + i) for i, y in enumerate(t.T)], 1)
        for t, c in zip(truth, (case, case2), strict=True)
    ]
    scores = {name: [aurocs(f, t) for f, t in zip(pair, truth, strict=True)] for name, pair in sets.items()}
    scores["shuffled"] = [aurocs(f, t) for f, t in zip(sets["latent"], mixed, strict=True)]
    rows = random_rows(lens.d_sae, lens.d_in, seed)
    scores["direction"] = [_aurocs_along(rows, t, of) for t, of in zip((x, x2), truth, strict=True)]
    found = {}
    for i, name in enumerate(names):
        if progress:
            progress("probing", i / len(names))
        y, y2 = truth[0][:, i], truth[1][:, i]
        best = {kind: best_single(pair[0][:, i], pair[1][:, i]) for kind, pair in scores.items()}
        found[name] = TargetProbes(
            seen=int(y.sum()),
            unseen=int(y2.sum()),
            sparse={kind: {k: k_sparse_probe(*pair, y, y2, k) for k in ks} for kind, pair in sets.items()},
            sparse_shuffled=k_sparse_probe(*sets["latent"], mixed[0][:, i], mixed[1][:, i], max(ks)),
            dense=dense_probe(*sets["channel"], y, y2),
            **best,
        )
    return found
