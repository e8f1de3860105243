"""The codes of a volume, kept sparse and sorted by latent: what the panel shows and what edits read."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from MedSegLensLib.errors import CaseError, UsageError
from MedSegLensLib.lenses.lens import Lens
from MedSegLensLib.lenses.summary import Summary, summarise

# Tokens encoded at a time. A block's dense code (2048 x 1024 float32, 8 MB) is all that is ever dense; measured on one
# AVX2 thread with 1024 latents, 1024 to 4096 tokens are alike (175 000 tokens/s at d = 128, 124 000 at 256, the bare
# GEMM 329 000 and 150 000), and 8192 are 20 % slower at d = 256.
BLOCK = 2048


@dataclass
class Codes:
    """Sparse codes in compressed columns: one run of (token, value) for each latent.

    Latent j fires on `tokens[pointers[j]:pointers[j + 1]]`. Tokens are sample-major, then the tap's grid row-major:
    token = ((s * d + z) * h + y) * w + x, so the pointers alone give a latent's support and its slices.

    Attributes:
        pointers: int64 (d_sae + 1,).
        tokens: int32 (nnz,), ascending within a latent.
        values: float32 (nnz,), above zero. Not float16, though it would save a third of some 60 MB: an edit is made of
            these values, and must give the labels that a pass with freshly encoded codes gives.
        grid: (samples, h, w) for slices, (samples, d, h, w) for patches; its product is the number of tokens.
    """

    pointers: np.ndarray
    tokens: np.ndarray
    values: np.ndarray
    grid: tuple[int, ...]

    @property
    def n_latents(self) -> int:
        return len(self.pointers) - 1

    @property
    def n_tokens(self) -> int:
        return int(np.prod(self.grid))

    @property
    def nbytes(self) -> int:
        return self.pointers.nbytes + self.tokens.nbytes + self.values.nbytes

    def latent(self, j: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens (int32, ascending) and values (float32) of latent j, as views. Raises UsageError if there is none."""
        if not 0 <= j < self.n_latents:
            raise UsageError(f"latent {j}", "there is no such latent.", f"Choose one from 0 to {self.n_latents - 1}.")
        run = slice(self.pointers[j], self.pointers[j + 1])
        return self.tokens[run], self.values[run]

    def dense(self, j: int, samples: list[int] | None = None) -> np.ndarray:
        """Code of latent j over the tap's grid, float32 of shape `grid`; of `samples` only, in order, if given."""
        tokens, values = self.latent(j)
        if samples is None:
            dense = np.zeros(self.n_tokens, np.float32)
            dense[tokens] = values
            return dense.reshape(self.grid)
        size = self.n_tokens // self.grid[0]
        dense = np.zeros((len(samples), size), np.float32)
        for row, sample in zip(dense, samples, strict=True):
            first, last = np.searchsorted(tokens, (sample * size, (sample + 1) * size))
            row[tokens[first:last] - sample * size] = values[first:last]
        return dense.reshape(len(samples), *self.grid[1:])

    def samples(self, j: int) -> np.ndarray:
        """Samples (slices or patches) in which latent j fires, ascending."""
        tokens, _ = self.latent(j)
        sample = tokens // (self.n_tokens // self.grid[0])
        return sample[np.flatnonzero(np.diff(sample, prepend=-1))]

    def box(self, j: int) -> tuple[slice, ...] | None:
        """Smallest box of the tap's grid, one slice an axis of `grid`, that holds latent j; None if it never fires."""
        tokens, _ = self.latent(j)
        if not len(tokens):
            return None
        return tuple(slice(int(c.min()), int(c.max()) + 1) for c in np.unravel_index(tokens, self.grid))

    def summary(self, labels: np.ndarray | None = None, n_labels: int = 4) -> Summary:
        """Statistics of all latents (see `summary.summarise`); what needs no labels is computed once and kept."""
        known = self.__dict__.get("_summary")
        summary = summarise(self.pointers, self.tokens, self.values, self.grid, labels, n_labels, known)
        self.__dict__["_summary"] = summary
        return summary


