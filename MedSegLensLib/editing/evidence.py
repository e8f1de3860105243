"""What a cohort says of each latent of one lens, as sums that cases add to: memory does not grow with the cases."""

from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from MedSegLensLib.editing.code_histograms import (
    N_BINS,
    CodeBins,
    auroc,
    best_iou,
    linear_histogram,
    quantiles,
)
from MedSegLensLib.editing.siblings import Pairs
from MedSegLensLib.editing.tissues import CSF, GREY, WHITE
from MedSegLensLib.editing.token_facts import (
    AIR,
    BORDERS,
    BRAIN_EDGE,
    ED,
    ET,
    MIDLINE,
    N_LAYERS,
    NCR,
    UNLABELLED,
    TokenFacts,
)
from MedSegLensLib.lenses.codes import Codes
from MedSegLensLib.packs.naming import MODALITIES, N_CLASSES

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
N_PARTS, HISTOGRAM_BINS = 6, 20
BANDS = {f"{region.lower()}_border": bit for region, bit in BORDERS.items()}
BANDS |= {"brain_edge": BRAIN_EDGE, "midline": MIDLINE}
_BITS = np.array(list(BANDS.values()))
_IN_BAND = (np.arange(_BITS.max() * 2)[:, None] & _BITS > 0).astype(np.float32)
"""Which bands a token with these bits lies in, (64, 6)."""

PARTS = {"ncr": NCR, "ed": ED, "et": ET}
SHARES = ("share_air", "share_brain", "share_ncr", "share_ed", "share_et")
LATENTS_AT_A_TIME = 128
EXAMPLES, APART_MM, OF_ONE_CASE = 5, 5.0, 2
STRONG_SHARE_OF_Q99 = 0.5
"""A latent fires strongly from half of the 99 % quantile of its code on: what stands out when laid over a scan."""


