"""`medseglens evaluate lens`: whether to trust a lens, as one page and as JSON."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.cohorts.origin import INVENTED, origin_notes
from MedSegLensLib.commands.cohort_cases import (
    ReadCases,
    add_cases,
    cohort_given,
    failure_notes,
    read_each,
)
from MedSegLensLib.commands.common import Result, add_command, output_folder, progress_bar
from MedSegLensLib.errors import CaseError, OutputError, UsageError

if TYPE_CHECKING:
    from MedSegLensLib.cohorts.cohort import Cohort as Described
    from MedSegLensLib.editing.trust import Cohort
    from MedSegLensLib.lenses.lens import Lens
    from MedSegLensLib.packs.pack import LensPack

ENOUGH_SEEDS = 3

MOST_CASES, QUICK_CASES = 12, 2
"""Of a larger cohort the first so many training cases and as many unseen ones are read: a case takes half a minute."""


def add_parser(commands) -> None:
    group = commands.add_parser("evaluate", help="whether to trust a lens")
    actions = group.add_subparsers(dest="action", metavar="WHAT", required=True)
    command = add_command(
        actions,
        "lens",
        "measure a lens beside its nulls, and say whether to trust it",
        run_lens,
        "Measure what a lens keeps of its tap, whether other seeds find its latents again, what they say of the\n"
        "tumour on unseen cases, and what edits of them do; each beside its null. Writes lens.html and lens.json.\n\n"
        "  medseglens evaluate lens --pack glioma-unet --cases CASES\n"
        "  medseglens evaluate lens LENS --segmenter SEGMENTER --cases CASES --seed-lens LENS2 LENS3 --record",
    )
    command.add_argument("lens", nargs="?", type=Path, help="folder written by `train lens`; or give --pack and --tap")
    command.add_argument("--pack", help="lens pack whose segmenter, and without LENS whose lens, is used")
    command.add_argument("--tap", help="tap of the pack (default: the pack's default)")
    command.add_argument("--segmenter", type=Path, help="folder written by `train segmenter`, instead of a pack")
    add_cases(command, "labelled cases")
    command.add_argument(
        "--seed-lens",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="LENS",
        help="folders of lenses of the same tap with other seeds",
    )
    command.add_argument("--record", action="store_true", help="write the stability into LENS, for the catalogue")
    command.add_argument("--quick", action="store_true", help="fewer tokens, cases and edits: minutes become one")
    command.add_argument("--out", type=Path, default=Path("lens-report"), help="folder to write to")
    command.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")


def run_lens(options) -> Result:
    from MedSegLensLib.cases.writing import check_folder
    from MedSegLensLib.editing.trust import QUICK, Effort, examine
    from MedSegLensLib.lenses.files import load_lens
    from MedSegLensLib.reports.lens_page import write_lens_page
    from MedSegLensLib.segmenters.engine import check_device

    _check(options)
    check_folder(options.out)
    if options.device:
        check_device(options.device)
    pack, lens = opened(options)
    others = [load_lens(folder) for folder in options.seed_lens]
    _check_others(lens, others, options.seed_lens)
    trained = {*pack.info.trained_on.cases, *(lens.metadata.get("cases") or [])}
    with progress_bar(options.json) as progress:
        cohort = parted(cohort_given(options), trained, progress, QUICK_CASES if options.quick else MOST_CASES)
        if 0 < len(others) < ENOUGH_SEEDS - 1:
            cohort.notes.append(f"Stability is told from two seeds; {ENOUGH_SEEDS} are the least to go by.")
        effort = QUICK if options.quick else Effort()
        facts = examine(pack, lens.tap, cohort, others, effort, options.device, progress)
        facts["lens"]["folder"] = str(options.lens) if options.lens else None
        files = [str(path) for path in write_lens_page(facts, output_folder(options.out))]
        if options.record:
            record_stability(options.lens, facts["stability"])
            files.append(str(options.lens / "cfg.json"))
    return Result({"verdict": facts["verdict"], "notes": facts["notes"], "files": files}, _text(facts, files))


def _check(options) -> None:
    if options.lens and options.tap:
        raise UsageError("--tap", "a lens folder names its tap itself.", "Leave out --tap, or the lens folder.")
    if options.pack and options.segmenter:
        raise UsageError("--segmenter", "a pack was given too.", "Give one or the other.")
    if not options.lens and not options.pack:
        raise UsageError("lens", "none was given.", "Give the folder of a lens, or --pack (and --tap).")
    if options.lens and not (options.pack or options.segmenter):
        remedy = "Give --segmenter or --pack, the one that the lens was trained at."
        raise UsageError(options.lens, "a lens alone cannot be judged: its segmenter is not known.", remedy)
    if options.record and not options.lens:
        cause = "a pack is not changed: its files are known by their hashes."
        raise UsageError("--record", cause, "Give the lens's folder, record there, and build the pack again.")
    if options.record and not options.seed_lens:
        raise UsageError("--record", "without lenses of other seeds there is nothing to record.", "Give --seed-lens.")


def _check_others(lens: "Lens", others: "list[Lens]", folders: list[Path]) -> None:
    import torch

    for other, folder in zip(others, folders, strict=True):
        if other.tap != lens.tap:
            raise UsageError(folder, f"it is a lens at {other.tap}, not at {lens.tap}.", "Give lenses of one tap.")
        if other.W_dec.shape == lens.W_dec.shape and torch.equal(other.W_dec, lens.W_dec):
            raise UsageError(folder, "it is the same lens again.", "Give one that was trained with another seed.")


def opened(options) -> "tuple[LensPack, Lens]":
    """A pack with the one lens that is to be judged, and the lens."""
    from MedSegLensLib.editing.trust import with_lens
    from MedSegLensLib.lenses.files import load_lens
    from MedSegLensLib.packs.pack import load_pack

    if not options.lens:
        pack = load_pack(options.pack)
        lens = pack.lens(options.tap)
    else:
        lens = load_lens(options.lens)
        pack = load_pack(options.pack) if options.pack else pack_of_segmenter(options.segmenter)
    return with_lens(pack, lens), lens


def pack_of_segmenter(folder: Path) -> "LensPack":
    """A segmenter that `train segmenter` wrote, as a pack without lenses that lasts as long as it is held."""
    import tempfile

    from MedSegLensLib.cases.case import LABELS
    from MedSegLensLib.commands.train import trained_segmenter
    from MedSegLensLib.packs.build import write_pack
    from MedSegLensLib.packs.info import Code, Label, PackInfo, TrainedOn
    from MedSegLensLib.packs.pack import load_pack

    network, segmenter, spec, record = trained_segmenter(folder)
    info = PackInfo(
        name="segmenter",
        version="0.0.0",
        licence="not stated",
        created="2026-01-01",
        description=f"The segmenter in {folder}.",
        trained_on=TrainedOn("See its training.json.", tuple(record.get("cases", []))),
        input=spec.to_json(),
        labels=tuple(Label(v, n, n, Code("86049000", "Neoplasm, Primary"), (v, v, v)) for v, n in LABELS.items()),
        segmenter=segmenter,
    )
    place = tempfile.TemporaryDirectory(prefix="medseglens-segmenter-")
    write_pack(Path(place.name) / "pack", info, network.state_dict(), [], None, "# A segmenter\n")
    pack = load_pack(Path(place.name) / "pack")
    pack._unpacked = place
    return pack


def parted(cohort: "Described", trained: set[str], progress=None, most: int = MOST_CASES) -> "Cohort":
    """The labelled cases of a cohort: those of the training to fit on, unseen ones to score on, `most` of each at most.

    Where there are no unseen cases, or none of the training, the cases are halved and the notes say so; one case alone
    is scored on, and nothing is fitted. A case that cannot be read is left out, and the notes say why. Raises CaseError
    where no case is labelled.
    """
    from MedSegLensLib.editing.trust import Cohort

    seen = [case for case in cohort.cases if case.seen_in(trained)]
    unseen = [case for case in cohort.cases if not case.seen_in(trained)]
    notes = []
    if max(len(seen), len(unseen)) > most:
        notes.append(f"Of {len(cohort.cases)} cases at most {most} of the training and {most} unseen ones were read.")
    chosen, failures = [*seen[:most], *unseen[:most]], []
    labelled, invented, without = set(), False, []
    for i, (described, case) in enumerate(read_each(chosen, failures)):
        if progress:
            progress("reading the cases", i / len(chosen))
        # Read again when it is its turn: a case takes 150 MB.
        if case.labels is None:
            without.append(case.name)
        else:
            labelled.add(described.name)
            invented |= case.invented
    if without:
        notes.append(f"Left out, since they have no labels: {', '.join(without)}.")
    notes += failure_notes(failures)
    if not labelled:
        why = f" {failures[0]}" if failures else ""
        raise CaseError(cohort.name, f"holds no labelled case.{why}", "Add a segmentation to each case's folder.")
    seen, unseen = (ReadCases([c for c in part if c.name in labelled]) for part in (seen[:most], unseen[:most]))
    notes += [INVENTED] if invented else []
    notes += [note for note in origin_notes(cohort) if note != INVENTED]
    if not unseen:
        notes.append("Every case was used in training: what follows flatters the lens.")
    elif not seen and len(unseen) > 1:
        notes.append(
            "No case of the training is here: nulls and probes are fitted on one half and scored on the other."
        )
    if seen and unseen:
        return Cohort(seen, unseen, notes)
    cases = seen if seen else unseen
    half = len(cases) // 2
    if not half:
        notes.append("There is one case only: what follows is true of it, and may not be of another.")
    return Cohort(cases[:half], cases[half:], notes)


def record_stability(folder: Path, stability: dict) -> None:
    """Write how stable each latent is into the metadata of a lens's cfg.json, where the catalogue reads it."""
    from MedSegLensLib.cases.writing import atomic_path
    from MedSegLensLib.lenses.files import CONFIG_NAME

    path = folder / CONFIG_NAME
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise OutputError(path, f"it cannot be read again ({problem}).", "Run the evaluation again.") from None
    seeds, cosines = stability["seeds"], stability["decoder_cosine"]
    config["metadata"] = (config.get("metadata") or {}) | {"stability": {"seeds": seeds, "decoder_cosine": cosines}}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _text(facts: dict, files: list[str]) -> list[str]:
    verdict = facts["verdict"]
    text = [f"{verdict['word']}: {facts['tap']} of {facts['pack']}", verdict["sentence"], ""]
    text.append(f"  {'':<58} {'lens':>9} {'null':>9}  grade")
    for grade in verdict["grades"]:
        value, null = ("" if v is None else f"{v:9.3f}" for v in (grade["value"], grade["null"]))
        text.append(f"  {grade['measure']:<58} {value:>9} {null:>9}  {grade['grade']} (good: {grade['good']})")
    return [*text, *(f"  note: {note}" for note in facts["notes"]), f"Written: {', '.join(files)}"]
