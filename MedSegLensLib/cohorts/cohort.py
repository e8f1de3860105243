"""The cohort: a set of cases with a name and where they came from, described once and read case by case."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from MedSegLensLib.cases.case import MODALITIES, PHANTOM, Case
from MedSegLensLib.cohorts.acquisitions import SIMULATED, Acquisition
from MedSegLensLib.cohorts.phantoms import PhantomRequest
from MedSegLensLib.errors import CaseError, UsageError

Fact = str | float | None


@dataclass(frozen=True)
class CohortCase:
    """One case of a cohort: what is known of it before it is read. Picklable; holds no voxels.

    name: unique in the cohort. A simulated case keeps the name of the case it is made from.
    subject: the patient. The same subject in two cohorts means that the cases are paired.
    folder: where its files lie. volumes: file by modality; empty for DICOM, which is told apart while it is read.
    labels: file of the reference segmentation. label_values: what its values mean, file's value to BraTS 2023's, where
        that is not what `cases.volume.read_labels` takes them for.
    facts: age, site, field strength, ... as the source gives them; a number where it is one, None where it is unknown.
    acquisition: the simulated acquisition it goes through after reading. phantom: it is made, not read.
    healthy: known to have no tumour, so that where no labels lie, labels of background alone are right.
    series: modalities of a case without `volumes`. notes: what was said while describing it.
    """

    name: str
    subject: str
    folder: Path | None = None
    volumes: Mapping[str, Path] = field(default_factory=dict)
    labels: Path | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)
    acquisition: Acquisition | None = None
    phantom: PhantomRequest | None = None
    healthy: bool = False
    label_values: Mapping[int, int] | None = None
    series: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that the case will have once it is read, in the order of `MODALITIES`."""
        known = self.phantom.modalities if self.phantom else (*self.volumes, *self.series)
        gone = self.acquisition.missing if self.acquisition else None
        return tuple(m for m in MODALITIES if m in known and m != gone)

    @property
    def labelled(self) -> bool:
        """Whether it has labels once it is read."""
        return self.labels is not None or self.phantom is not None or self.healthy

    @property
    def invented(self) -> bool:
        """Whether it is a phantom, made when it is read or read from files that were written as one."""
        return self.phantom is not None or any(note.startswith(PHANTOM) for note in self.notes)

    @property
    def simulated(self) -> bool:
        """Whether it goes through a simulated acquisition, or was read from files that were written as such."""
        return self.acquisition is not None or any(note.startswith(SIMULATED) for note in self.notes)

    def seen_in(self, training: Iterable[str]) -> bool:
        """Whether this case, or another of the same subject, is among the names of cases that something was trained on
        (`pack.info.trained_on.cases`, a lens's `metadata["cases"]`). Simulated cases count as what they are made of."""
        from MedSegLensLib.cohorts.subjects import subject_of

        training = set(training)
        return self.name in training or self.subject in {subject_of(name) for name in training}

    def read(self) -> Case:
        """The case itself. Its notes say what is invented or simulated of it.

        Raises CaseError as `cases.reading` does, and where a described file is not there any more.
        """
        case = self.phantom.make() if self.phantom else self._read_files()
        simulated = tuple(note for note in self.notes if note.startswith(SIMULATED))
        case = replace(case, name=self.name, notes=(*case.notes, *simulated))
        return self.acquisition.apply(case) if self.acquisition else case

    def key(self) -> str:
        """SHA-256 of everything that decides what `read` gives: another one means that results do not hold any more.

        Files count by path, size and time of change: reading all of a case's bytes would take as long as the case.
        """
        files = [path for path in (*self.volumes.values(), self.labels) if path]
        if not files and self.folder:  # DICOM
            files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        document = {k: v for k, v in self.to_json().items() if k not in ("facts", "notes", "subject")}
        document["state"] = [_state(path) for path in files]
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict:
        """What `from_json` takes; paths as text, nothing that is empty."""
        document = {
            "name": self.name,
            "subject": self.subject,
            "folder": self.folder and self.folder.as_posix(),
            "volumes": {modality: path.as_posix() for modality, path in self.volumes.items()},
            "labels": self.labels and self.labels.as_posix(),
            "facts": dict(self.facts),
            "acquisition": self.acquisition and self.acquisition.to_json(),
            "phantom": self.phantom and self.phantom.to_json(),
            "healthy": self.healthy,
            "label_values": {str(k): v for k, v in (self.label_values or {}).items()},
            "series": list(self.series),
            "notes": list(self.notes),
        }
        return {k: v for k, v in document.items() if v or k in ("name", "subject")}

    @staticmethod
    def from_json(document: Mapping) -> "CohortCase":
        """Raises KeyError, TypeError, ValueError or a MedSegLensError for what is no case."""
        known = set(CohortCase.__dataclass_fields__)
        if strange := set(document) - known:
            raise ValueError(f"it has the unknown field {sorted(strange)[0]!r}")
        phantom, acquisition = document.get("phantom"), document.get("acquisition")
        return CohortCase(
            name=str(document["name"]),
            subject=str(document["subject"]),
            folder=Path(document["folder"]) if document.get("folder") else None,
            volumes={str(m): Path(p) for m, p in document.get("volumes", {}).items()},
            labels=Path(document["labels"]) if document.get("labels") else None,
            facts=dict(document.get("facts", {})),
            acquisition=Acquisition(**acquisition) if acquisition else None,
            phantom=PhantomRequest.from_json(phantom) if phantom else None,
            healthy=bool(document.get("healthy", False)),
            label_values={int(k): int(v) for k, v in document.get("label_values", {}).items()} or None,
            series=tuple(document.get("series", ())),
            notes=tuple(document.get("notes", ())),
        )

    def _read_files(self) -> Case:
        from MedSegLensLib.cases.reading import read_case, read_volumes
        from MedSegLensLib.cohorts.label_files import background_labels, read_with_values

        for path in (*self.volumes.values(), self.labels, None if self.volumes else self.folder):
            if path is not None and not path.exists():
                raise CaseError(
                    path,
                    f"it is not there any more (case {self.name}), or not on this machine.",
                    "Bring it back or mount it at this path, or describe the cohort again with `medseglens cohort`.",
                )
        if not self.volumes:
            case = read_case(self.folder)
        elif self.labels and self.label_values:
            case = read_with_values(self.volumes, self.labels, self.label_values, self.name)
        else:
            case = read_volumes(dict(self.volumes), self.labels, self.name)
        return background_labels(case) if self.healthy and case.labels is None else case


