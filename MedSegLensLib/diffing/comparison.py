"""What a comparison found: one finding a latent, each with its null, and shares of categories with intervals.

Both kinds of comparison, of two packs (`model_diff.diff_models`) and of two cohorts (`cohort_diff.diff_cohorts`), end
in a `Comparison`; the report, the panel's badges and the table read nothing else. Imports no torch.
"""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa

from MedSegLensLib.cases.writing import atomic_path
from MedSegLensLib.errors import UsageError

VERSION = 1
CATEGORIES = (
    "shared",
    "partly shared",
    "specific",
    "backbone",
    "not distinguishable from seed noise",
    "undecided",
    "too few cases",
    "never fires",
)
"""shared, partly shared: of two packs. backbone: in both cohorts alike. specific: only one side has it, beyond the
null that stands beside. not distinguishable from seed noise: the side's own other seeds differ as much. undecided: the
numbers show neither a likeness beyond its null nor a difference beyond its null. too few cases: it fires on too few to
say. never fires: on no token of the cohort."""

KINDS = ("models", "cohorts")
SIDES = ("a", "b")


@dataclass(frozen=True)
class PackSide:
    """A pack that was compared. lens_hashes: by tap, `packs.notes.lens_hash`, so that a retrained lens is known."""

    name: str
    version: str
    hash: str
    lens_hashes: dict[str, str]


@dataclass(frozen=True)
class CohortSide:
    """A cohort that was compared, or that packs were compared on. simulated: acquisitions were simulated from real
    cases; invented: phantoms."""

    name: str
    source: str
    n_cases: int
    simulated: bool = False
    invented: bool = False


@dataclass(frozen=True)
class Share:
    """How large a category is on one side.

    side: "a" or "b"; tap: None over all taps of the side. n of total latents (those that never fire are not in it);
    interval: 95 %, by drawing cases again; None where there are too few. null: the same share under the null that
    `null_is` names; None where there is none.
    """

    side: str
    tap: str | None
    category: str
    n: int
    total: int
    interval: tuple[float, float] | None = None
    null: float | None = None
    null_is: str = ""

    @property
    def share(self) -> float:
        """0..1; nan of none."""
        return self.n / self.total if self.total else math.nan


@dataclass(frozen=True)
class LatentFinding:
    """What is said of one latent.

    side: "a" or "b": of two packs, whose latent it is; of two cohorts, which of their lenses (always "a" where one lens
    reads both). category: of CATEGORIES. specific_to: the pack or cohort that alone has it. partner_tap,
    partner_latent: the latent of the other side that it was matched with. measure: the correlation with the partner, or
    an effect size; interval: 95 % over cases. null: the same measure under the null. p_adjusted: corrected for the
    number of latents. evidence: one sentence with the numbers. numbers: more of them, finite, by name.

    Raises ValueError for a category that does not exist, and for "specific" without a null beside it.
    """

    side: str
    tap: str
    latent: int
    category: str
    specific_to: str | None = None
    partner_tap: str | None = None
    partner_latent: int | None = None
    measure: float | None = None
    interval: tuple[float, float] | None = None
    null: float | None = None
    p_adjusted: float | None = None
    evidence: str = ""
    numbers: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        if self.category not in CATEGORIES or self.side not in SIDES:
            raise ValueError(f"no such category or side: {self.category!r}, {self.side!r}")
        if (self.category == "specific") != (self.specific_to is not None):
            raise ValueError("a finding says what it is specific to, if and only if it is specific")
        if self.category == "specific" and self.null is None:
            raise ValueError("nothing is called specific without its null beside it")


