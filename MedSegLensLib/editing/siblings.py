"""Which latents belong together: those that fire together, nearly the same ones, and those that split another."""

import numpy as np
from scipy import sparse

TOKENS_A_CASE = 2000
TOGETHER, SAME_DIRECTION, SAME_SUPPORT = 0.2, 0.7, 0.5
CONTAINED, LARGER, ALONG, NEARLY_EVERYWHERE = 0.9, 2.0, 0.2, 0.25
LEAST_TOKENS = 20
MOST = 5


class Pairs:
    """On how many tokens each two latents fire together, counted on a fixed number of random tokens of each case.

    together: int32 (latents, latents), the diagonal being each latent's own count; tokens: how many were looked at.
    So memory does not grow with the cases; 4,096 latents take 67 MB.
    """

    def __init__(self, n_latents: int):
        self.together = np.zeros((n_latents, n_latents), np.int32)
        self.tokens = 0

    def add(self, pointers: np.ndarray, tokens: np.ndarray, brain: np.ndarray, seed: int) -> None:
        """Count on `TOKENS_A_CASE` of one case's brain tokens (bool (n,)) of codes in compressed columns."""
        where = np.flatnonzero(brain)
        chosen = np.random.default_rng(seed).permutation(where)[:TOKENS_A_CASE]
        column = np.full(len(brain), -1, np.int32)
        column[chosen] = np.arange(len(chosen))
        of = column[tokens]
        kept = of >= 0
        counts = np.add.reduceat(np.append(kept, False), pointers[:-1], dtype=np.int64)
        counts[np.diff(pointers) == 0] = 0
        starts = np.concatenate([[0], np.cumsum(counts)])
        fires = sparse.csr_matrix(
            (np.ones(starts[-1], np.float32), of[kept], starts), shape=(len(pointers) - 1, len(chosen))
        )
        pairs = (fires @ fires.T).tocoo()
        self.together[pairs.row, pairs.col] += pairs.data.astype(np.int32)  # each pair is there once
        self.tokens += len(chosen)

    def merge(self, other: "Pairs") -> None:
        self.together += other.together
        self.tokens += other.tokens

    def relations(self, decoder: np.ndarray) -> list[dict[str, list[int]]]:
        """Of each latent, at most five each: co_firing, near_duplicates, children, parents; decoder: (latents, d_in).

        co_firing: Jaccard index of the supports at least 0.2. near_duplicates: of these, Jaccard at least 0.5 and a
        cosine of the directions of at least 0.7. A parent fires on at least 90 % of the tokens on which its child
        fires, on at least twice as many, but not on more than a quarter of the brain (which would be everybody's
        parent), with a cosine of at least 0.2: what feature splitting leaves (Bricken et al. 2023; Chanin et al. 2024,
        arXiv 2409.14507). Latents seen on fewer than 20 of the tokens looked at have no relations.
        """
        count = np.diag(self.together).astype(np.float64)
        norm = np.linalg.norm(decoder, axis=1, keepdims=True)
        unit = decoder / np.where(norm > 0, norm, 1)
        known = count >= LEAST_TOKENS
        found = []
        for j in range(len(count)):
            lists: dict[str, list[int]] = {name: [] for name in ("co_firing", "near_duplicates", "children", "parents")}
            found.append(lists)
            if not known[j]:
                continue
            both = self.together[j].astype(np.float64)
            jaccard = both / np.maximum(count[j] + count - both, 1)
            cosine = unit @ unit[j]
            other = known.copy()
            other[j] = False
            lists["co_firing"] = _first(jaccard, other & (jaccard >= TOGETHER))
            same = other & (jaccard >= SAME_SUPPORT) & (cosine >= SAME_DIRECTION)
            lists["near_duplicates"] = _first(cosine, same)
            along = other & (cosine >= ALONG)
            limit = NEARLY_EVERYWHERE * self.tokens
            inside, holding = both / np.maximum(count, 1), both / count[j]
            if count[j] <= limit:
                lists["children"] = _first(count, along & (inside >= CONTAINED) & (count * LARGER <= count[j]))
            upper = along & (holding >= CONTAINED) & (count >= LARGER * count[j]) & (count <= limit)
            lists["parents"] = _first(-count, upper)
        return found


def _first(order: np.ndarray, where: np.ndarray) -> list[int]:
    latents = np.flatnonzero(where)
    return latents[np.argsort(-order[latents], kind="stable")][:MOST].tolist()
