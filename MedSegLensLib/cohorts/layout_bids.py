"""BIDS data sets (https://bids-specification.readthedocs.io): anat/ of each subject and session.

T1w is taken as t1n, T1w with the entity `ce-` as t1c, T2w as t2w and FLAIR as t2f; derivatives/*/.../anat/*_dseg as
labels, which must have BraTS's values. Facts come from participants.tsv and from the volumes' JSON sidecars.
"""

import json
import re
from pathlib import Path

from MedSegLensLib.cases.case import MODALITIES
from MedSegLensLib.cohorts.cohort import CohortCase, Fact
from MedSegLensLib.cohorts.found import Found, Progress, header_of, several
from MedSegLensLib.errors import CaseError

FILE = re.compile(r"(sub-[A-Za-z0-9+]+(?:_[a-z]+-[A-Za-z0-9+]+)*)_(T1w|T2w|FLAIR|dseg)\.nii(?:\.gz)?$")
SIDECAR_FACTS = {
    "MagneticFieldStrength": "field_strength_T",
    "Manufacturer": "manufacturer",
    "ManufacturersModelName": "scanner",
    "InstitutionName": "site",
}


def looks_like_bids(path: Path) -> bool:
    """Whether it has dataset_description.json or participants.tsv, and folders sub-*."""
    told = (path / "dataset_description.json").is_file() or (path / "participants.tsv").is_file()
    return told and any(p.is_dir() for p in path.glob("sub-*"))


def find(path: Path, progress: Progress | None = None) -> Found:
    """One case for each session of each subject. Raises CaseError for a participants.tsv that is no table."""
    found, people = Found(), {}
    about = _json(path / "dataset_description.json")
    found.source = " ".join(str(about[key]) for key in ("Name", "DatasetDOI") if about.get(key))
    found.licence = str(about.get("License", ""))
    if (path / "participants.tsv").is_file():
        from MedSegLensLib.cohorts.table import facts_by_name

        people = facts_by_name(path / "participants.tsv")
    labels, strange = _labels(path)
    found.notes += strange
    subjects = sorted(p for p in path.glob("sub-*") if p.is_dir())
    spare, without = [], []
    for i, folder in enumerate(subjects):
        if progress:
            progress("describing the cases", i / len(subjects))
        sessions = sorted(p for p in folder.glob("ses-*") if p.is_dir()) or [folder]
        for session in sessions:
            name = folder.name if session == folder else f"{folder.name}_{session.name}"
            volumes = _volumes(session / "anat", spare)
            if not volumes:
                without.append(name)
                continue
            first = next(iter(volumes.values()))
            try:
                facts, notes = header_of(first)
            except CaseError as problem:
                found.notes.append(f"{name} was left out: {problem.cause}")
                continue
            facts = facts | _sidecar(path, first) | people.get(folder.name, {})
            if session != folder:
                facts["session"] = session.name.removeprefix("ses-")
            case = CohortCase(name, folder.name, session, volumes, labels.get(name), facts, notes=notes)
            found.cases.append(case)
    if without:
        found.notes.append(f"Left out, since anat/ has no T1w, T2w or FLAIR: {several(without)}.")
    if spare:
        found.notes.append(f"Of several files of one kind the first was taken; not used: {several(spare)}.")
    return found


def _volumes(anat: Path, spare: list[str]) -> dict[str, Path]:
    """File by modality; of several the one with the fewest entities and the lowest run. Others go to `spare`."""
    candidates: dict[str, list[tuple]] = {}
    for file in sorted(anat.iterdir()) if anat.is_dir() else []:
        named = FILE.match(file.name)
        if not named or named[2] == "dseg":
            continue
        entities = dict(part.split("-", 1) for part in named[1].split("_"))
        kind = {"T1w": "t1c" if "ce" in entities else "t1n", "T2w": "t2w", "FLAIR": "t2f"}[named[2]]
        candidates.setdefault(kind, []).append((len(entities) - ("run" in entities), file.name, file))
    chosen = {}
    for modality in MODALITIES:
        if modality in candidates:
            (_, _, chosen[modality]), *others = sorted(candidates[modality])
            spare += [name for _, name, _ in others]
    return chosen


def _labels(path: Path) -> tuple[dict[str, Path], list[str]]:
    """Label file by case name, from the derivatives; and notes on cases for which there are several."""
    by_case: dict[str, list[Path]] = {}
    for file in sorted((path / "derivatives").glob("**/anat/*_dseg.nii*")):
        if named := FILE.match(file.name):
            entities = dict(part.split("-", 1) for part in named[1].split("_"))
            name = f"sub-{entities['sub']}" + (f"_ses-{entities['ses']}" if "ses" in entities else "")
            by_case.setdefault(name, []).append(file)
    several_of = [name for name, files in by_case.items() if len(files) > 1]
    note = f"Several label files (dseg): the first was taken for {several(several_of)}."
    return {name: files[0] for name, files in by_case.items()}, [note] if several_of else []


def _sidecar(top: Path, volume: Path) -> dict[str, Fact]:
    """Facts from the volume's JSON, and where that is silent from the data set's (BIDS' inheritance, outermost)."""
    stem = re.sub(r"\.nii(\.gz)?$", "", volume.name)
    told = _json(top / f"{stem.rsplit('_', 1)[-1]}.json") | _json(volume.with_name(f"{stem}.json"))
    facts = {fact: told[key] for key, fact in SIDECAR_FACTS.items() if isinstance(told.get(key), str | int | float)}
    return {fact: float(value) if not isinstance(value, str) else value for fact, value in facts.items()}


def _json(path: Path) -> dict:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
