"""Tokens harvested once and kept in a folder, so that many lenses can be trained on many cases in little memory.

    store/manifest.json              what was harvested and how: taps, seed, sample sizes, the segmenter's hash
    store/cases/<name>-<hash>.safetensors    one case: per tap a sample by stratum and a natural one, float16

A case's file is there in full or not at all, so a harvest that was stopped (or whose disk filled) goes on with the
cases that are missing. Of each case a bounded sample is kept; ten thousand cases take the room that the plan says.
"""

import hashlib
import itertools
import json
import math
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from MedSegLensLib.cases.writing import atomic_path
from MedSegLensLib.errors import CaseError, OutputError, UsageError
from MedSegLensLib.lenses.sampling import DEFAULT_SHARES, STRATA, Reservoir, draw, generator_of

MANIFEST_NAME, CASES_FOLDER = "manifest.json", "cases"
SEVERAL_CASES = 4
"""From so many cases on, one in ten (at least one) is held out whole."""

Chunk = tuple[Mapping[str, Tensor], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class HarvestPlan:
    """What a store holds. Two harvests into one folder must agree in all of it.

    Attributes:
        taps: the modules whose outputs are kept.
        segmenter: a hash of the network they are of.
        per_case: tokens for training kept of one case and tap; a stratum may take twice its share of them, since a case
            with a small lesion leaves room.
        natural: tokens kept besides, uniform over the case's brain; never trained on.
        seed: of both samples. A case's sample depends on the seed and the case's name alone.
        shares: stratum's name -> share of `per_case`.
    """

    taps: tuple[str, ...]
    segmenter: str
    per_case: int
    natural: int
    seed: int = 0
    shares: Mapping[str, float] | None = None

    def __post_init__(self):
        shares = self.shares or {STRATA[s]: share for s, share in DEFAULT_SHARES.items()}
        unknown = sorted(set(shares) - set(STRATA))
        if unknown:
            raise UsageError(unknown[0], "it is no stratum of tokens.", f"Use {', '.join(STRATA)}.")
        if not self.taps or self.per_case < 1 or self.natural < 1 or not sum(shares.values()) > 0:
            raise UsageError("harvest", "it needs a tap, tokens to keep and shares above zero.", "Correct it.")
        object.__setattr__(self, "shares", dict(shares))
        object.__setattr__(self, "taps", tuple(self.taps))


class TokenStore:
    """A folder of harvested tokens.

    >>> store = TokenStore.create(folder, plan)
    >>> for case in cases:
    ...     if not store.has(case.name): store.add(case.name, harvest_taps(case, ...))
    >>> lens = train_lens(store.tokens("bottleneck"), LensConfig(tap="bottleneck"))
    """

    def __init__(self, folder: Path, plan: HarvestPlan):
        self.folder, self.plan = Path(folder), plan

    @staticmethod
    def create(folder: Path, plan: HarvestPlan) -> "TokenStore":
        """A new store, or the one that is there, to go on with.

        Raises UsageError where one of another plan is there, OutputError where the folder cannot be written.
        """
        folder = Path(folder)
        if (folder / MANIFEST_NAME).exists():
            store = TokenStore.open(folder)
            mine, theirs = asdict(plan), asdict(store.plan)
            different = [f"{n} was {theirs[n]} and is {mine[n]}" for n in mine if mine[n] != theirs[n]]
            if different:
                remedy = "Give what it was harvested with, or another folder for the tokens."
                raise UsageError(folder, f"its tokens were harvested otherwise: {', '.join(different)}.", remedy)
            return store
        try:
            (folder / CASES_FOLDER).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                folder, f"the folder cannot be made ({error.strerror}).", "Choose another folder."
            ) from error
        with atomic_path(folder / MANIFEST_NAME) as path:
            path.write_text(json.dumps({"format": 1, **asdict(plan)}, indent=1) + "\n", encoding="utf-8")
        return TokenStore(folder, plan)

    @staticmethod
    def open(folder: Path) -> "TokenStore":
        """Raises UsageError for a folder that holds no store."""
        try:
            values = json.loads((Path(folder) / MANIFEST_NAME).read_text(encoding="utf-8"))
            if values.pop("format") != 1:
                raise ValueError("another format")
            return TokenStore(folder, HarvestPlan(**values))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            cause = f"it is not a folder of harvested tokens ({error})."
            raise UsageError(folder, cause, "Harvest into a new folder.") from error

    def has(self, case: str) -> bool:
        return self._file(case).exists()

    def add(self, case: str, chunks: Iterable[Chunk]) -> None:
        """Keep a case's sample of the tokens that come in chunks: ({tap: (n, d)}, {tap: strata int (n,)}).

        Raises CaseError for activations that float16 cannot hold, UsageError when a tap has other channels than in the
        cases before, OutputError when the file cannot be written (the cases before stay).
        """
        plan = self.plan
        seed = int.from_bytes(hashlib.sha256(case.encode()).digest()[:8], "little")
        total = sum(plan.shares.values())
        quota = {STRATA.index(s): math.ceil(2 * plan.per_case * v / total) for s, v in plan.shares.items() if v > 0}
        samples = {tap: _Sample(quota, plan.natural, (plan.seed, seed, i)) for i, tap in enumerate(plan.taps)}
        for tokens, strata in chunks:
            for tap, sample in samples.items():
                sample.offer(tokens[tap], strata[tap])
        tensors, facts = {}, {"case": case, "taps": {}}
        for i, (tap, sample) in enumerate(samples.items()):
            trained, counts, natural, natural_strata = sample.result(case)
            if not torch.isfinite(trained).all() or not torch.isfinite(natural).all():
                cause = f"its activations at {tap} are not finite, or beyond what float16 holds (65504)."
                raise CaseError(case, cause, "Check the case for broken voxels, or choose another tap.")
            tensors |= {f"{i}.tokens": trained, f"{i}.natural": natural, f"{i}.natural_strata": natural_strata}
            facts["taps"][tap] = {"d_in": trained.shape[1], "counts": counts, "natural": len(natural)}
        self._check_channels(case, facts)
        with atomic_path(self._file(case)) as path:
            try:
                save_file(tensors, path, metadata={"facts": json.dumps(facts)})
            except SafetensorError as error:
                cause = f"the tokens of {case} cannot be written ({error})."
                remedy = "Free some space and start the same command again: it goes on with the cases that are missing."
                raise OutputError(self.folder, cause, remedy) from error

    def tokens(
        self,
        tap: str,
        shares: Mapping[int, float] | None = None,
        held_out: int | None = None,
        memory_mb: int = 512,
    ) -> "StoredTokens":
        """The tokens of one tap to train on.

        held_out: cases kept apart whole for the closing measures; by default one in ten where there are several. With
        none, the measures are of tokens of the training cases that were not trained on.

        Raises UsageError for a tap that was not harvested, or a store without cases.
        """
        if tap not in self.plan.taps:
            raise UsageError(tap, "was not harvested.", f"Harvested: {', '.join(self.plan.taps)}.")
        return StoredTokens(self, tap, shares, held_out, memory_mb)

    def cases(self) -> list["StoredCase"]:
        """The harvested cases by name. Raises UsageError for a damaged file."""
        return sorted(map(StoredCase.open, (self.folder / CASES_FOLDER).glob("*.safetensors")), key=lambda c: c.name)

    def _file(self, case: str) -> Path:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", case)[:60]
        return self.folder / CASES_FOLDER / f"{plain}-{hashlib.sha256(case.encode()).hexdigest()[:8]}.safetensors"

    def _check_channels(self, case: str, facts: dict) -> None:
        other = next((self.folder / CASES_FOLDER).glob("*.safetensors"), None)
        before = StoredCase.open(other) if other else None
        for tap, values in facts["taps"].items():
            if before and before.facts["taps"][tap]["d_in"] != values["d_in"]:
                known = before.facts["taps"][tap]["d_in"]
                cause = f"has {values['d_in']} channels in {case} and {known} in {before.name}."
                raise UsageError(tap, cause, "A lens needs a tap whose channels are the same in all cases.")