@dataclass
class Evidence:
    """Sums over cases, for the `m` latents of one lens. Counts are of brain tokens.

    parts: int64 (6,), tokens of each part (`token_facts.AIR` .. `UNLABELLED`); part_counts: int32 (m, 64, 6), those on
        which a latent fires, by bin of its code. bands, band_counts: the same by band, in the order of `BANDS`; a
        token may lie in several, and in borders only where there are expert labels.
    classes: int64 (N_CLASSES,) tokens; energy: float32 (m, N_CLASSES) sums of squared codes; case_energy,
        case_energy_squares: (m,), sum over cases of a case's energy and of its square.
    weighted: float64 (m, columns), sums of the code times the columns of `_columns`; squares: (m,).
    sides, side_cases: (m,), sum over cases of (right - left) / (right + left), and their number.
    low, high: (m,), extent_ml: (m,) sums; n_cases, labelled_cases: (m,).
    influence: (m, 3), influence_cases: (3,). examples: by latent, (value, case, slice, row, column).
    """

    bins: CodeBins
    parts: np.ndarray = field(init=False)
    part_counts: np.ndarray = field(init=False)
    bands: np.ndarray = field(init=False)
    band_counts: np.ndarray = field(init=False)
    classes: np.ndarray = field(init=False)
    energy: np.ndarray = field(init=False)
    pairs: Pairs = field(init=False)
    examples: list[list[tuple]] = field(init=False)

    def __post_init__(self):
        m = len(self.bins.base)
        self.parts, self.part_counts = np.zeros(N_PARTS, np.int64), np.zeros((m, N_BINS, N_PARTS), np.int32)
        self.bands, self.band_counts = np.zeros(len(BANDS), np.int64), np.zeros((m, N_BINS, len(BANDS)), np.int32)
        self.classes, self.energy = np.zeros(N_CLASSES, np.int64), np.zeros((m, N_CLASSES), np.float32)
        self.case_energy, self.case_energy_squares = np.zeros(m), np.zeros(m)
        self.weighted, self.squares = np.zeros((m, N_COLUMNS)), np.zeros(m)
        self.sides, self.side_cases = np.zeros(m), np.zeros(m, np.int32)
        self.low, self.high, self.extent_ml = np.full(m, np.inf), np.zeros(m), np.zeros(m)
        self.n_cases, self.labelled_cases = np.zeros(m, np.int32), np.zeros(m, np.int32)
        self.influence, self.influence_cases = np.zeros((m, 3)), np.zeros(3, np.int32)
        self.cases = 0
        self.examples = [[] for _ in range(m)]
        self.pairs = Pairs(m)

    @property
    def n_latents(self) -> int:
        return len(self.bins.base)

    def add(self, codes: Codes, facts: TokenFacts, token_ml: float) -> None:
        """Add one case; token_ml: volume of a token. Examples are added by `add_examples`."""
        m, brain = self.n_latents, facts.brain
        self.cases += 1
        self.parts += np.bincount(facts.part[brain], minlength=N_PARTS)
        bands, n_bits = facts.bands.astype(np.int64), len(_IN_BAND)
        self.bands += (np.bincount(bands[brain], minlength=n_bits) @ _IN_BAND).astype(np.int64)
        known = facts.classes >= 0
        self.classes += np.bincount(facts.classes[brain & known], minlength=N_CLASSES)
        part = facts.part.astype(np.int64)
        classes = facts.classes.astype(np.int64)
        for first in range(0, m, LATENTS_AT_A_TIME):
            last = min(first + LATENTS_AT_A_TIME, m)
            span = slice(codes.pointers[first], codes.pointers[last])
            tokens, values = codes.tokens[span], codes.values[span]
            latents = np.repeat(np.arange(first, last), np.diff(codes.pointers[first : last + 1]))
            cell = (latents - first) * N_BINS + self.bins.index(latents, values)
            found = np.bincount(cell * N_PARTS + part[tokens], minlength=(last - first) * N_BINS * N_PARTS)
            self.part_counts[first:last] += found.reshape(last - first, N_BINS, N_PARTS).astype(np.int32)
            found = np.bincount(cell * n_bits + bands[tokens], minlength=(last - first) * N_BINS * n_bits)
            found = found.reshape(last - first, N_BINS, n_bits) @ _IN_BAND
            self.band_counts[first:last] += found.astype(np.int32)
            of = classes[tokens]
            there = of >= 0
            squared = values[there].astype(np.float64) ** 2
            found = np.bincount((latents[there] - first) * N_CLASSES + of[there], squared, (last - first) * N_CLASSES)
            found = found.reshape(last - first, N_CLASSES)
            self.energy[first:last] += found.astype(np.float32)
            self.case_energy[first:last] += found.sum(1)
            self.case_energy_squares[first:last] += found.sum(1) ** 2
        summary = codes.summary()
        fires = summary.count > 0
        by_latent = sparse.csr_matrix((codes.values, codes.tokens, codes.pointers), shape=(m, codes.n_tokens))
        weighted = by_latent @ _columns(facts)
        self.weighted += weighted
        right, left = weighted[:, RIGHT], weighted[:, LEFT]
        sided = right + left > 0
        self.sides[sided] += ((right - left) / np.where(sided, right + left, 1))[sided]
        self.side_cases += sided
        self.squares += _squares(codes)
        smallest = np.full(m, np.inf)
        smallest[fires] = np.minimum.reduceat(codes.values, codes.pointers[:-1][fires])
        self.low, self.high = np.minimum(self.low, smallest), np.maximum(self.high, summary.maximum)
        self.extent_ml += summary.count * token_ml
        self.n_cases += fires
        if facts.labelled:
            self.labelled_cases += fires
        self.pairs.add(codes.pointers, codes.tokens, brain, seed=self.cases)

    def add_influence(self, region: int, change: np.ndarray) -> None:
        """Add the change (m,) of a region's log odds (0 WT, 1 TC, 2 ET) on one case that has the region."""
        self.influence[:, region] += change
        self.influence_cases[region] += 1

    def add_examples(self, case: str, found: list[list[tuple[float, int, int, int]]], spacing: float) -> None:
        """Add the strongest places (code, slice, row, column) of each latent on one case, strongest first. Of those
        less than `APART_MM` apart (`spacing`: mm between slices) the strongest counts."""
        for latent, places in enumerate(found):
            kept: list[tuple] = []
            for value, *place in places:
                if all(abs(place[0] - other[2]) * spacing >= APART_MM for other in kept):
                    kept.append((value, case, *place))
            if kept:
                self.examples[latent] = _best(self.examples[latent] + kept[:EXAMPLES])

    def merge(self, other: "Evidence") -> None:
        """Add the cases of another evidence, which must have the same bins (the same lens)."""
        if not np.array_equal(self.bins.base, other.bins.base):
            raise ValueError("evidence of two lenses does not add up")
        for name in SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.low, self.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        self.cases += other.cases
        self.examples = [_best(a + b) for a, b in zip(self.examples, other.examples, strict=True)]
        self.pairs.merge(other.pairs)

    # -- what it says -----------------------------------------------------------------------------------------------

    @property
    def count(self) -> np.ndarray:
        """Tokens on which each latent fires, int64 (m,)."""
        return self.part_counts.sum((1, 2), dtype=np.int64)

    def strong_from(self) -> np.ndarray:
        """The code from which each latent fires strongly, float64 (m,); nan where it never fires."""
        return STRONG_SHARE_OF_Q99 * self._quantiles((0.99,))[:, 0]

    def _quantiles(self, at: tuple[float, ...]) -> np.ndarray:
        counts = self.part_counts.sum(2)
        return quantiles(counts, self.bins.edges(), np.where(self.low < np.inf, self.low, 0), self.high, at)

    def auroc_of_parts(self) -> dict[str, np.ndarray]:
        """AUROC and IoU of each latent with each region: auroc_ncr .. iou_wt, (m,), nan without labelled cases."""
        labelled = self.part_counts[:, :, AIR : ET + 1]
        total = labelled.sum(2, dtype=np.int64)
        n = self.parts[AIR : ET + 1].sum()
        found = {}
        for name, parts in {**{k: [v] for k, v in PARTS.items()}, "wt": [NCR, ED, ET]}.items():
            positive = labelled[:, :, parts].sum(2, dtype=np.int64)
            n_positive = int(self.parts[parts].sum())
            found[f"auroc_{name}"] = auroc(positive, total - positive, n_positive, n - n_positive)
            found[f"iou_{name}"] = best_iou(positive, total - positive, n_positive)
        return found

    def auroc_of_bands(self) -> dict[str, np.ndarray]:
        """AUROC and IoU of each latent with each band: auroc_wt_border .. iou_midline, (m,); nan where no token lies in
        it. Against all tokens, and for the borders of regions against those of labelled cases."""
        found = {}
        for i, (name, bit) in enumerate(BANDS.items()):
            parts = slice(AIR, UNLABELLED) if bit in BORDERS.values() else slice(AIR, N_PARTS)
            total, n = self.part_counts[:, :, parts].sum(2, dtype=np.int64), int(self.parts[parts].sum())
            positive, n_positive = self.band_counts[:, :, i].astype(np.int64), int(self.bands[i])
            found[f"auroc_{name}"] = auroc(positive, total - positive, n_positive, n - n_positive)
            found[f"iou_{name}"] = best_iou(positive, total - positive, n_positive)
        return found

    def laterality(self) -> np.ndarray:
        """-1 left .. 1 right, mean over the cases where it fires off the midline, (m,); nan where it does not."""
        return np.where(self.side_cases > 0, self.sides / np.maximum(self.side_cases, 1), np.nan)

    def effective_tokens(self) -> np.ndarray:
        """(sum z)^2 / sum z^2, (m,): over how many tokens its code is spread."""
        total = self.weighted[:, TOTAL]
        return np.where(self.squares > 0, total**2 / np.maximum(self.squares, 1e-30), 0.0)

    def effective_cases(self) -> np.ndarray:
        """(sum e)^2 / sum e^2 over the energies e of the labelled cases, (m,): over how many its firing is spread."""
        return self.case_energy**2 / np.maximum(self.case_energy_squares, 1e-30)

    def intensity(self) -> np.ndarray:
        """Mean z-score of each modality where it fires, less healthy brain's, (m, 4); nan where no case has it."""
        weight = self.weighted[:, PRESENT]
        return np.where(weight > 0, self.weighted[:, INTENSITY] / np.maximum(weight, 1e-30), np.nan)

    def rows(self, tap: str, decoder: np.ndarray, stability: np.ndarray | None = None) -> list[dict]:
        """The catalogue's rows without names (see `packs.catalogue`); a value that is not known is left out.

        decoder: (m, d_in). stability: (m,) or None.
        """
        count, tokens = self.count, max(1, int(self.parts.sum()))
        total = self.weighted[:, TOTAL]
        labelled = self.weighted[:, LABEL_PARTS]
        edges, counts = self.bins.edges(), self.part_counts.sum(2, dtype=np.int64)
        spread, histogram = self._quantiles(QUANTILES), linear_histogram(counts, edges, self.high, HISTOGRAM_BINS)
        measured = self.auroc_of_parts() | self.auroc_of_bands()
        intensity, laterality = self.intensity(), self.laterality()
        relations = self.pairs.relations(decoder)
        rows = []
        for j in range(self.n_latents):
            row: dict = {
                "tap": tap,
                "latent": j,
                "fires_share": float(count[j] / tokens),
                "n_cases": int(self.n_cases[j]),
            }
            rows.append(row)
            if stability is not None:
                row["stability"] = float(stability[j])
            if not count[j]:
                continue
            row |= {"mean": float(total[j] / count[j]), "max": float(self.high[j])}
            row |= {"extent_ml": float(self.extent_ml[j] / self.n_cases[j])}
            row |= {"quantiles": spread[j].tolist(), "histogram": histogram[j].tolist()}
            if labelled[j].sum() > 0:
                row |= dict(zip(SHARES, (labelled[j] / labelled[j].sum()).tolist(), strict=True))
            row |= {name: float(values[j]) for name, values in measured.items() if np.isfinite(values[j])}
            if self.weighted[j, TISSUE_KNOWN] > 0:
                shares = self.weighted[j, TISSUES] / self.weighted[j, TISSUE_KNOWN]
                row |= dict(zip(("share_csf", "share_gm", "share_wm"), shares.tolist(), strict=True))
            for modality, value in zip(MODALITIES, intensity[j], strict=True):
                if np.isfinite(value):
                    row[f"intensity_{modality}"] = float(value)
            if np.isfinite(laterality[j]):
                row["laterality"] = float(laterality[j])
            row["slice_profile"] = (self.weighted[j, LAYERS] / total[j]).tolist()
            for i, region in enumerate(("wt", "tc", "et")):
                if self.influence_cases[i]:
                    row[f"influence_{region}"] = float(self.influence[j, i] / self.influence_cases[i])
            row |= relations[j]
            if self.examples[j]:
                row["examples"] = [
                    {"case": case, "slice": z, "row": y, "column": x, "value": value}
                    for value, case, z, y, x in self.examples[j]
                ]
                row |= {"best_case": self.examples[j][0][1], "best_slice": self.examples[j][0][2]}
        return rows


