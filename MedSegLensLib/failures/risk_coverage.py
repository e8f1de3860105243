"""How well a confidence finds failures: the measures of the benchmark of segmentation failure detection (Zenk et al.
2025, arXiv 2406.03323), which takes them from Jaeger et al. (ICLR 2023).

risk: what is lost on a case, 1 - Dice, (n,). confidence: larger is surer, (n,); cases of equal confidence count as
being in random order.
"""

import numpy as np


def aurc(risk: np.ndarray, confidence: np.ndarray) -> float:
    """Area under the risk-coverage curve: of the k surest cases the mean risk, averaged over k = 1 to n.

    Small where the surest cases are good ones; the mean risk where the confidence says nothing. Raises ValueError for
    no case, or numbers that are not finite.
    """
    risk, confidence = np.asarray(risk, np.float64), np.asarray(confidence, np.float64)
    if not len(risk) or not (np.isfinite(risk).all() and np.isfinite(confidence).all()):
        raise ValueError("a risk-coverage curve needs cases, with finite risks and confidences")
    _, group = np.unique(-confidence, return_inverse=True)
    expected = (np.bincount(group, risk) / np.bincount(group))[group]
    ordered = expected[np.argsort(group, kind="stable")]
    return float(np.mean(np.cumsum(ordered) / np.arange(1, len(ordered) + 1)))


def e_aurc(risk: np.ndarray, confidence: np.ndarray) -> float:
    """`aurc` over that of the best possible order of the same cases: 0 for a perfect one."""
    return aurc(risk, confidence) - aurc(risk, -np.asarray(risk, np.float64))


def failure_auroc(risk: np.ndarray, confidence: np.ndarray, failed: float = 0.3) -> float | None:
    """How often a case whose risk is over `failed` is less sure than one whose risk is not; None where all cases are
    of one sort."""
    from scipy.stats import rankdata

    bad = np.asarray(risk) > failed
    count = np.count_nonzero(bad)
    if count in (0, len(bad)):
        return None
    ranks = rankdata(-np.asarray(confidence, np.float64))
    return float((ranks[bad].sum() - count * (count + 1) / 2) / (count * (len(bad) - count)))


def rank_correlation(risk: np.ndarray, confidence: np.ndarray) -> float | None:
    """Spearman's, of confidence with Dice (1 - risk); None where either is constant."""
    from scipy.stats import rankdata

    one, other = rankdata(confidence), rankdata(-np.asarray(risk))
    if one.std() == 0 or other.std() == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])
