"""A cohort's description as a JSON file. Paths below the file's own folder are kept relative, so that both can move."""

import json
import os
from pathlib import Path

from MedSegLensLib.cohorts.cohort import Cohort, CohortCase
from MedSegLensLib.errors import CaseError, MedSegLensError

VERSION = 1
FIELDS = {"medseglens_cohort", "name", "source", "licence", "notes", "cases"}
MAX_BYTES = 512 * 2**20
"""A case takes about 1 kB: half a million cases are a sign of another kind of file."""


def write_description(cohort: Cohort, path: Path) -> None:
    """Raises OutputError where it cannot be written."""
    from MedSegLensLib.cases.writing import atomic_path

    folder = path.parent.resolve()
    document = {
        "medseglens_cohort": VERSION,
        "name": cohort.name,
        "source": cohort.source,
        "licence": cohort.licence,
        "notes": list(cohort.notes),
        "cases": [_with_paths(case.to_json(), lambda text: _relative(text, folder)) for case in cohort.cases],
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_description(path: Path) -> Cohort:
    """Raises CaseError for a file that is absent or no description."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _refused(path, "it is too large for a description")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise _refused(path, f"it cannot be read ({problem.strerror})") from problem
    except (ValueError, RecursionError) as problem:
        raise _refused(path, f"it is not valid JSON ({problem})") from problem
    if not isinstance(document, dict) or "medseglens_cohort" not in document:
        raise _refused(path, "it is not the description of a cohort")
    if document["medseglens_cohort"] != VERSION:
        raise _refused(path, f"it is a description of version {document['medseglens_cohort']}, not {VERSION}")
    if strange := set(document) - FIELDS:
        raise _refused(path, f"it has the unknown field {sorted(strange)[0]!r}")
    folder = path.parent.resolve()
    try:
        cases = [
            CohortCase.from_json(_with_paths(case, lambda text: (folder / text).as_posix()))
            for case in document["cases"]
        ]
        texts = [str(document[key]) for key in ("name", "source", "licence")]
        return Cohort(*texts, tuple(cases), tuple(str(note) for note in document.get("notes", ())))
    except MedSegLensError as problem:
        raise _refused(path, f"{problem.subject}: {problem.cause.rstrip('.')}") from problem
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise _refused(path, f"a case or field of it is not as it should be ({problem})") from problem


def _with_paths(case: dict, change) -> dict:
    """The JSON of a case with each of its paths changed."""
    changed = dict(case)
    for key in ("folder", "labels"):
        if changed.get(key):
            changed[key] = change(changed[key])
    if changed.get("volumes"):
        changed["volumes"] = {modality: change(text) for modality, text in changed["volumes"].items()}
    return changed


def _relative(text: str, folder: Path) -> str:
    whole = Path(os.path.abspath(text))
    return whole.relative_to(folder).as_posix() if whole.is_relative_to(folder) else whole.as_posix()


def _refused(path: Path, cause: str) -> CaseError:
    return CaseError(path, f"{cause}.", "Describe the cohort again with `medseglens cohort create`.")