@dataclass(frozen=True)
class Comparison:
    """A whole comparison.

    kind: "models" (a and b are packs, `cohort` the cases they met on, `pack` None) or "cohorts" (a and b are cohorts,
    `pack` whose latents the findings are about, `cohort` None). thresholds: what the categories were decided by, by
    name. summary: "shares" (a list of `Share` as dicts; see `shares`), "says" (sentences for a reader, most important
    first), and what else the kind has; JSON values only. notes: what a reader must know of it (failures, few cases,
    simulated or invented data).
    """

    kind: str
    a: PackSide | CohortSide
    b: PackSide | CohortSide
    findings: tuple[LatentFinding, ...]
    cohort: CohortSide | None = None
    pack: PackSide | None = None
    thresholds: dict[str, float] = field(default_factory=dict)
    summary: dict = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"no such kind of comparison: {self.kind!r}")
        # What is read again must equal what was written.
        object.__setattr__(self, "summary", json.loads(json.dumps(self.summary, allow_nan=False)))

    def side_name(self, side: str) -> str:
        """The name of side "a" or "b"."""
        return (self.a if side == "a" else self.b).name

    def pack_of(self, side: str) -> PackSide:
        """The pack whose latents the findings of a side are about."""
        if self.kind == "cohorts":
            return self.pack
        return self.a if side == "a" else self.b

    @property
    def cohorts(self) -> tuple[CohortSide, ...]:
        """Those that were compared, or the one that packs were compared on, where it is known."""
        if self.kind == "cohorts":
            return self.a, self.b
        return (self.cohort,) if self.cohort is not None else ()

    @property
    def shares(self) -> tuple[Share, ...]:
        """The shares of the summary."""
        rows = self.summary.get("shares", [])
        return tuple(Share(**{**row, "interval": tuple(row["interval"]) if row["interval"] else None}) for row in rows)

    def findings_of(self, side: str) -> tuple[LatentFinding, ...]:
        """Findings of a side."""
        return tuple(f for f in self.findings if f.side == side)

    def to_dict(self) -> dict:
        """All of it as JSON values."""
        return {"medseglens_comparison": VERSION, **json.loads(json.dumps(asdict(self)))}

    def to_json(self) -> str:
        """All of it as JSON text."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @staticmethod
    def from_dict(document: dict) -> "Comparison":
        """The inverse of `to_dict`. Raises UsageError for a document that is not of a comparison."""
        try:
            if document["medseglens_comparison"] != VERSION:
                raise KeyError("medseglens_comparison")
            side = PackSide if document["kind"] == "models" else CohortSide
            return Comparison(
                document["kind"],
                side(**document["a"]),
                side(**document["b"]),
                tuple(LatentFinding(**{**f, "interval": _pair(f["interval"])}) for f in document["findings"]),
                CohortSide(**document["cohort"]) if document["cohort"] else None,
                PackSide(**document["pack"]) if document["pack"] else None,
                document["thresholds"],
                document["summary"],
                tuple(document["notes"]),
            )
        except (KeyError, TypeError, ValueError) as problem:
            cause = f"it is not a comparison of this version ({problem})."
            raise UsageError("comparison", cause, "Make it again with `medseglens diff`.") from problem

    def to_table(self) -> pa.Table:
        """One row a finding (`TABLE_SCHEMA`); all else is JSON in the table's metadata, so nothing is lost."""
        columns = {name: [] for name in TABLE_SCHEMA.names}
        for f in self.findings:
            low, high = f.interval or (None, None)
            row = {**asdict(f), "interval_low": low, "interval_high": high, "numbers": list(f.numbers.items())}
            for name in columns:
                columns[name].append(row[name])
        rest = self.to_dict() | {"findings": []}
        metadata = {"medseglens_comparison": json.dumps(rest, ensure_ascii=False, allow_nan=False)}
        return pa.table(columns, schema=TABLE_SCHEMA.with_metadata(metadata))

    @staticmethod
    def from_table(table: pa.Table) -> "Comparison":
        """The inverse of `to_table`. Raises UsageError for another table."""
        told = (table.schema.metadata or {}).get(b"medseglens_comparison")
        if told is None:
            raise UsageError("table", "it is not that of a comparison.", "Make it with `medseglens diff`.")
        findings = []
        for row in table.to_pylist():
            low, high = row.pop("interval_low"), row.pop("interval_high")
            interval = None if low is None else (low, high)
            findings.append({**row, "interval": interval, "numbers": dict(row["numbers"] or [])})
        return Comparison.from_dict(json.loads(told) | {"findings": findings})

    def save(self, folder: Path) -> list[Path]:
        """Write comparison.parquet, comparison.csv and comparison.json into a folder that exists; returns them."""
        import pyarrow.parquet as pq

        folder, table = Path(folder), self.to_table()
        paths = [folder / f"comparison.{kind}" for kind in ("parquet", "csv", "json")]
        with atomic_path(paths[0]) as path:
            pq.write_table(table, path)
        with atomic_path(paths[1]) as path:
            path.write_text(self._csv(), encoding="utf-8", newline="")
        with atomic_path(paths[2]) as path:
            path.write_text(self.to_json(), encoding="utf-8")
        return paths

    @staticmethod
    def load(path: Path) -> "Comparison":
        """Read comparison.json or comparison.parquet, or the folder that holds them. Raises UsageError otherwise."""
        path = Path(path)
        path = path / "comparison.json" if path.is_dir() else path
        try:
            if path.suffix == ".parquet":
                import pyarrow.parquet as pq

                return Comparison.from_table(pq.read_table(path))
            return Comparison.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, pa.ArrowException) as problem:
            cause = f"it cannot be read as a comparison ({problem})."
            raise UsageError(path, cause, "Give the folder that `medseglens diff` wrote.") from problem

    def _csv(self) -> str:
        import csv
        import io

        names = list(dict.fromkeys(name for f in self.findings for name in f.numbers))
        plain = [name for name in TABLE_SCHEMA.names if name != "numbers"]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*plain, *names])
        for f in self.findings:
            low, high = f.interval or (None, None)
            row = {**asdict(f), "interval_low": low, "interval_high": high}
            writer.writerow([row[name] for name in plain] + [f.numbers.get(name) for name in names])
        return text.getvalue()


TABLE_SCHEMA = pa.schema(
    [
        pa.field("side", pa.string(), nullable=False),
        pa.field("tap", pa.string(), nullable=False),
        pa.field("latent", pa.int32(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("specific_to", pa.string()),
        pa.field("partner_tap", pa.string()),
        pa.field("partner_latent", pa.int32()),
        pa.field("measure", pa.float64()),
        pa.field("interval_low", pa.float64()),
        pa.field("interval_high", pa.float64()),
        pa.field("null", pa.float64()),
        pa.field("p_adjusted", pa.float64()),
        pa.field("evidence", pa.string()),
        pa.field("numbers", pa.map_(pa.string(), pa.float64())),
    ]
)


def finite(numbers: dict[str, float | None]) -> dict[str, float]:
    """Those of the numbers that are numbers: what `LatentFinding.numbers` may hold."""
    return {name: float(x) for name, x in numbers.items() if x is not None and math.isfinite(x)}


def known(number: float) -> float | None:
    """The number; None in place of nan and infinity, which JSON does not have."""
    return float(number) if math.isfinite(number) else None


def _pair(interval) -> tuple[float, float] | None:
    return tuple(interval) if interval is not None else None
