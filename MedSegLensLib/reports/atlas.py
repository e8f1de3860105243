"""The atlas of a pack: a folder with a page on which every latent is looked up, seen on real slices, and compared.

    atlas/index.html        the page; opens from the disk, offline, and loads nothing but the files beside it
    atlas/data.js           what it shows, as one JavaScript object: a page from the disk may not fetch JSON
    atlas/images/           layers of small pictures: anatomy, outlines, activations

Cases are opened one by one; what they show is kept as sparse codes until all have been seen (see atlas_examples).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from MedSegLensLib.cases.case import MODALITY_NAMES, Case
from MedSegLensLib.editing.session import Session
from MedSegLensLib.errors import CaseError
from MedSegLensLib.lenses.stable import STABLE
from MedSegLensLib.packs.info import CATALOGUE_FILE
from MedSegLensLib.packs.pack import LensPack
from MedSegLensLib.reports import figures
from MedSegLensLib.reports.atlas_examples import APART_MM, BestExamples
from MedSegLensLib.reports.atlas_pictures import (
    HEIGHT,
    WIDTH,
    Canvas,
    write_activation,
    write_anatomy,
    write_outlines,
)
from MedSegLensLib.reports.atlas_rows import latent_entry
from MedSegLensLib.reports.pages import template
from MedSegLensLib.reports.run_report import BACKGROUNDS, LABEL_WORDS, LABELS

PAGE, DATA, IMAGES = "index.html", "data.js", "images"
DATA_BEGINS = "window.ATLAS = "
"""By this a folder is known as an atlas."""

Progress = Callable[[str, float], None]


@dataclass
class AtlasRequest:
    """What is to be shown. cases: folders by name, read when their turn comes. taps: lenses, in order. examples: at
    most so many a latent. notes: the user's own, by (tap, latent): name, comment, favourite. citations: of the cases.
    """

    pack: LensPack
    cases: dict[str, Callable[[], Case]]
    taps: tuple[str, ...]
    examples: int = 5
    notes: dict[tuple[str, int], dict] = field(default_factory=dict)
    citations: tuple[str, ...] = ()
    device: str | None = None


@dataclass
class _Seen:
    """A case that was looked through, without its volumes."""

    name: str
    facts: dict
    canvas: Canvas
    shape: tuple[int, int]
    slices: dict[int, dict]


def write_atlas(request: AtlasRequest, folder: Path, progress: Progress | None = None) -> dict:
    """Write the page and its files into `folder`, which exists and is empty; what was made, in numbers.

    A case that cannot be used is left out and said so on the page. Raises CaseError where none can be used, and what
    `progress` raises.
    """
    say = progress or (lambda stage, share: None)
    rows = _rows(request)
    best = {
        tap: BestExamples(
            request.pack.lens_info(tap).d_sae,
            request.examples,
            len(request.cases),
            np.array([rows[tap].get(j, {}).get("max") or 0.0 for j in range(request.pack.lens_info(tap).d_sae)]),
        )
        for tap in request.taps
    }
    seen, skipped = _look(request, best, folder, say)
    written = _write_activations(request, best, rows, seen, folder, say)
    _drop_unused(seen, best, folder)
    entries = [
        latent_entry(number, latent, rows[tap].get(latent), request.notes.get((tap, latent), {}), best[tap], seen)
        for number, tap in enumerate(request.taps)
        for latent in range(request.pack.lens_info(tap).d_sae)
    ]
    data = _facts(request, seen, skipped) | {"latents": entries}
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    (folder / DATA).write_text(f"{DATA_BEGINS}{text};\n", encoding="ascii")
    (folder / PAGE).write_text(_page(data), encoding="utf-8")
    return {
        "cases": [case.name for case in seen],
        "left_out": skipped,
        "latents": len(entries),
        "latents_with_examples": sum(bool(e.get("examples")) for e in entries),
        "activation_pictures": written,
        "slices": sum(len(case.slices) for case in seen),
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    }


def _rows(request: AtlasRequest) -> dict[str, dict[int, dict]]:
    """The catalogue's rows by tap and latent."""
    table = request.pack.catalogue()
    rows: dict[str, dict[int, dict]] = {tap: {} for tap in request.taps}
    for row in [] if table is None else table.to_pylist():
        if row["tap"] in rows:
            rows[row["tap"]][row["latent"]] = row
    return rows


def _look(request: AtlasRequest, best: dict[str, BestExamples], folder: Path, say: Progress):
    """Open each case once; write the slices that are examples so far."""
    seen: list[_Seen] = []
    skipped: dict[str, str] = {}
    engine = None
    for n, (name, read) in enumerate(request.cases.items()):
        here = _always(say, f"looking through the cases, {name}", n / len(request.cases))
        here()
        number = len(seen)
        try:
            session = Session(read(), request.pack, request.device, engine, here)
        except CaseError as problem:
            skipped[name] = f"{problem.cause} {problem.remedy}"
            continue
        engine = session.engine
        slices = set().union(*(best[tap].add(number, session, tap) for tap in request.taps))
        seen.append(_write_case(number, name, session, sorted(slices), folder))
    if not seen:
        name, why = next(iter(skipped.items()), ("cases", "there are none."))
        raise CaseError(name, why, "Give a folder of cases that the pack can take with --cases.")
    return seen, skipped