@dataclass(frozen=True)
class Cohort:
    """name: by which commands ask for it. source: where the cases came from, with the citation; licence: of the data.

    Raises CaseError where there is no case, or two have one name.
    """

    name: str
    source: str
    licence: str
    cases: tuple[CohortCase, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        if not self.cases:
            raise CaseError(f"cohort {self.name}", "it has no case.", "Give a folder or table that holds cases.")
        counts = Counter(case.name for case in self.cases)
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            cause = f"{len(twice)} cases have a name that another has too, such as {twice[0]}."
            raise CaseError(f"cohort {self.name}", cause, "Let each case have a name of its own.")

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that every case has."""
        return tuple(m for m in MODALITIES if all(m in case.modalities for case in self.cases))

    @property
    def simulated(self) -> bool:
        """Whether a simulated acquisition is among its cases."""
        return any(case.simulated for case in self.cases)

    @property
    def invented(self) -> bool:
        """Whether a phantom is among its cases."""
        return any(case.invented for case in self.cases)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Each patient once, in the order of the cases."""
        return tuple(dict.fromkeys(case.subject for case in self.cases))

    def of(self, names: Iterable[str]) -> "Cohort":
        """The same cohort with only the cases of these names. Raises UsageError for a name that it does not have."""
        wanted = set(names)
        if strange := sorted(wanted - {case.name for case in self.cases}):
            shown = ", ".join([case.name for case in self.cases][:6])
            raise UsageError(strange[0], f"the cohort {self.name} has no such case.", f"Its cases begin {shown}.")
        return replace(self, cases=tuple(case for case in self.cases if case.name in wanted))

    def save(self, path: Path) -> None:
        """Write the description as JSON, whole or not at all. Raises OutputError where it cannot be written."""
        from MedSegLensLib.cohorts.description import write_description

        write_description(self, Path(path))

    @staticmethod
    def load(path: Path) -> "Cohort":
        """The cohort that `save` described. Raises CaseError for a file that is no description."""
        from MedSegLensLib.cohorts.description import read_description

        return read_description(Path(path))


def find_cohort(name_or_path: str | Path, progress: Callable[[str, float], None] | None = None) -> Cohort:
    """A cohort by its registered name, from its description (.json) or table (.csv), or from a folder of cases.

    A name is looked up before a folder of the same name ('./name' means the folder). A folder is described on the spot,
    from the headers of its files. Raises CaseError for what is none of these.
    """
    from MedSegLensLib.cohorts.registry import registered

    path = Path(name_or_path)
    plain = isinstance(name_or_path, str) and path.name == name_or_path and path.suffix not in (".json", ".csv")
    names = registered() if plain else {}
    if plain and name_or_path in names:
        return Cohort.load(names[name_or_path])
    if path.is_file() and path.suffix == ".json":
        return Cohort.load(path)
    if path.exists():
        from MedSegLensLib.cohorts.layouts import describe

        return describe(path, progress=progress)
    known = ", ".join(sorted(names)) or "none"
    remedy = f"Registered are: {known}; or give a description, a table or a folder of cases." if plain else ""
    cause = "there is no cohort of this name." if plain else "there is no such file or folder."
    raise CaseError(name_or_path, cause, remedy or "Check the path.")


def _state(path: Path) -> list:
    try:
        there = path.stat()
    except OSError:
        return []
    return [path.as_posix(), there.st_size, there.st_mtime_ns]