SUMS = (
    *("parts", "part_counts", "bands", "band_counts", "classes", "energy", "weighted", "squares", "sides"),
    *("case_energy", "case_energy_squares"),
    *("side_cases", "extent_ml", "n_cases", "labelled_cases", "influence", "influence_cases"),
)
TOTAL = 0
INTENSITY, PRESENT = slice(1, 5), slice(5, 9)
TISSUES, TISSUE_KNOWN = slice(9, 12), 12
LEFT, RIGHT = 13, 14
LAYERS = slice(15, 15 + N_LAYERS)
LABEL_PARTS = slice(25, 30)
N_COLUMNS = 30


def _columns(facts: TokenFacts) -> np.ndarray:
    """What codes are weighted with, float32 (n, N_COLUMNS): one, intensities, tissues, sides, layers, parts."""
    columns = np.zeros((len(facts.part), N_COLUMNS), np.float32)
    columns[:, TOTAL] = 1
    columns[:, INTENSITY], columns[:, PRESENT] = facts.intensity, facts.present
    for i, tissue in enumerate((CSF, GREY, WHITE)):
        columns[:, TISSUES.start + i] = facts.tissue == tissue
    columns[:, TISSUE_KNOWN] = bool((facts.tissue > 0).any())
    off = facts.bands & MIDLINE == 0
    columns[:, LEFT], columns[:, RIGHT] = off & (facts.side < 0), off & (facts.side > 0)
    columns[np.arange(len(columns)), LAYERS.start + facts.layer.astype(np.int64)] = 1
    for part in range(AIR, UNLABELLED):
        columns[:, LABEL_PARTS.start + part] = facts.part == part
    return columns


def _squares(codes: Codes) -> np.ndarray:
    total = np.concatenate([[0.0], np.cumsum(codes.values.astype(np.float64) ** 2)])
    return total[codes.pointers[1:]] - total[codes.pointers[:-1]]


def _best(places: list[tuple]) -> list[tuple]:
    """The five strongest, of equal ones the first; of one case no more than two where there are others."""
    places = sorted(places, key=lambda place: -place[0])
    of_case: dict[str, int] = {}
    first, rest = [], []
    for place in places:
        of_case[place[1]] = of_case.get(place[1], 0) + 1
        (first if of_case[place[1]] <= OF_ONE_CASE else rest).append(place)
    return sorted((first + rest)[:EXAMPLES], key=lambda place: -place[0])