def _always(say: Progress, stage: str, share: float) -> Callable:
    """A callback that says the same whatever it is told: of a session's many stages only the case is of interest."""
    return lambda *_told: say(stage, share)


def _write_case(number: int, name: str, session: Session, slices: list[int], folder: Path) -> _Seen:
    conformed = session.conformed
    canvas = Canvas.around(conformed.brain, conformed.grid.spacing)
    modalities = [m for m, there in zip(session.pack.input_spec().modalities, conformed.present, strict=True) if there]
    channels = {m: conformed.array[session.pack.input_spec().modalities.index(m)] for m in modalities}
    windows = {m: figures.grey_window(c, conformed.brain & (c != 0)) for m, c in channels.items()}
    expert = session.case.labels
    outlined = {"segmenter": session.labels}
    if expert is not None:
        outlined["expert"] = conformed.labels(expert)
    images = folder / IMAGES / f"case-{number}"
    images.mkdir(parents=True)
    written = {}
    for z in slices:
        for m, channel in channels.items():
            write_anatomy(canvas, channel[z], conformed.brain[z], windows[m], images / f"{z}-{m}.webp")
        kinds = [k for k, labels in outlined.items() if write_outlines(canvas, labels[z], images / f"{z}-{k}.png")]
        written[z] = {"number": _own_slice(session, z), "outlines": kinds}
    info = session.pack.info.trained_on
    role = "trained" if name in info.cases else "held out" if name in info.held_out else "other"
    facts = {
        "name": name,
        "phantom": bool(session.case.invented),
        "role": role,
        "modalities": modalities,
        "expert": expert is not None,
        "notes": list(session.notes),
        "widthMm": round(canvas.width_mm, 2),
    }
    return _Seen(name, facts, canvas, session.labels.shape[1:], written)


def _own_slice(session: Session, z: int) -> int | None:
    """The slice's number on the case's own grid, from 0; None where the case has no such slices."""
    grid = session.conformed.grid
    if grid.resampled or grid.permutation[2] != 2:
        return None
    at = z + session.conformed.start[2]
    return grid.size[2] - 1 - at if grid.flips[2] else at


def _write_activations(request, best: dict[str, BestExamples], rows, seen: list[_Seen], folder: Path, say) -> int:
    total = sum(len(examples) for found in best.values() for examples in found.best)
    done = 0
    for number, tap in enumerate(request.taps):
        images = folder / IMAGES / f"lens-{number}"
        images.mkdir(parents=True)
        for latent, examples in enumerate(best[tap].best):
            top = max(float(best[tap].maximum[latent]), rows[tap].get(latent, {}).get("max") or 0.0)
            for n, example in enumerate(examples):
                case = seen[example.case]
                write_activation(case.canvas, example, case.shape, top, images / f"{latent}-{n}.png")
                done += 1
            if latent % 16 == 0:
                say("drawing the latents", done / max(total, 1))
    return done


def _drop_unused(seen: list[_Seen], best: dict[str, BestExamples], folder: Path) -> None:
    """Remove the pictures of slices that a later case pushed out of the examples."""
    used = {(e.case, e.slice) for found in best.values() for examples in found.best for e in examples}
    for number, case in enumerate(seen):
        for z in [z for z in case.slices if (number, z) not in used]:
            del case.slices[z]
            for path in (folder / IMAGES / f"case-{number}").glob(f"{z}-*"):
                path.unlink()


def _facts(request: AtlasRequest, seen: list[_Seen], skipped: dict[str, str]) -> dict:
    """All that the page says beside the latents."""
    info = request.pack.info
    present = {m for case in seen for m in case.facts["modalities"]}
    citations = list(request.citations)
    if not citations and all(case.facts["role"] != "other" for case in seen):
        citations = list(info.citation)
    return {
        "pack": {
            "name": info.name,
            "version": info.version,
            "hash": request.pack.hash,
            "description": info.description,
            "trainedOn": info.trained_on.text,
            "citation": list(info.citation),
            "catalogue": CATALOGUE_FILE in info.files,
        },
        "taps": [
            {"name": tap, "latents": request.pack.lens_info(tap).d_sae, "k": request.pack.lens_info(tap).k}
            for tap in request.taps
        ],
        "modalities": [[m, MODALITY_NAMES[m]] for m in BACKGROUNDS if m in present],
        "canvas": {"width": WIDTH, "height": HEIGHT},
        "cases": [case.facts | {"slices": case.slices} for case in seen],
        "leftOut": skipped,
        "citations": citations,
        "stableFrom": STABLE,
        "apartMm": APART_MM,
        "hiddenBelow": figures.HIDDEN_BELOW,
    }


def _page(data: dict) -> str:
    return template("atlas.html.j2").render(
        data=data,
        heat=figures.HEAT,
        label_colours=[(LABELS[v], LABEL_WORDS[LABELS[v]], c) for v, c in figures.LABEL_COLOURS.items()],
    )