class CodesBuilder:
    """Encodes a volume's tokens as they come, block by block, into sparse codes.

    The dense code is never held beyond one block: at 155 x 60 x 60 tokens and 1024 latents it would be 2.3 GB.

    >>> builder = CodesBuilder(lens, grid=(155, 60, 60))
    >>> for chunk in chunks: builder.add(chunk)
    >>> codes = builder.finish()
    """

    def __init__(self, lens: Lens, grid: tuple[int, ...]):
        """grid: (samples, h, w) or (samples, d, h, w)."""
        self.lens, self.grid = lens, tuple(int(n) for n in grid)
        # Work latent-major (d_sae, n): the hits of a block then come out sorted by latent and, within it, by token, and
        # merging the blocks is a copy of runs instead of a sort over all entries.
        self._W = lens.W_enc.T.contiguous()
        # reused by every block
        self._a = torch.empty(lens.d_sae * BLOCK, device=self._W.device)
        self._hit = torch.empty(lens.d_sae * BLOCK, dtype=torch.bool, device=self._W.device)
        self._blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # counts by latent, tokens, values
        self._n = 0

    @torch.no_grad()
    def add(self, chunk: Tensor, keep: np.ndarray | None = None) -> None:
        """Encode the next tokens (n, d_in), of any float dtype and device, in token order.

        Where `keep` (bool (n,)) is given, only those tokens are encoded; the others have no code.

        Raises CaseError for an activation that is not finite, ValueError for another d_in (a bug of the caller).
        """
        lens = self.lens
        if chunk.ndim != 2 or chunk.shape[1] != lens.d_in:
            raise ValueError(f"tokens of shape {tuple(chunk.shape)}; the lens at {lens.tap} reads (n, {lens.d_in})")
        kept = np.arange(len(chunk)) if keep is None else np.flatnonzero(keep)
        if keep is not None:
            chunk = chunk[torch.from_numpy(kept).to(chunk.device)]
        for first in range(0, len(kept), BLOCK):
            x = chunk[first : first + BLOCK].to(self._W.device, torch.float32)
            n = len(x)
            if not torch.isfinite(x.sum()):
                cause = "the segmenter's activations hold values that are not finite (nan or inf)."
                raise CaseError(lens.tap, cause, "Check the case for broken voxels and the pack with `pack verify`.")
            a = self._a[: lens.d_sae * n].view(-1, n)
            if lens.activation == "jumprelu":
                torch.addmm(lens.b_enc[:, None], self._W, (x - lens.b_dec).T, out=a)
            else:
                a.copy_(lens.encode(x).T)
            least = lens.threshold[:, None] if lens.activation == "jumprelu" else torch.zeros((), device=a.device)
            hit = torch.gt(a, least, out=self._hit[: lens.d_sae * n].view(-1, n))
            # numpy's flatnonzero and a gather take 1.3 ms a block where a[mask] and mask.sum(1) take 6.4 (GEMM: 6.1)
            hits = np.flatnonzero(hit.cpu().numpy())
            values = a.view(-1).index_select(0, torch.from_numpy(hits).to(self._W.device))
            counts = np.diff(np.searchsorted(hits, np.arange(lens.d_sae + 1) * n))
            tokens = (kept[first + hits % n] + self._n).astype(np.int32)
            self._blocks.append((counts, tokens, values.cpu().numpy()))
        self._n += len(chunk) if keep is None else len(keep)

    def finish(self) -> Codes:
        """The codes. Raises ValueError when not all tokens of the grid were added (a bug of the caller)."""
        if self._n != int(np.prod(self.grid)):
            raise ValueError(f"{self._n} tokens for a grid {self.grid} of {int(np.prod(self.grid))}")
        return Codes(*_merge(self._blocks, self.lens.d_sae), self.grid)


def encode_tokens(lens: Lens, chunks: Iterable[Tensor], grid: tuple[int, ...]) -> Codes:
    """The codes of a volume whose tokens come in chunks (n, d_in); see `CodesBuilder`."""
    builder = CodesBuilder(lens, grid)
    for chunk in chunks:
        builder.add(chunk)
    return builder.finish()


def _merge(blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]], n_latents: int):
    """Join runs by latent of consecutive blocks of tokens. One pass, no sort: O(nnz)."""
    counts = np.array([c for c, _, _ in blocks], np.int64).reshape(-1, n_latents)
    pointers = np.concatenate([[0], np.cumsum(counts.sum(0))])
    tokens, values = np.empty(pointers[-1], np.int32), np.empty(pointers[-1], np.float32)
    goal = pointers[:-1].copy()  # where the next run of each latent goes
    for count, (_, block_tokens, block_values) in zip(counts, blocks, strict=True):
        run_start = np.cumsum(count) - count
        where = np.repeat(goal - run_start, count) + np.arange(len(block_tokens))
        tokens[where], values[where] = block_tokens, block_values
        goal += count
    return pointers, tokens, values
