"""`medseglens adapt`: a small recipe for another cohort, from a few labelled cases of it, applied to the rest."""

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

from MedSegLensLib.commands.common import Result, add_command, add_labels, add_pack, output_folder, progress_bar
from MedSegLensLib.errors import CaseError, UsageError

if TYPE_CHECKING:
    from MedSegLensLib.cohorts.cohort import Cohort, CohortCase

FEW = 3
RECIPE, FACTS, TABLE, FOLDER = "recipe.json", "adaptation.json", "adaptation.csv", "segmentations"


def add_parser(commands) -> None:
    command = add_command(
        commands,
        "adapt",
        "find a small recipe for another cohort from a few labelled cases, and apply it to the rest",
        run,
        "Find gains of at most 8 latents that improve the segmentation of a few labelled cases of another cohort, and\n"
        "apply them to all of its cases. The segmenter is not trained. Writes recipe.json (for the panel, `recipe`\n"
        "and `edit`), segmentations/, adaptation.csv, adaptation.json and adaptation.html.\n\n"
        "  medseglens adapt --pack glioma-unet --to COHORT --labelled 3 --out adapted\n"
        "  medseglens adapt --pack glioma-unet --to COHORT --labelled CASE1 CASE2 --compare",
    )
    add_pack(command)
    command.add_argument("--to", required=True, metavar="COHORT", help="a cohort's name, or a folder, table or file")
    command.add_argument(
        "--labelled",
        nargs="+",
        default=[str(FEW)],
        metavar="N|CASE",
        help=f"how many labelled cases to fit on, drawn with --seed, or their names (default {FEW})",
    )
    command.add_argument("--tap", help="tap whose latents are scaled (default: the pack's default)")
    command.add_argument("--seed", type=int, default=0, help="of the draw of labelled cases (default 0)")
    command.add_argument(
        "--compare",
        action="store_true",
        help="also fit what it has to beat on the same cases: retuned threshold, difference-in-means steering, random "
        "latents, batch-norm statistics, fine-tuned head",
    )
    add_labels(command)
    command.add_argument("--out", type=Path, default=Path("adapted"), help="folder to write to (default adapted)")


def run(options) -> Result:
    from MedSegLensLib.cases.writing import atomic_path, check_folder, write_labels
    from MedSegLensLib.cohorts.cohort import find_cohort
    from MedSegLensLib.diffing.adaptation import Latents
    from MedSegLensLib.diffing.adaptation_baselines import baselines
    from MedSegLensLib.diffing.adaptation_run import adapt_cohort
    from MedSegLensLib.editing.recipe import save_recipe
    from MedSegLensLib.packs.pack import load_pack
    from MedSegLensLib.reports.adapt_page import write_adapt_page

    check_folder(options.out)
    pack = load_pack(options.pack)
    tap = pack.lens_info(options.tap).tap
    cohort = find_cohort(options.to)
    labelled = choose_labelled(cohort, options.labelled, options.seed, pack.info.trained_on.held_out)
    out = output_folder(options.out)
    folder = output_folder(out / FOLDER)

    def write(case, session, labels):
        path = folder / f"{file_name(case.name)}.nii.gz"
        write_labels(session.to_case(labels[Latents.name]), path, options.labels)

    with progress_bar(options.json) as progress:
        methods = (lambda network: baselines(network, tap, options.seed)) if options.compare else None
        adapted = adapt_cohort(pack, cohort, labelled, tap, options.device, methods, write, progress)
    recipe = adapted.recipe()
    save_recipe(recipe, out / RECIPE)
    facts = adapted.to_json()
    with atomic_path(out / FACTS) as temporary:
        temporary.write_text(json.dumps(facts, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    with atomic_path(out / TABLE) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table_of(facts))
    page = write_adapt_page(facts, adapted.pictures, out)
    files = [str(out / name) for name in (RECIPE, FACTS, TABLE)] + [str(page), str(folder)]
    return Result({**facts, "files": files}, text_of(facts, files))


def choose_labelled(cohort: "Cohort", asked: list[str], seed: int, held_out: tuple[str, ...]) -> "list[CohortCase]":
    """The cases to fit on: those named, or as many as asked for, drawn one a patient.

    Patients that the pack was judged on are drawn only where they are named: figures on them would not be of unseen
    patients any more. Raises UsageError for a name that is none, CaseError where there are too few labelled cases.
    """
    import numpy as np

    if len(asked) == 1 and asked[0].isdecimal() and asked[0] not in {case.name for case in cohort.cases}:
        count = int(asked[0])
        if not 1 <= count <= 100:
            raise UsageError(f"--labelled {count}", "is not from 1 to 100.", "Give 1, 3 or 5, or names of cases.")
        able = [c for c in cohort.cases if c.labelled and not c.seen_in(held_out)]
        able = list({c.subject: c for c in reversed(able)}.values())[::-1]
        if len(able) < count:
            kept = [c.name for c in cohort.cases if c.labelled and c.seen_in(held_out)]
            cause = f"{count} labelled cases were asked for, and {len(able)} patients with labels can be drawn."
            remedy = "Ask for fewer, name the cases, or add segmentations to the cases' folders."
            if kept:
                remedy += f" Not drawn, since the pack was judged on them: {', '.join(kept[:4])}."
            raise CaseError(f"cohort {cohort.name}", cause, remedy)
        order = np.random.default_rng(seed).permutation(len(able))[:count]
        return [able[i] for i in sorted(order)]
    chosen = list(cohort.of(asked).cases)
    for case in chosen:
        if not case.labelled:
            raise CaseError(case.name, "it has no labels to fit on.", "Name a labelled case, or add a segmentation.")
    return chosen


def file_name(case: str) -> str:
    """A case's name as that of a file."""
    return "".join(c if c.isalnum() or c in "._-+ " else "_" for c in case).lstrip(".") or "case"


def table_of(facts: dict) -> list[list]:
    """Rows of adaptation.csv, the head first: a row a case and method."""
    regions = ("WT", "TC", "ET")
    head = ["case", "fitted_on", "trained_on", "simulated", "invented", "method"]
    head += [f"dice_{r}_{when}" for when in ("before", "after") for r in regions]
    head += [f"ml_{r}_{when}" for when in ("before", "after") for r in regions]
    rows = [head]
    for case in facts["cases"]:
        for method, after in case["after"].items():
            dices = [(d or {}).get(r) for d in (case["before"], after) for r in regions]
            ml = [case["ml"][m][r] for m in ("", method) for r in regions]
            facts_of_case = [case[k] for k in ("case", "fitted_on", "trained", "simulated", "invented")]
            rows.append([*facts_of_case, method, *("" if d is None else round(d, 4) for d in dices), *ml])
    return rows


def text_of(facts: dict, files: list[str]) -> list[str]:
    text = [facts["headline"]]
    for latent in facts["latents"]:
        text.append(
            f"  latent {latent['latent']} at {facts['tap']}: x{latent['gain']:g}   {latent['name'] or 'unnamed'}"
        )
    if facts["rest"]:
        width = max(len(method) for method in facts["rest"])
        text.append(f"  mean change of Dice on the cases that were not fitted on ({facts['judged']}):")
        for method, found in facts["rest"].items():
            if found["mean"] is None:
                continue
            low, high = found["interval"] or (None, None)
            between = "" if low is None else f"  (95 % {low:+.3f} to {high:+.3f})"
            why = facts["methods"][method]["why"]
            text.append(f"    {method:<{width}} {found['mean']:+.3f}{between}{'  ' + why if why else ''}")
    return [*text, *(f"  note: {note}" for note in facts["notes"]), f"Written: {', '.join(files)}"]