@dataclass(frozen=True)
class StoredCase:
    """One case's file; nothing but its header is read before tokens are asked for."""

    path: Path
    facts: dict

    @staticmethod
    def open(path: Path) -> "StoredCase":
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                return StoredCase(path, json.loads(file.metadata()["facts"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            cause = f"it is damaged ({error})."
            raise UsageError(path, cause, "Remove the file and harvest again: only this case is done anew.") from error

    @property
    def name(self) -> str:
        return self.facts["case"]

    def count(self, tap: str) -> int:
        return sum(self.facts["taps"][tap]["counts"].values())

    def by_stratum(self, tap: str, index: int) -> dict[int, Tensor]:
        """The training sample, stratum -> float16 (n, d)."""
        with safe_open(self.path, framework="pt", device="cpu") as file:
            tokens = file.get_tensor(f"{index}.tokens")
        counts = {int(s): n for s, n in self.facts["taps"][tap]["counts"].items()}
        return dict(zip(counts, tokens.split(list(counts.values())), strict=True))

    def natural(self, index: int) -> tuple[Tensor, Tensor]:
        with safe_open(self.path, framework="pt", device="cpu") as file:
            return file.get_tensor(f"{index}.natural"), file.get_tensor(f"{index}.natural_strata")


class StoredTokens:
    """A TokenSource over a store: a window of cases is in memory at a time, the next is read meanwhile.

    The cases come in an order drawn anew for each epoch; as many as fit in half of the memory make a window, and its
    batches are drawn with the shares from the window's tokens, about as many as it holds. A store that fits as a whole
    is read once. Batch number i depends on the seed and i alone; the order of the windows on the store's seed.
    """

    def __init__(
        self, store: TokenStore, tap: str, shares: Mapping[int, float] | None, held_out: int | None, memory_mb: int
    ):
        self.tap, self.index, self.seed = tap, store.plan.taps.index(tap), store.plan.seed
        cases = store.cases()
        if not cases:
            raise UsageError(store.folder, "no case was harvested yet.", "Harvest first.")
        self.d_in = cases[0].facts["taps"][tap]["d_in"]
        if shares is None:
            shares = {STRATA.index(s): v for s, v in store.plan.shares.items()}
        self.shares = {s: v for s, v in shares.items() if v > 0}
        if held_out is None:
            held_out = max(1, round(len(cases) / 10)) if len(cases) >= SEVERAL_CASES else 0
        if not 0 <= held_out < len(cases):
            cause = f"of {len(cases)} cases it leaves none to train on."
            raise UsageError(f"held_out = {held_out}", cause, "Hold fewer out.")
        order = torch.randperm(len(cases), generator=generator_of(self.seed, 0)).tolist()
        apart = [cases[i] for i in order[:held_out]]
        self.cases = [cases[i] for i in sorted(order[held_out:])]
        self.held_out_cases = tuple(sorted(case.name for case in apart))
        self.natural, natural_strata = _natural(cases, self.index, 16_384)
        self.held_out, self.held_out_strata = self.natural, natural_strata
        if apart:
            self.held_out, self.held_out_strata = _natural(apart, self.index, 16_384)
        if not any(case.facts["taps"][tap]["counts"].get(str(s)) for case in self.cases for s in self.shares):
            raise UsageError("token sample", "no wanted stratum has a token.", "Check the shares and the cases.")
        self.capacity = max(1, memory_mb * 10**6 // (2 * 2 * self.d_in))  # tokens of a window; two are held
        self.total = sum(case.count(tap) for case in self.cases)
        self._windows: dict[int, _Window] = {}
        self._lock = threading.Lock()

    @property
    def held_out_said(self) -> str:
        """What the held-out tokens are, in words."""
        if self.held_out_cases:
            return f"tokens of held-out cases: {', '.join(self.held_out_cases)}"
        return "tokens of the training cases, themselves not trained on"

    def batches(self, size: int, seed: int, start: int = 0) -> Iterator[Tensor]:
        for number in itertools.count(start):
            if self.total <= 2 * self.capacity:
                window = self._window(0)
            else:
                window = self._window(number * size // self.capacity)
            pools = window.wait()
            shares = {s: v for s, v in self.shares.items() if s in pools}
            scale = sum(shares.values())
            yield draw(pools, {s: v / scale for s, v in shares.items()}, size, generator_of(seed, number))

    def _window(self, number: int) -> "_Window":
        with self._lock:
            for wanted in (number, number + 1):
                if wanted not in self._windows and not (wanted and self.total <= 2 * self.capacity):
                    self._windows[wanted] = _Window(self._cases_of(wanted), self.tap, self.index, self.shares)
            for old in [n for n in self._windows if n not in (number, number + 1)]:
                del self._windows[old]
            return self._windows[number]

    def _cases_of(self, number: int) -> list[StoredCase]:
        """The cases of a window: consecutive ones of the endless row of epochs, each in an order of its own."""
        if self.total <= 2 * self.capacity:
            return self.cases
        first, last = number * self.capacity, (number + 1) * self.capacity
        chosen = []
        for epoch in range(first // self.total, (last - 1) // self.total + 1):
            at = epoch * self.total
            for i in torch.randperm(len(self.cases), generator=generator_of(self.seed, 1, epoch)).tolist():
                middle = at + self.cases[i].count(self.tap) // 2
                if first <= middle < last:
                    chosen.append(self.cases[i])
                at += self.cases[i].count(self.tap)
        return chosen or [self.cases[number % len(self.cases)]]


class _Window:
    """The tokens of some cases by stratum, read in a thread."""

    def __init__(self, cases: list[StoredCase], tap: str, index: int, strata: Iterable[int]):
        self._pools: dict[int, Tensor] = {}
        self._error: Exception | None = None
        self._arguments = (cases, tap, index, set(strata))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        cases, tap, index, strata = self._arguments
        try:
            parts: dict[int, list[Tensor]] = {s: [] for s in sorted(strata)}
            for case in cases:
                for stratum, tokens in case.by_stratum(tap, index).items():
                    if stratum in strata and len(tokens):
                        parts[stratum].append(tokens)
            self._pools = {s: torch.cat(found) for s, found in parts.items() if found}
        except Exception as error:  # raised where the batch is asked for
            self._error = error

    def wait(self) -> dict[int, Tensor]:
        self._thread.join()
        if self._error:
            raise self._error
        if not self._pools:
            raise UsageError("token sample", "no wanted stratum has a token in some cases.", "Give more cases.")
        return self._pools


class _Sample:
    """What is kept of one case and tap: tokens by stratum, and natural ones that are in no stratum's sample."""

    def __init__(self, quota: Mapping[int, int], natural: int, seed: tuple[int, ...]):
        self.rng = np.random.default_rng(seed)
        self.strata = {s: Reservoir(n) for s, n in quota.items()}
        self.natural = {s: Reservoir(natural) for s in range(len(STRATA))}

    def offer(self, tokens: Tensor, strata: np.ndarray) -> None:
        strata = np.asarray(strata).reshape(-1)
        if len(tokens) != len(strata):
            raise ValueError(f"{len(tokens)} tokens with {len(strata)} strata")
        apart, key = self.rng.random(len(strata)) < 0.05, self.rng.random(len(strata))
        for reservoirs, wanted in ((self.natural, apart), (self.strata, ~apart)):
            for stratum, reservoir in reservoirs.items():
                reservoir.offer(tokens, np.flatnonzero(wanted & (strata == stratum)), key, torch.float16)

    def result(self, case: str) -> tuple[Tensor, dict[str, int], Tensor, Tensor]:
        """Tokens by ascending stratum with the strata's counts, natural tokens with their strata."""
        kept = [(s, r) for s, r in sorted(self.strata.items()) if r.n]
        some = next((r for r in self.natural.values() if r.n), None)
        if not kept or some is None:
            raise CaseError(case, "it has too few tokens of the wanted strata.", "Leave it out, or change the shares.")
        tokens = torch.cat([r.tokens for _, r in kept])
        counts = {str(s): r.n for s, r in kept}
        keys = np.concatenate([r.keys for r in self.natural.values()])
        strata = np.concatenate([np.full(r.n, s, np.int8) for s, r in self.natural.items()])
        natural = torch.cat([r.tokens for r in self.natural.values() if r.n])
        order = np.argsort(keys)[: some.size]
        return tokens, counts, natural[torch.from_numpy(order)].contiguous(), torch.from_numpy(strata[order])


def _natural(cases: list[StoredCase], index: int, most: int) -> tuple[Tensor, np.ndarray]:
    """Natural tokens of the cases, as many of each, at most so many: float32 (n, d), strata int8 (n,).

    Where there are more cases than tokens wanted, of evenly spaced cases one each.
    """
    if len(cases) > most:
        cases = [cases[i] for i in np.linspace(0, len(cases) - 1, most).astype(int)]
    each = most // len(cases)
    parts = [case.natural(index) for case in cases]
    tokens = torch.cat([tokens[:each] for tokens, _ in parts]).float()
    return tokens, torch.cat([strata[:each] for _, strata in parts]).numpy()
