"""What comparisons found of one pack's latents: shared with another pack, the same in two cohorts, specific to one.

Two places: the user's own folder, one file a comparison, written by `medseglens diff`; and `comparisons/` within a pack
that is shipped with them (`packs.shipped_comparisons`). A finding belongs to a lens by the hash of its files, as notes
do (`packs.notes`): a retrained lens wears no old finding. Imports no torch: the panel reads them.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from MedSegLensLib.cases.user_data import user_folder, write_user_file
from MedSegLensLib.errors import PackError
from MedSegLensLib.packs.checked_json import canonical_json, parse_json, schema_problems
from MedSegLensLib.packs.notes import plain_name

VERSION = 1
SCHEMA = Path(__file__).parent / "schema" / "comparison.schema.json"
FOLDER = "comparisons"
"""Of a pack: where it has those that it is shipped with."""
FOLDER_VARIABLE = "MEDSEGLENS_COMPARISONS"
MAX_BYTES = 32 * 2**20
MAX_FILES = 100

OPTIONAL = ("specific_to", "partner_tap", "partner_latent", "measure", "interval", "null", "p_adjusted")


@dataclass(frozen=True)
class PackFinding:
    """What one comparison says of one latent; the fields are those of `diffing.comparison.LatentFinding`.

    lens: the SHA-256 of the lens (`packs.notes.lens_hash`).
    """

    lens: str
    tap: str
    latent: int
    category: str
    evidence: str
    specific_to: str | None = None
    partner_tap: str | None = None
    partner_latent: int | None = None
    measure: float | None = None
    interval: tuple[float, float] | None = None
    null: float | None = None
    p_adjusted: float | None = None

    def to_json(self) -> dict:
        row = {name: value for name, value in asdict(self).items() if value is not None or name not in OPTIONAL}
        return row | ({"interval": list(self.interval)} if self.interval is not None else {})

    @staticmethod
    def from_json(row: dict) -> "PackFinding":
        return PackFinding(**{**row, "interval": tuple(row["interval"]) if row.get("interval") else None})


@dataclass(frozen=True)
class ComparedCohort:
    """The cases that were compared on. simulated: acquisitions simulated from real cases; invented: phantoms."""

    name: str
    n_cases: int
    simulated: bool = False
    invented: bool = False


@dataclass(frozen=True)
class PartnerPack:
    """The other pack, with the hashes of its lenses by tap when it was compared."""

    name: str
    version: str
    lens_hashes: dict[str, str]


@dataclass(frozen=True)
class PackComparison:
    """One comparison, as far as it is about one pack.

    kind: "models" or "cohorts". against: the other pack, or the two cohorts. partner: None for cohorts. created: day,
    ISO 8601.
    """

    pack: str
    kind: str
    against: tuple[str, ...]
    cohorts: tuple[ComparedCohort, ...]
    partner: PartnerPack | None
    created: str
    notes: tuple[str, ...]
    findings: tuple[PackFinding, ...]

    @property
    def key(self) -> tuple:
        """Made again, a comparison of the same things on the same cohorts takes the place of the former."""
        version = None if self.partner is None else self.partner.version
        return (self.kind, self.against, version, tuple(cohort.name for cohort in self.cohorts))

    def to_json(self) -> dict:
        """The document that a file holds; `from_json` gives an equal object back."""
        return {
            "medseglens_pack_comparison": VERSION,
            "pack": self.pack,
            "kind": self.kind,
            "against": list(self.against),
            "cohorts": [asdict(cohort) for cohort in self.cohorts],
            "partner": None if self.partner is None else asdict(self.partner),
            "created": self.created,
            "notes": list(self.notes),
            "findings": [finding.to_json() for finding in self.findings],
        }

    @staticmethod
    def from_json(document: dict) -> "PackComparison":
        """The comparison of a document that keeps to the schema."""
        partner = document["partner"]
        return PackComparison(
            document["pack"],
            document["kind"],
            tuple(document["against"]),
            tuple(ComparedCohort(**cohort) for cohort in document["cohorts"]),
            None if partner is None else PartnerPack(**partner),
            document["created"],
            tuple(document["notes"]),
            tuple(PackFinding.from_json(row) for row in document["findings"]),
        )


class PackFindings:
    """The findings on the lenses that a pack has now, by latent.

    >>> findings = PackFindings(lens_hashes, [*shipped, *kept])
    >>> for comparison, finding in findings.of("upcat_3", 17): ...
    """

    def __init__(self, lens_hashes: dict[str, str], comparisons: Iterable[PackComparison]):
        """Of two comparisons of the same things the later in `comparisons` counts, for the lenses that it is about."""
        self._by_latent: dict[tuple[str, int], dict[tuple, tuple[PackComparison, PackFinding]]] = {}
        self.outdated: tuple[PackComparison, ...] = ()
        """Those that are about other lenses than the pack has now, and about none that it has."""
        newest: dict[tuple, tuple[PackComparison, list[PackFinding]]] = {}
        for comparison in comparisons:
            now = [finding for finding in comparison.findings if lens_hashes.get(finding.tap) == finding.lens]
            if comparison.findings and not now:
                self.outdated += (comparison,)
                continue
            lenses = {finding.lens for finding in now}
            for lens in lenses:
                newest[comparison.key, lens] = comparison, [f for f in now if f.lens == lens]
        for (key, _lens), (comparison, found) in newest.items():
            for finding in found:
                self._by_latent.setdefault((finding.tap, finding.latent), {})[key] = comparison, finding

    def __bool__(self) -> bool:
        return bool(self._by_latent)

    def __iter__(self) -> Iterator[tuple[PackComparison, PackFinding]]:
        """Every finding with its comparison."""
        for found in self._by_latent.values():
            yield from found.values()

    def of(self, tap: str, latent: int) -> list[tuple[PackComparison, PackFinding]]:
        """What is known of a latent, comparisons of packs first."""
        found = list(self._by_latent.get((tap, int(latent)), {}).values())
        return sorted(found, key=lambda pair: pair[0].kind != "models")


def save_comparison(comparison: PackComparison, folder: Path | None = None) -> Path:
    """Keep a comparison in `folder`, else in the user's folder of data, in place of an earlier one of the same things;
    whole or not at all. Raises OutputError where it cannot be written, PackError for one that cannot be kept."""
    text = json.dumps(comparison.to_json(), ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
    problems = schema_problems(json.loads(text), SCHEMA)
    if problems or len(text.encode()) > MAX_BYTES:
        cause = f"it cannot be kept ({problems[0] if problems else 'it is too large'})."
        raise PackError(f"comparison of {comparison.pack}", cause, "Please report this.")
    path = comparison_folder(comparison.pack, folder) / f"{file_name(comparison)}.json"
    write_user_file(path, text)
    return path


def kept_comparisons(pack: str, folder: Path | None = None) -> tuple[list[PackComparison], list[PackError]]:
    """The user's comparisons of a pack of this name, oldest first, and what is wrong with files that cannot be read:
    a bad one does not hide the others."""
    there = comparison_folder(pack, folder)
    found, problems = [], []
    try:
        paths = sorted(there.glob("*.json"))
    except OSError as problem:
        return [], [_refused(there, f"it cannot be read ({problem.strerror}).")]
    if len(paths) > MAX_FILES:
        problems.append(_refused(there, f"it holds {len(paths)} comparisons; the first {MAX_FILES} are read."))
    for path in paths[:MAX_FILES]:
        try:
            status = path.stat()
            if status.st_size > MAX_BYTES:
                raise _refused(path, "it is too large for a comparison.")
            comparison = read_comparison(path, path.read_bytes(), pack)
            found.append((comparison.created, status.st_mtime_ns, path.name, comparison))
        except OSError as problem:
            problems.append(_refused(path, f"it cannot be read ({problem.strerror})."))
        except PackError as problem:
            problems.append(problem)
    return [comparison for *_when, comparison in sorted(found, key=lambda entry: entry[:3])], problems


def is_comparison(name: str) -> bool:
    """Whether a file of a pack, by its path in it, is a comparison."""
    return name.startswith(f"{FOLDER}/") and name.endswith(".json")


def read_comparison(path: Path | str, data: bytes, pack: str) -> PackComparison:
    """The comparison in `data`. Raises PackError for what is none, or is about another pack."""
    try:
        document = parse_json(data)
    except ValueError as problem:
        raise _refused(path, f"{problem}.") from problem
    return checked_comparison(path, document, pack)


def checked_comparison(path: Path | str, document: object, pack: str) -> PackComparison:
    """The same of a document that was parsed already."""
    problems = schema_problems(document, SCHEMA)
    if problems:
        raise _refused(path, f"it is not a comparison ({problems[0]}).")
    if document["pack"] != pack:
        raise _refused(path, f"it is about the pack {document['pack']}, not about {pack}.")
    return PackComparison.from_json(document)


def comparison_folder(pack: str, folder: Path | None = None) -> Path:
    """Where the user's comparisons of a pack of this name lie: in `folder`, else in the user's folder of data."""
    return (folder or user_folder(FOLDER_VARIABLE, FOLDER)) / plain_name(pack)


def file_name(comparison: PackComparison) -> str:
    """Of a comparison, without its ending: readable, and another for each other one, whatever the names are like."""
    words = "_".join(_plain(word) for word in (comparison.kind, *comparison.against))
    lenses = sorted({finding.lens for finding in comparison.findings})  # two packs of one name may be compared
    digest = hashlib.sha256(canonical_json([comparison.key, lenses])).hexdigest()
    return f"{words[:80]}_{digest[:8]}"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", name).strip("-")[:60]


def _refused(path: Path | str, cause: str) -> PackError:
    return PackError(path, cause, "Make the comparison again with `medseglens diff`, or remove the file.")
